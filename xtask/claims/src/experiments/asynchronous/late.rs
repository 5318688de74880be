//! Data that is sent only some time after a receive has been requested.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long after the request the data is sent.
const DELAY: Duration = Duration::from_millis(20);

/// Bytes that are sent.
pub const LENGTH: usize = 4096;

/// Makes a request while another thread waits and then sends `LENGTH` bytes.
/// Returns the request's time divided by the time until the send, and its
/// result. A request that waits for the data takes more than 1.
pub fn request<T>(
    client: &mut TcpStream,
    request: impl FnOnce() -> Result<T>,
) -> Result<(f64, T)> {
    thread::scope(|scope| {
        let start = Instant::now();
        let sender = scope.spawn(move || {
            thread::sleep(DELAY);
            let until_send = start.elapsed();
            client.write_all(&[b'x'; LENGTH]).map(|()| until_send)
        });
        let result = request();
        let time = start.elapsed().as_secs_f64();
        let until_send = sender.join().map_err(|_| anyhow!("the sender"))??;
        Ok((time / until_send.as_secs_f64(), result?))
    })
}

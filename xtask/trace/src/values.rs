//! Values in the kernel's layout, and as text for people.

use std::net::SocketAddr;
use std::time::Duration;

use super::event::Signal;
use super::remote::{u16_at, u32_at, u64_at};

/// The number of bytes of a message that are shown.
const SHOWN: usize = 24;

/// Formats bytes in quotes, cut if they are many.
pub fn data(bytes: &[u8], count: u64) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let more = if count > shown.len() as u64 { "…" } else { "" };
    format!("\"{}\"{more}", shown.escape_ascii())
}

/// Parses the signals that were read from a signalfd.
pub fn signals_in(bytes: &[u8]) -> Vec<Signal> {
    let word = |bytes: &[u8], at| u32_at(bytes, at).cast_signed();
    let infos = bytes.chunks_exact(size_of::<libc::signalfd_siginfo>());
    let signals = infos.map(|info| {
        let (number, code) = (word(info, 0), word(info, 8));
        Signal::new(number, code, word(info, 20), word(info, 12))
    });
    signals.collect()
}

/// Parses descriptors and events; requested events are in the lower half,
/// returned ones in the upper half.
pub fn pollfds(list: &[u8]) -> impl Iterator<Item = (i32, u32)> {
    list.chunks_exact(8).map(|entry| {
        let (asked, found) = (u16_at(entry, 4), u16_at(entry, 6));
        let events = u32::from(found) << 16 | u32::from(asked);
        (u32_at(entry, 0).cast_signed(), events)
    })
}

/// Parses a timespec or a timeval: seconds, and a number of smaller units.
pub fn time(bytes: &[u8], unit: Duration) -> Option<Duration> {
    let parts = u32::try_from(u64_at(bytes, 8)).ok()?;
    let seconds = Duration::from_secs(u64_at(bytes, 0));
    (bytes.len() >= 16).then(|| seconds + unit * parts)
}

/// Formats a time for people: three digits and a unit.
pub fn length(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = match value {
        v if v >= 99.95 || unit == "ns" => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

/// Formats a socket's address: `127.0.0.1:7379`.
pub fn address(bytes: &[u8]) -> String {
    let address = parse_address(bytes);
    address.map_or("…".to_owned(), |address| address.to_string())
}

fn parse_address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match u16_at(bytes, 0).into() {
        libc::AF_INET => {
            let ip: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some((ip, port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            Some((ip, port).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let rows = [
            (7, "7 ns"),
            (1_500, "1.50 µs"),
            (25_000, "25.0 µs"),
            (99_960, "100 µs"),
            (100_400_000, "100 ms"),
            (2_500_000_000, "2.50 s"),
        ];
        for (nanoseconds, expected) in rows {
            let text = length(Duration::from_nanos(nanoseconds));
            assert_eq!(text, expected);
        }
    }
}

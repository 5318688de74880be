//! **One task per client, the model alone.** The conversation of `blocking`
//! with `.await` at each call that waits: there the thread runs other tasks.
//! This is idiomatic tokio.
//!
//! An error ends its client; an error of accept ends the program. Left out,
//! with the function in `src` that has it: closing in order
//! (`Conversation::end`), idle timeouts (`start_timer`), fairness (`converse`),
//! shared buffers (`worker::borrow`), limits (`accept_pending`), graceful
//! shutdown (`serve`), datagrams.

use std::io;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use common::{About, Session};

#[tokio::main]
async fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    listener.set_nonblocking(true)?;
    serve(&TcpListener::from_std(listener)?).await
}

async fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    loop {
        let (stream, _) = listener.accept().await?;
        let about = about.clone();
        tokio::spawn(async move {
            let mut client = Client::new(stream);
            while client.answer(&about).await.unwrap_or(false) {}
        });
    }
}

/// One client: its socket, and its half of the protocol.
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        let session = Session::new(0, 1024 * 1024);
        Self { stream, session }
    }

    /// Receives once and answers. Returns false at the end of the conversation.
    async fn answer(&mut self, about: &About) -> io::Result<bool> {
        let mut input = [0; 4096];
        // Gives the thread to other tasks until bytes have arrived.
        let received = self.stream.read(&mut input).await?;
        let mut output = Vec::new();
        self.session.answer(&input[..received], about, &mut output);
        self.stream.write_all(&output).await?;
        Ok(received > 0 && self.session.wants_input())
    }
}

//! The start of a model's minimal program, `examples/minimal.rs`.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result};

use crate::announce;

/// Returns the address in the last argument, by default 127.0.0.1:7379.
///
/// # Errors
///
/// The argument is no address.
pub fn address() -> Result<SocketAddr> {
    let last = std::env::args().skip(1).last();
    let address = last.unwrap_or("127.0.0.1:7379".to_owned());
    address.parse().with_context(|| {
        format!("{address:?} is no address: write 127.0.0.1:7379 or [::1]:0")
    })
}

/// Listens at that address, and prints the ready line.
///
/// # Errors
///
/// The address cannot be bound.
pub fn listen() -> Result<TcpListener> {
    let address = address()?;
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on tcp {address}"))?;
    announce(Some(listener.local_addr()?), None)?;
    Ok(listener)
}

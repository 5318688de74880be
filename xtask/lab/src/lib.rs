//! The base of every other part of `cargo xtask`: the registry of models, their
//! builds and processes, and output for a terminal.

pub mod build;
pub mod model;
pub mod number;
pub mod process;
pub mod program;
pub mod promises;
pub mod screen;
pub mod server;
pub mod table;
#[doc(hidden)]
pub mod test;

use std::error::Error;
use std::fmt;

/// A request that this machine can't fulfil, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// The kernel can't run the model. The text is the model's own message.
    Model(String),
    /// Its security settings forbid tracing or capturing packets.
    Tool(String),
}

impl Unsupported {
    /// The exit code for it, of the models and of `cargo xtask`.
    pub const CODE: u8 = 77;
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Model(why) | Self::Tool(why)) = self;
        f.write_str(why)
    }
}

impl Error for Unsupported {}

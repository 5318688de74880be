//! The base of all other parts of `cargo xtask`: the registry of models, their
//! builds and processes, and terminal output.

pub mod build;
pub mod examples;
pub mod haproxy;
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
    /// The machine's security settings forbid tracing or capturing packets.
    Tool(String),
}

impl Unsupported {
    /// The exit code for this error, in the models and in `cargo xtask`.
    pub const CODE: u8 = 77;
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Model(why) | Self::Tool(why)) = self;
        f.write_str(why)
    }
}

impl Error for Unsupported {}

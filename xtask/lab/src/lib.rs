//! What every part of `cargo xtask` stands on: the registry of models, their
//! builds and processes, and output for a terminal. Uses no other part.

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

/// This machine can't do what was asked, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// Its kernel can't run the model, which says why.
    Model(String),
    /// Its rules forbid to trace or to capture packets.
    Tool(String),
}

impl Unsupported {
    /// The exit code of models, and of `cargo xtask`, that says so.
    pub const CODE: u8 = 77;
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Model(why) | Self::Tool(why)) = self;
        f.write_str(why)
    }
}

impl Error for Unsupported {}

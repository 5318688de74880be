//! What every part of `cargo xtask` stands on: the registry of models, their
//! builds and processes, and output for a terminal. Uses no other part.

pub mod build;
pub mod ceilings;
pub mod model;
pub mod number;
pub mod process;
pub mod program;
pub mod screen;
pub mod server;
pub mod table;

use std::error::Error;
use std::fmt;

/// This machine can't do what was asked, and why: its kernel can't run a
/// model, or its rules forbid to trace or to capture packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl Unsupported {
    /// The exit code of models, and of `cargo xtask`, that says so.
    pub const CODE: u8 = 77;
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unsupported {}

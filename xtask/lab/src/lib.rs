//! What every part of `cargo xtask` stands on: the registry of models, their
//! builds and processes, and output for a terminal. Uses no other part.

pub mod build;
pub mod ceilings;
pub mod model;
pub mod number;
pub mod process;
pub mod screen;
pub mod server;

//! A server's system calls, seen with ptrace(2).
//!
//! [`tracer`] records events, [`steps`] combines them, [`phases`] finds the two
//! phases in the steps, and [`timeline`] formats the steps as lines. [`rules`]
//! are what a model promises, and [`transcript`] is what it does.

pub mod call;
pub mod calls;
pub mod copying;
pub mod decode;
pub mod event;
pub mod figure;
mod fold;
pub mod golden;
pub mod host;
mod lines;
mod memory;
mod names;
mod passed;
pub mod phases;
mod remote;
pub mod render;
mod rest;
mod ring;
pub mod role;
mod roles;
pub mod rules;
pub mod scene;
#[cfg(any(test, feature = "script"))]
#[expect(clippy::unwrap_used, reason = "a test's scene is sound")]
pub mod script;
pub mod steps;
mod stops;
pub mod tally;
#[cfg(any(test, feature = "script"))]
#[expect(clippy::unwrap_used, reason = "a test's tape is sound")]
pub mod tape;
pub mod timeline;
pub mod tracer;
pub mod transcript;
pub mod values;

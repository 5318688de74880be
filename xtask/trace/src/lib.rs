//! A server's system calls, seen with ptrace(2).
//!
//! [`tracer`] sees events, [`steps`] puts them into words, [`phases`] finds
//! the two phases in them, and [`timeline`] makes lines of them. [`rules`] are
//! what a model promises, and [`transcript`] is what it does.

pub mod copying;
pub mod count;
pub mod decode;
pub mod event;
pub mod figure;
mod fold;
pub mod golden;
mod lines;
mod memory;
mod names;
pub mod phases;
pub mod render;
mod rest;
mod ring;
pub mod roles;
pub mod rules;
pub mod scene;
#[cfg(test)]
mod script;
pub mod steps;
mod stops;
pub mod svg;
#[cfg(test)]
mod tape;
pub mod timeline;
pub mod tracer;
pub mod transcript;
mod values;

//! Parts that several experiments use: connections, clocks, threads, processes.

pub mod child;
pub mod clock;
pub mod computing;
pub mod cpu;
pub mod memory;
pub mod namespace;
pub mod net;
pub mod served;
pub mod task;
pub mod tcp;

//! What several experiments need: connections, clocks and TCP states.

pub mod clock;
pub mod computing;
pub mod namespace;
pub mod net;
pub mod ring;
pub mod signals;
pub mod tcp;

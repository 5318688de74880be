//! What several experiments need: connections and clocks.

pub mod clock;
pub mod computing;
pub mod net;
pub mod ring;
pub mod signals;

//! The models side by side, time downwards: the content of the figure that
//! textbooks have, derived from a trace.

pub mod account;
mod column;
mod story;

pub use account::Learning;
pub use column::{BAND_TITLES, BANDS, Bar, Column, Row};

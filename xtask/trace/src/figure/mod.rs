//! The models side by side, time downwards: the content of the figure that
//! every book has, read from what was seen.

mod column;
mod story;

pub use column::{BAND_TITLES, BANDS, Bar, Column, LETTERS, Row};

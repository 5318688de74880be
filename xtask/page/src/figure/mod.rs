//! The models side by side, with time running downwards: the well-known figure
//! of the I/O models, drawn from traces.

pub mod computing;
pub mod svg;

#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;

use trace::figure::{BANDS, Bar, Column, Row};

/// The fewest rows of each band, so that a wait looks like one.
const LEAST: [usize; BANDS] = [1, 4, 1, 1];

/// Returns the most rows of each band in any column.
fn heights(columns: &[Column]) -> [usize; BANDS] {
    std::array::from_fn(|band| {
        let rows = columns.iter().map(|column| column.bands[band].len());
        rows.max().unwrap_or(0).max(LEAST[band])
    })
}

/// Returns the number of threads in a column.
fn lanes(column: &Column) -> usize {
    let rows = column.bands.iter().flatten();
    rows.map(|row| row.bars.len()).max().unwrap_or(1)
}

/// Pads a column's bands to these heights. A sleeping thread stays asleep.
fn filled(column: &Column, heights: &[usize; BANDS]) -> [Vec<Row>; BANDS] {
    let mut bars = vec![Bar::Running];
    let mut bands = column.bands.clone();
    for (band, rows) in bands.iter_mut().enumerate() {
        if let Some(last) = rows.last() {
            bars.clone_from(&last.bars);
        }
        let settle = |bar: &mut Bar| match bar {
            Bar::Copying => *bar = Bar::Running,
            // Polling lasts until the data arrives, in phase 1.
            Bar::Eagain if band != 1 => *bar = Bar::Running,
            _ => {}
        };
        bars.iter_mut().for_each(settle);
        let filler = Row {
            text: String::new(),
            bars: bars.clone(),
            lane: 0,
            kernel: false,
            learns: false,
            eagain: false,
        };
        rows.resize(heights[band].max(rows.len()), filler);
    }
    bands
}

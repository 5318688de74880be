//! The models side by side, time downwards: the figure that every book has,
//! drawn from what was seen.

pub mod svg;

#[cfg(test)]
pub mod sample;
#[cfg(test)]
mod tests;

use trace::figure::{BANDS, Bar, Column, Row};

/// Rows that a band has at least: a wait is to be seen as one.
const LEAST: [usize; BANDS] = [1, 4, 1, 1];

/// Counts the rows of each band in the column where it is longest.
fn heights(columns: &[Column]) -> [usize; BANDS] {
    std::array::from_fn(|band| {
        let rows = columns.iter().map(|column| column.bands[band].len());
        rows.max().unwrap_or(0).max(LEAST[band])
    })
}

/// Counts the threads that a column has room for.
fn lanes(column: &Column) -> usize {
    let rows = column.bands.iter().flatten();
    rows.map(|row| row.bars.len()).max().unwrap_or(1)
}

/// A column's rows, filled up: a thread that sleeps goes on sleeping.
fn filled(column: &Column, heights: &[usize; BANDS]) -> [Vec<Row>; BANDS] {
    let mut bars = vec![Bar::Running];
    let mut bands = column.bands.clone();
    for (band, rows) in bands.iter_mut().enumerate() {
        if let Some(last) = rows.last() {
            bars.clone_from(&last.bars);
        }
        let settle = |bar: &mut Bar| match bar {
            Bar::Copying => *bar = Bar::Running,
            // Until the data comes.
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
            vain: false,
        };
        rows.resize(heights[band].max(rows.len()), filler);
    }
    bands
}

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

/// How to read it.
pub const NOTE: &str = "Time runs downwards, not to scale: each row is a call. \
    \"call…\" is where it begins, \"…call\" where it ends, and indented \
    rows belong to the call above. Calls for memory, for further signals and \
    between a library's threads are left out.";

/// A sign beside a row.
#[derive(Clone, Copy, Debug)]
enum Sign {
    Bar(Bar),
    Triangle,
    Dot,
}

/// The signs and their meanings.
const LEGEND: [(Sign, &str); 5] = [
    (Sign::Bar(Bar::Asleep), "asleep in the call it waits in"),
    (Sign::Bar(Bar::Eagain), "calls that return EAGAIN"),
    (Sign::Bar(Bar::Copying), "copies the data into its buffer"),
    (Sign::Triangle, "the program learns of the data"),
    (Sign::Dot, "a call of another thread"),
];

/// As many rows for each band as the longest of these columns has.
fn heights(columns: &[Column]) -> [usize; BANDS] {
    std::array::from_fn(|band| {
        let rows = columns.iter().map(|column| column.bands[band].len());
        rows.max().unwrap_or(0).max(LEAST[band])
    })
}

/// How many threads a column has room for.
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

//! The data of a chart, for the drawing and for the table below it. It doesn't
//! depend on what the values mean.

use compare::results::Group;
use compare::spread::Spread;
use lab::number;

/// A table of values with a title and an axis. Each row has a value for each
/// series.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Unique on the page.
    pub id: &'static str,
    pub title: &'static str,
    /// A paragraph that explains how to read it.
    pub lead: String,
    /// The axis title, with the unit.
    pub axis: String,
    pub kind: Kind,
    pub series: Vec<String>,
    /// Headings of columns that only the table shows.
    pub extra: Vec<String>,
    pub rows: Vec<ChartRow>,
    /// Titles of workloads that belong to it, but weren't measured.
    pub missing: Vec<String>,
}

/// The form of the drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A mark for each series. Rows are sorted by value.
    Dots { log: bool, falling: bool },
    /// Lines across the series, whose names are numbers of something.
    Lines { of: &'static str },
    /// Stacked bars, with rows in reading order.
    #[default]
    Bars,
}

/// The values of one server.
#[derive(Clone, Debug)]
pub struct ChartRow {
    pub name: String,
    /// Each group has a separate drawing; the yardsticks are in all of them.
    pub group: Group,
    /// One per series.
    pub cells: Vec<Cell>,
    /// One per extra column.
    pub extra: Vec<Cell>,
    /// Text drawn instead of the values.
    pub label: Option<String>,
    /// The spread of all series together.
    pub whisker: Option<Spread>,
}

/// A value, or the reason why there is none.
#[derive(Clone, Debug)]
pub enum Cell {
    Known(Spread),
    /// A count, not a measurement: it is exact and has no spread.
    Count(f64),
    /// The reason why there is no value.
    Not(String),
    /// There is neither a value nor a reason.
    Unknown,
}

impl Cell {
    pub fn spread(&self) -> Option<Spread> {
        match *self {
            Self::Known(spread) => Some(spread),
            Self::Count(count) => {
                Some(Spread { median: count, least: count, most: count })
            }
            Self::Not(_) | Self::Unknown => None,
        }
    }

    /// Formats the value for screen readers and tables.
    pub fn text(&self) -> String {
        match self {
            Self::Known(spread) => match spread.range() {
                Some(range) => {
                    format!("{} ({range})", number::figure(spread.median))
                }
                None => number::figure(spread.median),
            },
            Self::Count(count) => number::count(*count),
            Self::Not(why) => why.clone(),
            Self::Unknown => number::NONE.to_owned(),
        }
    }
}

impl ChartRow {
    pub fn is_yardstick(&self) -> bool {
        self.group == Group::Yardstick
    }

    /// Returns the reason if the row has no value to draw.
    pub fn why(&self) -> Option<&str> {
        if self.cells.iter().any(|cell| cell.spread().is_some()) {
            return None;
        }
        let reasons = self.cells.iter().filter_map(|cell| match cell {
            Cell::Not(why) => Some(why.as_str()),
            _ => None,
        });
        reasons.chain(["not measured"]).next()
    }
}

impl Chart {
    fn spreads(&self) -> impl Iterator<Item = Spread> {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.filter_map(Cell::spread)
    }

    /// Returns all drawn values, including the ends of spreads.
    pub fn values(&self) -> Vec<f64> {
        if self.kind != Kind::Bars {
            let values = self.spreads().map(|s| [s.least, s.median, s.most]);
            return values.flatten().collect();
        }
        let sums = self.rows.iter().map(|row| {
            let spreads = row.cells.iter().filter_map(Cell::spread);
            let sum: f64 = spreads.map(|s| s.median.max(0.0)).sum();
            row.whisker.map_or(sum, |whisker| whisker.most.max(sum))
        });
        sums.collect()
    }

    /// Returns whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.spreads().next().is_none()
    }

    /// Divides the rows into groups, without empty groups. Yardsticks come
    /// last.
    pub fn groups(&self) -> Vec<(Group, Vec<&ChartRow>)> {
        let all = [Group::OneThread, Group::ManyThreads, Group::Yardstick];
        let groups = all.map(|group| {
            let rows = self.rows.iter().filter(|row| row.group == group);
            (group, rows.collect())
        });
        let groups = groups.into_iter();
        groups.filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty()).collect()
    }

    /// Returns the wanted rows in drawing order.
    pub fn sorted(&self, wanted: impl Fn(&ChartRow) -> bool) -> Vec<&ChartRow> {
        let rows = self.rows.iter().filter(|row| wanted(row));
        let mut rows: Vec<_> = rows.collect();
        let Kind::Dots { falling, .. } = self.kind else {
            return rows;
        };
        let middle = self.series.len() / 2;
        let key = |row: &ChartRow| {
            let spread = row.cells.get(middle).and_then(Cell::spread);
            let sign = if falling { -1.0 } else { 1.0 };
            spread.map_or(f64::INFINITY, |spread| sign * spread.median)
        };
        rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
        rows
    }
}

//! What a chart shows, before it is drawn: the table below it is made of the
//! same.

use crate::compare::columns::Group;
use crate::compare::number;
use crate::compare::results::{Figures, Results, Row};
use crate::compare::spread::Spread;
use crate::compare::workload::Workload;

/// Rows are servers, series are what there is of each.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Unique on the page.
    pub id: &'static str,
    pub title: &'static str,
    /// How to read it.
    pub lead: String,
    /// What the axis measures, with its unit.
    pub axis: String,
    pub kind: Kind,
    pub series: Vec<String>,
    /// What only the table shows.
    pub extra: Vec<String>,
    pub rows: Vec<Server>,
    /// Workloads that would be part of it and were not run, and if they are
    /// too many to draw anything.
    pub missing: Vec<String>,
}

/// How it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mark for each series; the least or the most first.
    Dots { log: bool, falling: bool },
    /// From series to series, which are numbers of something.
    Lines { of: &'static str },
    /// One series after the other, adding up, in reading order.
    Bars,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub group: Group,
    /// As many as there are series.
    pub cells: Vec<Cell>,
    /// As many as there are extra columns.
    pub extra: Vec<Cell>,
    /// Drawn instead of the values.
    pub label: Option<String>,
    /// How far all series together spread.
    pub whisker: Option<Spread>,
}

#[derive(Clone, Debug)]
pub enum Cell {
    Known(Spread),
    /// Counted, not measured: every digit counts, and nothing spreads.
    Count(f64),
    /// Why there is none.
    Not(String),
    /// Nobody asked.
    Unknown,
}

impl Cell {
    pub fn new(
        results: &Results,
        workload: &Workload,
        server: &str,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> Self {
        match results.row(&workload.name, server) {
            None => Self::Unknown,
            Some(Row::Cannot(why)) => Self::Not(format!("can't: {why}")),
            Some(Row::Failed(why)) => Self::Not(format!("failed: {why}")),
            Some(Row::Measured(runs)) => {
                let values = runs.into_iter().filter_map(figure);
                Spread::of(values.collect()).map_or(Self::Unknown, Self::Known)
            }
        }
    }

    pub fn spread(&self) -> Option<Spread> {
        match *self {
            Self::Known(spread) => Some(spread),
            Self::Count(count) => {
                Some(Spread { median: count, least: count, most: count })
            }
            Self::Not(_) | Self::Unknown => None,
        }
    }

    /// For a reader who can't see the drawing, and for the tables.
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

impl Server {
    /// Why nothing of it is drawn.
    pub fn why(&self) -> Option<&str> {
        if self.cells.iter().any(|cell| cell.spread().is_some()) {
            return None;
        }
        let mut cells = self.cells.iter();
        Some(cells.find_map(Cell::reason).unwrap_or("not measured"))
    }
}

impl Cell {
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Not(why) => Some(why),
            _ => None,
        }
    }
}

impl Chart {
    /// All values that are drawn, their spreads with them.
    pub fn values(&self) -> Vec<f64> {
        let spreads = || {
            let cells = self.rows.iter().flat_map(|row| &row.cells);
            cells.filter_map(Cell::spread)
        };
        if self.kind == Kind::Bars {
            let sums = self.rows.iter().map(|row| {
                let spreads = row.cells.iter().filter_map(Cell::spread);
                let sum: f64 = spreads.map(|s| s.median.max(0.0)).sum();
                row.whisker.map_or(sum, |whisker| whisker.most.max(sum))
            });
            return sums.collect();
        }
        spreads().flat_map(|s| [s.least, s.median, s.most]).collect()
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.filter_map(Cell::spread).next().is_none()
    }

    /// Models of one group and the yardsticks, in the order of drawing.
    pub fn panel(&self, group: Group) -> (Vec<&Server>, Vec<&Server>) {
        let models = match group {
            Group::Yardstick => Vec::new(),
            _ => self.sorted(|of| of == group),
        };
        (models, self.sorted(|of| of == Group::Yardstick))
    }

    /// All models, and the yardsticks.
    pub fn together(&self) -> (Vec<&Server>, Vec<&Server>) {
        (
            self.sorted(|of| of != Group::Yardstick),
            self.sorted(|of| of == Group::Yardstick),
        )
    }

    fn sorted(&self, wanted: impl Fn(Group) -> bool) -> Vec<&Server> {
        let rows = self.rows.iter().filter(|row| wanted(row.group));
        let mut rows: Vec<_> = rows.collect();
        let Kind::Dots { falling, .. } = self.kind else {
            return rows;
        };
        let middle = self.series.len() / 2;
        let key = |row: &&Server| match row.cells.get(middle)?.spread() {
            Some(spread) if falling => Some(-spread.median),
            Some(spread) => Some(spread.median),
            None => None,
        };
        rows.sort_by(|a, b| {
            let [a, b] = [a, b].map(|row| key(row).unwrap_or(f64::INFINITY));
            a.total_cmp(&b)
        });
        rows
    }
}

//! The data of a chart, before it is drawn; the table below the drawing is made
//! of it too. Knows nothing of what the rows are.

use compare::spread::Spread;
use lab::number;

/// A table of values with a title and an axis. Each row has a value of each
/// series.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Unique on the page.
    pub id: &'static str,
    pub title: &'static str,
    /// A paragraph that says how to read it.
    pub lead: String,
    /// The axis' title, with the unit.
    pub axis: String,
    pub kind: Kind,
    pub series: Vec<String>,
    /// Headings of columns that only the table shows.
    pub extra: Vec<String>,
    pub panels: Panels,
    pub rows: Vec<ChartRow>,
    /// Titles of what could be part of it and is not there.
    pub missing: Vec<String>,
}

/// Titles of the drawings that stand side by side, and of the rows that stand
/// below the others in each.
#[derive(Clone, Copy, Debug)]
pub struct Panels {
    pub titles: &'static [&'static str],
    pub references: &'static str,
}

/// The form of the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mark for each series; the least or the most first.
    Dots { log: bool, falling: bool },
    /// From series to series, which are numbers of something.
    Lines { of: &'static str },
    /// One series after the other, adding up, in reading order.
    Bars,
}

/// The values of one thing, under its name.
#[derive(Clone, Debug)]
pub struct ChartRow {
    pub name: String,
    /// The number of its panel. None: a reference, shown in every panel.
    pub panel: Option<usize>,
    /// As many as there are series.
    pub cells: Vec<Cell>,
    /// As many as there are extra columns.
    pub extra: Vec<Cell>,
    /// Text that is drawn instead of the values.
    pub label: Option<String>,
    /// The spread of all series together.
    pub whisker: Option<Spread>,
}

/// A value, or why there is none.
#[derive(Clone, Debug)]
pub enum Cell {
    Known(Spread),
    /// A number that is counted, not measured: every digit counts, and nothing
    /// spreads.
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

impl ChartRow {
    /// Says why nothing of it is drawn.
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
    /// Collects the values that are drawn, their spreads with them.
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

    /// Says whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        cells.filter_map(Cell::spread).next().is_none()
    }

    /// Rows of one panel and the references, in the order of drawing.
    pub fn panel(
        &self,
        panel: Option<usize>,
    ) -> (Vec<&ChartRow>, Vec<&ChartRow>) {
        let rows = match panel {
            Some(_) => self.sorted(|row| row.panel == panel),
            None => Vec::new(),
        };
        (rows, self.sorted(|row| row.panel.is_none()))
    }

    /// Rows of all panels, and the references.
    pub fn together(&self) -> (Vec<&ChartRow>, Vec<&ChartRow>) {
        (
            self.sorted(|row| row.panel.is_some()),
            self.sorted(|row| row.panel.is_none()),
        )
    }

    /// Divides the rows into parts, each with its panel, its title and its
    /// rows; empty ones are left out. References come last.
    pub fn parts(&self) -> Vec<(Option<usize>, &'static str, Vec<&ChartRow>)> {
        let Panels { titles, references } = self.panels;
        let titles = titles.iter().enumerate();
        let titles = titles.map(|(at, title)| (Some(at), *title));
        let parts = titles.chain([(None, references)]).map(|(panel, title)| {
            let rows = self.rows.iter().filter(|row| row.panel == panel);
            (panel, title, rows.collect())
        });
        parts.filter(|(.., rows): &(_, _, Vec<_>)| !rows.is_empty()).collect()
    }

    fn sorted(&self, wanted: impl Fn(&ChartRow) -> bool) -> Vec<&ChartRow> {
        let rows = self.rows.iter().filter(|row| wanted(row));
        let mut rows: Vec<_> = rows.collect();
        let Kind::Dots { falling, .. } = self.kind else {
            return rows;
        };
        let middle = self.series.len() / 2;
        let key = |row: &&ChartRow| match row.cells.get(middle)?.spread() {
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

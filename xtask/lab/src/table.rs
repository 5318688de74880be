//! Formats tables for a terminal or a pipe.

use std::fmt::Write;

use console::{measure_text_width, style};

use crate::screen::wrap;

/// Spaces between two columns.
const GAP: usize = 2;

/// The room that a text needs beside the cells; with less, it goes below them.
const TEXT_MIN: usize = 30;

/// The alignment of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// One column of cells.
#[derive(Clone, Debug)]
pub struct Column {
    pub heading: String,
    pub align: Align,
    /// On a narrow terminal, columns of the highest rank are omitted first.
    /// Columns of rank 0 are never omitted.
    pub rank: u8,
}

impl Column {
    pub fn left(heading: &str) -> Self {
        Self { heading: heading.to_owned(), align: Align::Left, rank: 0 }
    }

    pub fn right(heading: &str) -> Self {
        Self { align: Align::Right, ..Self::left(heading) }
    }

    #[must_use]
    pub fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }
}

/// One line of a table. Cells may have colours.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// One per column, or fewer.
    pub cells: Vec<String>,
    /// Text after the last cell, wrapped as needed.
    pub text: String,
}

/// Rows of cells, each with a text at its end.
#[derive(Clone, Debug)]
pub struct Table {
    pub columns: Vec<Column>,
    /// The heading of the texts.
    pub text: String,
    pub rows: Vec<Row>,
}

/// The columns that a terminal has room for, and their widths.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    table: &'a Table,
    /// Indices of the columns in the table, each with its width.
    columns: Vec<(usize, usize)>,
    /// None for a pipe, where lines may have any length.
    width: Option<usize>,
}

impl Table {
    /// Lays out the headings and all rows.
    pub fn render(&self, width: Option<usize>) -> String {
        let layout = self.layout(width);
        let rows = self.rows.iter().map(|row| layout.row(row));
        layout.headings() + &rows.collect::<String>()
    }

    /// Omits columns, those of the highest rank first, until the others fit the
    /// width.
    pub fn layout(&self, width: Option<usize>) -> Layout<'_> {
        let columns = self.columns.iter().enumerate().map(|(at, column)| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(at));
            let cells = cells.chain([&column.heading]);
            let widths = cells.map(|cell| measure_text_width(cell));
            (at, widths.max().unwrap_or(0))
        });
        let mut layout =
            Layout { table: self, columns: columns.collect(), width };
        let rank = |(at, _): &(usize, usize)| self.columns[*at].rank;
        while width.is_some_and(|width| layout.used() > width + GAP) {
            let ranks = layout.columns.iter().map(rank);
            let Some(most) = ranks.max().filter(|rank| *rank > 0) else {
                break;
            };
            layout.columns.retain(|column| rank(column) < most);
        }
        layout
    }
}

impl Layout<'_> {
    /// Returns the headings of the omitted columns.
    pub fn left_out(&self) -> Vec<String> {
        let columns = self.table.columns.iter().enumerate();
        let shown = |at| self.columns.iter().any(|(shown, _)| *shown == at);
        let hidden = columns.filter(|(at, _)| !shown(*at));
        hidden.map(|(_, column)| column.heading.clone()).collect()
    }

    /// Formats the line of headings.
    pub fn headings(&self) -> String {
        let columns = self.table.columns.iter();
        let headings: Vec<_> = columns.map(|c| c.heading.clone()).collect();
        let mut line = self.cells(&headings);
        if self.room(self.used()).is_some() {
            line += &self.table.text;
        }
        format!("{}\n", style(line.trim_end()).dim())
    }

    /// Formats the row's cells, and its text beside or below them.
    pub fn row(&self, row: &Row) -> String {
        let mut line = self.cells(&row.cells);
        let used = measure_text_width(&line);
        let beside = self.room(used);
        let (indent, room) = match beside {
            Some(room) => (used, room),
            None => (2 * GAP, self.width.unwrap_or(0).saturating_sub(2 * GAP)),
        };
        let mut parts = wrap(&row.text, room).into_iter();
        if beside.is_some() {
            line += &parts.next().unwrap_or_default();
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        for part in parts.filter(|part| !part.is_empty()) {
            let _ = writeln!(line, "{:indent$}{part}", "");
        }
        line
    }

    fn cells(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (at, width) in &self.columns {
            let Some(cell) = cells.get(*at) else { break };
            let space = " ".repeat(width - measure_text_width(cell));
            line += &match self.table.columns[*at].align {
                Align::Left => format!("{cell}{space}"),
                Align::Right => format!("{space}{cell}"),
            };
            line += &" ".repeat(GAP);
        }
        line
    }

    fn used(&self) -> usize {
        self.columns.iter().map(|(_, width)| width + GAP).sum()
    }

    /// Returns the room for a text beside cells of this width; None if the text
    /// must go below them.
    fn room(&self, used: usize) -> Option<usize> {
        let room = self.width.unwrap_or(usize::MAX).saturating_sub(used);
        (room >= TEXT_MIN).then_some(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(width: Option<usize>) -> String {
        console::set_colors_enabled(false);
        let row = |cells: &[&str], text: &str| Row {
            cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
            text: text.to_owned(),
        };
        let table = Table {
            columns: vec![
                Column::left("MODEL"),
                Column::right("RATE"),
                Column::left("FAMILY").rank(1),
            ],
            text: "SUMMARY".to_owned(),
            rows: vec![
                row(&["epoll", "12", "waits"], "one thread waits for many"),
                row(&["nö", "1"], "can't: no ring"),
            ],
        };
        table.render(width)
    }

    #[test]
    fn a_pipe_has_whole_lines() {
        let expected = "\
MODEL  RATE  FAMILY  SUMMARY
epoll    12  waits   one thread waits for many
nö        1  can't: no ring
";
        assert_eq!(render(None), expected);
    }

    #[test]
    fn texts_go_below_the_cells_on_a_narrow_terminal() {
        let expected = "\
MODEL  RATE  FAMILY
epoll    12  waits
    one thread waits
    for many
nö        1
    can't: no ring
";
        assert_eq!(render(Some(20)), expected);
    }

    #[test]
    fn texts_wrap_in_their_column() {
        let rows = (0..2).map(|_| Row {
            cells: vec!["a".to_owned()],
            text: "words ".repeat(7),
        });
        let columns = vec![Column::left("")];
        let table =
            Table { columns, text: String::new(), rows: rows.collect() };
        let layout = table.layout(Some(33));
        let first = "a  words words words words words";
        let row = format!("{first}\n   words words\n");
        assert_eq!(layout.row(&table.rows[0]), row);
    }

    #[test]
    fn a_narrow_terminal_omits_a_column() {
        let text = render(Some(18));
        assert!(text.starts_with("MODEL  RATE\nepoll    12\n"), "{text}");
        for line in text.lines() {
            assert!(measure_text_width(line) <= 18, "{line}");
        }
    }
}

//! The result of a run: a matrix of models and groups, the reasons for skipped
//! cases, and the total.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use lab::screen;
use lab::table::{self, Column, Table};

use super::case::{Outcome, Step};
use super::groups::GROUPS;

/// Numbers of cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Count {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn of<'a>(rows: impl Iterator<Item = &'a Row<'a>>) -> Self {
        let mut count = Self::default();
        for row in rows {
            match row.outcome {
                Outcome::Passed => count.passed += 1,
                Outcome::Failed(_) => count.failed += 1,
                Outcome::Skipped(_) => count.skipped += 1,
            }
        }
        count
    }

    /// Formats a cell of the matrix: the passed cases, and any failed or
    /// skipped.
    fn cell(self) -> String {
        if self == Self::default() {
            return "-".to_owned();
        }
        let mut cell = self.passed.to_string();
        if self.failed > 0 {
            cell += &format!(" {}F", self.failed);
        }
        if self.skipped > 0 {
            cell += &format!(" {}s", self.skipped);
        }
        cell
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// One step and its outcome.
pub struct Row<'a> {
    pub step: &'a Step,
    pub outcome: Outcome,
    pub took: Duration,
}

/// The steps that have run.
pub struct Report<'a> {
    pub rows: Vec<Row<'a>>,
    pub took: Duration,
}

impl Report<'_> {
    /// Prints the report with the `slowest` cases. `units` counts the unit
    /// tests, if they were run; `titles` are the subjects in reading order.
    pub fn print(
        &self,
        titles: &[String],
        units: Option<Count>,
        slowest: usize,
    ) -> ExitCode {
        println!("{}", self.matrix(titles, screen::width()));
        self.print_skips();
        self.print_slowest(slowest);
        let mut total = Count::of(self.rows.iter());
        if let Some(units) = units {
            println!("unit tests: {units}");
            total.add(units);
        }
        println!("the suite took {:.1} s\n", self.took.as_secs_f64());
        println!("{total}");
        if total.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// Formats the matrix: one column per group if the terminal is wide enough,
    /// else the groups by name.
    fn matrix(&self, titles: &[String], width: Option<usize>) -> String {
        let groups = GROUPS.map(|(group, _)| group);
        let cell = |title: &str, group: &str| {
            let rows = self.rows.iter().filter(|row| row.step.group == group);
            let rows = rows.filter(|row| row.step.subject.title() == title);
            Count::of(rows).cell()
        };
        let mut columns = vec![Column::left("")];
        columns.extend(groups.map(|group| Column::right(group).rank(1)));
        let mut rows = Vec::new();
        for title in titles {
            let cells = groups.iter().map(|group| cell(title, group));
            let cells = [title.clone()].into_iter().chain(cells).collect();
            rows.push(table::Row { cells, text: String::new() });
        }
        let mut table = Table { columns, text: String::new(), rows };
        if !table.layout(width).left_out().is_empty() {
            table.columns.truncate(1);
            for row in &mut table.rows {
                let named = groups.iter().zip(&row.cells[1..]);
                let named =
                    named.map(|(group, cell)| format!("{group} {cell}"));
                row.text = named.collect::<Vec<_>>().join(", ");
            }
        }
        format!("passed, F failed, s skipped\n{}", table.render(width))
    }

    /// Prints each reason once, with the number of cases skipped for it.
    fn print_skips(&self) {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &self.rows {
            if let Outcome::Skipped(reason) = &row.outcome {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        for (reason, count) in reasons {
            println!("{count} skipped: {reason}");
        }
    }

    /// Prints the cases that took longest.
    fn print_slowest(&self, count: usize) {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|row| Reverse(row.took));
        for row in rows.into_iter().take(count) {
            println!("{:6.2} s  {}", row.took.as_secs_f64(), row.step.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_has_all_groups_by_name() {
        let titles = ["blocking".to_owned()];
        let report = Report { rows: vec![], took: Duration::ZERO };
        let wide = report.matrix(&titles, None);
        let first = "\nblocking        -         -    - ";
        assert!(wide.contains(first), "{wide}");
        let narrow = report.matrix(&titles, Some(60));
        for (name, _) in GROUPS {
            assert!(narrow.contains(&format!("{name} -")), "{narrow}");
        }
    }
}

//! How a run ended: a matrix of models and groups, why cases were skipped,
//! and the total.

use std::collections::BTreeMap;
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

    fn of(outcome: &Outcome) -> Self {
        let mut count = Self::default();
        match outcome {
            Outcome::Passed => count.passed = 1,
            Outcome::Failed(_) => count.failed = 1,
            Outcome::Skipped(_) => count.skipped = 1,
        }
        count
    }

    /// A cell of the matrix: passed, and what is not as it should be.
    fn cell(self) -> String {
        let mut cell = match self {
            Self { passed: 0, failed: 0, skipped: 0 } => return "-".to_owned(),
            Self { passed, .. } => passed.to_string(),
        };
        if self.failed > 0 {
            cell += &format!(" {}F", self.failed);
        }
        if self.skipped > 0 {
            cell += &format!(" {}s", self.skipped);
        }
        cell
    }
}

/// One step and how it ended.
#[derive(Debug)]
pub struct Row<'a> {
    pub step: &'a Step,
    pub outcome: Outcome,
    pub took: Duration,
}

/// The steps that have ended.
#[derive(Debug)]
pub struct Report<'a> {
    /// Subjects in reading order.
    titles: Vec<String>,
    rows: Vec<Row<'a>>,
    pub took: Duration,
}

impl<'a> Report<'a> {
    pub fn new(steps: &[Step]) -> Self {
        let mut titles: Vec<_> =
            steps.iter().map(|step| step.subject.title()).collect();
        titles.dedup();
        Self { titles, rows: Vec::new(), took: Duration::ZERO }
    }

    pub fn add(&mut self, row: Row<'a>) {
        self.rows.push(row);
    }

    /// Prints everything, with the `slowest` cases; `units` are the unit
    /// tests, if they were run.
    pub fn print(&self, units: Option<Count>, slowest: usize) -> ExitCode {
        println!("{}", self.matrix(screen::width()));
        self.print_skips();
        self.print_slowest(slowest);
        let mut total = Count::default();
        for row in &self.rows {
            total.add(Count::of(&row.outcome));
        }
        if let Some(units) = units {
            println!("unit tests: {}", sentence(units));
            total.add(units);
        }
        println!("the suite took {:.1} s\n", self.took.as_secs_f64());
        println!("{}", sentence(total));
        if total.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// One column for each group where the terminal is wide enough; else the
    /// groups by name.
    fn matrix(&self, width: Option<usize>) -> String {
        let cells = |title: &String| -> Vec<String> {
            let cell = |group| self.count(title, group).cell();
            GROUPS.iter().map(|(name, _)| cell(*name)).collect()
        };
        let wide = |title: &String| table::Row {
            cells: [vec![title.clone()], cells(title)].concat(),
            text: String::new(),
        };
        let mut table = Table {
            columns: [
                vec![Column::left("")],
                GROUPS.map(|(name, _)| group(name)).into(),
            ]
            .concat(),
            text: String::new(),
            rows: self.titles.iter().map(wide).collect(),
        };
        if !table.layout(width).left_out().is_empty() {
            table.columns.truncate(1);
            for (row, title) in table.rows.iter_mut().zip(&self.titles) {
                let named =
                    GROUPS.iter().map(|(name, _)| name).zip(cells(title));
                let named = named.map(|(name, cell)| format!("{name} {cell}"));
                row.text = named.collect::<Vec<_>>().join(", ");
            }
        }
        format!("passed, F failed, s skipped\n{}", table.render(width))
    }

    fn count(&self, title: &str, group: &str) -> Count {
        let mut count = Count::default();
        for row in &self.rows {
            if row.step.subject.title() == title && row.step.group == group {
                count.add(Count::of(&row.outcome));
            }
        }
        count
    }

    /// Prints each reason once, with how many cases it kept from running.
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

    /// Prints where the time went.
    fn print_slowest(&self, count: usize) {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.took));
        for row in rows.into_iter().take(count) {
            println!("{:6.2} s  {}", row.took.as_secs_f64(), row.step.name());
        }
    }
}

fn group(name: &str) -> Column {
    Column::right(name).rank(1)
}

fn sentence(count: Count) -> String {
    let Count { passed, failed, skipped } = count;
    format!("{passed} passed, {failed} failed, {skipped} skipped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_what_is_not_as_it_should_be() {
        for (passed, failed, skipped, cell) in [
            (0, 0, 0, "-"),
            (7, 0, 0, "7"),
            (7, 1, 0, "7 1F"),
            (7, 0, 2, "7 2s"),
            (0, 3, 2, "0 3F 2s"),
        ] {
            assert_eq!(Count { passed, failed, skipped }.cell(), cell);
        }
    }

    #[test]
    fn a_narrow_terminal_has_all_groups_by_name() {
        let titles = vec!["blocking".to_owned()];
        let report = Report { titles, rows: vec![], took: Duration::ZERO };
        let wide = report.matrix(None);
        assert!(wide.contains("  protocol  tcp  udp  limits "), "{wide}");
        assert!(wide.contains("\nblocking         -    -    - "), "{wide}");
        let narrow = report.matrix(Some(60));
        let start =
            "blocking  protocol -, tcp -, udp -, limits -, clients -,\n";
        assert!(narrow.contains(start), "{narrow}");
        for (name, _) in GROUPS {
            assert!(narrow.contains(&format!("{name} -")), "{narrow}");
        }
    }
}

//! Claims, their experiments and their findings.

use anyhow::Result;
use lab::number;
use serde::{Deserialize, Serialize};

use crate::sample::Sample;
pub use crate::verdict::{Answer, History, Verdict};

/// A claim, and the experiment that checks it. Everything but `run` is text
/// that was written before the experiment ran.
#[derive(Debug)]
pub struct Claim {
    /// Lower-case words joined by hyphens.
    pub id: &'static str,
    /// The claim in one sentence.
    pub claim: &'static str,
    /// The section of the notes that makes it, or "circulates" if it comes from
    /// elsewhere.
    pub section: &'static str,
    /// The measurement that makes the claim true, and the one that makes it
    /// false.
    pub criterion: &'static str,
    /// Whether the claim was true earlier, if it is false now.
    pub if_false: History,
    /// Man pages, kernel documents or files, RFCs.
    pub sources: &'static [&'static str],
    /// Two or three sentences for a student.
    pub explanation: &'static str,
    /// Measures and judges, in a process of its own.
    pub run: fn(Effort) -> Result<Finding>,
    /// The experiment's file: `file!()`.
    pub file: &'static str,
}

/// How much an experiment repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough for a stable number.
    Full,
    /// Enough to show that the experiment runs.
    Short,
}

impl Effort {
    /// Returns the number of repetitions for this effort.
    pub fn pick(self, full: usize, short: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Short => short,
        }
    }
}

/// The result of one run of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub answer: Answer,
    /// The measured numbers, the decisive one first.
    pub figures: Vec<Figure>,
    /// For mechanisms that receive: which thread copies, and when.
    pub copying: Option<Copying>,
}

impl Finding {
    pub fn new(answer: Answer, figures: impl Into<Vec<Figure>>) -> Self {
        Self { answer, figures: figures.into(), copying: None }
    }
}

/// The behaviour of a mechanism when data arrives while the program's thread
/// computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copying {
    /// The thread could learn of the data before it made a call.
    pub told: bool,
    pub copier: Copier,
}

/// The thread that copies the data, and when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copier {
    /// The program's thread, in the call with which it asks.
    InCall,
    /// The program's thread, whose computing is interrupted.
    Interrupted,
    /// A thread of the C library, while the program computes.
    Library,
    /// A thread of the kernel, while the program computes.
    Kernel,
}

/// A measured number with its name and unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    /// Empty for a plain count.
    pub unit: String,
    pub sample: Sample,
}

impl Figure {
    pub fn new(name: &str, unit: &str, sample: impl Into<Sample>) -> Self {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Self { name, unit, sample: sample.into() }
    }

    /// Formats the number: `12.3 µs (11.9 to 14.0)`.
    pub fn value(&self) -> String {
        let is_count = self.sample.values().iter().all(|it| it.fract() == 0.0);
        let format = if is_count { number::count } else { number::figure };
        let unit = match self.unit.as_str() {
            "" => String::new(),
            "%" => "%".to_owned(),
            unit => format!(" {unit}"),
        };
        let median = format(self.sample.median());
        let (least, most) =
            (format(self.sample.min()), format(self.sample.max()));
        if least == most {
            return format!("{median}{unit}");
        }
        format!("{median}{unit} ({least} to {most})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_shows_its_spread_if_it_has_one() {
        let value = |unit, sample: &[f64]| {
            Figure::new("", unit, Sample::new(sample.to_vec())).value()
        };
        assert_eq!(value("µs", &[3.1, 1.0, 2.0]), "2.00 µs (1.00 to 3.10)");
        assert_eq!(value("", &[12.0]), "12");
        assert_eq!(value("%", &[12.0, 12.0]), "12%");
    }
}

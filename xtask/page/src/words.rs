//! What the numbers say, in words.
//!
//! Each function says one thing, or nothing where it was not measured. None
//! claims a difference where the runs of one server reach into those of the
//! other, or the medians are close.

mod compare;
mod cost;
mod held;
mod trouble;

#[cfg(test)]
mod tests;

use std::fmt;

use ::compare::results::{Figures, Outcome, Results};
use ::compare::workload::Workload;

use compare::Known;

pub use compare::APART;

/// Some sentences on one matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub topic: String,
    pub text: String,
}

impl Statement {
    fn new(topic: impl Into<String>, text: impl Into<String>) -> Self {
        Self { topic: topic.into(), text: text.into() }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.topic, self.text)
    }
}

/// All that is to be said, the most important first.
pub fn summary(results: &Results) -> Vec<Statement> {
    let mut runs = results.runs.iter();
    let mut statements = Vec::new();
    if runs.any(|run| matches!(run.outcome, Outcome::Measured(_))) {
        statements.extend(cost::cheapest(results));
        statements.extend(cost::yardsticks(results));
        statements.extend(cost::idle(results));
        statements.extend(cost::pipelining(results));
        statements.extend(held::memory(results));
        statements.extend(held::clients(results));
        statements.extend(held::latency(results));
    } else {
        statements.push(Statement::new("Result", "Nothing was measured."));
    }
    statements.extend(trouble::saturated(results));
    statements.extend(trouble::failures(results));
    statements.extend(trouble::caution(results));
    statements
}

/// Models, without yardsticks.
fn models(results: &Results) -> impl Iterator<Item = &str> {
    let models = results.servers.iter().filter(|server| !server.yardstick);
    models.map(|server| server.title.as_str())
}

/// One figure of all models that have it.
fn known<'a>(
    results: &'a Results,
    workload: &Workload,
    figure: impl Fn(&Figures) -> f64 + Copy,
) -> Vec<Known<'a>> {
    let models = models(results).filter_map(|name| {
        let spread = results.spread(&workload.name, name, |run| {
            Some(figure(run)).filter(|value| value.is_finite())
        })?;
        Some(Known { name, spread })
    });
    models.collect()
}

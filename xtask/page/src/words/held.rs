//! What connections cost, how many are held, and how long requests take.

use ::compare::results::{Results, Row, SUSTAINED};
use ::compare::workload::Workload;
use lab::number::{count, figure, list, some};

use super::compare::{Known, ends};
use super::cost::cannot;
use super::{Statement, known, models};
use crate::pick;

/// What one more connection takes, least and most.
pub fn memory(results: &Results) -> Option<Statement> {
    let all = models(results).filter_map(|name| {
        let [.., together] = pick::memory(results, name)?;
        Some(Known { name, spread: together })
    });
    let all: Vec<_> = all.collect();
    let told = ends(&all)?.told(|kib| format!("{} KiB", figure(kib)));
    let text = format!(
        "One more idle connection takes {told}, processes and kernel \
         together, both ends of it."
    );
    Some(Statement::new("Memory", text))
}

/// Who holds ten thousand, and where the others ended.
pub fn clients(results: &Results) -> Option<Statement> {
    let round = pick::round(&results.workloads)?;
    let rows = models(results)
        .filter_map(|name| Some((name, results.row(&round.name, name)?)));
    let rows: Vec<_> = rows.collect();
    let wanted = round.connections as f64;
    let held = |name| pick::held(results, round, name);
    let whole = rows.iter().filter(|(name, row)| {
        matches!(row, Row::Measured(_)) && held(name) >= Some(wanted)
    });
    let clients = some(round.connections, "client");
    let first = match (whole.count(), rows.len()) {
        (_, 0) => return None,
        (0, 1) => format!("The model measured did not hold {clients}."),
        (1, 1) => format!("The model measured held {clients}."),
        (0, all) => format!("None of {all} models held {clients}."),
        (some, all) if some == all => {
            format!("All {all} models held {clients}.")
        }
        (some, all) => format!("{some} of {all} models held {clients}."),
    };
    let others = rows.iter().filter_map(|(name, row)| match row {
        Row::Cannot(why) => Some(format!("{name}: {why}.")),
        Row::Measured(_) => {
            let held = held(name).filter(|held| *held < wanted)?;
            Some(format!("{name} held {}.", count(held)))
        }
        Row::Failed(_) => None,
    });
    let text: Vec<_> = std::iter::once(first).chain(others).collect();
    Some(Statement::new("C10K", text.join(" ")))
}

/// Who kept up with the stated rate, who didn't, and at what p99.
pub fn latency(results: &Results) -> Option<Statement> {
    let open = pick::open(&results.workloads)?;
    let due = f64::from(open.rate?);
    let (kept_up, fell_behind): (Vec<_>, Vec<_>) =
        known(results, open, |run| run.rate)
            .into_iter()
            .partition(|known| known.spread.median >= SUSTAINED * due);
    let failed = models(results).filter(|name| {
        matches!(results.row(&open.name, name), Some(Row::Failed(_)))
    });
    let failed: Vec<_> = failed.map(str::to_owned).collect();
    let asked = kept_up.len() + fell_behind.len() + failed.len();
    let rate = format!("{} requests a second", count(due));
    let mut sentences = Vec::new();
    match (kept_up.as_slice(), asked) {
        (_, 0) => {}
        ([], 1) => sentences.push(format!("{rate} were not sustained.")),
        ([], all) => {
            sentences.push(format!("None of {all} models sustained {rate}."));
        }
        ([one], 1) => sentences.push(format!("{} sustained {rate}.", one.name)),
        (some, all) => {
            let number = some.len();
            sentences
                .push(format!("{number} of {all} models sustained {rate}."));
        }
    }
    let behind = fell_behind.iter().map(|known| {
        let rate = figure(known.spread.median);
        format!("{} ({rate})", known.name)
    });
    let behind: Vec<_> = behind.collect();
    if !behind.is_empty() {
        sentences.push(format!("That was too much for {}.", list(&behind)));
    }
    if !failed.is_empty() {
        sentences.push(format!("Failed: {}.", list(&failed)));
    }
    sentences.extend(cannot(results, open));
    sentences.extend(tail(results, open, &kept_up));
    let text = sentences.join(" ");
    (!text.is_empty()).then(|| Statement::new("Latency", text))
}

/// The p99 of those who kept up.
fn tail(
    results: &Results,
    open: &Workload,
    kept_up: &[Known<'_>],
) -> Option<String> {
    let p99 = known(results, open, |run| run.p99).into_iter();
    let p99: Vec<_> = p99
        .filter(|known| kept_up.iter().any(|other| other.name == known.name))
        .collect();
    let told = ends(&p99)?.told(|micros| format!("{} µs", figure(micros)));
    Some(format!("At that rate p99 is {told}."))
}

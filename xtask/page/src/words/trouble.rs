//! What a reader must know before trusting the rest.

use ::compare::results::{Figures, Results, Row};
use lab::number::some;

use super::Statement;

/// Every row there is, with its workload and its server.
fn rows(results: &Results) -> Vec<(&str, &str, Row<'_>)> {
    let mut rows = Vec::new();
    for workload in &results.workloads {
        for server in &results.servers {
            let (workload, server) = (&workload.name, &server.title);
            if let Some(row) = results.row(workload, server) {
                rows.push((workload.as_str(), server.as_str(), row));
            }
        }
    }
    rows
}

/// More than half of the runs are marked: a single mark may be chance.
fn is_saturated(runs: &[&Figures]) -> bool {
    let marked = runs.iter().filter(|run| {
        let remark = run.remark.as_ref();
        remark.is_some_and(|remark| remark.contains("saturated"))
    });
    2 * marked.count() > runs.len()
}

/// Where the load generator was the limit.
pub fn saturated(results: &Results) -> Option<Statement> {
    let rows = rows(results);
    let measured = rows.iter().filter_map(|(.., row)| match row {
        Row::Measured(runs) => Some(is_saturated(runs)),
        _ => None,
    });
    let measured: Vec<_> = measured.collect();
    let saturated = measured.iter().filter(|saturated| **saturated);
    let text = match (saturated.count(), measured.len()) {
        (0, _) => return None,
        (1, 1) => "In the one row measured".to_owned(),
        (number, all) => format!("In {number} of {}", some(all, "row")),
    };
    Some(Statement::new(
        "Load generator",
        text + ", it was the limit and not the server, which could have \
                answered more requests a second.",
    ))
}

/// More failures than these are counted.
const FAILURES: usize = 5;

/// What went wrong.
pub fn failures(results: &Results) -> Option<Statement> {
    let rows = rows(results).into_iter();
    let failed = rows.filter_map(|(workload, server, row)| match row {
        Row::Failed(why) => Some(format!("{server} in {workload}: {why}.")),
        _ => None,
    });
    let mut failed: Vec<_> = failed.collect();
    let more = failed.len().saturating_sub(FAILURES);
    if more > 1 {
        failed.truncate(FAILURES);
        let rows = some(more, "more row");
        failed.push(format!("{rows} failed; the tables say why."));
    }
    (!failed.is_empty()).then(|| Statement::new("Failed", failed.join(" ")))
}

/// One run has no spread, and a run that was left out is in no median.
pub fn caution(results: &Results) -> Option<Statement> {
    let rows = rows(results);
    let single = rows.iter().filter(
        |(.., row)| matches!(row, Row::Measured(runs) if runs.len() == 1),
    );
    let mut sentences = Vec::new();
    match single.count() {
        0 => {}
        1 => sentences.push("1 row rests on a single run".to_owned()),
        number => sentences.push(format!("{number} rows rest on a single run")),
    }
    if let Some(sentence) = sentences.last_mut() {
        *sentence += ": a difference there may be chance.";
    }
    match results.missing {
        0 => {}
        1 => sentences.push("1 run of the plan did not take place.".to_owned()),
        number => {
            let runs = some(number, "run");
            sentences.push(format!("{runs} of the plan did not take place."));
        }
    }
    let text = sentences.join(" ");
    (!text.is_empty()).then(|| Statement::new("Caution", text))
}

//! What a request costs: on its own, beside idle connections, in company.

use ::compare::results::{Results, Row};
use ::compare::workload::Workload;
use lab::number::{as_much, figure, list, some};

use super::compare::{Ends, Factor, Known, differ, ends, factors, names};
use super::{Statement, known, models};
use crate::pick;

/// A factor like this is worth a name.
const MUCH: f64 = 1.5;

fn micros(value: f64) -> String {
    format!("{} µs", figure(value))
}

/// Who has the least processor time a request, and who the most.
pub fn cheapest(results: &Results) -> Option<Statement> {
    let workload = pick::usual(&results.workloads)?;
    let all = known(results, workload, |run| run.cpu);
    let ends = ends(&all)?;
    let with = some(workload.connections, "connection");
    let told = ends.told(micros);
    let mut text = format!("With {with}, a request takes {told}");
    if let Ends::Apart { least, most, .. } = &ends {
        let factor = most.spread.median / least.spread.median;
        text += &format!(": {}", as_much(factor));
    }
    Some(Statement::new("Processor time", text + "."))
}

/// How far the best model is from each yardstick.
pub fn yardsticks(results: &Results) -> Option<Statement> {
    let workload = pick::usual(&results.workloads)?;
    let mut all = known(results, workload, |run| run.cpu);
    all.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
    let best = all.first()?;
    let yardsticks = results.servers.iter().filter(|s| s.yardstick);
    let sentences = yardsticks.filter_map(|yardstick| {
        let name = yardstick.title.as_str();
        let spread =
            results.spread(&workload.name, name, |run| Some(run.cpu))?;
        Some(against(best, &Known { name, spread }))
    });
    let sentences: Vec<_> = sentences.collect();
    let text = sentences.join(" ");
    (!text.is_empty()).then(|| Statement::new("Yardsticks", text))
}

fn against(best: &Known<'_>, yardstick: &Known<'_>) -> String {
    let (model, name) = (best.name, yardstick.name);
    let micros = micros(yardstick.spread.median);
    if !differ(&best.spread, &yardstick.spread) {
        return format!(
            "{name} takes {micros} a request, which is no measurable \
             difference to {model}."
        );
    }
    let factor = best.spread.median / yardstick.spread.median;
    if factor > 1.0 {
        let more = as_much(factor);
        return format!("{name} takes {micros} a request, {model} {more}.");
    }
    let more = as_much(1.0 / factor);
    let than = if more.ends_with("more") { "than" } else { "as" };
    format!("{name} takes {micros} a request, {more} {than} {model}.")
}

/// What idle connections cost: a statement for each number of them.
pub fn idle(results: &Results) -> Vec<Statement> {
    let workloads = pick::by_idle(&results.workloads);
    let Some((base, idle)) = workloads.split_first() else {
        return Vec::new();
    };
    if base.idle > 0 {
        return Vec::new();
    }
    let idle = idle.iter().filter_map(|idle| among(results, base, idle));
    idle.collect()
}

fn among(
    results: &Results,
    base: &Workload,
    idle: &Workload,
) -> Option<Statement> {
    let base = known(results, base, |run| run.cpu);
    let beside = known(results, idle, |run| run.cpu);
    let all = factors(&base, &beside);
    let (changed, same): (Vec<_>, Vec<_>) =
        all.iter().copied().partition(Factor::measurable);
    let (mut more, mut less): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|factor| factor.value() > 1.0);
    more.sort_by(|a, b| b.value().total_cmp(&a.value()));
    less.sort_by(|a, b| a.value().total_cmp(&b.value()));
    let mut sentences = Vec::new();
    if !more.is_empty() || !less.is_empty() {
        let parts = [more_of(&more), more_of(&less)].concat();
        sentences.push(format!(
            "Compared with none, a request takes {}.",
            list(&parts)
        ));
    }
    if !same.is_empty() {
        let whom: Vec<_> = same.iter().map(|factor| factor.name).collect();
        let whom = match whom.len() {
            number if number == all.len() && number > 1 => "any model".into(),
            _ => names(&whom),
        };
        sentences.push(format!("No measurable difference to {whom}."));
    }
    sentences.extend(cannot(results, idle));
    let topic = some(idle.idle, "idle connection");
    (!sentences.is_empty()).then(|| Statement::new(topic, sentences.join(" ")))
}

/// The large ones by name, the small ones together.
fn more_of(factors: &[Factor<'_>]) -> Vec<String> {
    let (mut named, rest): (Vec<&Factor<'_>>, Vec<_>) = factors
        .iter()
        .partition(|f| f.value() >= MUCH || f.value() <= 1.0 / MUCH);
    let rest = if rest.len() < 3 {
        named.extend(rest);
        Vec::new()
    } else {
        rest
    };
    let mut parts: Vec<_> = named
        .iter()
        .map(|f| format!("{} on {}", as_much(f.value()), f.name))
        .collect();
    if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        let (first, last) = (as_much(first.value()), as_much(last.value()));
        let number = rest.len();
        let others = if named.is_empty() { "models" } else { "others" };
        parts.push(if first == last {
            format!("{first} on {number} {others}")
        } else {
            format!("{last} to {first} on {number} {others}")
        });
    }
    parts
}

/// Models that can't take a workload, each with its reason.
pub fn cannot(results: &Results, workload: &Workload) -> Option<String> {
    let parts = models(results).filter_map(|name| {
        match results.row(&workload.name, name)? {
            Row::Cannot(why) => Some(format!("{name} ({why})")),
            _ => None,
        }
    });
    let parts: Vec<_> = parts.collect();
    (!parts.is_empty()).then(|| format!("Not measured: {}.", list(&parts)))
}

/// What many requests at a time gain.
pub fn pipelining(results: &Results) -> Option<Statement> {
    let workloads = pick::by_pipeline(&results.workloads);
    let (base, deep) = (workloads.first()?, workloads.last()?);
    if base.pipeline > 1 || deep.pipeline == 1 {
        return None;
    }
    let one = known(results, base, |run| run.cpu);
    let many = known(results, deep, |run| run.cpu);
    let (changed, same): (Vec<_>, Vec<_>) =
        factors(&one, &many).into_iter().partition(Factor::measurable);
    let changed = changed.iter().map(Factor::known);
    let changed: Vec<_> = changed.collect();
    let mut sentences = Vec::new();
    if let Some(ends) = ends(&changed) {
        let told = ends.told(|part| format!("{} %", figure(part * 100.0)));
        sentences.push(format!(
            "Of what a request takes on its own, one of {} sent at a time \
             takes {told}.",
            deep.pipeline
        ));
    }
    if !same.is_empty() {
        let same: Vec<_> = same.iter().map(|factor| factor.name).collect();
        let names = names(&same);
        sentences.push(format!("No measurable difference to {names}."));
    }
    let text = sentences.join(" ");
    (!text.is_empty()).then(|| Statement::new("Pipelining", text))
}

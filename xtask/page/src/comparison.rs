//! The page: summary, charts and tables in one file, which loads nothing from
//! the network.

use compare::pairs::Pairs;
use compare::results::Results;
use compare::spread::APART;
use compare::summary::{self, MARK, Ranking};
use lab::number::percent;
use maud::{Markup, html};

use crate::chart::Chart;
use crate::shell::{self, whole};
use crate::survey::Survey;
use crate::{chart_data, charts, claimed, paired, tables, traced};

#[cfg(test)]
mod tests;

/// The models' system calls, or the reason why they weren't traced.
pub type Traces = Result<Survey, String>;

/// Makes the page of a comparison.
pub fn render(
    results: &Results,
    pairs: Option<&Pairs>,
    traces: Option<&Traces>,
) -> String {
    let pairs = pairs.map(paired::chart);
    let main = html! {
        (opening(results, pairs.as_ref(), traces.is_some()))
        @if is_shown(results, pairs.as_ref()) {
            (comparison(results, traces))
        }
        @if let Some(pairs) = &pairs { (figure(pairs)) }
        (environment(results))
        (method())
    };
    whole("Unix I/O models, compared", &main)
}

/// Returns whether the page shows single servers, not only pairs.
fn is_shown(results: &Results, pairs: Option<&Chart>) -> bool {
    pairs.is_none() || !results.servers.is_empty()
}

/// Makes the sections on single servers.
fn comparison(results: &Results, traces: Option<&Traces>) -> Markup {
    let charts = chart_data::all(results);
    html! {
        (summary(results))
        section #charts {
            h2 { "Charts" }
            p {
                "A mark is the median of all runs; the thin line through it "
                "is their range. Servers with one thread and servers with "
                "several have separate drawings with the same axis, each "
                "with the yardsticks below. Rows of marks are sorted, the "
                "best first, by the middle mark of the legend (for latency, "
                "p99)."
            }
            @for chart in &charts { (figure(chart)) }
        }
        @match traces {
            Some(Ok(survey)) => (traced::section(survey)),
            Some(Err(why)) => (traced::section_without(why)),
            None => {}
        }
        (claimed::not_yet())
        (tables::all(results))
        (servers(results))
    }
}

/// Refers to the document that describes the measurements.
fn method() -> Markup {
    html! {
        section #method {
            h2 { "Method and limits" }
            p {
                code { "METHODOLOGY.md" } ", in the repository that this page "
                "was made from, describes how each figure is measured, and "
                "its limits: what a closed loop hides, when the load "
                "generator limits the rate, and how much short runs differ by "
                "chance."
            }
        }
    }
}

/// Draws the chart of the README as a separate file.
pub fn chart_for_readme(results: &Results) -> String {
    charts::alone(&chart_data::for_readme(results))
}

fn opening(
    results: &Results,
    pairs: Option<&Chart>,
    is_traced: bool,
) -> Markup {
    let mut parts = Vec::new();
    if is_shown(results, pairs) {
        parts.extend([("summary", "Summary"), ("charts", "Charts")]);
        if is_traced {
            parts.push(("waits", "How they wait"));
        }
        parts.extend([
            ("claims", "Claims"),
            ("tables", "Tables"),
            ("servers", "Servers"),
        ]);
    }
    parts.extend(pairs.map(|chart| (chart.id, chart.title)));
    parts.extend([
        ("environment", "Environment"),
        ("method", "Method and limits"),
    ]);
    let facts = ["kernel", "processor", "commit"];
    let known = results.environment.iter();
    let known = known.filter(|(name, _)| facts.contains(&name.as_str()));
    let known: Vec<_> = known.map(|(_, value)| value.as_str()).collect();
    html! {
        header {
            h1 { "Unix I/O models, compared" }
            p .lead {
                "One small server, written once for each way to wait for data "
                "and once for each way to scale connections, measured under "
                "the same load on one machine."
            }
            @if !known.is_empty() { p .facts { (known.join(" · ")) } }
            nav aria-label="On this page" {
                @for (id, name) in parts {
                    a href=(format!("#{id}")) { (name) }
                }
            }
        }
    }
}

fn summary(results: &Results) -> Markup {
    let cautions = summary::cautions(results);
    html! {
        section #summary {
            h2 { "Summary" }
            p {
                "Each list begins with the best model and its median. A "
                "number with × is another server's ratio to it: the ratio of "
                "the medians, and in parentheses the least and the greatest "
                "ratio of any two runs. Yardsticks come last."
            }
            div .panels {
                @for ranking in summary::rankings(results) {
                    (ranked(&ranking))
                }
            }
            @if !cautions.is_empty() {
                ul { @for caution in cautions { li { (caution) } } }
            }
            p .fine {
                (MARK) " The best model, or not measurably different from it. "
                "Two medians count as different only if the runs don't "
                "overlap and the medians differ by at least "
                (percent(APART)) " %."
            }
        }
    }
}

fn ranked(ranking: &Ranking<'_>) -> Markup {
    html! {
        table {
            caption { (ranking.title) }
            tbody {
                @for [server, number, unit, range] in ranking.lines() {
                    tr {
                        th scope="row" { (server) }
                        td { (number) " " (unit) }
                        td .rest { (range) }
                    }
                }
            }
        }
    }
}

fn servers(results: &Results) -> Markup {
    let servers = results.servers.iter();
    let servers = servers.map(|it| (it.title.as_str(), it.summary.as_str()));
    html! {
        section #servers {
            h2 { "Servers" }
            (shell::pairs("The servers", servers))
        }
    }
}

fn figure(chart: &Chart) -> Markup {
    let missing = &chart.missing;
    html! {
        section #(chart.id) {
            @if chart.is_empty() {
                h3 { (chart.title) }
                p {
                    @if missing.is_empty() {
                        "No server has figures for this chart; see the "
                        "reasons in the tables."
                    } @else {
                        "Not measured in this run. "
                        code { "cargo xtask compare --full" }
                        " makes this chart."
                    }
                }
            } @else {
                div .whole {
                    h3 { (chart.title) }
                    p { (chart.lead) }
                    (charts::draw(chart))
                }
                @if !missing.is_empty() {
                    p .fine {
                        "Not in this run: " (missing.join("; ")) ". "
                        code { "cargo xtask compare --full" }
                        " measures this too."
                    }
                }
                details {
                    summary { "Data as a table" }
                    (tables::of_chart(chart))
                }
            }
        }
    }
}

fn environment(results: &Results) -> Markup {
    let facts = results.environment.iter();
    let facts = facts.map(|(name, value)| (name.as_str(), value.as_str()));
    html! {
        section #environment {
            h2 { "Environment" }
            @if results.environment.is_empty() {
                p { "Nothing was recorded." }
            } @else {
                (shell::pairs("The environment", facts))
            }
        }
    }
}

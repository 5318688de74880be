//! Tests the page of full and partial runs.

use compare::pairs::{Other, Pairs};
use compare::results::{Figures, Outcome, Results};
use compare::sample;
use compare::spread::Spread;
use lab::number;
use maud::html;
use roxmltree::{Document, Node};

use super::{chart_for_readme, render};
use crate::chart::Cell;
use crate::charts::COLOURS;
use crate::figure::sample::survey;
use crate::{chart_data, tables};

/// The number of panels in the section on how the models wait.
const WAITS: usize = 4;

/// Makes the page of results, with hand-written traces.
fn page_of(results: &Results) -> String {
    render(results, None, Some(&Ok(survey())))
}

/// Returns the drawings in a page, as XML.
fn drawings(page: &str) -> Vec<String> {
    let parts = page.split("<svg").skip(1);
    let parts = parts.map(|part| {
        let (drawing, _) = part.split_once("</svg>").unwrap();
        format!("<svg{drawing}</svg>")
    });
    parts.collect()
}

/// Makes a full run and changes each of its runs.
fn with_runs(change: impl Fn(usize, &mut Outcome)) -> Results {
    let mut results = sample::full();
    for (at, run) in results.runs.iter_mut().enumerate() {
        change(at, &mut run.outcome);
    }
    results
}

fn failed() -> Results {
    with_runs(|_, run| *run = Outcome::Failed("it died".to_owned()))
}

/// Returns all kinds of results, from full to empty.
fn all_kinds() -> Vec<(&'static str, Results)> {
    let strange = with_runs(|at, run| {
        let Outcome::Measured(figures) = run else { return };
        match at % 5 {
            0 => figures.cpu = f64::NAN,
            1 => figures.rate = f64::INFINITY,
            2 => *figures = Figures::default(),
            3 => figures.memory = Some(-0.3),
            _ => figures.p99 = 0.0,
        }
    });
    let mut yardsticks = sample::full();
    yardsticks.servers.retain(|server| !server.is_model());
    vec![
        ("full", sample::full()),
        ("quick", sample::quick()),
        ("unusual numbers", strange),
        ("yardsticks only", yardsticks),
        ("all failed", failed()),
        ("no runs", Results { runs: Vec::new(), ..sample::full() }),
        ("empty", Results::default()),
    ]
}

/// Checks that a drawing is XML, and has a name and a description.
fn check_drawing(kind: &str, drawing: &str) {
    let xml = Document::parse(drawing);
    let xml = xml.unwrap_or_else(|e| panic!("{kind}: {e}: {drawing}"));
    let root = xml.root_element();
    if root.attribute("aria-hidden").is_some() {
        return;
    }
    assert_eq!(root.attribute("role"), Some("img"), "{kind}");
    for id in root.attribute("aria-labelledby").unwrap().split(' ') {
        let named = |node: &Node<'_, '_>| {
            node.attribute("id") == Some(id)
                && node.text().is_some_and(|text| !text.is_empty())
        };
        assert!(root.children().any(|n| named(&n)), "{kind}: {id}");
    }
}

#[test]
fn all_kinds_of_results_make_a_valid_page() {
    for (kind, results) in all_kinds() {
        let (page, alone) = (page_of(&results), chart_for_readme(&results));
        for drawing in drawings(&page).iter().chain([&alone]) {
            check_drawing(kind, drawing);
        }
        for text in [&page, &alone] {
            for word in text.split(|c: char| !c.is_alphanumeric()) {
                assert!(!["NaN", "inf"].contains(&word), "{kind}: {text}");
            }
        }
        // Nothing is loaded.
        for part in ["//", "src=", "url(", "@import", "<link", "<script"] {
            assert!(!page.contains(part), "{kind}: {part}");
        }
    }
}

#[test]
fn a_full_run_has_all_charts_in_both_groups() {
    let page = page_of(&sample::full());
    // Each chart has two drawings; rows may be incomplete.
    assert!(page.contains(" · – · –</text>"));
    assert!(page.contains(">can't: serves one client at a time</text>"));
    let charts = chart_data::all(&sample::full()).len();
    assert_eq!(page.matches("role=\"img\"").count(), charts * 2 + WAITS);
    assert!(!page.contains("makes this chart"));
    let page = page_of(&failed());
    assert_eq!(page.matches("No server has figures").count(), charts);
}

#[test]
fn the_section_on_waiting_depends_on_the_traces() {
    let page = page_of(&sample::full());
    assert!(page.contains("href=\"#waits\""));
    assert!(page.contains("50 calls return EAGAIN"));
    let results = sample::full();
    let why = Err("ptrace(2) is refused here".to_owned());
    let page = render(&results, None, Some(&why));
    assert!(page.contains("Not traced: ptrace(2) is refused here"));
    assert!(!render(&results, None, None).contains("How they wait"));
}

/// Makes pairs of a model and its minimal program.
fn pairs() -> Pairs {
    let mut results = sample::of_costs(&[
        ("ping-50", "a", &[3.3, 3.0, 3.2]),
        ("ping-50", "a, minimal", &[3.0, 3.0, 3.0]),
    ]);
    results.workloads.retain(|workload| workload.name == "ping-50");
    Pairs { other: Other::Minimal, results }
}

#[test]
fn pairs_have_a_section_of_their_own() {
    let page = render(&sample::full(), Some(&pairs()), None);
    assert!(page.contains("href=\"#pairs\""));
    let (_, section) = page.split_once("id=\"pairs\"").unwrap();
    assert!(section.contains("1.07 <span class=\"range\">1.00–1.10</span>"));
    check_drawing("pairs", &drawings(section)[0]);
    // Without single servers there is nothing else.
    let page = render(&Results::default(), Some(&pairs()), None);
    assert!(!page.contains("id=\"charts\"") && page.contains("id=\"pairs\""));
}

#[test]
fn missing_workloads_name_the_command_that_runs_them() {
    let page = page_of(&sample::quick());
    let missing = page.matches("makes this chart").count();
    // The run has no load with ten thousand clients, and none with requests
    // that take time. It has no open loop either, so latency is that of the
    // closed loop.
    assert_eq!(missing, 3);
    let charts = chart_data::all(&sample::quick()).len() - missing;
    assert!(page.contains("cargo xtask compare --full"));
    assert!(page.contains("Not in this run: Ping-pong, 1 connection"));
    assert!(page.contains("in a closed loop"));
    assert_eq!(page.matches("role=\"img\"").count(), charts * 2 + WAITS);
}

#[test]
fn the_table_has_all_drawn_values() {
    for chart in chart_data::all(&sample::full()) {
        let table = tables::of_chart(&chart).into_string();
        for row in &chart.rows {
            let name = format!(">{}</th>", row.name);
            let mut lines = table.split("<tr>");
            let line = lines.find(|line| line.contains(&name)).unwrap();
            for cell in row.cells.iter().chain(&row.extra) {
                let text = match cell {
                    Cell::Known(Spread { median, .. }) => {
                        number::figure(*median)
                    }
                    other => html! { (other.text()) }.into_string(),
                };
                assert!(line.contains(&text), "{}: no {text}", chart.id);
            }
        }
        for heading in chart.series.iter().chain(&chart.extra) {
            assert!(table.contains(heading), "{}: {heading}", chart.id);
        }
    }
}

#[test]
fn the_best_and_those_like_it_are_marked() {
    let results = sample::of_costs(&[
        ("ping-50", "a", &[3.0, 3.1, 3.2]),
        ("ping-50", "b", &[3.15, 3.3, 3.4]),
        ("ping-50", "c", &[3.5, 3.6, 3.7]),
    ]);
    let page = page_of(&results);
    let (_, table) = page.split_once("id=\"workload-ping-50\"").unwrap();
    let marked = |number: &str| {
        table.contains(&format!("<td>{number}<span class=\"mark\">*</span>"))
    };
    assert!(marked("3.10") && marked("3.30"), "{table}");
    assert!(table.contains("<td>3.60") && !marked("3.60"), "{table}");
}

#[test]
fn names_and_messages_are_escaped() {
    let page = page_of(&sample::full());
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"));
    let mut results = sample::full();
    let odd = "<b>\"x\" & 'y'</b>";
    results.servers[4].title = odd.to_owned();
    results.environment.push((odd.to_owned(), odd.to_owned()));
    results.workloads[1].title = odd.to_owned();
    for text in [page_of(&results), chart_for_readme(&results)] {
        assert!(!text.contains("<b>"), "{text}");
    }
}

#[test]
fn ids_are_unique_and_found() {
    let page = page_of(&sample::full());
    let ids = |key: &str| -> Vec<String> {
        let parts = page.split(key).skip(1);
        parts.map(|p| p.split('"').next().unwrap().to_owned()).collect()
    };
    let mut known = ids(" id=\"");
    let number = known.len();
    known.sort();
    known.dedup();
    assert_eq!(known.len(), number);
    for target in ids("href=\"#") {
        assert!(known.contains(&target), "{target}");
    }
}

#[test]
fn the_readme_shows_idle_connections_or_the_usual_load() {
    let full = chart_for_readme(&sample::full());
    assert!(full.contains("Cost against idle connections"));
    assert!(full.contains("prefers-color-scheme: dark"));
    let mut short = sample::full();
    short.workloads.truncate(2);
    let short = chart_for_readme(&short);
    assert!(short.contains("Processor time per request"));
    assert!(short.contains("50 connections"));
}

/// The contrast required for text and for drawings: level AA of WCAG 2,
/// sections 1.4.3 and 1.4.11.
const TEXT: f64 = 4.5;
const DRAWN: f64 = 3.0;

/// Returns the colours of each scheme, light and dark: names and channels.
fn palettes() -> Vec<Vec<(&'static str, [f64; 3])>> {
    let schemes = COLOURS.split(":root").skip(1);
    let palettes = schemes.map(|scheme| {
        let lines = scheme.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once(": #")?;
            let number = u32::from_str_radix(value.trim_end_matches(';'), 16);
            let [_, channels @ ..] = number.unwrap().to_be_bytes();
            Some((name, channels.map(f64::from)))
        });
        lines.collect()
    });
    palettes.collect()
}

/// Returns the relative luminance, from 0 to 1.
fn luminance(channels: [f64; 3]) -> f64 {
    let linear = channels.map(|channel| match channel / 255.0 {
        part if part <= 0.04045 => part / 12.92,
        part => ((part + 0.055) / 1.055).powf(2.4),
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}

fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn colours_contrast_with_their_background() {
    let palettes = palettes();
    assert_eq!(palettes.len(), 2);
    for (colours, scheme) in palettes.iter().zip(["light", "dark"]) {
        let of = |name: &str| {
            let mut colours = colours.iter();
            colours.find(|(known, _)| *known == name).unwrap().1
        };
        for (name, behind, least) in [
            ("--ink", "--paper", TEXT),
            ("--ink", "--raised", TEXT),
            ("--soft", "--paper", TEXT),
            ("--soft", "--raised", TEXT),
            ("--link", "--paper", TEXT),
            ("--link", "--raised", TEXT),
            ("--strong", "--paper", TEXT),
            ("--one", "--paper", DRAWN),
            ("--two", "--paper", DRAWN),
            ("--three", "--paper", DRAWN),
            ("--four", "--paper", DRAWN),
        ] {
            let contrast = contrast(of(name), of(behind));
            let pair = format!("{scheme}: {name} on {behind}");
            assert!(contrast >= least, "{pair} has {contrast:.2}");
        }
    }
}

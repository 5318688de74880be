//! Draws a row for each server: marks on a line, or a bar. The name is above
//! the row, so that the values can use the whole width.

use compare::spread::Spread;
use console::truncate_str;
use lab::number;
use maud::{Markup, html};

use super::{AXIS, Drawing, Scale, WIDTH, mark, px};
use crate::chart::{Chart, ChartRow, Kind};

/// The height of a row.
const ROW: f64 = 34.0;
/// The distance from a row's top to its name's baseline, and to the middle of
/// its marks.
const NAME: f64 = 13.0;
const MARKS: f64 = 23.0;
/// The space above the references.
const APART: f64 = 12.0;
/// The margin at both sides, for half a mark and half a label.
const SIDE: f64 = 12.0;
/// The number of characters that fit the width, and that fit if a name and a
/// label share it. The table has the full texts.
const CHARACTERS: usize = 60;
const NAME_AND_LABEL: usize = 56;

pub fn drawing(
    chart: &Chart,
    own: &[&ChartRow],
    references: &[&ChartRow],
    scale: &Scale,
) -> Drawing {
    let both = !own.is_empty() && !references.is_empty();
    let apart = if both { APART } else { 0.0 };
    let split = own.len() as f64 * ROW;
    let bottom = split + apart + references.len() as f64 * ROW + 6.0;
    let content = html! {
        (axis(chart, scale, bottom))
        @for (at, row) in own.iter().enumerate() {
            (drawn(chart, row, scale, at as f64 * ROW))
        }
        @if both {
            @let y = px(split + apart / 2.0);
            line .apart x1="0" x2=(WIDTH) y1=(y) y2=(y) {}
        }
        @for (at, row) in references.iter().enumerate() {
            (drawn(chart, row, scale, split + apart + at as f64 * ROW))
        }
    };
    Drawing { content, width: WIDTH, height: bottom + AXIS }
}

/// Returns the x coordinate of a value.
fn x(scale: &Scale, value: f64) -> f64 {
    SIDE + scale.at(value) * (WIDTH - 2.0 * SIDE)
}

fn axis(chart: &Chart, scale: &Scale, bottom: f64) -> Markup {
    let last = scale.ticks.len() - 1;
    html! {
        @for (at, tick) in scale.ticks.iter().enumerate() {
            @let x = px(x(scale, *tick));
            line .grid x1=(x) x2=(x) y1="0" y2=(px(bottom)) {}
            text .tick x=(if at == last { px(WIDTH) } else { x })
                y=(px(bottom + 14.0))
                text-anchor=(if at == last { "end" } else { "middle" })
            {
                (Scale::label(*tick))
            }
        }
        text .axis x=(px(WIDTH / 2.0)) y=(px(bottom + 32.0))
            text-anchor="middle" { (chart.axis) }
    }
}

fn drawn(chart: &Chart, row: &ChartRow, scale: &Scale, top: f64) -> Markup {
    let class = if row.is_yardstick() { "name yard" } else { "name" };
    let y = top + MARKS;
    html! {
        g {
            title { (spoken(chart, row)) }
            text class=(class) x="0" y=(px(top + NAME)) { (row.name) }
            @if let Some(why) = row.why() {
                text .why x="0" y=(px(y + 4.0)) {
                    (truncate_str(why, CHARACTERS, "…"))
                }
            } @else {
                text .value x=(WIDTH) y=(px(top + NAME)) text-anchor="end" {
                    (label(row))
                }
                @match chart.kind {
                    Kind::Bars => (bar(row, scale, y)),
                    _ => (dots(chart, row, scale, y)),
                }
            }
        }
    }
}

/// Formats the text of a row for tooltips and screen readers.
fn spoken(chart: &Chart, row: &ChartRow) -> String {
    let headings = chart.series.iter().chain(&chart.extra);
    let cells = row.cells.iter().chain(&row.extra);
    let parts = headings.zip(cells);
    let parts: Vec<_> =
        parts.map(|(name, cell)| format!("{name}: {}", cell.text())).collect();
    format!("{} – {}", row.name, parts.join("; "))
}

fn label(row: &ChartRow) -> String {
    if let Some(label) = &row.label {
        let name = row.name.chars().count();
        let room = NAME_AND_LABEL.saturating_sub(name);
        return truncate_str(label, room, "…").into_owned();
    }
    let values = row.cells.iter().map(|cell| match cell.spread() {
        Some(spread) => number::short(spread.median),
        None => number::NONE.to_owned(),
    });
    values.collect::<Vec<_>>().join(" · ")
}

fn dots(chart: &Chart, row: &ChartRow, scale: &Scale, y: f64) -> Markup {
    let known: Vec<_> = row
        .cells
        .iter()
        .enumerate()
        .filter_map(|(at, cell)| Some((at, cell.spread()?)))
        .collect();
    let places = known.iter().map(|(_, s)| x(scale, s.median));
    let first = places.clone().fold(f64::INFINITY, f64::min);
    let last = places.fold(0.0, f64::max);
    html! {
        line .track x1=(px(SIDE)) x2=(px(WIDTH - SIDE)) y1=(px(y)) y2=(px(y))
            {}
        line .link x1=(px(first)) x2=(px(last)) y1=(px(y)) y2=(px(y)) {}
        @for (_, spread) in &known { (whisker(spread, scale, y)) }
        @for (series, spread) in known.iter().rev() {
            (mark(chart, *series, x(scale, spread.median), y))
        }
    }
}

/// Draws the range of the runs, if it is wide enough to be visible.
fn whisker(spread: &Spread, scale: &Scale, y: f64) -> Markup {
    let (least, most) = (x(scale, spread.least), x(scale, spread.most));
    if most - least < 1.0 {
        return html! {};
    }
    let d = format!(
        "M{0} {2}V{3}M{0} {4}H{1}M{1} {2}V{3}",
        px(least),
        px(most),
        px(y - 3.0),
        px(y + 3.0),
        px(y)
    );
    html! { path .whisker d=(d) {} }
}

fn bar(row: &ChartRow, scale: &Scale, y: f64) -> Markup {
    let mut from = 0.0;
    let mut parts = Vec::new();
    for (series, cell) in row.cells.iter().enumerate() {
        let length = cell.spread().map_or(0.0, |s| s.median.max(0.0));
        parts.push((series, x(scale, from), x(scale, from + length)));
        from += length;
    }
    html! {
        @for (series, from, to) in parts {
            rect class=(format!("bar{series}")) x=(px(from))
                y=(px(y - 4.0)) width=(px((to - from).max(0.5))) height="8" {}
        }
        @if let Some(spread) = &row.whisker { (whisker(spread, scale, y)) }
    }
}

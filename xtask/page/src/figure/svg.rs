//! Draws the figure as SVG: panels of two columns on the page, which a phone
//! shows without scaling, or lines of up to five columns in a file.

use lab::screen::wrap;
use maud::{Markup, PreEscaped, html};
use trace::figure::{BAND_TITLES, BANDS, Bar, Column, Row};

use super::{filled, heights, lanes};
use crate::charts::COLOURS;
use crate::charts::STYLE as CHARTS;

/// The figure's colours, used with the style of the charts.
pub const STYLE: &str = include_str!("figure.css");

/// A column's width, in units that are pixels on a phone.
const COLUMN: usize = 168;
/// The margin at both sides of the drawing.
const SIDE: usize = 2;
/// The height of a row, and of the space above the first row of a band.
const ROW: usize = 16;
const RULE: usize = 22;
/// The height of the names.
const TOP: usize = 24;
/// The width of a thread's bar, and the distance between two bars.
const BAR: usize = 8;
const LANE: usize = 12;
/// The distance from the last bar to the texts.
const TEXT: usize = 14;
/// The letters of a sentence that fit a column.
const LETTERS: usize = 23;
/// The width of a note's letter.
const LETTER: f64 = 6.1;

/// The columns in a panel on the page, and the most in a line of a file.
const PANEL: usize = 2;
const FILE: usize = 5;

/// The width of all panels. One with fewer columns is as wide, so that all have
/// the same scale.
const PANEL_WIDTH: usize = width(PANEL);

const fn width(columns: usize) -> usize {
    columns * COLUMN + 2 * SIDE
}

/// The margin around the drawing in a file, and the height of its title.
const MARGIN: usize = 14;
const HEADLINE: usize = 44;

/// Explains the figure to its reader.
const NOTE: &str = "Time runs downwards, not to scale; each row is a call. \
    \"call…\" marks its beginning, \"…call\" its end, and indented rows \
    belong to the call above. Calls that manage memory or other signals, and \
    calls between a library's threads, are omitted.";

/// Draws a sign beside a text with its baseline at the second coordinate.
type Sign = fn(usize, usize) -> Markup;

/// The signs and their meanings.
const LEGEND: [(Sign, &str); 5] = [
    (|x, y| mark(Bar::Asleep, x, y - 10, 12), "asleep in the waiting call"),
    (|x, y| mark(Bar::Eagain, x, y - 10, 12), "calls that return EAGAIN"),
    (
        |x, y| mark(Bar::Copying, x, y - 10, 12),
        "copying the data to the buffer",
    ),
    (learns, "the program learns of the data"),
    (
        |x, y| html! { text .call x=(x) y=(y) { "·" } },
        "a call of another thread",
    ),
];

const TITLE: &str = "The I/O models, traced: where each waits and copies";

/// Makes panels for a page that contains the styles.
pub fn panels(columns: &[Column]) -> Markup {
    let heights = heights(columns);
    html! {
        ul .legend {
            @for (sign, meaning) in LEGEND {
                li {
                    svg .waits viewBox="0 0 14 14" width="14" height="14"
                        aria-hidden="true" { (sign(3, 11)) }
                    (meaning)
                }
            }
        }
        div .panels {
            @for (place, line) in columns.chunks(PANEL).enumerate() {
                @let (drawing, _, height) = block(line, &heights);
                @let id = format!("waits-{place}");
                figure {
                    svg .waits viewBox={ "0 0 " (PANEL_WIDTH) " " (height) }
                        role="img"
                        aria-labelledby={ (id) "-title " (id) "-text" }
                    {
                        title id={ (id) "-title" } { (names(line)) }
                        desc id={ (id) "-text" } { (description(line)) }
                        (drawing)
                    }
                }
            }
        }
        p .fine { (NOTE) }
    }
}

/// Draws all columns as a file.
pub fn alone(columns: &[Column]) -> String {
    let heights = heights(columns);
    // The least width that the legend needs.
    let mut width = 3 * COLUMN;
    let mut bottom = HEADLINE;
    let mut blocks = Vec::new();
    // The fewest lines that hold all columns, about equally long.
    let lines = columns.len().div_ceil(FILE).max(1);
    for line in columns.chunks(columns.len().div_ceil(lines).max(1)) {
        let (drawing, its_width, height) = block(line, &heights);
        blocks.push((drawing, bottom));
        width = its_width.max(width);
        bottom += height + ROW;
    }
    let note = wrap(NOTE, (width as f64 / LETTER) as usize);
    let beside = if width < 4 * COLUMN { 1 } else { 2 };
    let legend = LEGEND.len().div_ceil(beside) + note.len();
    let legend = legend * ROW;
    let (width, height) = (width + 2 * MARGIN, bottom + legend + MARGIN);
    let drawing = html! {
        svg .waits xmlns="http://www.w3.org/2000/svg" role="img"
            viewBox={ "0 0 " (width) " " (height) } width=(width)
            height=(height) aria-labelledby="title text"
        {
            title id="title" { (TITLE) }
            desc id="text" { (description(columns)) }
            style {
                (PreEscaped(COLOURS)) (PreEscaped(CHARTS))
                (PreEscaped(STYLE))
            }
            rect .paper width=(width) height=(height) {}
            text .headline x=(MARGIN) y="24" { (TITLE) }
            @for (drawing, top) in &blocks {
                g transform={ "translate(" (MARGIN) " " (top) ")" } {
                    (drawing)
                }
            }
            (legend_below(&note, beside, bottom))
        }
    };
    drawing.into_string() + "\n"
}

/// Draws some columns with the lines that cross them. Returns the width and the
/// height too.
fn block(
    columns: &[Column],
    heights: &[usize; BANDS],
) -> (Markup, usize, usize) {
    let width = width(columns.len());
    let tops: [usize; BANDS] = std::array::from_fn(|band| {
        let above: usize = heights[..band].iter().sum();
        TOP + above * ROW + band * RULE
    });
    let bottom = tops[BANDS - 1] + RULE + heights[BANDS - 1] * ROW;
    let sentences: Vec<_> = columns.iter().map(sentences).collect();
    let most = sentences.iter().map(Vec::len).max().unwrap_or(0);
    let drawing = html! {
        @for (band, class) in [(1, "shade1"), (2, "shade2")] {
            rect class=(class) x="0" y=(tops[band]) width=(width)
                height=(RULE + heights[band] * ROW) {}
        }
        @for (band, title) in BAND_TITLES.iter().enumerate() {
            @let arrives = if band == 2 { " arrives" } else { "" };
            line class={ "rule" (arrives) } x1="0" x2=(width)
                y1=(tops[band]) y2=(tops[band]) {}
            @for (place, column) in columns.iter().enumerate().take(2) {
                @let part = if place == 0 { title.0 } else { title.1 };
                @if !part.is_empty() {
                    text class={ "band" (arrives) } y=(tops[band] + 15)
                        x=(SIDE + place * COLUMN + texts(column)) { (part) }
                }
            }
        }
        line .rule x1="0" x2=(width) y1=(bottom + 4) y2=(bottom + 4) {}
        @for (place, column) in columns.iter().enumerate() {
            @let x = SIDE + place * COLUMN;
            text .model x=(x + 2) y=(TOP - 10) { (column.title) }
            @for (band, rows) in filled(column, heights).iter().enumerate() {
                (rows_of(column, rows, x, tops[band]))
            }
            @for (line, text) in sentences[place].iter().enumerate() {
                text .said x=(x + 2) y=(bottom + 20 + line * ROW) { (text) }
            }
        }
    };
    (drawing, width, bottom + 12 + most * ROW)
}

/// Wraps a column's sentences.
fn sentences(column: &Column) -> Vec<String> {
    let all = column.account.sentences().into_iter();
    all.flat_map(|text| {
        let lines = wrap(&text, LETTERS).into_iter().enumerate();
        lines.map(|(place, line)| match place {
            0 => format!("– {line}"),
            _ => format!("\u{a0}\u{a0} {line}"),
        })
    })
    .collect()
}

/// Returns the distance from a column's edge to its texts.
fn texts(column: &Column) -> usize {
    (lanes(column) - 1) * LANE + BAR + TEXT
}

/// Draws a band of one column. Bars begin at the top of the band, beside its
/// title.
fn rows_of(column: &Column, rows: &[Row], x: usize, top: usize) -> Markup {
    let texts = x + texts(column);
    let shown = rows.iter().enumerate().filter(|(_, row)| !row.text.is_empty());
    let y = |place: usize| match place {
        0 => top,
        place => top + RULE + place * ROW,
    };
    html! {
        @for lane in 0..lanes(column) {
            @for (bar, from, to) in stretches(rows, lane) {
                (mark(bar, x + 2 + lane * LANE, y(from), y(to) - y(from)))
            }
        }
        @for (place, row) in shown {
            @let y = top + RULE + place * ROW + 12;
            @if row.kernel {
                (mark(Bar::Copying, texts - 11, y - 12, ROW))
            }
            @let class = if row.kernel { "call kernel" } else { "call" };
            text class=(class) x=(texts) y=(y) {
                @if row.lane > 0 { "·" }
                (row.text.replace("  ", "\u{a0}\u{a0}"))
            }
            @if row.learns { (learns(texts - 10, y)) }
        }
    }
}

/// Returns the ranges of rows in which a thread's state stays the same.
fn stretches(rows: &[Row], lane: usize) -> Vec<(Bar, usize, usize)> {
    let bar = |row: &Row| row.bars.get(lane).copied();
    let mut at = 0;
    let chunks = rows.chunk_by(|a, b| bar(a) == bar(b));
    let all = chunks.map(|chunk| {
        let from = at;
        at += chunk.len();
        Some((bar(&chunk[0])?, from, at))
    });
    all.flatten().collect()
}

/// Draws a thread's state over some rows.
fn mark(bar: Bar, x: usize, y: usize, height: usize) -> Markup {
    let middle = x + BAR / 2;
    let class = match bar {
        Bar::Running | Bar::Eagain => {
            let class = if bar == Bar::Running { "running" } else { "eagain" };
            return html! {
                line class=(class) x1=(middle) x2=(middle) y1=(y)
                    y2=(y + height) {}
            };
        }
        Bar::Asleep => "asleep",
        Bar::Copying => "copying",
    };
    html! { rect class=(class) x=(x) y=(y) width=(BAR) height=(height) {} }
}

/// Draws a triangle that points at a text with its baseline at `y`.
pub fn learns(x: usize, y: usize) -> Markup {
    html! {
        path .learns d={ "M" (x) " " (y - 8) "l7 4l-7 4z" } {}
    }
}

fn legend_below(note: &[String], beside: usize, top: usize) -> Markup {
    let lines = LEGEND.len().div_ceil(beside);
    let below = top + lines * ROW;
    html! {
        @for (place, (sign, meaning)) in LEGEND.into_iter().enumerate() {
            @let x = MARGIN + place / lines * 2 * COLUMN;
            @let y = top + place % lines * ROW + 10;
            (sign(x, y))
            text .note x=(x + 16) y=(y) { (meaning) }
        }
        @for (place, line) in note.iter().enumerate() {
            text .note x=(MARGIN) y=(below + 16 + place * ROW) { (line) }
        }
    }
}

fn names(columns: &[Column]) -> String {
    let names: Vec<_> =
        columns.iter().map(|column| column.title.as_str()).collect();
    names.join(", ")
}

/// Describes the columns for screen readers.
fn description(columns: &[Column]) -> String {
    let said = columns.iter().map(|column| {
        let sentences = column.account.sentences();
        format!("{}: {}.", column.title, sentences.join("; "))
    });
    said.collect::<Vec<_>>().join(" ")
}

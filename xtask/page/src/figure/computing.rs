//! Draws what happens to data that arrives while the program computes, a row
//! for each mechanism, with time running to the right.

use claims::claim::{Copier, Copying};
use claims::experiments::copies::{MECHANISMS, Mechanism, PICTURE};
use claims::record::Record;
use lab::screen::wrap;
use maud::{Markup, PreEscaped, html};

use super::svg::{STYLE, learns};
use crate::charts::COLOURS;
use crate::charts::STYLE as CHARTS;

/// The width on the page, which a phone shows without scaling, and in a file.
const PAGE: usize = 340;
const FILE: usize = 560;
/// The margin of a drawing in a file, and the height of its title.
const MARGIN: usize = 14;
const HEADLINE: usize = 36;

/// The height of the titles above the rows.
const TOP: usize = 24;
/// The height of a row with one thread, and of another thread below.
const ROW: usize = 38;
const THREAD: usize = 15;
/// The distance from a row's top to its name's baseline and to its bar.
const NAME: usize = 16;
const BAR: usize = 22;
/// The size of a bar's thickness, and of the copy, which is not to scale.
const THICK: usize = 8;
const COPY: usize = 24;
/// The distance between two signs.
const GAP: usize = 4;

const NOTE: &str = "Time runs to the right, not to scale. Measured: whether \
    the program's thread could learn of the data before it made a call, and \
    which thread had the page faults of the copy, and when.";

/// Meanings of the signs, in the order in which `legend` draws them.
const MEANINGS: [&str; 3] = [
    "the program's thread computes",
    "copying the data to the buffer",
    "the program can learn of the data",
];

/// Makes the figure for a page that contains the styles.
pub fn panel(record: &Record) -> Markup {
    let (drawing, height) = rows(record, PAGE);
    html! {
        ul .legend {
            @for (place, meaning) in MEANINGS.iter().enumerate() {
                li {
                    svg .waits viewBox="0 0 14 14" width="14" height="14"
                        aria-hidden="true" { (sign(place, 0, 11)) }
                    (meaning)
                }
            }
        }
        figure {
            svg .waits viewBox={ "0 0 " (PAGE) " " (height) } role="img"
                aria-labelledby="computing-title computing-text"
            {
                title id="computing-title" { (PICTURE.title) }
                desc id="computing-text" { (description(record)) }
                (drawing)
            }
        }
        p .fine { (NOTE) }
    }
}

/// Draws the figure as a file.
pub fn alone(record: &Record) -> String {
    let (drawing, rows) = rows(record, FILE);
    let note = wrap(NOTE, 90);
    let legend = HEADLINE + rows;
    let below = legend + MEANINGS.len() * 16 + 8;
    let width = FILE + 2 * MARGIN;
    let height = below + note.len() * 16 + MARGIN;
    let drawing = html! {
        svg .waits xmlns="http://www.w3.org/2000/svg" role="img"
            viewBox={ "0 0 " (width) " " (height) } width=(width)
            height=(height) aria-labelledby="title text"
        {
            title id="title" { (PICTURE.title) }
            desc id="text" { (description(record)) }
            style {
                (PreEscaped(COLOURS)) (PreEscaped(CHARTS))
                (PreEscaped(STYLE))
            }
            rect .paper width=(width) height=(height) {}
            text .headline x=(MARGIN) y="24" { (PICTURE.title) }
            g transform={ "translate(" (MARGIN) " " (HEADLINE) ")" } {
                (drawing)
            }
            @for (place, meaning) in MEANINGS.iter().enumerate() {
                @let y = legend + place * 16 + 12;
                (sign(place, MARGIN, y))
                text .note x=(MARGIN + 18) y=(y) { (meaning) }
            }
            @for (place, line) in note.iter().enumerate() {
                text .note x=(MARGIN) y=(below + place * 16 + 12) { (line) }
            }
        }
    };
    drawing.into_string() + "\n"
}

/// The places on the time axis.
#[derive(Clone, Copy)]
struct Times {
    arrives: usize,
    asks: usize,
    end: usize,
}

/// Draws the rows, and returns their height too.
fn rows(record: &Record, width: usize) -> (Markup, usize) {
    let times =
        Times { arrives: width / 6, asks: width * 5 / 8, end: width - 2 };
    let mut bottom = TOP;
    let mut placed = Vec::new();
    for mechanism in &MECHANISMS {
        let copying = copying(record, mechanism);
        placed.push((mechanism, copying, bottom));
        let is_other = copying.is_some_and(|it| other(it.copier).is_some());
        bottom += ROW + if is_other { THREAD } else { 0 };
    }
    let drawing = html! {
        line .rule .arrives x1=(times.arrives) x2=(times.arrives) y1="0"
            y2=(bottom) {}
        line .rule x1=(times.asks) x2=(times.asks) y1="0" y2=(bottom) {}
        text .band .arrives x=(times.arrives + GAP) y="12" { "data arrives" }
        text .band x=(times.asks + GAP) y="12" { "it asks, if it must" }
        @for (mechanism, copying, top) in placed {
            text .name x="0" y=(top + NAME) { (mechanism.name) }
            @match copying {
                Some(copying) => (row(mechanism, copying, times, top)),
                None => { text .note x="0" y=(top + BAR + THICK) {
                    "undecided, or not measured"
                } }
            }
        }
    };
    (drawing, bottom + GAP)
}

/// Draws the threads of one mechanism.
fn row(
    mechanism: &Mechanism,
    copying: Copying,
    times: Times,
    top: usize,
) -> Markup {
    let y = top + BAR;
    let in_call = copying.copier == Copier::InCall;
    let end = if in_call { times.asks } else { times.end };
    let from = if in_call { times.asks } else { times.arrives } + GAP;
    // A call that reports the data comes before the one that copies it.
    let reports = in_call && mechanism.asks.len() > 1;
    let (copies, learned) = match reports {
        true => (from + 7 + GAP, from),
        false => (from, from + COPY + GAP),
    };
    let learned = match copying.told {
        true => times.arrives + GAP + COPY + GAP,
        false => learned,
    };
    let other = other(copying.copier);
    let lane = y + if other.is_some() { THREAD } else { 0 };
    let interrupted = copying.copier == Copier::Interrupted;
    html! {
        @if interrupted {
            (computes(0, copies - 2, y))
            (computes(copies + COPY + 2, end, y))
        } @else {
            (computes(0, end, y))
        }
        rect .copying x=(copies) y=(lane) width=(COPY) height=(THICK) {}
        (learns(learned, y + THICK))
        @if in_call {
            text .call x=(times.asks + GAP) y=(top + NAME) {
                (mechanism.asks.join(", "))
            }
        }
        @if let Some(thread) = other {
            text .note x=(copies + COPY + GAP) y=(lane + THICK) { (thread) }
        }
    }
}

fn computes(from: usize, until: usize, y: usize) -> Markup {
    html! {
        rect .computes x=(from) y=(y) width=(until - from) height=(THICK) {}
    }
}

/// Returns the behaviour of a mechanism, if it was measured and is decided.
fn copying(record: &Record, mechanism: &Mechanism) -> Option<Copying> {
    record.finding(mechanism.claim)?.copying
}

/// Returns the name of the thread that copies, if it isn't the program's.
fn other(copier: Copier) -> Option<&'static str> {
    match copier {
        Copier::Library => Some("a thread of the C library"),
        Copier::Kernel => Some("a thread of the kernel"),
        Copier::InCall | Copier::Interrupted => None,
    }
}

/// Draws a sign of the legend beside a text with its baseline at `y`.
fn sign(place: usize, x: usize, y: usize) -> Markup {
    match place {
        2 => learns(x + 3, y),
        _ => {
            let class = if place == 0 { "computes" } else { "copying" };
            html! {
                rect class=(class) x=(x) y=(y - THICK) width="12"
                    height=(THICK) {}
            }
        }
    }
}

/// Describes the rows for screen readers.
fn description(record: &Record) -> String {
    let said = MECHANISMS.iter().map(|mechanism| {
        let what = match copying(record, mechanism) {
            Some(copying) => sentence(mechanism, copying),
            None => "undecided, or not measured".to_owned(),
        };
        format!("{}: {what}.", mechanism.name)
    });
    said.collect::<Vec<_>>().join(" ")
}

fn sentence(mechanism: &Mechanism, copying: Copying) -> String {
    let calls = mechanism.asks.join(", ");
    let copies = match (copying.copier, other(copying.copier)) {
        (_, Some(thread)) => format!("{thread} copies at once"),
        (Copier::InCall, _) => {
            format!("the data waits until the program calls {calls}")
        }
        _ => "the copy interrupts the program".to_owned(),
    };
    match (copying.told, copying.copier) {
        (true, _) => format!("{copies}, and the program can learn of it"),
        (false, Copier::InCall) => copies,
        (false, _) => format!("{copies}, but the program does not learn of it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claims::claim::{Answer, Finding};
    use roxmltree::Document;
    use std::fs;

    /// Returns a record in which all mechanisms behave like this.
    fn record(copying: Option<Copying>) -> Record {
        let mut record = Record::default();
        for mechanism in &MECHANISMS {
            let mut finding = Finding::new(Answer::True, []);
            finding.copying = copying;
            record.insert(mechanism.claim, finding);
        }
        record
    }

    #[test]
    fn a_row_shows_what_was_measured() {
        let drawn = |told, copier| {
            let record = record(Some(Copying { told, copier }));
            let drawing = alone(&record);
            let xml = Document::parse(&drawing).unwrap();
            let copy = xml
                .descendants()
                .find(|node| node.attribute("class") == Some("copying"));
            let copy = copy.unwrap().attribute("x").unwrap();
            (copy.parse::<usize>().unwrap(), description(&record))
        };
        let (in_call, said) = drawn(false, Copier::InCall);
        assert!(in_call > FILE * 5 / 8);
        assert!(said.contains("until the program calls select, recv."));
        for (copier, words) in [
            (Copier::Interrupted, "the copy interrupts the program, and"),
            (Copier::Library, "a thread of the C library copies at once, and"),
            (Copier::Kernel, "a thread of the kernel copies at once, and"),
        ] {
            let (at, said) = drawn(true, copier);
            assert!(at < FILE / 2 && said.contains(words), "{said}");
        }
    }

    #[test]
    fn an_undecided_mechanism_has_no_copy() {
        let drawing = alone(&record(None));
        Document::parse(&drawing).unwrap();
        assert!(!drawing.contains("class=\"copying\" x=\"1\""));
        assert!(drawing.contains(">undecided, or not measured</text>"));
    }

    #[test]
    fn the_figure_in_docs_is_that_of_the_recorded_findings() {
        let record = Record::recorded().unwrap();
        let drawn = fs::read_to_string(crate::claimed::PICTURE).unwrap();
        assert!(alone(&record) == drawn, "run `cargo xtask claims --record`");
        assert!(!drawn.contains("undecided"));
    }
}

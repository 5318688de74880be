//! A timeline as a drawing, in two columns like those in the models' chapters:
//! what the application does, what the kernel does. Time runs downwards, but
//! not to scale: a row is a row.

use std::time::Duration;

use console::measure_text_width;
use maud::{Markup, PreEscaped, html};

use super::timeline::{Kind, Line, Phase, Timeline};
use super::values::length;

/// Its colours, in the light and in the dark.
const STYLE: &str = include_str!("timeline.css");

/// Where things stand, in units of the drawing.
const WIDTH: usize = 980;
const TIME: usize = 74;
const APPLICATION: usize = 452;
const KERNEL: usize = 596;
const ROW: usize = 22;
const TOP: usize = 84;

/// Between the bars of threads.
const BESIDE: usize = 9;

/// The room for texts on either side, in letters of 11 px.
const LEFT: usize = 54;
const RIGHT: usize = 55;

/// The whole drawing; `title` says what of.
pub fn draw(timeline: &Timeline, title: &str) -> String {
    let lines = &timeline.lines;
    let height = TOP + ROW * lines.len() + ROW;
    let drawing = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img"
            viewBox={ "0 0 " (WIDTH) " " (height) } width=(WIDTH)
            height=(height)
        {
            title { (title) }
            style { (PreEscaped(STYLE)) }
            rect .paper width=(WIDTH) height=(height) {}
            text .title x="16" y="28" { (title) }
            text .head .left x=(APPLICATION) y=(TOP - ROW) { "application" }
            text .head x=(KERNEL) y=(TOP - ROW) { "kernel" }
            text .time x=(TIME) y=(TOP - ROW) { "ms" }
            @for phase in [Phase::Waiting, Phase::Copying] {
                (shade(lines, phase))
            }
            (lifelines(lines))
            @for (place, line) in lines.iter().enumerate() {
                (row(timeline.start, line, TOP + ROW * place))
            }
        }
    };
    drawing.into_string() + "\n"
}

/// A phase, behind everything else.
fn shade(lines: &[Line], phase: Phase) -> Markup {
    let in_it = |line: &Line| line.phase == Some(phase);
    let first = lines.iter().position(in_it);
    let last = lines.iter().rposition(in_it);
    let class = match phase {
        Phase::Waiting => "waiting",
        Phase::Copying => "copying",
    };
    html! {
        @if let (Some(first), Some(last)) = (first, last) {
            rect class=(class) x="8" y=(top(first)) width=(WIDTH - 16)
                height=(top(last + 1) - top(first)) {}
        }
    }
}

fn top(place: usize) -> usize {
    TOP + ROW * place - ROW / 2 - 4
}

/// The two lines that time runs along; beside the application's, a bar for each
/// thread where it is asleep in a call.
fn lifelines(lines: &[Line]) -> Markup {
    let bottom = TOP + ROW * lines.len();
    html! {
            line .life x1=(APPLICATION) x2=(APPLICATION)
                y1=(TOP - 14) y2=(bottom) {}
            line .life x1=(KERNEL) x2=(KERNEL)
                y1=(TOP - 14) y2=(bottom) {}
            @for Sleep { thread, from, to } in sleeps(lines) {
            line .asleep x1=(APPLICATION + BESIDE * thread)
                x2=(APPLICATION + BESIDE * thread)
                y1=(TOP + ROW * from - 4) y2=(TOP + ROW * to - 4) {}
        }
    }
}

/// A thread, by the order in which they fall asleep, and the rows between
/// which it is in a call that lasts.
#[derive(Clone, Copy, Debug)]
struct Sleep {
    thread: usize,
    from: usize,
    to: usize,
}

fn sleeps(lines: &[Line]) -> Vec<Sleep> {
    let mut threads: Vec<&str> = Vec::new();
    let mut sleeps = Vec::new();
    for (from, line) in lines.iter().enumerate() {
        if line.kind != Kind::Enter {
            continue;
        }
        let known = threads.iter().position(|who| *who == line.who);
        let thread = known.unwrap_or(threads.len());
        if known.is_none() {
            threads.push(&line.who);
        }
        let returns =
            |other: &Line| other.kind == Kind::Return && other.who == line.who;
        let rest = lines[from..].iter().position(returns);
        let to = rest.map_or(lines.len(), |rows| from + rows);
        sleeps.push(Sleep { thread, from, to });
    }
    sleeps
}

fn row(start: Duration, line: &Line, y: usize) -> Markup {
    let since = (line.at.as_secs_f64() - start.as_secs_f64()) * 1e3;
    let outcome = line.outcome.as_deref().unwrap_or_default();
    html! {
        @if line.kind != Kind::Phase {
            text .time x=(TIME) y=(y) { (format!("{since:.3}")) }
        }
        @match line.kind {
            Kind::Client => {
                line .client x1=(TIME + 8) x2=(WIDTH - 16)
                    y1=(y - 4) y2=(y - 4) {}
                text .client .middle x=((APPLICATION + KERNEL) / 2) y=(y) {
                    (line.text)
                }
            }
            Kind::Phase => {
                text .phase .left x=(APPLICATION - 12) y=(y) { (line.text) }
                text .phase x=(KERNEL + 12) y=(y) { (cut(outcome, RIGHT)) }
            }
            Kind::Enter => {
                (application(line, y))
                (arrow(APPLICATION, KERNEL, y - 4))
            }
            Kind::Return => {
                (side(&line.who, y))
                (arrow(KERNEL, APPLICATION, y - 4))
                (kernel(line, outcome, y))
            }
            Kind::Event => {
                (side(&line.who, y))
                (arrow(KERNEL, APPLICATION, y - 4))
                (kernel(line, &line.text, y))
            }
            Kind::Folded if line.outcome.is_none() => (application(line, y)),
            Kind::Call | Kind::Folded => {
                (application(line, y))
                (arrow(APPLICATION, KERNEL, y - 7))
                (arrow(KERNEL, APPLICATION, y - 1))
                (kernel(line, outcome, y))
            }
        }
    }
}

/// On the application's side, whom an answer is for.
fn side(who: &str, y: usize) -> Markup {
    html! { text .who .left x=(APPLICATION - 12) y=(y) { (who) } }
}

fn application(line: &Line, y: usize) -> Markup {
    let text = match line.who.as_str() {
        "" => line.text.clone(),
        who => format!("{who}: {}", line.text),
    };
    html! {
        text .call .left x=(APPLICATION - 12) y=(y) {
            title { (text) }
            (cut(&text, LEFT))
        }
    }
}

fn kernel(line: &Line, text: &str, y: usize) -> Markup {
    let took = match line.spent {
        Some(spent) => format!("  {}", length(spent)),
        None => String::new(),
    };
    let room = RIGHT - measure_text_width(&took);
    html! {
        text .answer x=(KERNEL + 12) y=(y) {
            title { (text) }
            (cut(text, room))
            tspan .took { (took) }
        }
    }
}

/// From one column to the other, with a head.
fn arrow(from: usize, to: usize, y: usize) -> Markup {
    let (edge, head) = match from < to {
        true => (to - 2, to - 8),
        false => (to + 2, to + 8),
    };
    html! {
        line .arrow x1=(from) x2=(edge) y1=(y) y2=(y) {}
        path .head d={
            "M" (head) " " (y - 3) " L" (edge) " " (y) " L" (head) " " (y + 3)
        } {}
    }
}

/// As much of a text as there is room for, in letters.
fn cut(text: &str, room: usize) -> String {
    match measure_text_width(text) {
        width if width <= room => text.to_owned(),
        _ => text.chars().take(room - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: Kind, text: &str, phase: Option<Phase>) -> Line {
        Line {
            at: Duration::from_millis(5),
            who: String::new(),
            kind,
            text: text.to_owned(),
            outcome: Some("0 < 1".to_owned()),
            spent: Some(Duration::from_micros(7)),
            phase,
        }
    }

    #[test]
    fn every_kind_of_line_is_drawn_as_xml() {
        let waiting = Some(Phase::Waiting);
        let lines = vec![
            line(Kind::Enter, "poll(listener & more) …", waiting),
            line(Kind::Client, "the client sends \"PING\"", None),
            line(Kind::Return, "poll", None),
            line(Kind::Call, &"long ".repeat(30), Some(Phase::Copying)),
            line(Kind::Folded, "1,204 × recvfrom", None),
            line(Kind::Event, "signal SIGIO", None),
            line(Kind::Phase, "phase 1", waiting),
        ];
        let timeline = Timeline {
            start: Duration::ZERO,
            lines,
            many: false,
            phases: None,
            copying: None,
        };
        let drawn = draw(&timeline, "a title with <brackets>");
        let parsed = roxmltree::Document::parse(&drawn).unwrap();
        let count = |class: &str| {
            let all = parsed.descendants();
            all.filter(|n| n.attribute("class") == Some(class)).count()
        };
        let numbers = ["waiting", "copying", "asleep"].map(count);
        assert_eq!(numbers, [1, 1, 1]);
        // A call and a folded one have two arrows each.
        assert_eq!(count("arrow"), 1 + 1 + 2 + 2 + 1);
        assert!(drawn.contains("long lon…"), "{drawn}");
    }
}

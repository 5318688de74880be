//! Draws a line for each row, from series to series, with its name at the end.

use compare::spread::Spread;
use maud::{Markup, html};

use super::{AXIS, Drawing, Scale, WIDTH, px};
use crate::chart::{Cell, Chart, ChartRow};

/// Sizes and positions.
#[derive(Debug)]
pub struct Layout {
    width: f64,
    height: f64,
    /// The positions of the first and the last series.
    left: f64,
    right: f64,
    /// The least distance between two names.
    line: f64,
}

/// The layout on the page.
pub const PANEL: Layout = Layout {
    width: WIDTH,
    height: 300.0,
    left: 40.0,
    right: 168.0,
    line: 14.0,
};

/// The layout of a separate file, as wide as a README.
pub const FILE: Layout = Layout {
    width: 760.0,
    height: 380.0,
    left: 60.0,
    right: 560.0,
    line: 16.0,
};

/// The space above the highest tick, for half a label.
const TOP: f64 = 10.0;

/// The factor of growth from which a line is drawn bold.
const GROWN: f64 = 1.5;

/// The line of one row.
struct Curve<'a> {
    row: &'a ChartRow,
    /// Points from left to right, each with the y coordinates of the greatest
    /// value, the median and the least.
    points: Vec<(f64, [f64; 3])>,
    class: &'static str,
    name: String,
    /// The y coordinate of the name.
    label: f64,
}

/// Draws the rows. `of` is the title of the horizontal axis.
pub fn drawing(
    chart: &Chart,
    of: &str,
    rows: &[&ChartRow],
    scale: &Scale,
    layout: &Layout,
) -> Drawing {
    let lines = rows.iter().filter_map(|row| line(chart, row, scale, layout));
    let mut lines: Vec<_> = lines.collect();
    spread_labels(&mut lines, layout);
    // Bold lines are drawn last, over the others.
    lines.sort_by_key(|line| line.class == "line grows");
    let content = html! {
        (axes(chart, of, scale, layout))
        @for line in &lines { (draw(line, layout)) }
    };
    let (width, height) = (layout.width, TOP + layout.height + AXIS);
    Drawing { content, width, height }
}

fn x(chart: &Chart, series: usize, layout: &Layout) -> f64 {
    let steps = (chart.series.len() - 1).max(1) as f64;
    layout.left + (layout.right - layout.left) * series as f64 / steps
}

fn y(scale: &Scale, value: f64, layout: &Layout) -> f64 {
    TOP + layout.height * (1.0 - scale.at(value))
}

fn axes(chart: &Chart, of: &str, scale: &Scale, layout: &Layout) -> Markup {
    let bottom = TOP + layout.height;
    let middle = px(f64::midpoint(layout.left, layout.right));
    let turned = format!("rotate(-90 10 {})", px(TOP + layout.height / 2.0));
    html! {
        @for tick in &scale.ticks {
            @let y = y(scale, *tick, layout);
            line .grid x1=(px(layout.left - 6.0)) x2=(px(layout.right))
                y1=(px(y)) y2=(px(y)) {}
            text .tick x=(px(layout.left - 10.0)) y=(px(y + 4.0))
                text-anchor="end" { (Scale::label(*tick)) }
        }
        @for (at, series) in chart.series.iter().enumerate() {
            @let x = px(x(chart, at, layout));
            line .grid x1=(x) x2=(x) y1=(px(TOP)) y2=(px(bottom)) {}
            text .tick x=(x) y=(px(bottom + 16.0)) text-anchor="middle" {
                (series)
            }
        }
        text .axis x=(middle) y=(px(bottom + 34.0)) text-anchor="middle" {
            (of)
        }
        text .axis x="10" y=(px(TOP + layout.height / 2.0))
            text-anchor="middle" transform=(turned) { (chart.axis) }
    }
}

fn line<'a>(
    chart: &Chart,
    row: &'a ChartRow,
    scale: &Scale,
    layout: &Layout,
) -> Option<Curve<'a>> {
    let cells = row.cells.iter().map(Cell::spread).enumerate();
    let known: Vec<_> =
        cells.filter_map(|(at, spread)| Some((at, spread?))).collect();
    let ((_, first), (at, last)) = (known.first()?, known.last()?);
    let mut name = row.name.clone();
    if *at + 1 < chart.series.len() {
        name += &format!(" to {}", chart.series[*at]);
    }
    let place = |value| y(scale, value, layout);
    let points = known.iter().map(|(at, spread)| {
        let Spread { most, median, least } = *spread;
        (x(chart, *at, layout), [most, median, least].map(place))
    });
    Some(Curve {
        row,
        points: points.collect(),
        class: class(row, first, last),
        name,
        label: place(last.median),
    })
}

fn class(row: &ChartRow, first: &Spread, last: &Spread) -> &'static str {
    let grown = last.median >= GROWN * first.median;
    if row.is_yardstick() {
        "line yard"
    } else if grown && last.least > first.most {
        "line grows"
    } else {
        "line"
    }
}

/// Moves overlapping names apart, as little as possible.
fn spread_labels(lines: &mut [Curve<'_>], layout: &Layout) {
    lines.sort_by(|a, b| a.label.total_cmp(&b.label));
    let mut least = TOP;
    for line in lines.iter_mut() {
        line.label = line.label.max(least);
        least = line.label + layout.line;
    }
    let mut most = TOP + layout.height;
    for line in lines.iter_mut().rev() {
        line.label = line.label.min(most);
        most = line.label - layout.line;
    }
}

fn draw(line: &Curve<'_>, layout: &Layout) -> Markup {
    let points = line.points.iter();
    let points = points.map(|(x, [_, y, _])| format!("{} {}", px(*x), px(*y)));
    let path = format!("M{}", points.collect::<Vec<_>>().join("L"));
    let (x, [_, y, _]) = line.points[line.points.len() - 1];
    let label = layout.right + 22.0;
    let leader = format!(
        "M{} {}L{} {}L{} {}",
        px(x + 5.0),
        px(y),
        px(label - 8.0),
        px(line.label),
        px(label - 3.0),
        px(line.label)
    );
    let values: Vec<_> = line.row.cells.iter().map(Cell::text).collect();
    html! {
        g class=(line.class) {
            title { (line.row.name) " – " (values.join(", ")) }
            path .leader d=(leader) {}
            path .path d=(path) {}
            @for (x, [top, y, bottom]) in &line.points {
                @if bottom - top >= 1.0 {
                    line .whisker x1=(px(*x)) x2=(px(*x)) y1=(px(*top))
                        y2=(px(*bottom)) {}
                }
                circle cx=(px(*x)) cy=(px(*y)) r="3" {}
            }
            text .name x=(px(label)) y=(px(line.label + 4.0)) { (line.name) }
        }
    }
}

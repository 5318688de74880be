//! Draws charts as SVG.
//!
//! The page is read on phones, in dark mode and on paper. Charts therefore
//! use classes, which the style sheet colours, place names above their rows,
//! and are 340 units wide, which a phone shows without scaling.

mod lines;
mod rows;
mod scale;

use compare::results::Group;
use maud::{Markup, PreEscaped, html};

use super::chart::{Chart, ChartRow, Kind};
use lines::Layout;
use scale::Scale;

/// The named colours of the light and the dark scheme.
pub const COLOURS: &str = include_str!("../colours.css");
/// The style rules of the charts.
pub const STYLE: &str = include_str!("../charts.css");

/// A drawing's width, in units that are pixels on a phone.
const WIDTH: f64 = 340.0;
/// The height of the axis below the drawing.
const AXIS: f64 = 40.0;
/// The height of the title above a drawing in a separate file.
const HEADLINE: f64 = 36.0;
/// The margin of a drawing in a separate file.
const MARGIN: f64 = 10.0;

/// The content of an `svg`, and its size.
#[derive(Debug)]
struct Drawing {
    content: Markup,
    width: f64,
    height: f64,
}

/// Makes one drawing per group, side by side if there is room, all with the
/// same axis. The yardsticks have their own drawing only if there are no other
/// groups.
pub fn draw(chart: &Chart) -> Markup {
    let mut groups: Vec<_> =
        chart.groups().into_iter().map(|(group, _)| group).collect();
    if groups.len() > 1 {
        groups.retain(|group| *group != Group::Yardstick);
    }
    html! {
        (legend(chart))
        div .panels {
            @for group in groups {
                figure {
                    figcaption { (group.title()) }
                    (panel(chart, group))
                }
            }
        }
    }
}

/// Draws the rows of some groups, with the yardsticks below them.
fn drawing(chart: &Chart, groups: &[Group], layout: &Layout) -> Drawing {
    let values = chart.values();
    let own =
        chart.sorted(|row| groups.contains(&row.group) && !row.is_yardstick());
    let yardsticks = chart.sorted(ChartRow::is_yardstick);
    match chart.kind {
        Kind::Lines { of } => {
            let rows = [own, yardsticks].concat();
            lines::drawing(chart, of, &rows, &Scale::log(&values), layout)
        }
        Kind::Dots { log: true, .. } => {
            rows::drawing(chart, &own, &yardsticks, &Scale::log(&values))
        }
        _ => rows::drawing(chart, &own, &yardsticks, &Scale::linear(&values)),
    }
}

fn panel(chart: &Chart, group: Group) -> Markup {
    let Drawing { content, width, height } =
        drawing(chart, &[group], &lines::PANEL);
    let id = format!("{}-{}", chart.id, group as usize);
    let (title_id, text_id) = (format!("{id}-title"), format!("{id}-text"));
    html! {
        svg viewBox=(format!("0 0 {} {}", px(width), px(height))) role="img"
            aria-labelledby=(format!("{title_id} {text_id}"))
        {
            title id=(title_id) { (chart.title) ": " (group.title()) }
            desc id=(text_id) { (description(chart)) }
            (content)
        }
    }
}

/// Makes one drawing of all rows, including its style, for a separate file.
pub fn alone(chart: &Chart) -> String {
    let models = [Group::OneThread, Group::ManyThreads];
    let Drawing { content, width, height } =
        drawing(chart, &models, &lines::FILE);
    let (width, height) = (width + 2.0 * MARGIN, height + HEADLINE + MARGIN);
    let content_at = format!("translate({MARGIN} {HEADLINE})");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img"
            viewBox=(format!("0 0 {} {}", px(width), px(height)))
            width=(px(width)) height=(px(height))
            aria-labelledby="title text"
        {
            title id="title" { (chart.title) }
            desc id="text" { (description(chart)) }
            style { (PreEscaped(COLOURS)) (PreEscaped(STYLE)) }
            rect .paper width=(px(width)) height=(px(height)) {}
            text .headline x=(MARGIN) y="20" { (chart.title) }
            g transform=(content_at) { (content) }
        }
    }
    .into_string()
        + "\n"
}

/// Makes the legend of marks. Lines need none, because they have names.
fn legend(chart: &Chart) -> Markup {
    let named = matches!(chart.kind, Kind::Lines { .. });
    if named || chart.series.len() < 2 {
        return html! {};
    }
    html! {
        ul .legend {
            @for (at, series) in chart.series.iter().enumerate() {
                li {
                    svg viewBox="0 0 14 14" width="14" height="14"
                        aria-hidden="true"
                    {
                        (mark(chart, at, 7.0, 7.0))
                    }
                    (series)
                }
            }
        }
    }
}

/// Draws a series' mark. Each series has its own shape, so that readers don't
/// depend on colours.
fn mark(chart: &Chart, series: usize, x: f64, y: f64) -> Markup {
    let (cx, cy) = (px(x), px(y));
    if chart.kind == Kind::Bars {
        let class = format!("bar{series}");
        return html! {
            rect class=(class) x=(px(x - 5.0)) y=(px(y - 5.0))
                width="10" height="10" {}
        };
    }
    // A single series has the second mark, which is the most visible.
    match series + usize::from(chart.series.len() == 1) {
        0 => html! { circle .m0 cx=(cx) cy=(cy) r="5.5" {} },
        1 => html! { circle .m1 cx=(cx) cy=(cy) r="4" {} },
        2 => {
            let (w, e) = (px(x - 5.0), px(x + 5.0));
            let (n, s) = (px(y - 5.0), px(y + 5.0));
            let d = format!("M{cx} {n}L{e} {cy}L{cx} {s}L{w} {cy}Z");
            html! { path .m2 d=(d) {} }
        }
        _ => html! {
            rect .m3 x=(px(x - 1.5)) y=(px(y - 5.0))
                width="3" height="10" {}
        },
    }
}

/// Formats a coordinate, to a tenth of a unit.
fn px(place: f64) -> String {
    let text = format!("{place:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// Describes a drawing for screen readers.
fn description(chart: &Chart) -> String {
    let form = match chart.kind {
        Kind::Dots { .. } => "A row for each server, with marks for",
        Kind::Lines { .. } => "A line for each server, from left to right at",
        Kind::Bars => "A bar for each server, composed of",
    };
    format!(
        "{form}: {}. The axis is {}. The table below has all values.",
        chart.series.join(", "),
        chart.axis
    )
}

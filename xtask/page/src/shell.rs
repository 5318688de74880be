//! The parts that all pages share: head, styles, and scrolling boxes.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::charts::COLOURS;
use crate::charts::STYLE as CHARTS;
use crate::figure;

/// The style of everything except drawings.
const STYLE: &str = include_str!("style.css");

/// The policy that makes browsers load nothing and run no script.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Makes a complete page.
pub fn whole(title: &str, main: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport"
                    content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style {
                    (PreEscaped(COLOURS))
                    (PreEscaped(CHARTS))
                    (PreEscaped(STYLE))
                    (PreEscaped(figure::svg::STYLE))
                }
            }
            body { main { (main) } }
        }
    }
    .into_string()
}

/// Makes a box in which wide content scrolls, also by keyboard.
pub fn boxed(label: &str, content: &Markup) -> Markup {
    html! {
        div .box tabindex="0" role="region" aria-label=(label) { (content) }
    }
}

/// Makes a table of names and values.
pub fn pairs<'a>(
    label: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Markup {
    let table = html! {
        table .environment { tbody {
            @for (name, value) in pairs {
                tr { th scope="row" { (name) } td { (value) } }
            }
        } }
    };
    boxed(label, &table)
}

//! What every page has around its content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::charts::COLOURS;
use crate::charts::STYLE as CHARTS;
use crate::figure;

/// Of everything but drawings.
const STYLE: &str = include_str!("style.css");

/// Nothing may be loaded and no script may run: what a browser is told, so
/// that it is not just promised.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A page, complete, that loads what the policy says.
pub fn whole(title: &str, policy: &str, main: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport"
                    content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
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

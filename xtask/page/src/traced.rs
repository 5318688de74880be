//! The page of `figure`, and the section of it that the comparison's page
//! contains too.

use claims::record::Record;
use lab::number;
use maud::{Markup, html};

use crate::shell::{boxed, whole};
use crate::survey::{CONNECTIONS, Survey};
use crate::{calls, figure};

/// Makes the complete page.
pub fn render(survey: &Survey, record: &Record) -> String {
    let main = html! {
        header {
            h1 { "Unix I/O models, traced" }
            p .lead {
                "One server, written once for each way to wait for data: the "
                "system calls it makes while a client connects, sends nothing "
                "for 100 ms, and then sends a request."
            }
            nav aria-label="On this page" {
                a href="#waits" { "How they wait" }
                a href="#calls" { "System calls per request" }
                a href="#computing" { "While the program computes" }
                a href="#timelines" { "Timelines" }
            }
        }
        (section(survey))
        (computing(record))
        (timelines(survey))
    };
    whole("Unix I/O models, traced", &main)
}

/// Makes the figure and the table.
pub fn section(survey: &Survey) -> Markup {
    html! {
        section #waits {
            h2 { "How they wait" }
            @if survey.columns.is_empty() {
                p { "No model was traced." }
            } @else {
                p {
                    "Every input operation has two phases: waiting until the "
                    "data has arrived, and copying it from the kernel to the "
                    "application. The figure shows in which calls each model "
                    "spends them."
                }
                (figure::svg::panels(&survey.columns))
            }
            @for (title, why) in &survey.missing {
                p { strong { (title) ": " } (why) }
            }
        }
        section #calls {
            h3 { "System calls per request" }
            p { (calls::NOTE) }
            (table(survey))
        }
    }
}

fn computing(record: &Record) -> Markup {
    html! {
        section #computing {
            h2 { "While the program computes" }
            p {
                "No server computes while it is traced. So for each mechanism "
                "an experiment shows what happens to data that arrives while "
                "a program computes for 100 ms. "
                code { "cargo xtask claims" } " has the numbers."
            }
            (figure::computing::panel(record))
        }
    }
}

/// Makes the section that gives the reason if nothing was traced.
pub fn section_without(why: &str) -> Markup {
    html! {
        section #waits { h2 { "How they wait" } p { "Not traced: " (why) } }
    }
}

fn table(survey: &Survey) -> Markup {
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "Server" }
                @for many in CONNECTIONS {
                    th scope="col" { (number::some(many, "connection")) }
                }
                th .calls scope="col" { "Most frequent" }
            } }
            tbody {
                @for cost in &survey.costs {
                    tr {
                        th scope="row" { (cost.title) }
                        @for place in 0..CONNECTIONS.len() {
                            td { (calls::figure(cost, place)) }
                        }
                        td .calls { (calls::calls_of(cost)) }
                    }
                }
            }
        }
    };
    boxed("System calls per request", &table)
}

fn timelines(survey: &Survey) -> Markup {
    html! {
        section #timelines {
            h2 { "Timelines" }
            p {
                "One request, call by call, as printed by "
                code { "cargo xtask trace MODEL" } "."
            }
            @for (title, text) in &survey.timelines {
                details {
                    summary { (title) }
                    (boxed(title, &html! { pre { (text) } }))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::sample;

    #[test]
    fn the_page_has_figure_counts_and_timelines() {
        let page = render(&sample::survey(), &Record::default());
        for part in [
            "How they wait",
            "<td>3.25</td><td>2.27</td>",
            "<td>3.25</td><td>–</td>",
            "recvfrom 1.25 (0.25 EAGAIN), sendto 1.00, epoll_wait 0.02",
            "<strong>async-io/io-uring: </strong>&lt;no&gt;",
            "While the program computes",
            "<pre>ms the server's calls &lt; took</pre>",
        ] {
            assert!(page.contains(part), "no {part}");
        }
    }
}

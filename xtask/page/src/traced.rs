//! What `figure` has seen, as a page; and the part of it that the
//! comparison's page has too.

use maud::{Markup, html};

use super::all::{CONNECTIONS, Gathered};
use crate::shell::whole;
use crate::{calls, figure};

/// As on the comparison's page; timelines are images, each with a style of
/// its own.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// What a page with the section needs besides the comparison's style.
pub const SECTION_STYLE: &str = figure::svg::STYLE;

/// The page, complete.
pub fn render(gathered: &Gathered) -> String {
    let main = html! {
        header {
            h1 { "Unix I/O models, traced" }
            p .lead {
                "The same server, written once for each way to wait for data: "
                "which system calls it makes while a client connects, is "
                "silent for 100 ms and asks."
            }
            nav aria-label="On this page" {
                a href="#waits" { "How they wait" }
                a href="#calls" { "System calls a request" }
                a href="#timelines" { "Timelines" }
            }
        }
        (section(gathered))
        (timelines(gathered))
    };
    whole("Unix I/O models, traced", POLICY, &main)
}

/// The figure and the table.
pub fn section(gathered: &Gathered) -> Markup {
    html! {
        section #waits {
            h2 { "How they wait" }
            @if gathered.columns.is_empty() {
                p { "None of the models of I/O was traced." }
            } @else {
                p {
                    "Every input has two phases: waiting until the data is "
                    "there, and copying it from the kernel to the "
                    "application. This is where each model spends them."
                }
                (figure::svg::panels(&gathered.columns))
            }
            @for (title, why) in &gathered.missing {
                p { strong { (title) ": " } (why) }
            }
        }
        section #calls {
            h3 { "System calls a request" }
            p { (calls::NOTE) }
            (table(gathered))
        }
    }
}

/// Where nothing could be traced: why.
pub fn section_without(why: &str) -> Markup {
    html! {
        section #waits { h2 { "How they wait" } p { "Not traced: " (why) } }
    }
}

fn table(gathered: &Gathered) -> Markup {
    html! {
        div .box tabindex="0" role="region"
            aria-label="System calls a request"
        {
            table {
                thead { tr {
                    th scope="col" { "Server" }
                    @for many in CONNECTIONS {
                        th scope="col" {
                            (many)
                            @if many == 1 { " connection" }
                            @else { " connections" }
                        }
                    }
                    th .calls scope="col" { "The most frequent" }
                } }
                tbody {
                    @for line in &gathered.lines {
                        tr {
                            th scope="row" { (line.title) }
                            @for place in 0..CONNECTIONS.len() {
                                td { (calls::figure(line, place)) }
                            }
                            td .calls { (calls::calls_of(line)) }
                        }
                    }
                }
            }
        }
    }
}

fn timelines(gathered: &Gathered) -> Markup {
    html! {
        section #timelines {
            h2 { "Timelines" }
            p {
                "One request, call by call, to the microsecond: what "
                code { "cargo xtask trace MODEL" } " prints."
            }
            @for (title, drawing) in &gathered.timelines {
                details {
                    summary { (title) }
                    div .box tabindex="0" role="region" aria-label=(title) {
                        img .timeline src=(in_place(drawing))
                            alt={ "The system calls of " (title) };
                    }
                }
            }
        }
    }
}

/// A drawing as an address, see RFC 2397: what would end it is escaped.
fn in_place(drawing: &str) -> String {
    let mut address = "data:image/svg+xml;charset=utf-8,".to_owned();
    for letter in drawing.chars() {
        match letter {
            '%' => address += "%25",
            '#' => address += "%23",
            '\n' => address += "%0A",
            letter => address.push(letter),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::sample;

    #[test]
    fn the_page_is_complete_and_asks_for_nothing() {
        let page = render(&sample::gathered());
        for part in [
            "How they wait",
            "<td>3.25</td><td>2.27</td>",
            "<td>3.25</td><td>–</td>",
            "recvfrom 1.25 (0.25 EAGAIN), sendto 1.00, epoll_wait 0.02",
            "<strong>async-io/io-uring: </strong>&lt;no&gt;",
        ] {
            assert!(page.contains(part), "no {part}");
        }
        // Names of namespaces are inside of images.
        let outside = page.split("src=\"").map(|part| {
            part.strip_prefix("data:")
                .map_or(part, |image| image.split_once('"').unwrap().1)
        });
        let outside: String = outside.collect();
        for part in ["http:", "https:", "//", "url(", "@import", "<script"] {
            assert!(!outside.contains(part), "{part}");
        }
    }

    #[test]
    fn a_drawing_in_place_is_still_the_drawing() {
        let drawing = "<a b=\"1\">100 % #1\n</a>";
        let address = in_place(drawing);
        let (_, data) = address.split_once(',').unwrap();
        assert!(!data.contains(['#', '\n']), "{data}");
        let decoded =
            data.replace("%23", "#").replace("%0A", "\n").replace("%25", "%");
        assert_eq!(decoded, drawing);
    }

    #[test]
    fn where_nothing_was_traced_it_says_why() {
        let section = section_without("no <ptrace>").into_string();
        assert!(section.contains("Not traced: no &lt;ptrace&gt;"));
    }
}

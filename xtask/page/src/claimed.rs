//! `cargo xtask claims`, and its findings as a section of the comparison's
//! page.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use claims::claim::{Claim, Finding, Verdict};
use claims::experiments::{self, copies};
use claims::record::Record;
use lab::model::Workspace;
use lab::screen;
use maud::{Markup, PreEscaped, html};

use crate::figure::computing;

/// The file of the recorded findings' figure.
pub const PICTURE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/computing.svg");

/// Marks between which the comparison's page has the section.
const BEGIN: &str = "<!-- claims -->";
const END: &str = "<!-- end of claims -->";

/// Checks the claims, and writes what the flags ask for.
pub fn run(flags: &claims::Flags) -> Result<ExitCode> {
    let page = flags.html.then(Page::read).transpose()?;
    let Some(check) = claims::run(flags)? else {
        return Ok(ExitCode::SUCCESS);
    };
    if flags.record {
        check.save()?;
        fs::write(PICTURE, computing::alone(&check.record)).context(PICTURE)?;
    }
    if let Some(page) = page {
        page.write(&section(&check.record))?;
    }
    check.conclude()
}

/// The page of the last comparison, without its section on claims.
#[derive(Debug)]
struct Page {
    path: Utf8PathBuf,
    parts: (String, String),
}

impl Page {
    fn read() -> Result<Self> {
        let workspace = Workspace::load()?;
        let path = compare::folder(&workspace).join(compare::PAGE);
        let remedy = "`cargo xtask compare` makes the page";
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path}; {remedy}"))?;
        let parts = around(&text).with_context(|| {
            format!("{path} has no section on claims; {remedy}")
        })?;
        Ok(Self { path, parts })
    }

    fn write(&self, section: &Markup) -> Result<()> {
        let Self { path, parts: (before, after) } = self;
        fs::write(path, format!("{before}{}{after}", section.0))
            .with_context(|| format!("cannot write {path}"))?;
        screen::print(&format!("Page: {path}\n"))
    }
}

/// Returns what is before and after a page's section on claims.
fn around(page: &str) -> Option<(String, String)> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before.to_owned(), after.to_owned()))
}

/// Makes the section of a page before the claims were checked.
pub fn not_yet() -> Markup {
    marked(&html! {
        p {
            "Not checked. " code { "cargo xtask claims --html" }
            " checks claims about sockets and I/O models by experiments, and "
            "adds the findings here."
        }
    })
}

/// Makes the section on these findings.
fn section(record: &Record) -> Markup {
    marked(&html! {
        p {
            "Statements that notes and interviews repeat about sockets and "
            "I/O models, each checked on this machine by an experiment whose "
            "criterion was written before it ran."
        }
        @for topic in experiments::topics() {
            @let mut found = record.of_topic(topic).peekable();
            @if found.peek().is_some() {
                h3 { (topic.title) }
                @if topic.picture == Some(copies::PICTURE) {
                    (computing::panel(record))
                }
                @for (claim, finding) in found { (checked(claim, finding)) }
            }
        }
    })
}

fn marked(content: &Markup) -> Markup {
    html! {
        (PreEscaped(BEGIN))
        section #claims { h2 { "Claims" } (content) }
        (PreEscaped(END))
    }
}

fn checked(claim: &Claim, finding: &Finding) -> Markup {
    let verdict = Verdict::new(finding.answer, claim.if_false);
    html! {
        details {
            summary { (claim.claim) " " strong { (verdict) } }
            p { (claim.explanation) }
            ul {
                @for figure in &finding.figures {
                    li { (figure.name) ": " (figure.value()) }
                }
            }
            p .fine { "Criterion: " (claim.criterion) }
            p .fine {
                "Sources: " (claim.sources.join("; ")) ". Experiment: "
                code { (claim.file) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_has_every_finding() {
        let record = Record::recorded().unwrap();
        let Markup { 0: section } = section(&record);
        let count = section.matches("<details>").count();
        assert_eq!(count, experiments::all().count());
        assert!(section.contains("<strong>no longer holds</strong>"));
        assert_eq!(section.matches("<svg").count(), 4);
    }

    #[test]
    fn a_page_has_one_section_which_can_be_replaced() {
        for section in [not_yet(), section(&Record::default())] {
            let page = format!("<main>{}</main>", section.0);
            let parts = around(&page).unwrap();
            assert_eq!(parts, ("<main>".to_owned(), "</main>".to_owned()));
        }
        assert_eq!(around("<main></main>"), None);
    }
}

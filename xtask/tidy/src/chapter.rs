//! Rules for the chapter opening: the `//!` doc at the top of a model's
//! main.rs. All models have the same headings, so that the docs can be compared
//! as well.

use super::{Problem, Source};

/// The only headings, in their order.
const HEADINGS: [&str; 6] = [
    "How it works",
    "System calls",
    "Limits",
    "When to use it",
    "Compare with",
    "References",
];

/// A heading and the lines below it.
struct Section<'a> {
    line: usize,
    title: &'a str,
    body: Vec<&'a str>,
}

pub fn check(source: &Source) -> Vec<Problem> {
    let sections = sections(&source.text);
    let mut problems = order(source, &sections);
    for section in &sections {
        let empty = section.body.iter().all(|line| line.is_empty());
        if empty {
            problems.push(Problem::new(
                source,
                section.line,
                match section.title {
                    "" => "the chapter opening is missing".to_owned(),
                    title => format!("the section {title:?} is empty"),
                },
                match section.title {
                    "" => "describe the model in one `//!` sentence",
                    _ => "write it",
                },
            ));
        }
    }
    problems.extend(sections.iter().filter_map(|s| timeline(source, s)));
    problems
}

fn order(source: &Source, sections: &[Section<'_>]) -> Vec<Problem> {
    let titles: Vec<_> = sections[1..].iter().map(|s| s.title).collect();
    if titles == HEADINGS {
        return Vec::new();
    }
    let remedy =
        format!("use these headings in this order: {}", HEADINGS.join(", "));
    let mut problems = Vec::new();
    for heading in HEADINGS.iter().filter(|h| !titles.contains(h)) {
        let wrong = format!("the chapter opening has no `# {heading}`");
        problems.push(Problem::new(source, 1, wrong, &remedy));
    }
    for section in &sections[1..] {
        if !HEADINGS.contains(&section.title) {
            let wrong = format!("unknown heading {:?}", section.title);
            problems.push(Problem::new(source, section.line, wrong, &remedy));
        }
    }
    if problems.is_empty() {
        let moved = sections[1..]
            .iter()
            .zip(HEADINGS)
            .find(|(section, heading)| section.title != *heading);
        let line = moved.map_or(sections.last(), |(section, _)| Some(section));
        let line = line.map_or(1, |section| section.line);
        let wrong = "the headings are out of order or repeated";
        problems.push(Problem::new(source, line, wrong, remedy));
    }
    problems
}

/// Checks that "How it works" has a timeline of one request, with a column for
/// the application and one for the kernel.
fn timeline(source: &Source, section: &Section<'_>) -> Option<Problem> {
    if section.title != HEADINGS[0] {
        return None;
    }
    let mut fenced = false;
    let drawn = section.body.iter().any(|line| {
        fenced ^= line.starts_with("```");
        fenced && line.contains("application") && line.contains("kernel")
    });
    (!drawn).then(|| {
        Problem::new(
            source,
            section.line,
            "no timeline of one request",
            "draw it in a fenced block headed `application` and `kernel`",
        )
    })
}

/// Splits the doc at its headings. The first section has no title; a `#` inside
/// a fenced block is no heading.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section { line: 1, title: "", body: Vec::new() }];
    let mut fenced = false;
    for (line, text) in (1..).zip(text.lines()) {
        let Some(text) = text.strip_prefix("//!") else { break };
        let text = text.trim();
        fenced ^= text.starts_with("```");
        match text.strip_prefix("# ") {
            Some(title) if !fenced => {
                sections.push(Section { line, title, body: Vec::new() });
            }
            _ => sections.last_mut().expect("not empty").body.push(text),
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
//! Blocking I/O: asks and sleeps.
//!
//! # How it works
//!
//! ```text
//!   application          kernel
//! # recv |----------------->|
//! ```
//!
//! # System calls
//!
//! recv(2)
//!
//! # Limits
//!
//! One client.
//!
//! # When to use it
//!
//! Seldom.
//!
//! # Compare with
//!
//! nonblocking
//!
//! # References
//!
//! recv(2)

fn main() {}
";

    #[test]
    fn an_opening_has_its_headings_texts_and_timeline() {
        let turned = GOOD
            .replace("# Limits", "# !")
            .replace("# System calls", "# Limits")
            .replace("# !", "# System calls");
        let strange =
            GOOD.replace("//! One client.", "//! One.\n//!\n//! # Bugs\n//! a");
        let rows = [
            (
                GOOD.replace("# Limits", ""),
                "1: the chapter opening has no `# Limits`",
            ),
            (strange, "18: unknown heading \"Bugs\""),
            (turned, "10: the headings are out of order or repeated"),
            (
                GOOD.replace("//! Seldom.", "//!"),
                "18: the section \"When to use it\" is empty",
            ),
            (
                GOOD.replace("kernel", "network"),
                "3: no timeline of one request",
            ),
        ];
        let wrongs = |text: &str| {
            let problems = check(&Source::sample("a/src/main.rs", text));
            let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
            problems.into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(wrongs(GOOD), [""; 0]);
        for (text, expected) in rows {
            assert_eq!(wrongs(&text), [expected]);
        }
        let none = wrongs("fn main() {}\n");
        assert_eq!(none[HEADINGS.len()], "1: the chapter opening is missing");
    }
}

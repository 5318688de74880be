//! Rules for minimal programs: each model has one that can be read in three
//! minutes, and its opening names what it leaves out, with functions that
//! exist.

use std::ops::RangeInclusive;

use lab::model::Model;
use syn::spanned::Spanned;
use syn::{File, Item};

use super::links::defines;
use super::{Problem, Source};

/// Lines of code without imports, comments and blank lines.
const LINES: RangeInclusive<usize> = 30..=100;

/// The beginning of the paragraph that names what a minimal program leaves out.
const LEFT_OUT: &str = "Left out";

/// Checks the opening and the length of a minimal program.
pub fn check(source: &Source, file: &File) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lines = source.text.lines().map_while(|it| it.strip_prefix("//!"));
    if !lines.collect::<String>().contains(LEFT_OUT) {
        problems.push(Problem::new(
            source,
            1,
            "the opening doesn't name what is left out",
            format!("after {LEFT_OUT:?}, list each part with its function"),
        ));
    }
    let lines = code_lines(source, file);
    if !LINES.contains(&lines) {
        let (least, most) = LINES.into_inner();
        problems.push(Problem::new(
            source,
            1,
            format!("the minimal program has {lines} lines of code"),
            format!("use {least} to {most}, which take three minutes to read"),
        ));
    }
    problems
}

/// Checks that the model's files define the names in the paragraph that says
/// what is left out.
pub fn names(source: &Source, files: &[&Source]) -> Vec<Problem> {
    let opening = source.text.lines().take_while(|it| it.starts_with("//!"));
    let left_out = (1..)
        .zip(opening)
        .skip_while(|(_, line)| !line.contains(LEFT_OUT))
        .map(|(number, line)| {
            let from = line.find(LEFT_OUT).unwrap_or(0);
            (number, &line[from..])
        });
    let mut problems = Vec::new();
    for (number, line) in left_out {
        for name in line.split('`').skip(1).step_by(2) {
            let known = files
                .iter()
                .any(|file| defines(&file.text, file.path.as_ref(), name));
            if !known && name != "src" {
                let wrong = format!("no file in src defines {name}");
                problems.push(Problem::new(
                    source,
                    number,
                    wrong,
                    "name the function that has what is left out",
                ));
            }
        }
    }
    problems
}

fn code_lines(source: &Source, file: &File) -> usize {
    let imports = file.items.iter().filter_map(|item| match item {
        Item::Use(item) => Some(item.span()),
        _ => None,
    });
    let imports: Vec<_> =
        imports.map(|span| span.start().line..=span.end().line).collect();
    let code = (1..).zip(source.text.lines()).filter(|(number, line)| {
        let line = line.trim_start();
        !line.is_empty()
            && !line.starts_with("//")
            && !imports.iter().any(|lines| lines.contains(number))
    });
    code.count()
}

/// Checks that the model has a minimal program for its first variant.
pub fn is_there(manifest: &Source, model: &Model) -> Option<Problem> {
    if model.minimal(&model.variants[0]).is_some() {
        return None;
    }
    let wrong = "there is no minimal program";
    Some(Problem::new(manifest, 1, wrong, "write examples/minimal.rs"))
}

#[cfg(test)]
mod tests {
    use super::names as names_of;
    use super::*;

    #[test]
    fn a_minimal_program_is_short_and_names_what_it_leaves_out() {
        let opening = "//! **A model.**\n//!\n//! Left out: limits.\n";
        let rows = [
            (opening, 30, ""),
            (opening, 100, ""),
            (opening, 29, "29 lines"),
            (opening, 101, "101 lines"),
            ("//! **A model.**\n", 30, "what is left out"),
        ];
        for (opening, lines, expected) in rows {
            let code = "// a comment\nconst A: u8 = 0;\n\n".repeat(lines);
            let text = format!("{opening}use std::{{\n a,\n}};\n{code}");
            let source = Source::sample("a/examples/minimal.rs", &text);
            let found = check(&source, &syn::parse_file(&text).unwrap());
            let found: Vec<_> = found.into_iter().map(|it| it.wrong).collect();
            assert_eq!(found.is_empty(), expected.is_empty(), "{found:?}");
            assert!(found.join("").contains(expected), "{found:?}");
        }
    }

    #[test]
    fn functions_with_what_is_left_out_exist() {
        let main = Source::sample("a/src/main.rs", "fn serve() {}");
        let drain = Source::sample(
            "a/src/drain.rs",
            "impl Server { fn on_signal() {} } fn next() {}",
        );
        let wrongs = |names: &str| {
            let text = format!("//! `no`. Left out, in `src`:\n//! {names}.\n");
            let source = Source::sample("a/examples/minimal.rs", &text);
            let problems = names_of(&source, &[&main, &drain]);
            problems
                .into_iter()
                .map(|it| (it.line, it.wrong))
                .collect::<Vec<_>>()
        };
        let good =
            "`serve`, `on_signal` and `Server::on_signal`, `drain::next`";
        assert_eq!(wrongs(good), []);
        let wrong = "no file in src defines on_signals".to_owned();
        assert_eq!(wrongs("`serve`, `on_signals`"), [(2, wrong)]);
    }
}

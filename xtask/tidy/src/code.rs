//! Rules for Rust code: the size of files and lines, the order of items, and no
//! tests inside models.

use std::ops::RangeInclusive;

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Attribute, File, Item};

use super::{Problem, Source};

/// Lines of code in a model's main.rs, without comments and blank lines: enough
/// to contain the model, few enough to read in one sitting.
const CHAPTER_LINES: RangeInclusive<usize> = 30..=250;

/// The most lines of code in any other file, without its tests.
const FILE_LINES: usize = 400;

/// The longest line, so that two files fit a screen side by side. rustfmt
/// doesn't break comments and strings.
const COLUMNS: usize = 80;

/// Checks the size of a file, which may be a model's main.rs.
pub fn length(
    source: &Source,
    file: &File,
    is_chapter: bool,
) -> Option<Problem> {
    let lines = code_lines(source, file);
    let bounds = if is_chapter { CHAPTER_LINES } else { 0..=FILE_LINES };
    (!bounds.contains(&lines)).then(|| {
        let (least, most) = bounds.into_inner();
        Problem::new(
            source,
            1,
            format!("the file has {lines} lines of code without its tests"),
            format!("split it: {least} to {most} can be read in one sitting"),
        )
    })
}

/// Checks the length of lines, except lines with an address, which can't be
/// broken.
pub fn width(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let width = console::measure_text_width(line);
        if width > COLUMNS && !line.contains("https://") {
            problems.push(Problem::new(
                source,
                number,
                format!("the line has {width} columns"),
                format!("break it so that it has at most {COLUMNS}"),
            ));
        }
    }
    problems
}

fn code_lines(source: &Source, file: &File) -> usize {
    let tests: Vec<_> = file
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Mod(module) if module.attrs.iter().any(is_test) => {
                let span = module.span();
                Some(span.start().line..=span.end().line)
            }
            _ => None,
        })
        .collect();
    let code = (1..).zip(source.text.lines()).filter(|(number, line)| {
        let line = line.trim_start();
        !line.is_empty()
            && !line.starts_with("//")
            && !tests.iter().any(|lines| lines.contains(number))
    });
    code.count()
}

/// Recognizes `#[test]` and `#[cfg(test)]`.
pub(super) fn is_test(attribute: &Attribute) -> bool {
    let tokens = attribute.meta.to_token_stream().to_string();
    tokens == "test" || tokens.replace(' ', "") == "cfg(test)"
}

/// The parts of a model's main.rs, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Imports,
    Constants,
    Main,
    Serve,
    Rest,
}

/// Checks the order of items, which is the same in every main.rs so that two of
/// them align in a diff: imports, constants, `main`, `serve`, then the rest.
pub fn item_order(source: &Source, file: &File) -> Vec<Problem> {
    let remedy = "the order is imports, constants, main, serve, the rest";
    let mut problems = Vec::new();
    let mut furthest = Place::Imports;
    let mut seen = Vec::new();
    for item in &file.items {
        let place = place(item);
        let skips_serve = place == Place::Rest && !seen.contains(&Place::Serve);
        if place < furthest || skips_serve {
            let line = item.span().start().line;
            let wrong = format!("{} is out of place", describe(item));
            problems.push(Problem::new(source, line, wrong, remedy));
        } else {
            furthest = place;
        }
        seen.push(place);
    }
    for (place, name) in [(Place::Main, "main"), (Place::Serve, "serve")] {
        if !seen.contains(&place) {
            let wrong = format!("there is no fn {name}");
            problems.push(Problem::new(source, 1, wrong, remedy));
        }
    }
    problems
}

fn place(item: &Item) -> Place {
    match item {
        Item::Mod(module) if module.content.is_none() => Place::Imports,
        Item::Use(_) | Item::ExternCrate(_) => Place::Imports,
        // compile_error! and similar macros are conditions, like imports.
        Item::Macro(item) if item.ident.is_none() => Place::Imports,
        Item::Const(_) | Item::Static(_) => Place::Constants,
        Item::Fn(item) if item.sig.ident == "main" => Place::Main,
        Item::Fn(item) if item.sig.ident == "serve" => Place::Serve,
        _ => Place::Rest,
    }
}

fn describe(item: &Item) -> String {
    match item {
        Item::Use(_) => "an import".to_owned(),
        Item::Mod(item) => format!("mod {}", item.ident),
        Item::Const(item) => format!("const {}", item.ident),
        Item::Static(item) => format!("static {}", item.ident),
        Item::Fn(item) => format!("fn {}", item.sig.ident),
        Item::Struct(item) => format!("struct {}", item.ident),
        Item::Enum(item) => format!("enum {}", item.ident),
        Item::Type(item) => format!("type {}", item.ident),
        _ => "this item".to_owned(),
    }
}

/// Checks that a model contains no tests: the shared suite tests all models
/// from outside.
pub fn no_tests(source: &Source) -> Option<Problem> {
    let is_test =
        |line: &str| ["#[cfg(test)]", "#[test]"].contains(&line.trim());
    let line = source.text.lines().position(is_test)?;
    Some(Problem::new(
        source,
        line + 1,
        "a test inside a model",
        "move it to the shared suite, which tests all models",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &str) -> (Source, File) {
        let file = syn::parse_file(text).unwrap();
        (Source::sample("a/src/main.rs", text), file)
    }

    fn wrongs(problems: impl IntoIterator<Item = Problem>) -> Vec<String> {
        let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
        problems.into_iter().map(text).collect()
    }

    #[test]
    fn file_sizes_are_bounded_without_tests() {
        let rows = [
            (29, true, false),
            (30, true, true),
            (250, true, true),
            (251, true, false),
            (400, false, true),
            (401, false, false),
        ];
        for (lines, is_chapter, good) in rows {
            let code = "// a comment\n\nconst A: u8 = 0;\n".repeat(lines);
            let tests = format!("#[cfg(test)]\nmod tests {{\n{code}\n}}\n");
            let (source, file) = sample(&(code + &tests));
            let problem = length(&source, &file, is_chapter);
            assert_eq!(problem.is_none(), good, "{lines}: {problem:?}");
        }
    }

    #[test]
    fn lines_are_measured_in_columns() {
        for (text, good) in [
            ("ä".repeat(COLUMNS), true),
            ("// https://a.example/".repeat(9), true),
            ("x".repeat(COLUMNS + 1), false),
        ] {
            let source = Source::sample("a.rs", &text);
            assert_eq!(wrongs(width(&source)).is_empty(), good, "{text}");
        }
    }

    #[test]
    fn items_have_their_order() {
        let good = "mod datagrams; use std::io; const A: u8 = 0; fn main() {} \
                    fn serve() {} struct Connection; fn helper() {}";
        let (source, file) = sample(good);
        assert_eq!(wrongs(item_order(&source, &file)), [""; 0]);

        let rows = [
            ("fn serve() {} fn main() {}", "1: fn main is out of place"),
            (
                "fn main() {} struct S; fn serve() {}",
                "1: struct S is out of place",
            ),
            (
                "fn main() {} fn serve() {} const A: u8 = 0;",
                "1: const A is out of place",
            ),
            (
                "const A: u8 = 0; use std::io; fn main() {} fn serve() {}",
                "1: an import is out of place",
            ),
            ("fn main() {}", "1: there is no fn serve"),
        ];
        for (text, expected) in rows {
            let (source, file) = sample(text);
            assert_eq!(wrongs(item_order(&source, &file)), [expected]);
        }
    }

    #[test]
    fn models_have_no_tests_of_their_own() {
        let test = "fn f() {}\n#[cfg(test)]\nmod tests {\n}";
        for test in [test, "fn f() {}\n    #[test]\nfn g() {}"] {
            let found = wrongs(no_tests(&Source::sample("a.rs", test)));
            assert_eq!(found, ["2: a test inside a model"]);
        }
        let other = Source::sample("a.rs", "#[cfg(unix)] fn f() {}");
        assert_eq!(no_tests(&other), None);
    }
}

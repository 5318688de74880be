//! Rules for Rust code: sizes that fit a sitting, the same order everywhere,
//! and what models leave to others.

use std::ops::RangeInclusive;

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, File, Item};

use super::{Problem, Source};

/// Lines of code, comments and blank lines aside, of a model's main.rs: enough
/// to say something, little enough for a sitting.
const CHAPTER_LINES: RangeInclusive<usize> = 60..=250;

/// Lines of code of any other file, its tests aside.
const FILE_LINES: usize = 400;

/// The size of a model's main.rs.
pub fn chapter_length(source: &Source, file: &File) -> Option<Problem> {
    let lines = code_lines(source, file);
    let (least, most) = (CHAPTER_LINES.start(), CHAPTER_LINES.end());
    (!CHAPTER_LINES.contains(&lines)).then(|| {
        Problem::new(
            source,
            1,
            format!("the chapter has {lines} lines of code"),
            format!(
                "{least} to {most} are enough to say it all and few enough to \
                 read in a sitting"
            ),
        )
    })
}

/// The size of any other file.
pub fn file_length(source: &Source, file: &File) -> Option<Problem> {
    let lines = code_lines(source, file);
    (lines > FILE_LINES).then(|| {
        Problem::new(
            source,
            1,
            format!("the file has {lines} lines of code without its tests"),
            format!("split it into files of at most {FILE_LINES}"),
        )
    })
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

/// `#[test]`, `#[cfg(test)]` and their like.
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

/// Every main.rs has the same order, so that two of them align by themselves:
/// imports, constants, `main`, `serve`, then the unit of work and its helpers.
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
        // compile_error! and the like: a condition for reading on.
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

/// Models are tested from outside, all by the same suite.
pub fn no_tests(source: &Source, file: &File) -> Vec<Problem> {
    let mut finder = Tests { lines: Vec::new() };
    finder.visit_file(file);
    let problem = |line| {
        Problem::new(
            source,
            line,
            "a test inside a model",
            "test it in the shared suite, for all models",
        )
    };
    finder.lines.into_iter().map(problem).collect()
}

struct Tests {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if is_test(attribute) {
            self.lines.push(attribute.span().start().line);
        }
    }
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
    fn a_chapter_has_its_size() {
        for (lines, good) in
            [(59, false), (60, true), (250, true), (251, false)]
        {
            let text = "// a comment\n\nconst A: u8 = 0;\n".repeat(lines);
            let (source, file) = sample(&text);
            let problem = chapter_length(&source, &file);
            assert_eq!(problem.is_none(), good, "{lines}: {problem:?}");
        }
    }

    #[test]
    fn tests_do_not_count_for_a_files_size() {
        let code = "const A: u8 = 0;\n".repeat(FILE_LINES);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{code}\n}}\n");
        let (source, file) = sample(&format!("{code}{tests}"));
        assert_eq!(file_length(&source, &file), None);
        let (source, file) = sample(&format!("{code}fn one_more() {{}}\n"));
        let found = wrongs(file_length(&source, &file));
        assert_eq!(
            found,
            ["1: the file has 401 lines of code without its tests"]
        );
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
        let (source, file) = sample("#[cfg(unix)] fn f() {}");
        assert_eq!(wrongs(no_tests(&source, &file)), [""; 0]);
        let (source, file) =
            sample("#[cfg(test)]\nmod tests {\n#[test]\nfn f() {}\n}");
        let expected = ["1: a test inside a model", "3: a test inside a model"];
        assert_eq!(wrongs(no_tests(&source, &file)), expected);
    }
}

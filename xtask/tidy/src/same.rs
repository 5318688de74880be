//! Copies that must not drift. Models keep the code that readers came for in
//! each crate, even where it is the same; `same = [...]` in a crate's metadata
//! names those items, and here their copies are compared token by token. What
//! is a copy and is not named is found too: it could drift unseen.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use similar::TextDiff;
use syn::spanned::Spanned;
use syn::{ImplItem, Item, Type};

use super::{Problem, Source};

/// Where a crate's copies are.
#[derive(Debug)]
pub struct Crate<'a> {
    /// `item`, `Type::method`, `file::item` for one outside main.rs, or
    /// `file.rs` for all of it.
    pub names: &'a [String],
    pub manifest: &'a Source,
    /// The files below src.
    pub sources: Vec<&'a Source>,
}

/// One copy of an item.
struct Found<'a> {
    source: &'a Source,
    line: usize,
    /// Everything but comments; documentation counts, spaces do not.
    tokens: String,
    text: String,
}

/// Compares every copy with the first one in reading order.
pub fn check(crates: &[Crate<'_>]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names: Vec<_> = crates.iter().flat_map(|c| c.names).collect();
    names.sort();
    names.dedup();
    for name in names {
        let holders = crates.iter().filter(|c| c.names.contains(name));
        let mut copies = Vec::new();
        for holder in holders {
            match find(holder, name) {
                Some(found) => copies.push(found),
                None => problems.push(Problem::new(
                    holder.manifest,
                    line_of(holder.manifest, name),
                    format!("`same` names {name}, which is not in the crate"),
                    "correct the name or take it out",
                )),
            }
            if copies.len() == 1 && is_alone(crates, name) {
                problems.push(Problem::new(
                    holder.manifest,
                    line_of(holder.manifest, name),
                    format!("only this crate names {name} in `same`"),
                    "name it in the crates that hold its copies too, or take \
                     it out",
                ));
            }
        }
        let Some((first, others)) = copies.split_first() else { continue };
        let drifted = others.iter().filter(|copy| copy.tokens != first.tokens);
        problems.extend(drifted.map(|copy| drift(name, first, copy)));
    }
    problems
}

fn is_alone(crates: &[Crate<'_>], name: &String) -> bool {
    crates.iter().filter(|c| c.names.contains(name)).count() == 1
}

fn drift(name: &str, first: &Found<'_>, copy: &Found<'_>) -> Problem {
    let diff = TextDiff::from_lines(&first.text, &copy.text);
    let diff = diff.unified_diff().context_radius(2).to_string();
    let diff: String =
        diff.lines().map(|line| format!("\n    {line}")).collect();
    Problem::new(
        copy.source,
        copy.line,
        format!(
            "{name} is not the same as in {}:{}",
            first.source.path, first.line
        ),
        format!("make the copies equal, or take it out of `same`{diff}"),
    )
}

fn line_of(manifest: &Source, name: &str) -> usize {
    let quoted = format!("\"{name}\"");
    let line = manifest.text.lines().position(|line| line.contains(&quoted));
    line.map_or(1, |index| index + 1)
}

/// Looks in the file that the name begins with; without one in main.rs, then
/// in the others.
fn find<'a>(holder: &Crate<'a>, name: &str) -> Option<Found<'a>> {
    if name.ends_with(".rs") {
        let named = |source: &&&Source| file_name(source) == name;
        return holder.sources.iter().find(named).and_then(|s| whole(s));
    }
    let stem =
        |source: &Source| file_name(source).trim_end_matches(".rs").to_owned();
    if let Some((file, item)) = name.split_once("::") {
        let named = holder.sources.iter().find(|s| stem(s) == file);
        if let Some(source) = named {
            return find_in(source, item);
        }
    }
    let mut sources = holder.sources.clone();
    sources.sort_by_key(|source| stem(source) != "main");
    sources.into_iter().find_map(|source| find_in(source, name))
}

fn file_name(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

/// A file as one item.
fn whole(source: &Source) -> Option<Found<'_>> {
    let file = syn::parse_file(&source.text).ok()?;
    Some(Found {
        source,
        line: 1,
        tokens: file.to_token_stream().to_string(),
        text: source.text.clone(),
    })
}

fn find_in<'a>(source: &'a Source, name: &str) -> Option<Found<'a>> {
    let file = syn::parse_file(&source.text).ok()?;
    file.items.iter().find_map(|item| match (name.split_once("::"), item) {
        (Some((of, method)), Item::Impl(block)) if is_type(block, of) => {
            block.items.iter().find_map(|item| {
                (member_name(item)? == method).then(|| found(source, item))
            })
        }
        (None, item) if item_name(item)? == name => Some(found(source, item)),
        _ => None,
    })
}

fn found<'a>(
    source: &'a Source,
    item: &(impl ToTokens + Spanned),
) -> Found<'a> {
    let span: Span = item.span();
    let (first, last) = (span.start().line, span.end().line);
    let lines = source.text.lines().skip(first - 1).take(last - first + 1);
    Found {
        source,
        line: first,
        tokens: item.to_token_stream().to_string(),
        text: lines.map(|line| format!("{line}\n")).collect(),
    }
}

fn is_type(block: &syn::ItemImpl, name: &str) -> bool {
    type_name(block).is_some_and(|of| of == name)
}

pub(super) fn type_name(block: &syn::ItemImpl) -> Option<String> {
    let Type::Path(path) = &*block.self_ty else { return None };
    path.path.segments.last().map(|last| last.ident.to_string())
}

pub(super) fn member_name(item: &ImplItem) -> Option<String> {
    match item {
        ImplItem::Fn(item) => Some(item.sig.ident.to_string()),
        ImplItem::Const(item) => Some(item.ident.to_string()),
        ImplItem::Type(item) => Some(item.ident.to_string()),
        _ => None,
    }
}

pub(super) fn item_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Fewer tokens than this may be equal by chance, or because there is only one
/// way to say it.
const COPY_TOKENS: usize = 40;

/// Items that are equal in two crates and not named in both.
pub fn check_unnamed(crates: &[Crate<'_>]) -> Vec<Problem> {
    let mut copies: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (index, holder) in crates.iter().enumerate() {
        for source in &holder.sources {
            for (name, item) in items(source) {
                let group = copies.entry((name, item.tokens.clone()));
                group.or_default().push((index, item));
            }
        }
    }
    let mut problems = Vec::new();
    for ((name, _), group) in &copies {
        for (index, item) in group {
            let other = group.iter().find(|(other, _)| other != index);
            let Some((_, other)) = other else { continue };
            if !is_named(crates[*index].names, item.source, name) {
                problems.push(Problem::new(
                    item.source,
                    item.line,
                    format!(
                        "{name} is a copy of the one in {}",
                        other.source.path
                    ),
                    "name it in `same` of both crates, or its whole file",
                ));
            }
        }
    }
    problems
}

fn is_named(names: &[String], source: &Source, name: &str) -> bool {
    let file = file_name(source);
    let with_file = format!("{}::{name}", file.trim_end_matches(".rs"));
    [name, file, &with_file].iter().any(|n| names.iter().any(|m| m == n))
}

/// The items and methods of a file that are long enough to be copies.
fn items(source: &Source) -> Vec<(String, Found<'_>)> {
    let Ok(file) = syn::parse_file(&source.text) else { return Vec::new() };
    let mut items = Vec::new();
    for item in &file.items {
        if let Item::Impl(block) = item
            && let Some(of) = type_name(block)
        {
            let members = block.items.iter().filter(is_long);
            items.extend(members.filter_map(|item| {
                let name = format!("{of}::{}", member_name(item)?);
                Some((name, found(source, item)))
            }));
        } else if let Some(name) = item_name(item)
            && is_long(item)
        {
            items.push((name, found(source, item)));
        }
    }
    items
}

fn is_long(item: &impl ToTokens) -> bool {
    count(item.to_token_stream()) >= COPY_TOKENS
}

fn count(tokens: TokenStream) -> usize {
    let counts = tokens.into_iter().map(|token| match token {
        TokenTree::Group(group) => 2 + count(group.stream()),
        _ => 1,
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: &str = "
fn main() {}

impl Connection {
    /// Takes what arrived.
    fn on_readable(&mut self, budget: usize) -> Progress {
        self.receive(budget) // in poll.rs
    }
}
";

    /// Checks two crates that name `names` in `same` and hold these texts.
    fn wrongs(names: &[&str], texts: [&str; 2]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|&n| n.to_owned()).collect();
        let manifests = ["a", "b"].map(|name| {
            let path = format!("{name}/Cargo.toml");
            Source::sample(&path, &format!("\nsame = {names:?}\n"))
        });
        let sources = [("a", texts[0]), ("b", texts[1])].map(|(name, text)| {
            Source::sample(&format!("{name}/src/main.rs"), text)
        });
        let crates = [0, 1].map(|index| Crate {
            names: &names,
            manifest: &manifests[index],
            sources: vec![&sources[index]],
        });
        check(&crates).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn spaces_and_comments_do_not_count() {
        let other = POLL.replace(" // in poll.rs", "").replace("    ", "  ");
        let names = ["main", "Connection::on_readable"];
        assert_eq!(wrongs(&names, [POLL, &other]), [""; 0]);
    }

    #[test]
    fn another_token_is_drift() {
        let other = POLL.replace("receive(budget)", "receive(2 * budget)");
        let found = wrongs(&["Connection::on_readable"], [POLL, &other]);
        assert_eq!(found.len(), 1);
        let expected = "b/src/main.rs:5: Connection::on_readable is not the \
                        same as in a/src/main.rs:5; make the copies equal";
        assert!(found[0].starts_with(expected), "{}", found[0]);
        assert!(found[0].contains("\n    +        self.receive(2 * budget)"));
    }

    #[test]
    fn documentation_counts() {
        let other = POLL.replace("what arrived", "what came");
        let found = wrongs(&["Connection::on_readable"], [POLL, &other]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_name_without_an_item_is_found() {
        let found = wrongs(&["Connection::on_ready"], [POLL, POLL]);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            "a/Cargo.toml:2: `same` names Connection::on_ready, which is not \
             in the crate; correct the name or take it out"
        );
    }

    #[test]
    fn a_name_in_one_crate_only_is_found() {
        let names = ["main".to_owned()];
        let manifest = Source::sample("a/Cargo.toml", "same = [\"main\"]\n");
        let source = Source::sample("a/src/main.rs", POLL);
        let of = |names| Crate {
            names,
            manifest: &manifest,
            sources: vec![&source],
        };
        let problems = check(&[of(&names), of(&[])]);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].wrong, "only this crate names main in `same`");
    }

    /// A method of more than `COPY_TOKENS` tokens, and one of fewer.
    fn long(word: &str) -> String {
        let calls = format!("{word}(1, 2, 3);").repeat(COPY_TOKENS / 4);
        format!("impl A {{ fn long() {{ {calls} }} fn short() {{}} }}")
    }

    fn unnamed(texts: [&str; 2], names: [&[&str]; 2]) -> Vec<String> {
        let manifest = Source::sample("Cargo.toml", "");
        let names = names.map(|names| {
            names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()
        });
        let sources = [("a", texts[0]), ("b", texts[1])].map(|(name, text)| {
            Source::sample(&format!("{name}/src/wait.rs"), text)
        });
        let crates = [0, 1].map(|index| Crate {
            names: &names[index],
            manifest: &manifest,
            sources: vec![&sources[index]],
        });
        let problems = check_unnamed(&crates);
        problems.iter().map(|p| format!("{}: {}", p.file, p.wrong)).collect()
    }

    #[test]
    fn a_copy_that_is_not_named_is_found() {
        let (one, other) = (long("receive"), long("answer"));
        assert_eq!(unnamed([&one, &other], [&[], &[]]), [""; 0]);
        assert_eq!(
            unnamed([&one, &one], [&[], &["A::long"]]),
            ["a/src/wait.rs: A::long is a copy of the one in b/src/wait.rs"]
        );
        for name in ["A::long", "wait::A::long", "wait.rs"] {
            assert_eq!(unnamed([&one, &one], [&[name], &[name]]), [""; 0]);
        }
    }

    #[test]
    fn a_whole_file_can_be_named() {
        let other = POLL.replace("receive(budget)", "receive(2 * budget)");
        assert_eq!(wrongs(&["main.rs"], [POLL, POLL]), [""; 0]);
        let found = wrongs(&["main.rs"], [POLL, &other]);
        assert!(found[0].starts_with("b/src/main.rs:1: main.rs is not"));
    }

    #[test]
    fn an_item_of_another_file_is_named_with_it() {
        let names = ["datagrams::serve".to_owned(), "other".to_owned()];
        let manifest = Source::sample("a/Cargo.toml", "");
        let main = Source::sample("a/src/main.rs", "fn serve() {}");
        let datagrams = Source::sample(
            "a/src/datagrams.rs",
            "fn serve() { recv() } fn other() {}",
        );
        let holder = Crate {
            names: &names,
            manifest: &manifest,
            sources: vec![&datagrams, &main],
        };
        let found = find(&holder, "datagrams::serve").unwrap();
        assert_eq!(found.tokens, "fn serve () { recv () }");
        assert_eq!(find(&holder, "serve").unwrap().tokens, "fn serve () { }");
        assert!(find(&holder, "other").is_some());
    }
}

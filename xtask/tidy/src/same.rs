//! Checks that copies of code stay equal. Each model contains all the code that
//! shows how it works, even if other models have the same code. `same = [...]`
//! in a crate's metadata names these items, and their copies are compared token
//! by token. Copies that aren't named are reported too, because they could
//! diverge unnoticed.

use std::collections::{BTreeMap, BTreeSet};

use similar::TextDiff;

use super::items::{Item, items};
use super::{Problem, Source};

/// The length from which equal items count as copies. Shorter ones may be equal
/// by chance, or because there is only one way to write them.
const COPY_TOKENS: usize = 40;

/// A crate whose copies are compared.
#[derive(Debug)]
pub struct Crate<'a> {
    /// `item`, `Type::method`, `file::item` for one outside main.rs, or
    /// `file.rs` for all of it.
    pub names: &'a [String],
    pub manifest: &'a Source,
    /// The files in src, and the minimal programs.
    pub sources: Vec<&'a Source>,
}

/// An item or a whole file, and its place.
struct Copy<'a> {
    holder: &'a Crate<'a>,
    source: &'a Source,
    item: Item,
}

impl Copy<'_> {
    fn has_name(&self, name: &str) -> bool {
        let stem = file_name(self.source).trim_end_matches(".rs");
        let own = &self.item.name;
        own == name || format!("{stem}::{own}") == name
    }

    /// Returns whether its crate names it or its whole file.
    fn is_named(&self) -> bool {
        let file = file_name(self.source);
        let names = self.holder.names;
        names.iter().any(|name| name == file || self.has_name(name))
    }

    fn text(&self) -> String {
        let (first, last) = (self.item.lines.start(), self.item.lines.end());
        let lines = self.source.text.lines().take(*last).skip(first - 1);
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// Compares every named copy with the first one in reading order, and searches
/// for copies that aren't named.
pub fn check(crates: &[Crate<'_>]) -> Vec<Problem> {
    let copies: Vec<_> = crates.iter().map(copies).collect();
    let names: BTreeSet<_> = crates.iter().flat_map(|c| c.names).collect();
    let mut problems = unnamed(copies.iter().flatten());
    for name in names {
        problems.extend(named(name, crates, &copies));
    }
    problems
}

/// Returns a crate's items, those of main.rs first, and its files.
fn copies<'a>(holder: &'a Crate<'a>) -> Vec<Copy<'a>> {
    let mut sources = holder.sources.clone();
    sources.sort_by_key(|source| file_name(source) != "main.rs");
    let mut copies = Vec::new();
    for source in sources {
        let name = file_name(source).to_owned();
        let whole = syn::parse_file(&source.text);
        let whole = whole.iter().map(|file| Item::new(name.clone(), file));
        let items = items(&source.text).into_iter().chain(whole);
        copies.extend(items.map(|item| Copy { holder, source, item }));
    }
    copies
}

fn file_name(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

fn named(
    name: &String,
    crates: &[Crate<'_>],
    copies: &[Vec<Copy<'_>>],
) -> Vec<Problem> {
    let holders = crates.iter().zip(copies);
    let holders: Vec<_> =
        holders.filter(|(holder, _)| holder.names.contains(name)).collect();
    let in_manifest = |holder: &Crate<'_>, wrong, remedy| {
        let line = holder.manifest.line_of(&format!("\"{name}\""));
        Problem::new(holder.manifest, line, wrong, remedy)
    };
    let mut problems = Vec::new();
    if let [(holder, _)] = holders[..] {
        problems.push(in_manifest(
            holder,
            format!("only this crate names {name} in `same`"),
            "name it in the crates with its copies too, or remove the name",
        ));
    }
    let mut first: Option<&Copy<'_>> = None;
    for (holder, copies) in holders {
        let Some(copy) = copies.iter().find(|copy| copy.has_name(name)) else {
            problems.push(in_manifest(
                holder,
                format!("`same` names {name}, which is not in the crate"),
                "correct or remove the name",
            ));
            continue;
        };
        let first = first.get_or_insert(copy);
        if first.item.tokens != copy.item.tokens {
            problems.push(drift(name, first, copy));
        }
    }
    problems
}

fn drift(name: &str, first: &Copy<'_>, copy: &Copy<'_>) -> Problem {
    let (old, new) = (first.text(), copy.text());
    let diff = TextDiff::from_lines(&old, &new);
    let diff = diff.unified_diff().context_radius(2).to_string();
    let diff: String =
        diff.lines().map(|line| format!("\n    {line}")).collect();
    let (path, line) = (&first.source.path, first.item.lines.start());
    Problem::new(
        copy.source,
        *copy.item.lines.start(),
        format!("{name} is not the same as in {path}:{line}"),
        format!("make the copies equal, or remove it from `same`{diff}"),
    )
}

/// Reports items that are equal in two crates, but not named in both.
fn unnamed<'a>(copies: impl Iterator<Item = &'a Copy<'a>>) -> Vec<Problem> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let is_long = |copy: &&Copy<'_>| copy.item.length >= COPY_TOKENS;
    let is_part = |copy: &&Copy<'_>| copy.item.name != file_name(copy.source);
    for copy in copies.filter(is_long).filter(is_part) {
        let group = groups.entry((&copy.item.name, &copy.item.tokens));
        group.or_default().push(copy);
    }
    let mut problems = Vec::new();
    for ((name, _), group) in &groups {
        for copy in group.iter().filter(|copy| !copy.is_named()) {
            let is_elsewhere =
                |other: &&&Copy<'_>| !std::ptr::eq(other.holder, copy.holder);
            let Some(other) = group.iter().find(is_elsewhere) else { continue };
            problems.push(Problem::new(
                copy.source,
                *copy.item.lines.start(),
                format!("{name} is a copy of the one in {}", other.source.path),
                "name it or its whole file in `same` of both crates",
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: &str = "fn main() {}

impl Connection {
    /// Takes what arrived.
    fn on_readable(&mut self, budget: usize) -> Progress {
        self.receive(budget) // in poll.rs
    }
}
";

    /// Checks two crates, given their names in `same` and their main.rs.
    fn problems(names: [&[&str]; 2], texts: [&str; 2]) -> Vec<String> {
        let names = names.map(|names| {
            names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()
        });
        let sources = [0, 1].map(|at| {
            let [manifest, main] = ["Cargo.toml", "src/main.rs"]
                .map(|file| format!("{}/{file}", ["a", "b"][at]));
            let same = format!("\nsame = {:?}\n", names[at]);
            [Source::sample(&manifest, &same), Source::sample(&main, texts[at])]
        });
        let crates = [0, 1].map(|at| Crate {
            names: &names[at],
            manifest: &sources[at][0],
            sources: vec![&sources[at][1]],
        });
        check(&crates).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn named_copies_are_equal_except_for_spaces_and_comments() {
        let same = POLL.replace(" // in poll.rs", "").replace("    ", "  ");
        let other = POLL.replace("receive(budget)", "receive(2 * budget)");
        let documented = POLL.replace("what arrived", "what came");
        let method = "Connection::on_readable";
        let drift = "b/src/main.rs:4: Connection::on_readable is not the same \
                     as in a/src/main.rs:4; make the copies equal";
        let rows = [
            (method, &same, ""),
            ("main", &other, ""),
            ("main.rs", &same, ""),
            ("main::main", &other, ""),
            (method, &other, drift),
            (method, &documented, drift),
            ("main.rs", &other, "b/src/main.rs:1: main.rs is not the same"),
        ];
        for (name, text, expected) in rows {
            let found = problems([&[name], &[name]], [POLL, text]).join("\n");
            assert!(found.starts_with(expected), "{name}: {found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
        }
        let found = problems([&[method], &[method]], [POLL, &other]).join("");
        assert!(found.contains("\n    +        self.receive(2 * budget)"));
    }

    #[test]
    fn names_are_of_items_in_two_crates() {
        let missing = "`same` names strange, which is not in the crate; \
                       correct or remove the name";
        assert_eq!(
            problems([&["strange"], &["strange"]], [POLL, POLL]),
            ["a", "b"].map(|name| format!("{name}/Cargo.toml:2: {missing}"))
        );
        let found = problems([&["main"], &[]], [POLL, POLL]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("only this crate names main in `same`"));
    }

    #[test]
    fn a_copy_that_is_not_named_is_found() {
        // A method of more than `COPY_TOKENS` tokens, and one of fewer.
        let [one, other] = ["receive", "answer"].map(|word| {
            let calls = format!("{word}(1, 2, 3);").repeat(COPY_TOKENS / 4);
            format!("impl A {{ fn f() {{ {calls} }} fn g() {{}} }} //")
        });
        let rest = format!("{one}\nconst A: u8 = 0;");
        assert_eq!(problems([&[], &[]], [&one, &other]), [""; 0]);
        let found = problems([&["A::f"], &[]], [&one, &rest]);
        assert!(
            found[0].contains("A::f is a copy of the one in a/src/main.rs")
        );
        for name in ["A::f", "main::A::f", "main.rs"] {
            let found = problems([&[name], &[name]], [&one, &one]);
            assert_eq!(found, [""; 0]);
        }
    }

    #[test]
    fn an_item_of_another_file_is_named_with_it() {
        let manifest = Source::sample("a/Cargo.toml", "");
        let main = Source::sample("a/src/main.rs", "fn serve() {}");
        let other = "fn serve() { recv() } fn other() {}";
        let other = Source::sample("a/src/datagrams.rs", other);
        let sources = vec![&other, &main];
        let holder = Crate { names: &[], manifest: &manifest, sources };
        let copies = copies(&holder);
        let find = |name: &str| copies.iter().find(|copy| copy.has_name(name));
        let tokens = |name: &str| find(name).map(|copy| &*copy.item.tokens);
        let expected = Some("fn serve () { recv () }");
        assert_eq!(tokens("datagrams::serve"), expected);
        assert_eq!(tokens("serve"), Some("fn serve () { }"));
        assert_eq!(tokens("other"), Some("fn other () { }"));
    }
}

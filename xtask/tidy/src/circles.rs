//! Finds import cycles between the source files of a crate, and files that no
//! module declares.
//!
//! A child module may use its parent's items, and the parent its child's. Files
//! in any other cycle can't be understood separately.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use camino::Utf8Path;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, ItemMod};

use super::code::is_test;
use super::{Problem, Source};

/// Reports the shortest cycle through each file of the member's `folder`, each
/// cycle once, and the files in its `src` that no module declares.
pub fn check(folder: &Utf8Path, sources: &[Source]) -> Vec<Problem> {
    let mut imports = Imports::default();
    let src = folder.join("src");
    let roots = ["main.rs", "lib.rs"].map(|root| src.join(root));
    let own = sources
        .iter()
        .filter(|source| source.is_in(&src) && source.extension() == "rs");
    for source in own.clone() {
        let path = Utf8Path::new(&source.path);
        let is_bin = path.parent() == Some(&src.join("bin"));
        if is_bin || roots.iter().any(|root| root == path) {
            follow(source, &[], source, sources, &mut imports);
        }
    }
    let circles: BTreeSet<_> =
        imports.keys().filter_map(|file| circle(file, &imports)).collect();
    let circles = circles.iter().map(|circle| problem(circle, &imports));
    let orphans = own.filter(|source| !imports.contains_key(&*source.path));
    let orphans = orphans.map(|source| {
        let wrong = "no module declares this file";
        Problem::new(source, 1, wrong, "declare or delete it")
    });
    circles.chain(orphans).collect()
}

/// For each file, the files that it uses, each with the line of its first use.
/// Uses of its ancestors and uses in its tests are not included.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

fn problem(circle: &[&str], imports: &Imports<'_>) -> Problem {
    let next = circle.get(1).unwrap_or(&circle[0]);
    Problem {
        file: circle[0].to_owned(),
        line: imports[circle[0]][next],
        wrong: format!(
            "files import each other in a cycle: {} -> {}",
            circle.join(" -> "),
            circle[0]
        ),
        remedy: "move the items that several of them use into a file that \
                 uses none of them"
            .to_owned(),
    }
}

/// Finds the shortest path from a file back to itself. It begins with the least
/// name, so that all files of a cycle yield the same path.
fn circle<'a>(start: &'a str, imports: &Imports<'a>) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut reached = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way[way.len() - 1];
        for &next in imports.get(last).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                let mut circle = way;
                let least = (0..circle.len()).min_by_key(|at| circle[*at]);
                circle.rotate_left(least.unwrap_or(0));
                return Some(circle);
            }
            if reached.insert(next) {
                ways.push_back([way.as_slice(), &[next]].concat());
            }
        }
    }
    None
}

/// Records the files that a module's file uses, then those that its child
/// modules use.
fn follow<'a>(
    source: &'a Source,
    module: &[String],
    root: &'a Source,
    sources: &'a [Source],
    imports: &mut Imports<'a>,
) {
    let Ok(file) = syn::parse_file(&source.text) else { return };
    let children = file.items.iter().filter_map(|item| match item {
        Item::Mod(item) if item.content.is_none() => {
            Some(item.ident.to_string())
        }
        _ => None,
    });
    let children: Vec<_> = children.collect();
    let mut names = Names { children: &children, uses: Vec::new() };
    names.add_items(&file.items, module);
    let uses = names.uses;
    let find = |module: &[String]| file_of(module, root, sources);
    let own = imports.entry(&source.path).or_default();
    for (line, path) in uses {
        let mut prefixes = (0..=path.len()).rev().map(|end| &path[..end]);
        let found = prefixes.find_map(|path| Some((path, find(path)?)));
        let Some((defining, target)) = found else { continue };
        if !module.starts_with(defining) {
            own.entry(&target.path).or_insert(line);
        }
    }
    for child in children {
        let child = [module, &[child]].concat();
        if let Some(source) = find(&child) {
            follow(source, &child, root, sources, imports);
        }
    }
}

fn file_of<'a>(
    module: &[String],
    root: &'a Source,
    sources: &'a [Source],
) -> Option<&'a Source> {
    if module.is_empty() {
        return Some(root);
    }
    let folder = Utf8Path::new(&root.path).parent()?;
    let stem = folder.join(module.join("/"));
    let paths = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
    sources.iter().find(|source| paths.contains(&source.path))
}

/// The modules and items that a file names, as paths from the root.
struct Names<'a> {
    /// The file's child modules, with which a path may begin.
    children: &'a [String],
    uses: Vec<(usize, Vec<String>)>,
}

impl Names<'_> {
    fn add_items(&mut self, items: &[Item], module: &[String]) {
        for item in items {
            match item {
                Item::Mod(item) if item.attrs.iter().any(is_test) => {}
                Item::Mod(ItemMod {
                    ident, content: Some((_, items)), ..
                }) => {
                    let module = [module, &[ident.to_string()]].concat();
                    self.add_items(items, &module);
                }
                item => self.add_tokens(item.to_token_stream(), module, &[]),
            }
        }
    }

    /// Finds paths in tokens, because macro arguments have no other structure.
    /// Inside the braces of an import, `prefix` precedes each path.
    fn add_tokens(
        &mut self,
        tokens: TokenStream,
        module: &[String],
        prefix: &[String],
    ) {
        let (mut path, mut line, mut colons) = (prefix.to_vec(), 1, 0);
        for token in tokens {
            let before = mem::take(&mut colons);
            let joined = before == 2;
            match token {
                TokenTree::Punct(p) if p.as_char() == ':' => {
                    colons = before + 1;
                    continue;
                }
                TokenTree::Ident(name) => {
                    if !joined {
                        self.add(line, &path, module);
                        path = prefix.to_vec();
                    }
                    line = name.span().start().line;
                    path.push(name.to_string());
                    continue;
                }
                TokenTree::Group(group) if joined => {
                    self.add(line, &path, module);
                    self.add_tokens(group.stream(), module, &path);
                }
                TokenTree::Group(group) => {
                    self.add_tokens(group.stream(), module, &[]);
                }
                _ => {}
            }
            self.add(line, &path, module);
            path = prefix.to_vec();
        }
        self.add(line, &path, module);
    }

    fn add(&mut self, line: usize, names: &[String], module: &[String]) {
        let Some(first) = names.first() else { return };
        let is_child = names.len() > 1 && self.children.contains(first);
        let mut path = match first.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => module.to_vec(),
            _ if is_child => module.to_vec(),
            _ => return,
        };
        for name in names {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(path.pop()),
                name => path.push(name.to_owned()),
            }
        }
        self.uses.push((line, path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(files: &[(&str, &str)]) -> Vec<String> {
        let source = |(path, text): &(&str, &str)| Source::sample(path, text);
        let sources: Vec<_> = files.iter().map(source).collect();
        let problems = check(Utf8Path::new("x"), &sources);
        let text = |p: Problem| {
            let (_, chain) = p.wrong.split_once(": ").unwrap();
            format!("{}: {}", p.line, chain.replace("x/src/", ""))
        };
        problems.into_iter().map(text).collect()
    }

    const ROOT: (&str, &str) =
        ("x/src/main.rs", "mod a; mod b; mod c; use a::A; struct R;");

    #[test]
    fn cycles_are_reported_once() {
        let two = [
            ROOT,
            ("x/src/a.rs", "// A.\nuse super::{\n b::{B, C},\n};"),
            ("x/src/b.rs", "fn b() { f!(g, crate::a::A) }"),
            ("x/src/c.rs", "use crate::{a::A, b::B};"),
        ];
        assert_eq!(wrongs(&two), ["3: a.rs -> b.rs -> a.rs"]);
        let three = [
            ROOT,
            ("x/src/a.rs", "use super::b::{self, B};"),
            ("x/src/b.rs", "mod inner { use super::super::c::C; }"),
            ("x/src/c.rs", "fn c() -> super::a::A {}"),
        ];
        assert_eq!(wrongs(&three), ["1: a.rs -> b.rs -> c.rs -> a.rs"]);
    }

    #[test]
    fn children_and_parents_use_each_other() {
        let files = [
            ROOT,
            ("x/src/a/mod.rs", "mod d; use d::D; use super::R;"),
            ("x/src/a/d.rs", "use super::A; use crate::R; use crate::b::B;"),
            ("x/src/b.rs", "#[cfg(test)] mod tests { use crate::a::A; }"),
            ("x/src/c.rs", ""),
        ];
        assert_eq!(wrongs(&files), [""; 0]);
        let mut files = files;
        files[3].1 = "use crate::a::A;";
        assert_eq!(wrongs(&files), ["1: a/d.rs -> b.rs -> a/mod.rs -> a/d.rs"]);
    }

    #[test]
    fn a_file_without_a_module_is_found() {
        let files = [
            ("a/src/main.rs", "mod one;\n#[cfg(test)]\nmod tests;\n"),
            ("a/src/one.rs", "mod two;\nmod inline {}\n"),
            ("a/src/one/two.rs", ""),
            ("a/src/one/inline.rs", ""),
            ("a/src/tests/mod.rs", "mod three;"),
            ("a/src/tests/three.rs", ""),
            ("a/src/bin/tool.rs", ""),
            ("a/src/left.rs", ""),
            ("a/tests/all.rs", ""),
            ("b/src/main.rs", "mod left;"),
        ];
        let files = files.map(|(path, text)| Source::sample(path, text));
        let found = check(Utf8Path::new("a"), &files);
        let found: Vec<_> = found.into_iter().map(|it| it.file).collect();
        assert_eq!(found, ["a/src/one/inline.rs", "a/src/left.rs"]);
    }

    #[test]
    fn a_name_belongs_to_the_file_that_exports_it() {
        let files = [
            ROOT,
            ("x/src/a/mod.rs", "mod d; pub use d::D;"),
            ("x/src/a/d.rs", "use crate::b::B;"),
            ("x/src/b.rs", "use crate::c::C;"),
            ("x/src/c.rs", "use crate::a::D;"),
        ];
        let chain = "a/d.rs -> b.rs -> c.rs -> a/mod.rs -> a/d.rs";
        assert_eq!(wrongs(&files), [format!("1: {chain}")]);
    }
}

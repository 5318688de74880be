//! Import circles between the source files of one crate.
//!
//! A child module may use its parent's items, and the parent its child's. Any
//! other circle joins files that can then be read only together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cargo_metadata::camino::Utf8Path;
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Macro, Path, UseTree};

use super::code::is_test;
use super::{Problem, Source};

/// Reports the shortest circle through each file of the member's `folder`, and
/// none of them twice.
pub fn check(folder: &Utf8Path, sources: &[Source]) -> Vec<Problem> {
    let mut imports = Imports::default();
    let roots = ["src/main.rs", "src/lib.rs"].map(|root| folder.join(root));
    for source in sources {
        let path = Utf8Path::new(&source.path);
        let is_bin = path.parent() == Some(&folder.join("src/bin"));
        if is_bin || roots.iter().any(|root| root == path) {
            follow(source, &[], source, sources, &mut imports);
        }
    }
    let circles: BTreeSet<_> =
        imports.keys().filter_map(|file| circle(file, &imports)).collect();
    circles.iter().map(|circle| problem(circle, &imports)).collect()
}

/// For each file, the files that it uses, each with the line of its first use.
/// A file's use of its ancestors is left out.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, usize>>;

fn problem(circle: &[&str], imports: &Imports<'_>) -> Problem {
    let next = circle.get(1).unwrap_or(&circle[0]);
    Problem {
        file: circle[0].to_owned(),
        line: imports[circle[0]][next],
        wrong: format!(
            "files import each other in a circle: {} -> {}",
            circle.join(" -> "),
            circle[0]
        ),
        remedy: "move what several of them need into a file that uses none \
                 of them"
            .to_owned(),
    }
}

/// Finds the shortest way from a file back to itself. The chain begins with
/// the least of its names, so that it is the same from whichever file.
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

/// Records what the file of one module uses, then its child modules' files.
fn follow<'a>(
    source: &'a Source,
    module: &[String],
    root: &'a Source,
    sources: &'a [Source],
    imports: &mut Imports<'a>,
) {
    let Ok(file) = syn::parse_file(&source.text) else { return };
    let children = file.items.iter().filter_map(|item| match item {
        Item::Mod(ItemMod { attrs, ident, content: None, .. }) => {
            (!attrs.iter().any(is_test)).then(|| ident.to_string())
        }
        _ => None,
    });
    let children: Vec<_> = children.collect();
    let mut finder =
        Finder { module: module.to_vec(), children: &children, uses: vec![] };
    finder.visit_file(&file);
    let uses = finder.uses;
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

/// Collects the modules and items that a file names, as paths from the root.
struct Finder<'a> {
    /// The module that is being visited.
    module: Vec<String>,
    /// The file's child modules, which a path may begin with.
    children: &'a [String],
    uses: Vec<(usize, Vec<String>)>,
}

impl Finder<'_> {
    fn add(&mut self, line: usize, names: &[String]) {
        let mut path = match names.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            Some(_) if names.len() < 2 => return,
            Some(_) if self.children.contains(&names[0]) => self.module.clone(),
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

    fn add_tree(&mut self, line: usize, tree: &UseTree, names: &[String]) {
        let with = |name: &syn::Ident| [names, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(tree) => {
                self.add_tree(line, &tree.tree, &with(&tree.ident));
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(line, tree, names);
                }
            }
            UseTree::Name(tree) => self.add(line, &with(&tree.ident)),
            UseTree::Rename(tree) => self.add(line, &with(&tree.ident)),
            UseTree::Glob(_) => self.add(line, names),
        }
    }

    /// Finds paths in tokens, because a macro's arguments are nothing else.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut names = Vec::new();
        let mut line = 0;
        let mut joined = false;
        for token in tokens {
            match token {
                TokenTree::Punct(p) if p.as_char() == ':' => joined = true,
                TokenTree::Ident(name) => {
                    if !joined {
                        self.add(line, &names);
                        names.clear();
                    }
                    line = name.span().start().line;
                    names.push(name.to_string());
                    joined = false;
                }
                other => {
                    self.add(line, &names);
                    names.clear();
                    joined = false;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add(line, &names);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !item.attrs.iter().any(is_test) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(item.span().start().line, &item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<_> =
            path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.add(path.span().start().line, &names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.add_tokens(item.tokens.to_token_stream());
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
    fn circles_are_reported_once() {
        let two = [
            ROOT,
            ("x/src/a.rs", "// A.\nuse super::b::B;"),
            ("x/src/b.rs", "fn b() { f!(g, crate::a::A) }"),
            ("x/src/c.rs", "use crate::{a::A, b::B};"),
        ];
        assert_eq!(wrongs(&two), ["2: a.rs -> b.rs -> a.rs"]);
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

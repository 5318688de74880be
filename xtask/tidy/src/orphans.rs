//! Source files that no crate compiles, because no module declares them.

use camino::Utf8Path;
use syn::{File, Item};

use super::{Problem, Source};

/// Reports files below the member's `src` that are no module and no root.
pub fn check(folder: &Utf8Path, sources: &[Source]) -> Vec<Problem> {
    let own = folder.join("src");
    let files = sources.iter().filter(|source| source.is_in(&own));
    let orphans = files.filter(|source| {
        source.extension() == "rs" && !is_declared(source, &own, sources)
    });
    let problem = |source: &Source| {
        let wrong = "no module declares this file";
        Problem::new(source, 1, wrong, "declare it, or delete it")
    };
    orphans.map(problem).collect()
}

fn is_declared(source: &Source, src: &Utf8Path, sources: &[Source]) -> bool {
    let path = Utf8Path::new(&source.path);
    let (Some(mut folder), Some(mut name)) = (path.parent(), path.file_stem())
    else {
        return false;
    };
    let is_root = folder == src && ["main", "lib"].contains(&name);
    if is_root || folder == src.join("bin") {
        return true;
    }
    if name == "mod" {
        let (Some(above), Some(module)) = (folder.parent(), folder.file_name())
        else {
            return false;
        };
        (folder, name) = (above, module);
    }
    let parents = [
        folder.join("main.rs"),
        folder.join("lib.rs"),
        folder.join("mod.rs"),
        folder.with_extension("rs"),
    ];
    sources
        .iter()
        .filter(|source| parents.iter().any(|parent| source.path == *parent))
        .filter_map(|parent| syn::parse_file(&parent.text).ok())
        .any(|parent| declares(&parent, name))
}

fn declares(file: &File, name: &str) -> bool {
    file.items.iter().any(|item| match item {
        Item::Mod(module) => module.content.is_none() && module.ident == name,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

//! Checks the links in the documents. If the text of a link is code, as in
//! ``[`serve`](blocking/src/main.rs)``, the file must also define that name, so
//! that an index of names can't become outdated unnoticed. In files other than
//! Rust code, the name must occur as a word.
//!
//! ``[`Server::run`]`` is a method of that type, and ``[`stop::signals`]`` is a
//! function together with its file.

use camino::{Utf8Path, Utf8PathBuf};

use super::items::items;
use super::{Problem, Source};

/// Reads a path relative to the root. Returns a file's text, an empty text for
/// a folder, and None if the path doesn't exist.
pub type Lookup<'a> = &'a dyn Fn(&Utf8Path) -> Option<String>;

pub fn check(source: &Source, lookup: Lookup<'_>) -> Vec<Problem> {
    if source.extension() != "md" {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        fenced ^= line.starts_with("```");
        if fenced {
            continue;
        }
        for (text, target) in links(line) {
            problems.extend(check_link(source, number, text, target, lookup));
        }
    }
    problems
}

fn check_link(
    source: &Source,
    number: usize,
    text: &str,
    target: &str,
    lookup: Lookup<'_>,
) -> Option<Problem> {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || target.contains(':') {
        return None;
    }
    let folder = Utf8Path::new(&source.path).parent()?;
    let file = normal(&folder.join(path));
    let Some(found) = lookup(&file) else {
        let wrong = format!("the link target {target} doesn't exist");
        return Some(Problem::new(source, number, wrong, "correct it"));
    };
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    let name = name.trim_end_matches("()");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if found.is_empty() || !name.split("::").all(|n| n.chars().all(is_word)) {
        return None;
    }
    let (known, wrong) = if file.extension() == Some("rs") {
        let wrong = format!("{path} doesn't define {name}");
        (defines(&found, &file, name), wrong)
    } else {
        let mut words = found.split(|c| !is_word(c));
        let name = name.rsplit("::").next()?;
        let wrong = format!("{path} doesn't contain {name}");
        (words.any(|word| word == name), wrong)
    };
    (!known).then(|| {
        Problem::new(source, number, wrong, "correct the name or the target")
    })
}

/// Returns whether a file's text defines a name, which may be preceded by the
/// name of the file, or of its folder for a `mod.rs`.
pub fn defines(text: &str, file: &Utf8Path, name: &str) -> bool {
    let stem = match file.file_stem() {
        Some("mod") => file.parent().and_then(Utf8Path::file_name),
        stem => stem,
    };
    let within = name.split_once("::").filter(|(of, _)| Some(*of) == stem);
    let within = within.map(|(_, name)| name);
    items(text).iter().any(|item| {
        let method = item.name.rsplit("::").next();
        let own = [Some(item.name.as_str()), method];
        own.contains(&Some(name)) || within.is_some() && own.contains(&within)
    })
}

/// Returns the texts and targets of a line's links.
fn links(line: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once("](") {
        let Some((target, after)) = behind.split_once(')') else { break };
        let text = before.rsplit('[').next().unwrap_or_default();
        links.push((text, target));
        rest = after;
    }
    links
}

/// Resolves `.` and `..`.
fn normal(path: &Utf8Path) -> Utf8PathBuf {
    let mut normal = Utf8PathBuf::new();
    for part in path.components() {
        match part.as_str() {
            "." => {}
            ".." => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(path: &str, text: &str) -> Vec<String> {
        let code = "use std::mem; struct A; impl A { fn run() { let b = 1; } } \
                    fn serve() { drain() } // fn close";
        let files = [
            ("a/src/main.rs", code),
            ("a/src/b/mod.rs", code),
            ("a/Cargo.toml", "# a word\nname = 1"),
            ("a", ""),
        ];
        let lookup = |path: &Utf8Path| {
            let file = files.iter().find(|file| file.0 == path.as_str());
            file.map(|file| file.1.to_owned())
        };
        let problems = check(&Source::sample(path, text), &lookup);
        let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
        problems.into_iter().map(text).collect()
    }

    #[test]
    fn link_targets_exist() {
        let text = "[`serve`](a/src/main.rs), [`serve()`](./a/src/main.rs)\n\
                    [a folder](./a), [the web](https://a.example/), [id](#x)\n\
                    ```text\n[not a link](b)\n```\n";
        assert_eq!(wrongs("README.md", text), [""; 0]);
        assert_eq!(wrongs("a/NOTES.md", "[up](../a/src/main.rs)"), [""; 0]);
        assert_eq!(
            wrongs("README.md", "\n[a](b) and [`serve`](a/src/main.c)\n"),
            [
                "2: the link target b doesn't exist",
                "2: the link target a/src/main.c doesn't exist"
            ]
        );
    }

    #[test]
    fn names_are_defined_in_code_and_words_elsewhere() {
        let main = "a/src/main.rs";
        let (folder, manifest) = ("a/src/b/mod.rs", "a/Cargo.toml");
        let rows = [
            (main, "serve A run A::run main::serve", true),
            (folder, "serve b::serve b::A::run", true),
            (manifest, "word", true),
            (main, "drain mem close b serv A::serve B::run", false),
            (main, "stop::serve serve::serve main::drain", false),
            (manifest, "wor", false),
        ];
        for (path, names, good) in rows {
            for name in names.split(' ') {
                let text = format!("[`{name}`]({path})");
                let found = wrongs("README.md", &text);
                assert_eq!(found.is_empty(), good, "{text}: {found:?}");
            }
        }
    }
}

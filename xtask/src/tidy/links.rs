//! Links in the docs lead somewhere. A link whose text is code, as in
//! ``[`serve`](blocking/src/main.rs)``, also promises that the file has that
//! name in it: the index from idea to file can't go stale unseen.

use cargo_metadata::camino::{Utf8Path, Utf8PathBuf};

use super::{Problem, Source};

/// What is at a path relative to the root: a file's text, empty for a folder,
/// None for nothing.
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
    let Some(found) = lookup(&normal(&folder.join(path))) else {
        let wrong = format!("the link to {target} leads nowhere");
        return Some(Problem::new(source, number, wrong, "correct it"));
    };
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    let name = name.rsplit("::").next()?.trim_end_matches("()");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if !name.chars().all(is_word) {
        return None;
    }
    let mut words = found.split(|c| !is_word(c));
    (!found.is_empty() && !words.any(|word| word == name)).then(|| {
        Problem::new(
            source,
            number,
            format!("{path} has no {name}"),
            "name what the reader finds there",
        )
    })
}

/// The texts and targets of a line's links.
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

/// Without `.` and `..`.
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
        let files = [("a/src/main.rs", "fn serve() {}"), ("a", "")];
        let lookup = |path: &Utf8Path| {
            let file = files.iter().find(|file| file.0 == path.as_str());
            file.map(|file| file.1.to_owned())
        };
        let problems = check(&Source::sample(path, text), &lookup);
        let text = |p: Problem| format!("{}: {}", p.line, p.wrong);
        problems.into_iter().map(text).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[`serve`](a/src/main.rs), [`A::serve()`](a/src/main.rs)\n\
                    [a folder](./a), [the web](https://a.example/b), [here](#x)\n\
                    ```text\n[not a link](b)\n```\n";
        assert_eq!(wrongs("README.md", text), [""; 0]);
        assert_eq!(wrongs("a/NOTES.md", "[up](../a/src/main.rs)"), [""; 0]);
    }

    #[test]
    fn links_to_nothing_are_found() {
        assert_eq!(
            wrongs("README.md", "\n[a](b) and [`serve`](a/src/main.c)\n"),
            [
                "2: the link to b leads nowhere",
                "2: the link to a/src/main.c leads nowhere"
            ]
        );
    }

    #[test]
    fn names_that_are_not_there_are_found() {
        assert_eq!(
            wrongs("README.md", "[`drain`](a/src/main.rs)"),
            ["1: a/src/main.rs has no drain"]
        );
        // A part of a word is not the word.
        assert_eq!(wrongs("README.md", "[`serv`](a/src/main.rs)").len(), 1);
    }
}

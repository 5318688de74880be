//! Checks that a statement about a version of the kernel or the C library names
//! its source in the same paragraph or row, so that a reader can verify it.

use super::{Problem, Source};

const REMEDY: &str = "name the source in the same paragraph: a man page with \
                      its section, an RFC, a file or commit of the kernel, or \
                      the command of this repository that shows it";

/// Reports the first version of each paragraph without a source.
pub fn check(source: &Source) -> Vec<Problem> {
    let problem = |lines: &Vec<(usize, &str)>| {
        let text: Vec<_> = lines.iter().map(|(_, line)| *line).collect();
        let (line, version) = first_version(lines)?;
        let wrong = format!("{version:?} has no source");
        (!has_source(&text.join(" ")))
            .then(|| Problem::new(source, line, wrong, REMEDY))
    };
    paragraphs(source).iter().filter_map(problem).collect()
}

/// Splits the lines, with their numbers, into paragraphs. In code only comments
/// count. List items and table rows are separate paragraphs; fenced blocks are
/// skipped.
fn paragraphs(source: &Source) -> Vec<Vec<(usize, &str)>> {
    let mut paragraphs = vec![Vec::new()];
    let mut fenced = false;
    for (number, line) in (1..).zip(source.text.lines()) {
        let line = match source.extension() {
            "rs" => comment(line).unwrap_or(""),
            _ => line,
        };
        let line = line.trim();
        let fence = line.starts_with("```");
        fenced ^= fence;
        if line.is_empty() || line.starts_with(['-', '|', '#']) || fence {
            paragraphs.push(Vec::new());
        }
        if !fence && !fenced {
            paragraphs.last_mut().expect("not empty").push((number, line));
        }
    }
    paragraphs
}

fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.strip_prefix(['/', '!']).unwrap_or(text))
}

/// Finds "Linux 5.4", "glibc 2", "since 3.9" or "added in 6.0", and its line.
fn first_version(lines: &[(usize, &str)]) -> Option<(usize, String)> {
    let mut before = ["", ""];
    for (line, text) in lines {
        for word in text.split_whitespace().map(bare) {
            let is_number = word.starts_with(|c: char| c.is_ascii_digit())
                && word.chars().all(|c| c.is_ascii_digit() || c == '.');
            let is_version = match before {
                [_, "Linux" | "linux" | "glibc" | "musl" | "kernel"] => true,
                [_, "Since" | "since" | "until" | "before"]
                | ["added" | "new" | "removed", "in"] => word.contains('.'),
                _ => false,
            };
            if is_number && is_version {
                return Some((*line, format!("{} {word}", before[1])));
            }
            before = [before[1], word];
        }
    }
    None
}

fn has_source(text: &str) -> bool {
    let man_page = |w: &[u8]| {
        let in_name = w[0].is_ascii_alphanumeric() || w[0] == b'_';
        in_name && w[1] == b'(' && w[2].is_ascii_digit() && w[3] == b')'
    };
    text.contains("cargo xtask ")
        || text.contains("https://")
        || text.as_bytes().windows(4).any(man_page)
        || text.split("RFC ").skip(1).any(|t| t.starts_with(char::is_numeric))
        || text.split_whitespace().map(bare).any(is_kernels)
}

/// Recognizes a file of the kernel's source, or a commit.
fn is_kernels(word: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let is_file = [".c", ".h", ".rst"].iter().any(|end| word.ends_with(end));
    (is_file && word.contains('/'))
        || ((12..=40).contains(&word.len()) && word.chars().all(hex))
}

fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(path: &str, text: &str) -> Vec<(usize, String)> {
        let problems = check(&Source::sample(path, text));
        problems.into_iter().map(|p| (p.line, p.wrong)).collect()
    }

    #[test]
    fn a_version_needs_a_source_in_its_paragraph() {
        for (line, version, text) in [
            (2, "Linux 5.4", "It requires\nLinux 5.4.\n"),
            (1, "glibc 2.42", "Two mappings, with (glibc 2.42+) one.\n"),
            (1, "Since 3.9", "Since 3.9 there is one.\n"),
            (3, "in 6.0", "- listen(2)\n- one\n- added in 6.0, f(x)\n"),
            (3, "Linux 6", "| listen(2) |\n| - |\n| Linux 6 |\n"),
            (5, "Linux 6", "```\nLinux 5 listen(2)\n```\n\nLinux 6\n"),
        ] {
            let wrong = format!("{version:?} has no source");
            assert_eq!(wrongs("README.md", text), [(line, wrong)]);
        }
        let text = "//! recv(2)\n//!\n//! Linux 6\nconst A: &str = \"f(2)\";\n";
        assert_eq!(wrongs("a/src/main.rs", text)[0].0, 3);
    }

    #[test]
    fn sources_can_be_looked_up() {
        for source in [
            "listen(2)",
            "RFC 9293",
            "fs/select.c,",
            "(26bfa89e25f4).",
            "`cargo xtask\ntest-all`",
            "<https://a.example/>",
        ] {
            let text = format!("Since Linux 5.4\n({source}) it is so.\n");
            assert_eq!(wrongs("README.md", &text), [], "{source}");
        }
        assert_eq!(wrongs("README.md", "Redis 7.0, in 0.8 s, 5.4 KiB\n"), []);
        assert_eq!(wrongs("a.rs", "const A: &str = \"Linux 6.1\";\n"), []);
    }
}

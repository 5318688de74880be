//! Rules for any text: no marks of unfinished work, and lines of code that fit
//! beside each other.

use super::{Problem, Source};

/// Two of them fit a screen side by side.
const COLUMNS: usize = 80;

/// Marks of unfinished work. In two parts each, so as not to find itself.
const UNFINISHED: [&str; 3] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

pub fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(source.text.split_terminator('\n')) {
        problems.extend(unfinished(source, number, line));
        if source.extension() == "rs" {
            problems.extend(too_wide(source, number, line));
        }
    }
    problems
}

fn unfinished(source: &Source, number: usize, line: &str) -> Option<Problem> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let mark = words.find(|word| UNFINISHED.contains(word))?;
    Some(Problem::new(
        source,
        number,
        format!("{mark} in the text"),
        "finish it, or describe what is missing where users look",
    ))
}

/// An address can't be broken into lines.
fn too_wide(source: &Source, number: usize, line: &str) -> Option<Problem> {
    let width = console::measure_text_width(line);
    let fits = width <= COLUMNS || line.contains("https://");
    (!fits).then(|| {
        Problem::new(
            source,
            number,
            format!("the line has {width} columns"),
            format!("break it so that it has at most {COLUMNS}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrongs(path: &str, text: &str) -> Vec<(usize, String)> {
        let problems = check(&Source::sample(path, text));
        problems.into_iter().map(|p| (p.line, p.wrong)).collect()
    }

    #[test]
    fn good_text_passes() {
        let wide = "x".repeat(COLUMNS);
        assert_eq!(wrongs("a.rs", &format!("{wide}\n\nfn f() {{}}\n")), []);
        assert_eq!(wrongs("a.rs", &"// https://a.example/".repeat(9)), []);
        assert_eq!(wrongs("a.md", &format!("{wide}{wide}\n")), []);
        // Lines are measured in columns, not in bytes.
        assert_eq!(wrongs("a.rs", &format!("{}\n", "ä".repeat(COLUMNS))), []);
        assert_eq!(wrongs("a.rs", ""), []);
    }

    #[test]
    fn unfinished_work_is_found() {
        let mark = UNFINISHED[0];
        let text = format!("one\n// {mark}: two\nmastodons, XXXL\n");
        let expected = [(2, format!("{mark} in the text"))];
        assert_eq!(wrongs("a.md", &text), expected);
    }

    #[test]
    fn wide_lines_are_found_in_code() {
        let text = format!("\n{}\n", "x".repeat(COLUMNS + 1));
        let expected = [(2, "the line has 81 columns".to_owned())];
        assert_eq!(wrongs("a.rs", &text), expected);
    }
}

//! Aligns two texts in rows of equal, similar or unmatched lines.

use std::fmt;

use similar::{Algorithm, DiffTag, TextDiff};

/// A text, or the end of one.
#[derive(Debug)]
pub struct Text {
    /// The number of its first line in the file.
    pub first: usize,
    pub body: String,
}

impl Text {
    /// Removes the `//!` doc at the beginning.
    pub fn without_opening(self) -> Self {
        let opening =
            |line: &&str| line.starts_with("//!") || line.trim().is_empty();
        let lines = self.body.lines().take_while(opening).count();
        let body = self.body.split_inclusive('\n').skip(lines).collect();
        Self { first: self.first + lines, body }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub number: usize,
    pub text: &'a str,
}

/// One line of each text, or a line of one text alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub left: Option<Line<'a>>,
    pub right: Option<Line<'a>>,
}

impl<'a> Row<'a> {
    pub fn is_same(&self) -> bool {
        match (self.left, self.right) {
            (Some(left), Some(right)) => left.text == right.text,
            _ => false,
        }
    }

    /// Returns the right line, or the left one if there is no right one.
    fn text(&self) -> &'a str {
        self.right.or(self.left).map_or("", |line| line.text)
    }
}

/// Number of lines that differ on each side, and of lines that are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub left: usize,
    pub right: usize,
    pub same: usize,
}

impl Count {
    pub fn add(&mut self, rows: &[Row<'_>]) {
        for row in rows {
            if row.is_same() {
                self.same += 1;
            } else {
                self.left += usize::from(row.left.is_some());
                self.right += usize::from(row.right.is_some());
            }
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, right, same } = self;
        write!(
            f,
            "{} lines differ ({left} on the left, {right} on the right), \
             {same} are equal",
            left + right
        )
    }
}

/// Aligns the lines of two texts: first equal lines, then similar lines between
/// them.
pub fn align<'a>(left: &'a Text, right: &'a Text) -> Vec<Row<'a>> {
    let lines = |text: &'a Text| -> Vec<Line<'a>> {
        let lines = (text.first..).zip(text.body.lines());
        lines.map(|(number, text)| Line { number, text }).collect()
    };
    let (left, right) = (lines(left), lines(right));
    let texts = |lines: &[Line<'a>]| -> Vec<&'a str> {
        lines.iter().map(|line| line.text).collect()
    };
    let mut rows = Vec::new();
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Patience)
        .diff_slices(&texts(&left), &texts(&right))
        .ops()
        .to_vec();
    for op in diff {
        let (tag, old, new) = op.as_tag_tuple();
        let (old, new) = (&left[old], &right[new]);
        match tag {
            DiffTag::Equal => {
                let pairs = old.iter().zip(new);
                rows.extend(pairs.map(|(l, r)| row(Some(l), Some(r))));
            }
            _ => pair_up(old, new, &mut rows),
        }
    }
    rows
}

fn row<'a>(left: Option<&Line<'a>>, right: Option<&Line<'a>>) -> Row<'a> {
    Row { left: left.copied(), right: right.copied() }
}

/// The similarity below which two lines are not put into one row.
const ALIKE_PERCENT: usize = 60;

/// The number of pairs up to which similar lines are searched for: the time
/// grows with the product of both sides.
const PAIRS: usize = 10_000;

/// Aligns lines that differ, in order, maximizing the sum of their
/// similarities: `best[i][j]` is the greatest sum for the lines from `i` on the
/// left and from `j` on the right.
fn pair_up<'a>(left: &[Line<'a>], right: &[Line<'a>], rows: &mut Vec<Row<'a>>) {
    let (m, n) = (left.len(), right.len());
    let comparable = m * n <= PAIRS;
    let mut best = vec![vec![0; n + 1]; m + 1];
    let mut alike = vec![vec![0; n]; m];
    for i in (0..m).rev().filter(|_| comparable) {
        for j in (0..n).rev() {
            alike[i][j] = likeness(left[i].text, right[j].text);
            let paired = alike[i][j] + best[i + 1][j + 1];
            best[i][j] = paired.max(best[i + 1][j]).max(best[i][j + 1]);
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < m && j < n {
        let paired = alike[i][j] + best[i + 1][j + 1];
        if alike[i][j] > 0 && best[i][j] == paired {
            rows.push(row(Some(&left[i]), Some(&right[j])));
            (i, j) = (i + 1, j + 1);
        } else if best[i][j] == best[i + 1][j] {
            rows.push(row(Some(&left[i]), None));
            i += 1;
        } else {
            rows.push(row(None, Some(&right[j])));
            j += 1;
        }
    }
    rows.extend(left[i..].iter().map(|line| row(Some(line), None)));
    rows.extend(right[j..].iter().map(|line| row(None, Some(line))));
}

/// Returns the percentage of words that two lines share, in order; 0 if below
/// [`ALIKE_PERCENT`].
fn likeness(left: &str, right: &str) -> usize {
    let words = |line| -> Vec<_> {
        words(line).into_iter().filter(|word| *word != " ").collect()
    };
    let (left, right) = (words(left), words(right));
    let total = left.len() + right.len();
    let diff = TextDiff::from_slices(&left, &right);
    let equal = diff.ops().iter().filter(|op| op.tag() == DiffTag::Equal);
    let shared: usize = equal.map(|op| op.old_range().len()).sum();
    let percent = (200 * shared).checked_div(total).unwrap_or(100);
    if percent < ALIKE_PERCENT { 0 } else { percent }
}

/// Splits a line into identifiers, numbers and single other characters.
fn words(line: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, behind) = rest.split_at(end);
        words.push(word);
        rest = behind;
    }
    words
}

/// Part of a line, and whether it is missing from the other line.
pub type Stretch<'a> = (bool, &'a str);

/// Splits both lines into parts that are equal and parts that differ.
pub fn within<'a>(
    left: &'a str,
    right: &'a str,
) -> (Vec<Stretch<'a>>, Vec<Stretch<'a>>) {
    let (old, new) = (words(left), words(right));
    let diff = TextDiff::from_slices(&old, &new);
    let mut stretches = (Vec::new(), Vec::new());
    let (mut old_at, mut new_at) = (0, 0);
    for op in diff.ops() {
        let differs = op.tag() != DiffTag::Equal;
        let length =
            |words: &[&str]| words.iter().map(|w| w.len()).sum::<usize>();
        let old_end = old_at + length(&old[op.old_range()]);
        let new_end = new_at + length(&new[op.new_range()]);
        stretches.0.push((differs, &left[old_at..old_end]));
        stretches.1.push((differs, &right[new_at..new_end]));
        (old_at, new_at) = (old_end, new_end);
    }
    stretches
}

/// Rows to show, or the number of equal rows that are folded.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'r, 'a> {
    Shown(&'r [Row<'a>]),
    Folded {
        count: usize,
        /// The item that the next row belongs to.
        item: Option<&'a str>,
    },
}

/// The fewest rows to fold: the fold's own line takes the place of one.
const FOLD_MIN: usize = 3;

/// Folds equal rows that are more than `context` rows away from a difference.
pub fn fold<'r, 'a>(rows: &'r [Row<'a>], context: usize) -> Vec<Piece<'r, 'a>> {
    let mut pieces = Vec::new();
    let (mut shown, mut at) = (0, 0);
    for stretch in rows.chunk_by(|a, b| a.is_same() == b.is_same()) {
        let end = at + stretch.len();
        let before = if at == 0 { 0 } else { context };
        let after = if end == rows.len() { 0 } else { context };
        let hidden = stretch.len().saturating_sub(before + after);
        if stretch[0].is_same() && hidden >= FOLD_MIN {
            let (from, to) = (at + before, end - after);
            if shown < from {
                pieces.push(Piece::Shown(&rows[shown..from]));
            }
            let item = enclosing_item(rows, to);
            pieces.push(Piece::Folded { count: to - from, item });
            shown = to;
        }
        at = end;
    }
    if shown < rows.len() {
        pieces.push(Piece::Shown(&rows[shown..]));
    }
    pieces
}

/// Finds the innermost `fn`, `impl` or other item that encloses the row, by
/// rustfmt's indentation. Returns it without its arguments.
fn enclosing_item<'a>(rows: &[Row<'a>], at: usize) -> Option<&'a str> {
    const ITEMS: [&str; 6] =
        ["fn ", "impl", "struct ", "enum ", "trait ", "mod "];
    let indent = |text: &str| text.len() - text.trim_start().len();
    let here = rows[at..].iter().find(|row| !row.text().trim().is_empty())?;
    let mut depth = indent(here.text());
    for row in rows[..at].iter().rev() {
        let text = row.text();
        let line = text.trim_start();
        if line.is_empty() || indent(text) >= depth {
            continue;
        }
        depth = indent(text);
        let name =
            line.trim_start_matches("pub ").trim_start_matches("unsafe ");
        if ITEMS.iter().any(|item| name.starts_with(item)) {
            return name.split(['(', '{']).next().map(str::trim_end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Text {
        Text { first: 1, body: body.to_owned() }
    }

    /// Returns one sign per row: = equal, | changed, < and > unmatched.
    fn signs(left: &str, right: &str) -> String {
        let (left, right) = (text(left), text(right));
        let sign = |row: &Row<'_>| match (row.left, row.right) {
            _ if row.is_same() => '=',
            (Some(_), Some(_)) => '|',
            (Some(_), None) => '<',
            _ => '>',
        };
        align(&left, &right).iter().map(sign).collect()
    }

    #[test]
    fn equal_texts_align() {
        assert_eq!(signs("a\nb\n", "a\nb\n"), "==");
        assert_eq!(signs("", ""), "");
        assert_eq!(signs("a\n", ""), "<");
    }

    #[test]
    fn lines_that_resemble_each_other_stand_beside_each_other() {
        let left = "one\nlet ready = poll(&mut sockets, timeout)?;\ntwo\n";
        let right = "one\nlet mut events = [EMPTY; 64];\n\
                     let ready = epoll.wait(&mut events, timeout)?;\ntwo\n";
        assert_eq!(signs(left, right), "=>|=");
        assert_eq!(signs(right, left), "=<|=");
    }

    #[test]
    fn lines_that_do_not_resemble_each_other_stand_alone() {
        assert_eq!(signs("fork()\n", "let thread = x;\n").len(), 2);
    }

    #[test]
    fn the_stretches_of_a_line_are_the_line() {
        let (left, right) = ("poll(&mut sockets)?", "wait(&mut events)?");
        let (old, new) = within(left, right);
        let whole = |stretches: &[Stretch<'_>]| -> String {
            stretches.iter().map(|stretch| stretch.1).collect()
        };
        assert_eq!((whole(&old).as_str(), whole(&new).as_str()), (left, right));
        let differ: Vec<_> = old.iter().filter(|s| s.0).map(|s| s.1).collect();
        assert_eq!(differ, ["poll", "sockets"]);
    }

    #[test]
    fn what_is_far_from_a_difference_is_folded() {
        let same = "fn serve() {\n    a();\n    b();\n    c();\n    d();\n";
        let left = text(&format!("{same}    left();\n}}\n"));
        let right = text(&format!("{same}    right();\n    more();\n}}\n"));
        let rows = align(&left, &right);
        let pieces = fold(&rows, 1);
        let folded = Piece::Folded { count: 4, item: Some("fn serve") };
        assert_eq!(pieces, [folded, Piece::Shown(&rows[4..])]);
        assert_eq!(fold(&rows, 3), [Piece::Shown(&rows[..])]);

        let mut count = Count::default();
        count.add(&rows);
        assert_eq!(count, Count { left: 1, right: 2, same: 6 });
    }

    #[test]
    fn equal_texts_fold_into_one_piece() {
        let (left, right) = (text("a\nb\nc\n"), text("a\nb\nc\n"));
        let rows = align(&left, &right);
        assert_eq!(fold(&rows, 3).len(), 1);
        assert_eq!(fold(&rows[..0], 3), []);
    }

    #[test]
    fn the_opening_is_left_out_and_numbers_stay() {
        let text = text("//! Doc.\n//!\n\nuse std::io;\n").without_opening();
        assert_eq!((text.first, text.body.as_str()), (4, "use std::io;\n"));
    }
}

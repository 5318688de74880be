//! Two columns, for a terminal that is wide enough.

use console::{Style, measure_text_width, style, truncate_str};

use super::rows::{Line, Piece, Row, Stretch, within};

/// Columns of a line number, with the space behind it.
const NUMBER: usize = 5;

/// Columns between the two texts: a sign that tells, without colour, what is
/// the matter: `|` changed, `<` only on the left, `>` only on the right.
const SIGN: usize = 3;

pub fn render(
    titles: &[String; 2],
    pieces: &[Piece<'_, '_>],
    width: usize,
) -> String {
    let column = (width.saturating_sub(SIGN) / 2).max(NUMBER + 1);
    let [left, right] = [0, 1].map(|i| truncate_str(&titles[i], column, "~"));
    let mut text = format!(
        "{}{}{}\n",
        style(pad(&left, column)).bold(),
        " ".repeat(SIGN),
        style(right).bold()
    );
    for piece in pieces {
        match piece {
            Piece::Shown(rows) => {
                for row in *rows {
                    text += &render_row(row, column);
                }
            }
            Piece::Folded { count, item } => {
                text += &super::folded(*count, *item);
            }
        }
    }
    text
}

fn render_row(row: &Row<'_>, column: usize) -> String {
    let (sign, left, right) = match (row.left, row.right) {
        (Some(left), Some(right)) if row.is_same() => {
            (' ', vec![(false, left.text)], vec![(false, right.text)])
        }
        (Some(left), Some(right)) => {
            let (left, right) = within(left.text, right.text);
            ('|', left, right)
        }
        (Some(left), None) => ('<', vec![(false, left.text)], Vec::new()),
        (None, right) => {
            let text = right.map_or("", |line| line.text);
            ('>', Vec::new(), vec![(false, text)])
        }
    };
    let plain = row.is_same();
    let style = |colour: Style| if plain { Style::new() } else { colour };
    let left = cell(row.left, &left, &style(Style::new().red()), column);
    let right = cell(row.right, &right, &style(Style::new().green()), column);
    let mut text = String::new();
    for index in 0..left.len().max(right.len()) {
        let blank = || " ".repeat(column);
        let left = left.get(index).cloned().unwrap_or_else(blank);
        let right = right.get(index).map_or("", String::as_str);
        let line = format!("{left} {sign} {right}");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A line's number and text in as many lines of the column as it takes, each
/// padded to the column's width.
fn cell(
    line: Option<Line<'_>>,
    stretches: &[Stretch<'_>],
    colour: &Style,
    column: usize,
) -> Vec<String> {
    let Some(line) = line else { return Vec::new() };
    let width = column - NUMBER;
    let emphasis = colour.clone().reverse();
    let mut lines = vec![String::new()];
    let mut used = 0;
    for (differs, text) in stretches {
        let paint = if *differs { &emphasis } else { colour };
        for part in cut(text, width, &mut used) {
            match part {
                Part::Text(text) => {
                    let last = lines.last_mut().expect("never empty");
                    *last += &paint.apply_to(text).to_string();
                }
                Part::Break => lines.push(String::new()),
            }
        }
    }
    let number = format!("{:>4} ", line.number);
    let mut starts = std::iter::once(style(number).dim().to_string())
        .chain(std::iter::repeat(" ".repeat(NUMBER)));
    let padded = |text: String| starts.next().unwrap_or_default() + &text;
    let lines: Vec<_> = lines.into_iter().map(padded).collect();
    lines.iter().map(|line| pad(line, column)).collect()
}

enum Part {
    Text(String),
    Break,
}

/// Cuts a text where a line of the column is full; `used` columns are taken.
fn cut(text: &str, width: usize, used: &mut usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = String::new();
    for letter in text.chars() {
        // A tab is as wide as rustfmt would make it.
        let letter = match letter {
            '\t' => "    ".to_owned(),
            letter => letter.to_string(),
        };
        let columns = measure_text_width(&letter);
        if *used + columns > width {
            parts.push(Part::Text(std::mem::take(&mut part)));
            parts.push(Part::Break);
            *used = 0;
        }
        part += &letter;
        *used += columns;
    }
    parts.push(Part::Text(part));
    parts
}

/// Fills up with spaces, escape sequences not counted.
fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(measure_text_width(text));
    format!("{text}{}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Text, align, fold};
    use super::*;

    fn rendered(left: &str, right: &str, width: usize) -> String {
        console::set_colors_enabled(false);
        let text = |body: &str| Text { first: 1, body: body.to_owned() };
        let (left, right) = (text(left), text(right));
        let rows = align(&left, &right);
        let titles = ["a/src/main.rs", "b/src/main.rs"].map(str::to_owned);
        render(&titles, &fold(&rows, 1), width)
    }

    #[test]
    fn each_row_has_its_sign() {
        let text = rendered(
            "same\nlet a = one(x);\ngone\n",
            "same\nlet a = two(x);\n",
            63,
        );
        let expected = "\
a/src/main.rs                    b/src/main.rs
   1 same                           1 same
   2 let a = one(x);           |    2 let a = two(x);
   3 gone                      <
";
        assert_eq!(text, expected);
    }

    #[test]
    fn long_lines_go_on_in_their_column() {
        let long = "0123456789".repeat(4);
        let text = rendered(&format!("{long}\n"), "", 63);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("   1 0123456789012345678901234"));
        assert!(text.contains("     567890123456789"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let left = format!("{}\n{}\n", "ä".repeat(200), "\tx();".repeat(30));
        for width in [20, 100, 101, 173, 240] {
            for line in rendered(&left, &"b ".repeat(150), width).lines() {
                let columns = measure_text_width(line);
                assert!(columns <= width, "{columns} > {width}: {line}");
            }
        }
    }
}

//! Prints aligned rows in two columns, breaking long lines.

use console::{Style, measure_text_width, style, truncate_str};

use super::rows::{Line, Piece, Row, Stretch, within};

/// Width of a line number and the space after it.
const NUMBER: usize = 5;

/// Width of the gap between the two texts, which holds a sign: `|` changed,
/// `<` only on the left, `>` only on the right.
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
                text += &folded(*count, *item);
            }
        }
    }
    text
}

/// Formats the line that replaces rows that are equal on both sides.
fn folded(count: usize, item: Option<&str>) -> String {
    let item = item.map(|item| format!(", next in {item}"));
    let text = format!("... {count} equal lines{}", item.unwrap_or_default());
    format!("{}\n", style(text).dim())
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

/// Formats a line's number and text, broken into lines of the column's width.
fn cell(
    line: Option<Line<'_>>,
    stretches: &[Stretch<'_>],
    colour: &Style,
    column: usize,
) -> Vec<String> {
    let Some(line) = line else { return Vec::new() };
    let width = column - NUMBER;
    let hang = hang(line.text, width);
    let emphasis = colour.clone().reverse();
    let number = style(format!("{:>4} ", line.number)).dim();
    let mut text = number.to_string();
    let mut breaks = breaks(line.text, width, hang).into_iter().peekable();
    let mut at = 0;
    for (differs, stretch) in stretches {
        let paint = if *differs { &emphasis } else { colour };
        let end = at + stretch.len();
        while let Some(cut) = breaks.next_if(|cut| *cut < end) {
            text += &paint.apply_to(&line.text[at..cut]).to_string();
            text += &format!("\n{}", " ".repeat(NUMBER + hang));
            at = cut;
        }
        text += &paint.apply_to(&line.text[at..end]).to_string();
        at = end;
    }
    // A tab in the text would break the columns.
    text.lines().map(|line| pad(&line.replace('\t', " "), column)).collect()
}

/// Returns the indentation of continuation lines: one step more than the
/// line's own.
fn hang(text: &str, width: usize) -> usize {
    let indent = text.len() - text.trim_start().len();
    (indent + 4).min(width / 2)
}

/// Returns the byte offsets at which to break the text so that each line fits
/// `width` columns, where all lines but the first are indented by `hang`.
/// Breaks after a space if there is one in the second half of the line.
fn breaks(text: &str, width: usize, hang: usize) -> Vec<usize> {
    let mut breaks = Vec::new();
    let (mut used, mut start, mut space) = (0, 0, None);
    for (at, letter) in text.char_indices() {
        let columns = measure_text_width(letter.encode_utf8(&mut [0; 4]));
        if used + columns > width && at > start {
            let half = start + (at - start) / 2;
            let cut = space.filter(|space| *space > half).unwrap_or(at);
            breaks.push(cut);
            used = hang + measure_text_width(&text[cut..at]);
            start = cut;
        }
        used += columns;
        if letter == ' ' {
            space = Some(at + 1);
        }
    }
    breaks
}

/// Pads with spaces to `width` columns, not counting escape sequences.
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
        let text = rendered("  accept(listener, flags, more)\n", "", 63);
        let rest = text.lines().skip(1).collect::<Vec<_>>();
        let expected = [
            "   1   accept(listener,        <",
            "           flags, more)        <",
        ];
        assert_eq!(rest, expected);
        assert_eq!(breaks(&"0123456789".repeat(4), 25, 5), [25]);
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

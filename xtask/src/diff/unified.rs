//! One column, for narrow terminals, pipes and files: `-` only on the left,
//! `+` only on the right.

use console::{Style, style};

use super::rows::{Piece, Row, Stretch, within};

pub fn render(titles: &[String; 2], pieces: &[Piece<'_, '_>]) -> String {
    let [left, right] = titles;
    let mut text = format!(
        "{}\n{}\n",
        style(format!("--- {left}")).bold(),
        style(format!("+++ {right}")).bold()
    );
    for piece in pieces {
        match piece {
            Piece::Shown(rows) => {
                for run in rows.chunk_by(|a, b| a.is_same() == b.is_same()) {
                    render_run(run, &mut text);
                }
            }
            Piece::Folded { count, item } => {
                text += &super::folded(*count, *item);
            }
        }
    }
    text
}

/// Rows that are all the same, or all differ: then the left lines stand
/// together, and the right ones below them.
fn render_run(rows: &[Row<'_>], text: &mut String) {
    if rows[0].is_same() {
        for line in rows.iter().filter_map(|row| row.left) {
            line_of(' ', &[(false, line.text)], &Style::new(), text);
        }
        return;
    }
    let stretches: Vec<_> = rows.iter().map(stretches).collect();
    for left in stretches.iter().filter_map(|(left, _)| left.as_ref()) {
        line_of('-', left, &Style::new().red(), text);
    }
    for right in stretches.iter().filter_map(|(_, right)| right.as_ref()) {
        line_of('+', right, &Style::new().green(), text);
    }
}

type Stretches<'a> = Option<Vec<Stretch<'a>>>;

fn stretches<'a>(row: &Row<'a>) -> (Stretches<'a>, Stretches<'a>) {
    match (row.left, row.right) {
        (Some(left), Some(right)) => {
            let (left, right) = within(left.text, right.text);
            (Some(left), Some(right))
        }
        (left, right) => (
            left.map(|line| vec![(false, line.text)]),
            right.map(|line| vec![(false, line.text)]),
        ),
    }
}

fn line_of(
    sign: char,
    stretches: &[Stretch<'_>],
    colour: &Style,
    text: &mut String,
) {
    let emphasis = colour.clone().reverse();
    let mut line = colour.apply_to(sign).to_string();
    for (differs, stretch) in stretches {
        let paint = if *differs { &emphasis } else { colour };
        line += &paint.apply_to(stretch).to_string();
    }
    *text += line.trim_end();
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::rows::{Text, align, fold};
    use super::*;

    #[test]
    fn the_left_lines_stand_above_the_right_ones() {
        console::set_colors_enabled(false);
        let text = |body: &str| Text { first: 1, body: body.to_owned() };
        let left = text("fn main() {\n    one(x);\n    two(x);\n}\n");
        let right = text("fn main() {\n    six(x);\n    ten(x);\n}\n");
        let rows = align(&left, &right);
        let titles = ["a", "b"].map(str::to_owned);
        let expected = "\
--- a
+++ b
 fn main() {
-    one(x);
-    two(x);
+    six(x);
+    ten(x);
 }
";
        assert_eq!(render(&titles, &fold(&rows, 3)), expected);
    }
}

//! The figure for a terminal.

use console::{Style, measure_text_width};
use lab::screen::{fill, wrap};
use trace::figure::{BAND_TITLES, Bar, Column, LETTERS, Row};

use super::{LEARNS, LEGEND, NOTE, OTHER, filled, heights, in_lines, lanes};

/// Columns where nobody says how many there are.
const USUAL: usize = 160;

/// Of one model: threads, the triangle, text, a gap.
const LEAST: usize = 2 + 1 + LETTERS + 1;
const MOST: usize = LEAST + 8;

/// Stands where the program learns of the data.
const TRIANGLE: char = '▸';

pub fn render(columns: &[Column], width: Option<usize>) -> String {
    let width = width.unwrap_or(USUAL).max(LEAST);
    let heights = heights(columns);
    let mut text = String::new();
    for line in in_lines(columns, width / LEAST) {
        let each = (width / line.len().max(1)).clamp(LEAST, MOST);
        let names = line.iter().map(|column| cell(&column.title, each));
        text += &laid(names, &Style::new().bold());
        let bands: Vec<_> =
            line.iter().map(|column| filled(column, &heights)).collect();
        for (band, title) in BAND_TITLES.iter().enumerate() {
            let (what, when) = title;
            let title = match when.is_empty() {
                true => (*what).to_owned(),
                false => format!("{what} – {when}"),
            };
            text += &rule(&title, each * line.len(), band == 2);
            for place in 0..heights[band] {
                let rows = line.iter().zip(&bands);
                let cells = rows.map(|(column, bands)| {
                    row(&bands[band][place], lanes(column), each)
                });
                text += cells.collect::<String>().trim_end();
                text.push('\n');
            }
        }
        text += &rule("in words", each * line.len(), false);
        text += &said(line, each);
        text.push('\n');
    }
    text += &legend(width);
    text
}

/// Where a part of the scene begins, through all columns.
fn rule(title: &str, width: usize, strong: bool) -> String {
    let (dash, style) = match strong {
        true => ("━", Style::new().cyan().bold()),
        false => ("─", Style::new().cyan()),
    };
    let head = format!("{dash}{dash} {title} ");
    let used = measure_text_width(&head);
    let line = head + &dash.repeat(width.saturating_sub(used));
    format!("{}\n", style.apply_to(line))
}

fn row(row: &Row, lanes: usize, width: usize) -> String {
    let mut text = String::new();
    for lane in 0..lanes {
        let bar = row.bars.get(lane).copied().unwrap_or(Bar::Absent);
        text += &style(bar).apply_to(sign(bar)).to_string();
    }
    text += &match (row.learns, row.kernel) {
        (true, _) => {
            Style::new().magenta().bold().apply_to(TRIANGLE).to_string()
        }
        (_, true) => {
            style(Bar::Copying).apply_to(sign(Bar::Copying)).to_string()
        }
        _ => " ".to_owned(),
    };
    let by_another = if row.lane > 0 { "·" } else { "" };
    let words = format!("{by_another}{}", row.text);
    let words = match row.kernel {
        true => Style::new().green().bold().apply_to(words).to_string(),
        false => words,
    };
    text += &words;
    pad(text, width)
}

fn sign(bar: Bar) -> char {
    match bar {
        Bar::Absent => ' ',
        Bar::Running => '│',
        Bar::Asleep => '░',
        Bar::Eagain => '┊',
        Bar::Copying => '█',
    }
}

fn style(bar: Bar) -> Style {
    match bar {
        Bar::Absent | Bar::Running => Style::new(),
        Bar::Asleep | Bar::Eagain => Style::new().yellow(),
        Bar::Copying => Style::new().green(),
    }
}

/// What each column says, in words.
fn said(line: &[Column], each: usize) -> String {
    let mut text = String::new();
    for say in [
        (|column: &Column| &column.said.waits) as fn(&Column) -> &String,
        |column| &column.said.learns,
        |column| &column.said.copies,
    ] {
        let parts: Vec<_> =
            line.iter().map(|column| wrap(say(column), each - 2)).collect();
        let most = parts.iter().map(Vec::len).max().unwrap_or(0);
        for place in 0..most {
            let cells = parts.iter().map(|part| {
                cell(part.get(place).map_or("", String::as_str), each)
            });
            text += &laid(cells, &Style::new());
        }
    }
    text
}

fn laid(cells: impl Iterator<Item = String>, style: &Style) -> String {
    let line = cells.collect::<String>();
    format!("{}\n", style.apply_to(line.trim_end()))
}

fn cell(text: &str, width: usize) -> String {
    pad(text.to_owned(), width)
}

fn pad(text: String, width: usize) -> String {
    let gap = width.saturating_sub(measure_text_width(&text));
    text + &" ".repeat(gap)
}

fn legend(width: usize) -> String {
    let mut text = String::new();
    for (bar, meaning) in LEGEND {
        let sign = style(bar).apply_to(sign(bar));
        text += &format!("{sign} {meaning}\n");
    }
    text += &format!("{TRIANGLE} {LEARNS}\n");
    text += &format!("· {OTHER}\n");
    text + &fill(NOTE, width.min(100)) + "\n"
}

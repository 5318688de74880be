//! Tests columns from hand-written traces, and their drawings.

use roxmltree::{Document, Node};
use trace::figure::{Bar, Column, Row};

use super::{filled, heights, lanes, sample, svg};

/// Widths of a letter relative to the font size: exact for calls, and the
/// greatest average for sentences and titles.
const CALL_LETTER: f64 = 0.61;
const LETTER: f64 = 0.58;
const BOLD_LETTER: f64 = 0.61;

/// Writes a column with one line per row: the band, the state of each thread,
/// a mark where the program learns of the data or the kernel copies it, and the
/// text. The sentences follow.
fn dump(column: &Column) -> String {
    let lanes = lanes(column);
    let line = |band: usize, row: &Row| {
        let bars = (0..lanes).map(|lane| match row.bars.get(lane) {
            None => ' ',
            Some(Bar::Running) => '│',
            Some(Bar::Asleep) => '░',
            Some(Bar::Eagain) => '┊',
            Some(Bar::Copying) => '█',
        });
        let mark = match (row.learns, row.kernel) {
            (true, _) => '▸',
            (_, true) => '█',
            _ => ' ',
        };
        let by_another = if row.lane > 0 { "·" } else { "" };
        let bars = bars.collect::<String>();
        let line = format!("{band} {bars}{mark}{by_another}{}", row.text);
        format!("{}\n", line.trim_end())
    };
    let bands = column.bands.iter().enumerate();
    let lines = bands
        .flat_map(|(band, rows)| rows.iter().map(move |row| line(band, row)));
    let sentences = column.account.sentences().join("\n");
    format!("{}\n{}{sentences}\n", column.title, lines.collect::<String>())
}

#[test]
fn columns_have_what_was_traced() {
    let columns = sample::columns().into_iter();
    let columns = columns.chain(sample::further_columns());
    let columns: Vec<_> = columns.map(|column| dump(&column)).collect();
    let columns = columns.join("\n");
    assert!(columns == include_str!("golden.txt"), "now:\n{columns}");
}

#[test]
fn all_columns_reach_the_same_lines() {
    let columns = sample::columns();
    let heights = heights(&columns);
    for column in &columns {
        let bands = filled(column, &heights);
        let filled: Vec<_> = bands.iter().map(Vec::len).collect();
        assert_eq!(filled, heights, "{}", column.title);
        // A wait lasts until the data arrives.
        let last = &bands[1][heights[1] - 1];
        assert_ne!(last.bars[0], Bar::Running, "{}", column.title);
    }
}

#[test]
fn a_queued_signal_is_drawn_as_a_ready_list_is() {
    let columns = sample::columns();
    let states = |title: &str| {
        let column = columns.iter().find(|it| it.title == title).unwrap();
        let rows = column.bands.iter().flatten();
        let mut bars: Vec<_> = rows.map(|row| &row.bars).collect();
        bars.dedup();
        let mut phase_2 = column.bands[2].iter();
        let learns = phase_2.find(|row| row.learns).unwrap();
        (bars, &learns.bars)
    };
    assert_eq!(states("multiplexing-epoll"), states("signal-driven"));
}

/// Returns the beginning and the end of a text, for the widest letters.
fn extent(text: &Node<'_, '_>) -> (f64, f64) {
    let class = text.attribute("class").unwrap();
    let (size, letter) = match class.split(' ').next().unwrap() {
        "call" => (10.5, CALL_LETTER),
        "model" => (12.5, BOLD_LETTER),
        "headline" => (15.0, LETTER),
        "note" => (10.5, LETTER),
        _ => (11.0, LETTER),
    };
    let x: f64 = text.attribute("x").unwrap().parse().unwrap();
    let letters = text.text().unwrap().chars().count() as f64;
    (x, x + letters * size * letter)
}

#[test]
fn columns_do_not_overlap() {
    let columns = sample::columns();
    let all = [&columns[..], &columns[..3]].concat();
    for columns in [&columns[..1], &columns[..2], &columns, &all] {
        let drawing = svg::alone(columns);
        let xml = Document::parse(&drawing).unwrap();
        let is_text = |node: &Node<'_, '_>| node.has_tag_name("text");
        let width = xml.root_element().attribute("width").unwrap();
        let width: f64 = width.parse().unwrap();
        for text in xml.descendants().filter(is_text) {
            let (from, until) = extent(&text);
            assert!(from >= 0.0 && until <= width, "{:?}", text.text());
        }
        for block in xml.descendants().filter(|n| n.has_tag_name("g")) {
            let texts = || block.children().filter(is_text);
            let models =
                texts().filter(|n| n.attribute("class") == Some("model"));
            let edges: Vec<_> = models.map(|n| extent(&n).0).collect();
            assert!(!edges.is_empty() && texts().count() > edges.len());
            for text in texts() {
                let (from, until) = extent(&text);
                let next = edges.iter().find(|edge| **edge > from);
                let edge = next.copied().unwrap_or(width - 28.0);
                assert!(until <= edge, "{:?} ends at {until}", text.text());
            }
        }
    }
}

#[test]
fn a_drawing_has_a_description_for_screen_readers() {
    let drawing = svg::alone(&sample::columns());
    let xml = Document::parse(&drawing).unwrap();
    let root = xml.root_element();
    assert_eq!(root.attribute("role"), Some("img"));
    assert_eq!(root.attribute("aria-labelledby"), Some("title text"));
    let texts = ["title", "text"].map(|id| {
        let node = root.children().find(|n| n.attribute("id") == Some(id));
        node.unwrap().text().unwrap()
    });
    assert!(texts[0].contains("models"));
    assert!(texts[1].contains("nonblocking: waits in no call;"));
    assert!(drawing.contains("prefers-color-scheme: dark"));
    // A figure without columns is valid, too.
    Document::parse(&svg::alone(&[])).unwrap();
}

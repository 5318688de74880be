//! Columns from hand-written traces, in the terminal and drawn.

use console::strip_ansi_codes;
use roxmltree::{Document, Node};

use super::column::Bar;
use super::{Column, filled, heights, in_lines, sample, svg, text};

/// Widths of a letter, in parts of its size: of all letters of calls, and of
/// the widest that sentences have on average.
const CALL_LETTER: f64 = 0.61;
const LETTER: f64 = 0.58;

#[test]
fn the_terminal_has_what_was_traced() {
    let text = text::render(&sample::columns(), Some(80));
    let text = strip_ansi_codes(&text);
    let (figure, legend) = text.split_once("\n▓ blocked:").unwrap();
    let golden = include_str!("golden.txt");
    assert!(figure == golden, "it is now:\n{figure}");
    assert!(legend.contains("not to scale"));
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn lines_are_about_equally_long() {
    let columns = sample::columns();
    for (most, expected) in [
        (1, vec![1; 5]),
        (2, vec![2, 2, 1]),
        (4, vec![3, 2]),
        (5, vec![5]),
        (8, vec![5]),
        (0, vec![1; 5]),
    ] {
        let lines = in_lines(&columns, most);
        let lines: Vec<_> = lines.iter().map(|line| line.len()).collect();
        assert_eq!(lines, expected, "{most}");
    }
    assert!(in_lines(&[], 4).is_empty());
}

#[test]
fn all_columns_reach_the_same_lines() {
    let columns = sample::columns();
    let heights = heights(&columns);
    for column in &columns {
        let bands = filled(column, &heights);
        let filled: Vec<_> = bands.iter().map(Vec::len).collect();
        assert_eq!(filled, heights, "{}", column.title);
        // Who waits does so until the data comes, who copies does so once.
        let last = &bands[1][heights[1] - 1];
        assert_ne!(last.bars[0], Bar::Running, "{}", column.title);
        let rows = bands.iter().flatten();
        let copies =
            rows.filter(|r| r.kernel || r.bars.contains(&Bar::Copying));
        assert_eq!(copies.count(), 1, "{}", column.title);
        let told = bands.iter().flatten().filter(|row| row.told);
        assert_eq!(told.count(), 1, "{}", column.title);
    }
}

#[test]
fn words_say_who_waits_and_who_copies() {
    let rows = [
        ("asleep in recvfrom", "recvfrom copies", "has been copied"),
        ("asks 50 times in vain", "recvfrom copies", "has been copied"),
        ("asleep in epoll_wait", "recvfrom copies", "there is data"),
        ("free; rests in io_uring_enter", "the kernel", "has been copied"),
        ("another thread is asleep in read", "other thread", "been copied"),
    ];
    for (column, (waits, copies, told)) in sample::columns().iter().zip(rows) {
        let said = &column.said;
        assert!(said.waits.contains(waits), "{said:?}");
        assert!(said.copies.contains(copies), "{said:?}");
        assert!(said.told.contains(told), "{said:?}");
    }
}

#[test]
fn a_call_that_meets_the_data_copies_it() {
    let column = sample::meeting();
    let texts = column.bands[2].iter().map(|row| row.text.as_str());
    assert_eq!(texts.collect::<Vec<_>>(), ["recvfrom = 6"]);
    assert!(column.bands[2][0].told);
    assert_eq!(column.said.told, "told when it has been copied");
}

/// As wide as its text can be, from where to where.
fn extent(text: &Node<'_, '_>) -> (f64, f64) {
    let class = text.attribute("class").unwrap();
    let (size, letter) = match class.split(' ').next().unwrap() {
        "call" => (10.5, CALL_LETTER),
        "model" => (12.5, LETTER),
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
    let seen: usize = [&columns[..1], &columns[..2], &columns, &all]
        .map(check_columns)
        .into_iter()
        .sum();
    assert!(seen > 200, "{seen}");
}

/// How many texts it has looked at.
fn check_columns(columns: &[Column]) -> usize {
    let drawing = svg::alone(columns);
    let xml = Document::parse(&drawing).unwrap();
    let width: f64 =
        xml.root_element().attribute("width").unwrap().parse().unwrap();
    let blocks = xml.descendants().filter(|node| node.has_tag_name("g"));
    let mut seen = 0;
    for block in blocks {
        let texts: Vec<_> =
            block.children().filter(|n| n.has_tag_name("text")).collect();
        let models: Vec<_> = texts
            .iter()
            .filter(|text| text.attribute("class") == Some("model"))
            .map(|text| extent(text).0)
            .collect();
        for text in &texts {
            let (from, until) = extent(text);
            let next = models.iter().find(|x| **x > from);
            let edge = next.copied().unwrap_or(width - 28.0);
            assert!(until <= edge, "{:?} ends at {until}", text.text());
            seen += 1;
        }
    }
    for text in xml.descendants().filter(|n| n.has_tag_name("text")) {
        let (from, until) = extent(&text);
        assert!(from >= 0.0 && until <= width, "{:?}", text.text());
    }
    seen
}

#[test]
fn a_drawing_says_what_it_shows_to_those_who_do_not_see_it() {
    let drawing = svg::alone(&sample::columns());
    let xml = Document::parse(&drawing).unwrap();
    let root = xml.root_element();
    assert_eq!(root.attribute("role"), Some("img"));
    let text = |id: &str| {
        let node = root.children().find(|n| n.attribute("id") == Some(id));
        node.unwrap().text().unwrap().to_owned()
    };
    assert!(text("title").contains("models"));
    let said = text("text");
    assert!(said.contains("nonblocking: asks 50 times in vain;"), "{said}");
    assert!(drawing.contains("prefers-color-scheme: dark"));
}

#[test]
fn nothing_to_draw_is_no_reason_to_fail() {
    Document::parse(&svg::alone(&[])).unwrap();
    text::render(&[], Some(80));
}

//! Columns from hand-written traces, as they are and as they are drawn.

use roxmltree::{Document, Node};
use trace::figure::account::{Copier, Learning};
use trace::figure::{Bar, Column, Row};

use super::{filled, heights, in_lines, lanes, sample, svg};

/// Widths of a letter, in parts of its size: of all letters of calls, and of
/// the widest that sentences, and titles, have on average.
const CALL_LETTER: f64 = 0.61;
const LETTER: f64 = 0.58;
const BOLD_LETTER: f64 = 0.61;

/// All that a column says, a row a line: the band, the state of each thread,
/// where the program learns of the data or the kernel copies, and the text.
fn dump(column: &Column) -> String {
    let lanes = lanes(column);
    let line = |band: usize, row: &Row| {
        let bars = (0..lanes).map(|lane| match row.bars.get(lane) {
            None | Some(Bar::Absent) => ' ',
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
    format!("{}\n{}", column.title, lines.collect::<String>())
}

#[test]
fn columns_have_what_was_traced() {
    let columns: Vec<_> = sample::columns().iter().map(dump).collect();
    let columns = columns.join("\n");
    assert!(columns == include_str!("golden.txt"), "it is now:\n{columns}");
}

#[test]
fn lines_are_about_equally_long() {
    let columns = sample::columns();
    for (most, expected) in [
        (1, vec![1; 7]),
        (2, vec![2, 2, 2, 1]),
        (4, vec![4, 3]),
        (5, vec![4, 3]),
        (8, vec![7]),
        (0, vec![1; 7]),
    ] {
        let lines = in_lines(&columns, most);
        let lines: Vec<_> = lines.iter().map(|line| line.len()).collect();
        assert_eq!(lines, expected, "{most}");
    }
    assert!(in_lines(&[], 4).is_empty());
}

#[test]
fn all_panels_have_one_scale() {
    let columns = sample::columns();
    assert_eq!(columns.len() % 2, 1);
    let panels = svg::panels(&columns).into_string();
    // The legend has drawings too.
    let (_, panels) = panels.split_once("class=\"panels\"").unwrap();
    let boxes = panels.split("viewBox=\"0 0 ").skip(1);
    let widths: Vec<_> = boxes.map(|it| it.split(' ').next()).collect();
    assert_eq!(widths.len(), columns.len().div_ceil(2));
    assert!(widths.iter().all(|it| *it == widths[0]), "{widths:?}");
}

#[test]
fn all_columns_reach_the_same_lines() {
    let columns = sample::columns();
    let heights = heights(&columns);
    for column in &columns {
        let bands = filled(column, &heights);
        let filled: Vec<_> = bands.iter().map(Vec::len).collect();
        assert_eq!(filled, heights, "{}", column.title);
        // A wait lasts until the data comes, and one call copies.
        let last = &bands[1][heights[1] - 1];
        assert_ne!(last.bars[0], Bar::Running, "{}", column.title);
        let rows = bands.iter().flatten();
        let copies =
            rows.filter(|r| r.kernel || r.bars.contains(&Bar::Copying));
        assert_eq!(copies.count(), 1, "{}", column.title);
        let learns = bands.iter().flatten().filter(|row| row.learns);
        assert_eq!(learns.count(), 1, "{}", column.title);
    }
}

#[test]
fn words_say_who_waits_and_who_copies() {
    let after = "the return of recvfrom, after the copy";
    let handler = "the handler of SIGUSR1, which runs inside ppoll";
    #[rustfmt::skip]
    let rows = [
        ("recvfrom", after, "recvfrom"),
        ("no call; 50 calls return EAGAIN", after, "recvfrom"),
        ("epoll_wait", "the return of epoll_wait", "recvfrom"),
        ("ppoll", "the return of ppoll; read says which socket", "recvfrom"),
        ("ppoll", handler, "recvfrom, which the handler calls"),
        ("io_uring_enter", "the completion that io_uring_enter returns",
            "io_uring_enter"),
        ("rt_sigtimedwait; another thread, in read",
            "the completion that rt_sigtimedwait returns",
            "read, on the other thread"),
    ];
    for (column, row) in sample::columns().iter().zip(rows) {
        let (waits, learns, copies) = row;
        let expected = [
            format!("waits in {waits}"),
            format!("learns by {learns}"),
            format!("copies in {copies}"),
        ];
        assert_eq!(column.account.sentences(), expected);
    }
}

/// The states that a column shows, in order, and the band and state in which
/// the program learns of the data.
fn states(column: &Column) -> (Vec<&[Bar]>, (usize, &[Bar])) {
    let rows = column.bands.iter().flatten();
    let mut bars: Vec<_> = rows.map(|row| row.bars.as_slice()).collect();
    bars.dedup();
    let bands = column.bands.iter().enumerate();
    let mut learns = bands.filter_map(|(band, rows)| {
        let row = rows.iter().find(|row| row.learns)?;
        Some((band, row.bars.as_slice()))
    });
    (bars, learns.next().unwrap())
}

#[test]
fn a_queued_signal_is_drawn_as_a_ready_list_is() {
    let all = sample::columns();
    let find = |title| all.iter().find(|it| it.title == title).unwrap();
    let (epoll, signals) = (find("multiplexing-epoll"), find("signal-driven"));
    assert_eq!(states(epoll), states(signals));
    let (epoll, signals) = (&epoll.account, &signals.account);
    assert_eq!(epoll.waits.main, Some("epoll_wait"));
    assert_eq!(signals.waits.main, Some("ppoll"));
    assert_eq!(epoll.learns, Learning::Return("epoll_wait", None));
    assert_eq!(signals.learns, Learning::Return("ppoll", Some("read")));
    assert_eq!(epoll.copies, signals.copies);
}

#[test]
fn a_ring_copies_in_its_call_only_if_it_was_set_up_so() {
    let all = sample::columns();
    let ring = all.iter().find(|it| it.title.ends_with("uring")).unwrap();
    let row = &ring.bands[2][0];
    assert_eq!((row.text.as_str(), row.kernel), ("  recv = 6", false));
    assert_eq!(row.bars, [Bar::Copying]);
    let other = sample::ring_without_flags();
    let row = &other.bands[2][0];
    assert_eq!((row.text.as_str(), row.kernel), ("kernel: recv = 6", true));
    assert_eq!(row.bars, [Bar::Asleep]);
    assert_eq!(other.account.copies, Copier::Kernel);
}

#[test]
fn a_call_that_meets_the_data_copies_it() {
    let column = sample::meeting();
    let texts = column.bands[2].iter().map(|row| row.text.as_str());
    assert_eq!(texts.collect::<Vec<_>>(), ["recvfrom = 6"]);
    assert!(column.bands[2][0].learns);
    assert_eq!(column.account.learns, Learning::Copy("recvfrom"));
}

/// As wide as its text can be, from where to where.
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
    assert!(said.contains("nonblocking: waits in no call;"), "{said}");
    assert!(drawing.contains("prefers-color-scheme: dark"));
}

#[test]
fn nothing_to_draw_is_no_reason_to_fail() {
    Document::parse(&svg::alone(&[])).unwrap();
}

//! Formats system calls per request as a table.

use console::Style;
use lab::number;
use lab::screen::fill;
use lab::table::{Column, Row, Table};

use super::survey::{CONNECTIONS, Cost, Survey};

/// The number of calls that are named per model.
const NAMED: usize = 5;

/// Explains the numbers.
pub const NOTE: &str = "System calls of all threads and processes, counted \
    under the tracer in a closed loop: each connection sends its next PING \
    when it has the last reply. With one connection, a server makes the same \
    calls when it isn't traced. With 50, the traced server is so slow that \
    nearly all connections have sent again when it wakes up. Calls made once \
    per wake-up (poll, epoll_wait, io_uring_enter) therefore have a far \
    smaller share than without tracing. A server that busy-polls its sockets \
    makes as many calls as time permits.";

/// Formats a row for each model. Without a width, for a pipe, lines aren't
/// broken.
pub fn render(survey: &Survey, width: Option<usize>) -> String {
    let [one, many] = CONNECTIONS.map(|many| format!("at {many}"));
    let row = |cost: &Cost| Row {
        cells: vec![cost.title.clone(), figure(cost, 0), figure(cost, 1)],
        text: calls_of(cost),
    };
    let table = Table {
        columns: vec![
            Column::left(""),
            Column::right(&one),
            Column::right(&many),
        ],
        text: "most frequent".to_owned(),
        rows: survey.costs.iter().map(row).collect(),
    };
    let heading = "System calls per request, by number of connections";
    let heading = Style::new().bold().apply_to(heading);
    let mut text = format!("\n{heading}\n{}", table.render(width));
    let width = width.unwrap_or(usize::MAX);
    for (title, why) in &survey.missing {
        text += &fill(&format!("{title}: {why}"), width);
        text.push('\n');
    }
    text + "\n" + &fill(NOTE, width.min(100)) + "\n"
}

/// Formats the number of calls per request.
pub fn figure(cost: &Cost, place: usize) -> String {
    let tally = cost.tallies[place].as_ref();
    tally.map_or(number::NONE.to_owned(), |tally| short(tally.each()))
}

/// Formats the most frequent calls, with the most connections that were
/// counted: `recvfrom 1.00, sendto 1.00, epoll_wait 0.21`.
pub fn calls_of(cost: &Cost) -> String {
    let tally = cost.tallies.iter().rev().flatten().next();
    let most = tally.map(|tally| tally.most(NAMED)).unwrap_or_default();
    let shares = most.into_iter().map(|(name, made, empty)| {
        let made = short(made);
        match empty {
            empty if empty >= 0.005 => {
                format!("{name} {made} ({} EAGAIN)", short(empty))
            }
            _ => format!("{name} {made}"),
        }
    });
    shares.collect::<Vec<_>>().join(", ")
}

/// Formats with two decimals, because these are counts, not measurements.
fn short(value: f64) -> String {
    match value {
        value if value >= 99.5 => number::count(value),
        value => format!("{value:.2}"),
    }
}

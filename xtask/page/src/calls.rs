//! System calls a request, as a table.

use console::Style;
use lab::number;
use lab::screen::{fill, wrap};

use super::survey::{CONNECTIONS, Cost, Survey};

/// Calls of a model that are named.
const NAMED: usize = 5;

/// Columns of a number, and of the calls where they have room of their own.
const NUMBER: usize = 7;
const CALLS: usize = 40;

/// Explains the numbers.
pub const NOTE: &str = "System calls of all threads and processes, counted \
    under the tracer while each connection sends its next PING when it has \
    the last reply. With one connection a server makes the same calls \
    untraced. With 50, tracing makes it so slow that nearly all of them have \
    asked again when it wakes up: what is called once a wake-up (poll, \
    epoll_wait, io_uring_enter) has a far smaller share than untraced. A \
    server that polls its sockets makes as many calls as there is time for.";

/// A line a model; no width is a pipe's.
pub fn render(survey: &Survey, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let titles = survey.costs.iter().map(|cost| cost.title.len());
    let first = titles.max().unwrap_or(0);
    let left = first + 2 * (NUMBER + 2) + 2;
    // Where they have no room, calls stand on lines of their own.
    let below = width.saturating_sub(left) < CALLS;
    let heading = Style::new().bold();
    let [one, many] = CONNECTIONS.map(|many| format!("at {many}"));
    let mut text = format!(
        "\n{}\n",
        heading.apply_to("System calls a request, by connections")
    );
    let calls = if below { "" } else { "  the most frequent" };
    let names =
        format!("{:first$}  {one:>NUMBER$}  {many:>NUMBER$}{calls}", "");
    text += &format!("{}\n", Style::new().dim().apply_to(names));
    for cost in &survey.costs {
        let [one, many] = [0, 1].map(|place| figure(cost, place));
        let numbers =
            format!("{:first$}  {one:>NUMBER$}  {many:>NUMBER$}", cost.title);
        let indent = if below { 4 } else { left };
        let room = width.saturating_sub(indent).max(20);
        let mut parts = wrap(&calls_of(cost), room).into_iter();
        text += &numbers;
        if !below {
            text += &format!("  {}", parts.next().unwrap_or_default());
        }
        text.push('\n');
        for part in parts {
            text += &format!("{:indent$}{part}\n", "");
        }
    }
    for (title, why) in &survey.missing {
        text += &fill(&format!("{title}: {why}"), width);
        text.push('\n');
    }
    text + "\n" + &fill(NOTE, width.min(100)) + "\n"
}

/// Calls a request.
pub fn figure(cost: &Cost, place: usize) -> String {
    let tally = cost.tallies[place].as_ref();
    tally.map_or(number::NONE.to_owned(), |tally| short(tally.each()))
}

/// The calls that are made most, with as many connections as it serves:
/// `recvfrom 1.00, sendto 1.00, epoll_wait 0.21`.
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

/// Counts, not measurements: two places behind the point.
fn short(value: f64) -> String {
    match value {
        value if value >= 99.5 => number::count(value),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::sample;
    use console::strip_ansi_codes;

    #[test]
    fn calls_have_a_line_of_their_own_where_there_is_no_room() {
        let narrow = render(&sample::survey(), Some(60));
        let narrow = strip_ansi_codes(&narrow);
        let rows = "
blocking                     3.25        –
    recvfrom 1.25 (0.25 EAGAIN), epoll_wait 1.00, sendto
    1.00
multiplexing-epoll/level     3.25     2.27
    recvfrom 1.25 (0.25 EAGAIN), sendto 1.00, epoll_wait
    0.02
async-io/io-uring: <no>
";
        assert!(narrow.contains(rows), "{narrow}");
        let wide = render(&sample::survey(), Some(120));
        let row = "blocking                     3.25        –  \
            recvfrom 1.25 (0.25 EAGAIN), epoll_wait 1.00, sendto 1.00\n";
        assert!(strip_ansi_codes(&wide).contains(row), "{wide}");
    }
}

//! Formats the list as text: a table, and notes below it.

use lab::promises::DESCRIPTORS;
use lab::table::{Column, Row, Table};
use lab::{model, screen};

use super::{Entry, Here};

/// Formats the list. Without a width, for a pipe, each variant is one complete
/// line. For a terminal, the summary appears once per model.
pub fn render(entries: &[Entry<'_>], width: Option<usize>) -> String {
    let mut rows: Vec<_> = entries.iter().map(row).collect();
    for (at, pair) in entries.windows(2).enumerate() {
        if width.is_some() && pair[0].model.name == pair[1].model.name {
            rows[at + 1].text.clear();
        }
    }
    let table = Table {
        columns: vec![
            Column::left("MODEL"),
            Column::left("HERE"),
            Column::left("SERVES"),
            Column::left("CLIENTS").rank(1),
            Column::left("FAMILY").rank(2),
        ],
        text: "SUMMARY".to_owned(),
        rows,
    };
    let mut notes = notes(entries);
    let left_out = table.layout(width).left_out();
    if !left_out.is_empty() {
        let columns = left_out.join(", ");
        notes.push(format!("A wider terminal shows {columns} too."));
    }
    let notes = notes.iter().map(|note| {
        format!("\n{}\n", screen::fill(note, width.unwrap_or(usize::MAX)))
    });
    table.render(width) + &notes.collect::<String>()
}

fn row(entry: &Entry<'_>) -> Row {
    let Entry { model, variant, here } = entry;
    Row {
        cells: vec![
            model.title(variant),
            here.word(),
            model::names(model.transports_of(variant)),
            variant.promises.ceiling.to_string(),
            model.family.to_string(),
        ],
        text: model.summary.clone(),
    }
}

/// Returns what doesn't fit a cell: why a variant doesn't run, or serves fewer
/// transports than its model, and what the numbers mean.
fn notes(entries: &[Entry<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    for Entry { model, variant, here, .. } in entries {
        let title = model.title(variant);
        match here {
            Here::CannotRun(reason) => {
                notes.push(format!("{title} can't run: {reason}"));
            }
            Here::Fails(reason) => {
                notes.push(format!("{title} fails: {reason}"));
            }
            Here::NotBuilt | Here::Runs => {}
        }
        if let Some(why) = &variant.why {
            let names = model::names(model.transports_of(variant));
            notes.push(format!("{title} serves {names} only: {why}"));
        }
        if !model.idle_flags.is_empty() {
            let flags = model.idle_flags.join(" ");
            notes.push(format!(
                "{title} busy-polls, even while idle; {flags} lets it sleep"
            ));
        }
    }
    notes.extend(ceilings(entries));
    if entries.iter().any(|entry| entry.here == Here::NotBuilt) {
        let command = "`cargo xtask list --build`";
        notes.push(format!("{command} builds the missing models."));
    }
    notes
}

/// Explains the numbers of clients.
fn ceilings(entries: &[Entry<'_>]) -> Vec<String> {
    let mut notes = vec![format!(
        "CLIENTS: the number of clients served at the same time with \
         {DESCRIPTORS} descriptors (ulimit -n {DESCRIPTORS}), and the limit \
         that the next one meets."
    )];
    for Entry { model, variant, .. } in entries {
        let title = model.title(variant);
        let ceiling = &variant.promises.ceiling;
        if let Some(limit) = &ceiling.machine {
            notes.push(format!(
                "{title} was tested with up to {} clients; the machine \
                 decides how many more fit: {limit}.",
                ceiling.clients
            ));
        }
        if let Some(flags) = &ceiling.flags {
            notes.push(format!("{title} was tested with {flags}."));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use lab::model::{Variant, Workspace};

    use super::*;

    /// Formats three variants; the limit of the first depends on the machine.
    fn rendered(width: Option<usize>) -> String {
        console::set_colors_enabled(false);
        let workspace = Workspace::load().unwrap();
        let epoll = workspace.model("multiplexing-epoll").unwrap();
        let ring = workspace.model("async-io").unwrap();
        let mut level: Variant = epoll.variants[0].clone();
        let ceiling = &mut level.promises.ceiling;
        (ceiling.clients, ceiling.machine) = (1_000, Some("pids.max".into()));
        ceiling.flags = Some("--loops 2".into());
        let reason = "io_uring_setup(2): Operation not permitted (EPERM)";
        let places = [
            (epoll, &level, Here::Runs),
            (epoll, &epoll.variants[1], Here::NotBuilt),
            (ring, &ring.variants[0], Here::CannotRun(reason.to_owned())),
        ];
        let entry = |(model, variant, here)| Entry { model, variant, here };
        render(&places.map(entry), width)
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [48, 60, 72, 100, 120, 200] {
            for line in rendered(Some(width)).lines() {
                let columns = line.len();
                assert!(columns <= width, "{columns} > {width}: {line}");
            }
        }
        assert!(rendered(Some(48)).contains("shows CLIENTS, FAMILY"));
        assert!(!rendered(Some(120)).contains("A wider terminal"));
    }

    #[test]
    fn in_a_pipe_every_variant_is_one_whole_line() {
        let text = rendered(None);
        let lines = text.lines().filter(|l| l.ends_with("with epoll(7)"));
        assert_eq!(lines.count(), 2);
    }

    #[test]
    fn a_terminal_says_what_variants_share_once() {
        let text = rendered(Some(160));
        assert_eq!(text.matches("sockets with epoll(7)").count(), 1);
        assert_eq!(text.matches("io-uring can't run: io_uring").count(), 1);
    }

    #[test]
    fn what_the_numbers_mean_is_said_below() {
        let text = rendered(Some(100));
        for part in ["1000+, EMFILE", "CLIENTS: the", "pids.max", "--loops 2"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}

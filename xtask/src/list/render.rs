//! The list as text: a table, and below it what needs a sentence.

use lab::ceilings::{Ceiling, DESCRIPTORS};
use lab::table::{Column, Row, Table};
use lab::{model, screen};

use super::{Entry, Here};

/// Lays out the list. No width is a pipe's: there each variant is one complete
/// line. A terminal says only once what a model's variants share.
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
    let Entry { model, variant, ceiling, here } = entry;
    let clients =
        ceiling.map_or_else(|| model.clients.to_string(), Ceiling::to_string);
    Row {
        cells: vec![
            model.title(variant),
            here.word(),
            model::names(model.transports_of(variant)),
            clients,
            model.family.clone(),
        ],
        text: model.summary.clone(),
    }
}

/// Sentences that no cell has room for: why something does not run, or is left
/// out, and what the numbers mean.
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
        if !model.rests_with.is_empty() {
            let flags = model.rests_with.join(" ");
            notes.push(format!(
                "{title} is busy while idle; with {flags} it rests"
            ));
        }
    }
    notes.extend(ceilings(entries));
    if entries.iter().any(|entry| entry.here == Here::NotBuilt) {
        let command = "`cargo xtask list --build`";
        notes.push(format!("{command} builds what is not built."));
    }
    notes
}

/// Explains the numbers of clients.
fn ceilings(entries: &[Entry<'_>]) -> Vec<String> {
    let ceilings = || entries.iter().filter_map(|e| Some((e, e.ceiling?)));
    if ceilings().next().is_none() {
        return Vec::new();
    }
    let mut notes = vec![format!(
        "Clients: how many are served with {DESCRIPTORS} descriptors (ulimit \
         -n {DESCRIPTORS}), and what refuses the next one."
    )];
    for (entry, ceiling) in ceilings() {
        let title = entry.model.title(entry.variant);
        if let Some(limit) = &ceiling.machine {
            notes.push(format!(
                "{title} was tried with {}; the limit is the machine's: \
                 {limit}.",
                ceiling.clients
            ));
        }
        if let Some(flags) = &ceiling.flags {
            notes.push(format!("{title} was tried with {flags}."));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use lab::model::{Clients, Model, Threads, Transport, Variant};

    use super::*;

    fn model(name: &str, variants: &[&str]) -> Model {
        let variant = |name: &&str| Variant {
            name: (*name).to_owned(),
            ..Variant::only()
        };
        Model {
            name: name.to_owned(),
            family: "multiplexing".to_owned(),
            summary: "one thread waits for many sockets with epoll(7)"
                .to_owned(),
            clients: Clients::Many,
            transports: vec![Transport::Tcp, Transport::Udp],
            threads: Threads::One,
            variants: variants.iter().map(variant).collect(),
            rests_with: Vec::new(),
            same: Vec::new(),
            folder: name.into(),
        }
    }

    fn rendered(width: Option<usize>, ceiling: Option<&Ceiling>) -> String {
        console::set_colors_enabled(false);
        let epoll = model("multiplexing-epoll", &["level", "edge"]);
        let ring = model("async-io", &[""]);
        let reason = "io_uring_setup(2): Operation not permitted (EPERM)";
        let places = [
            (&epoll, 0, Here::Runs),
            (&epoll, 1, Here::NotBuilt),
            (&ring, 0, Here::CannotRun(reason.to_owned())),
        ];
        let entries = places.map(|(model, place, here)| Entry {
            model,
            variant: &model.variants[place],
            ceiling,
            here,
        });
        render(&entries, width)
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [48, 60, 72, 100, 120, 200] {
            for line in rendered(Some(width), None).lines() {
                let columns = line.len();
                assert!(columns <= width, "{columns} > {width}: {line}");
            }
        }
        assert!(rendered(Some(48), None).contains("shows CLIENTS, FAMILY"));
        assert!(!rendered(Some(72), None).contains("A wider terminal"));
    }

    #[test]
    fn in_a_pipe_every_variant_is_one_whole_line() {
        let text = rendered(None, None);
        let lines = text.lines().filter(|l| l.starts_with("multiplexing"));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.ends_with("sockets with epoll(7)"), "{line}");
        }
    }

    #[test]
    fn a_terminal_says_what_variants_share_once() {
        let text = rendered(Some(120), None);
        // Of one model with two variants, and of one with one.
        assert_eq!(text.matches("one thread waits").count(), 2);
        assert_eq!(text.matches("async-io can't run: io_uring").count(), 1);
    }

    #[test]
    fn what_the_numbers_mean_is_said_below() {
        let ceiling = Ceiling {
            clients: 1_000,
            ends: "EAGAIN".to_owned(),
            machine: Some("pids.max".to_owned()),
            flags: Some("--loops 2".to_owned()),
        };
        assert!(!rendered(Some(80), None).contains("Clients:"));
        let text = rendered(Some(80), Some(&ceiling));
        for part in ["1000+, EAGAIN", "Clients: how", "pids.max", "--loops 2"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}

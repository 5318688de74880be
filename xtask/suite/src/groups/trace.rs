//! What a model's system calls say of it: transcripts, and rules with reasons.
//! The scene is `cargo xtask trace`'s, played once for each transport.

use anyhow::{Context, Result};
use lab::model::Transport;
use trace::golden;
use trace::rules::{Rule, rules};
use trace::transcript::transcript;

use crate::case::{Case, For, Subject, Trial};
use crate::skip::skip;

/// Models without a transcript, and why; rules hold for them all the same.
const NO_ORDER: &[(&str, &str)] = &[
    ("async-io/posix-aio", "its C library's threads run as they like"),
    ("task-per-connection", "any worker may run any task"),
    ("loop-per-core", "the kernel picks the loop that a client comes to"),
];

pub fn cases() -> Vec<Case> {
    let transcripts = [
        Case::new("transcript", |trial| compare(trial, Transport::Tcp)),
        Case::new("transcript_udp", |trial| compare(trial, Transport::Udp)),
    ];
    let rules = rules().map(|rule| {
        let models = match rule.models {
            [] => For::Everyone,
            names => For::Models(names),
        };
        Case::new(rule.name, |trial| hold(trial, rule)).only(models)
    });
    transcripts.into_iter().chain(rules).collect()
}

fn compare(trial: &Trial, transport: Transport) -> Result<()> {
    let (subject, around) = (&trial.subject, &trial.surroundings);
    check_transport(trial, transport)?;
    if let Some(why) = without_order(subject) {
        return Err(skip(format!("no order to compare with: {why}")));
    }
    let title = subject.title();
    let seen = trial.scene(transport)?;
    let text = transcript(&seen.steps, &seen.marks, transport);
    let folder = &around.golden;
    if around.records() {
        return golden::write(folder, &title, transport, &text);
    }
    golden::compare(folder, &title, transport, &text)
}

fn check_transport(trial: &Trial, transport: Transport) -> Result<()> {
    match transport {
        Transport::Tcp => Ok(()),
        Transport::Udp => trial.needs_datagrams(),
    }
}

fn without_order(subject: &Subject) -> Option<&'static str> {
    let found = NO_ORDER.iter().find(|(name, _)| subject.is_called(name));
    found.map(|(_, why)| *why)
}

/// A rule holds for each transport that it is about and the subject serves.
fn hold(trial: &Trial, rule: &Rule) -> Result<()> {
    let subject = &trial.subject;
    for transport in rule.transports.iter().filter(|it| subject.serves(**it)) {
        let seen = trial.scene(*transport)?;
        rule.check(&seen).with_context(|| format!("over {transport}"))?;
    }
    Ok(())
}

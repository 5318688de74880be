//! A model's system calls: transcripts, and rules with reasons. The scene of
//! `cargo xtask trace` is played once per transport.

use anyhow::{Context, Result};
use lab::model::Transport;
use trace::golden;
use trace::rules::{Rule, rules};
use trace::transcript::transcript;

use crate::case::{Case, For, Trial};
use crate::skip::skip;

pub fn cases() -> Vec<Case> {
    let transcripts = [
        Case::new("transcript", |trial| compare(trial, Transport::Tcp)),
        Case::new("transcript_udp", |trial| compare(trial, Transport::Udp)),
    ];
    let rules = rules().map(|rule| {
        Case::new(rule.name, |trial| hold(trial, rule))
            .only(For::Promising(rule.applies_to))
    });
    transcripts.into_iter().chain(rules).collect()
}

fn compare(trial: &Trial, transport: Transport) -> Result<()> {
    let (subject, around) = (&trial.subject, &trial.surroundings);
    if transport == Transport::Udp {
        trial.needs_datagrams()?;
    }
    if let Some(why) = &subject.promises().unordered {
        return Err(skip(format!("no order to compare with: {why}")));
    }
    let title = subject.title();
    let seen = trial.scene(transport)?;
    let text = transcript(&seen.steps, &seen.marks, transport);
    let folder = &around.golden;
    if around.records {
        return golden::write(folder, &title, transport, &text);
    }
    golden::compare(folder, &title, transport, &text)
}

/// Checks a rule for each transport that it applies to and the subject serves.
fn hold(trial: &Trial, rule: &Rule) -> Result<()> {
    let subject = &trial.subject;
    for transport in rule.transports.iter().filter(|it| subject.serves(**it)) {
        let seen = trial.scene(*transport)?;
        rule.check(&seen).with_context(|| format!("over {transport}"))?;
    }
    Ok(())
}

//! Promises of a model about its system calls, as rules with reasons. A
//! transcript shows what a model does; a rule states what must hold, whatever
//! else changes.

mod answers;
mod connections;
mod invocation;
mod learning;
mod registrations;
#[cfg(test)]
mod tests;
mod waits;

use anyhow::{Context, Result};
use lab::model::Transport;
use lab::promises::Promises;

use crate::scene::Recording;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// Returns whether the rule applies to models with these promises.
    pub applies_to: fn(&Promises) -> bool,
    /// The transports that it applies to.
    pub transports: &'static [Transport],
    /// The reason, with which the message of a failure begins.
    pub why: &'static str,
    check: fn(&Recording) -> Result<()>,
}

impl Rule {
    /// Fails with the reason, and with what violates the rule.
    pub fn check(&self, scene: &Recording) -> Result<()> {
        (self.check)(scene).context(self.why)
    }
}

/// Returns all rules.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    let all: [&[Rule]; 5] = [
        connections::RULES,
        waits::RULES,
        registrations::RULES,
        learning::RULES,
        answers::RULES,
    ];
    all.into_iter().flatten()
}

const TCP: &[Transport] = &[Transport::Tcp];
const UDP: &[Transport] = &[Transport::Udp];
const BOTH: &[Transport] = &[Transport::Tcp, Transport::Udp];

const ALL_MODELS: fn(&Promises) -> bool = |_| true;

fn waits_for_readiness(promises: &Promises) -> bool {
    promises.waits_in.is_for_readiness()
}

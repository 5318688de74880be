//! Promises of a model about its system calls, as rules with reasons. A
//! transcript says what is; a rule says what must be, whatever else changes.

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
    /// The models that it is for: those that promise this.
    pub whose: fn(&Promises) -> bool,
    /// The transports that it is about.
    pub transports: &'static [Transport],
    /// The reason; a failure says it first.
    pub why: &'static str,
    check: fn(&Recording) -> Result<()>,
}

impl Rule {
    /// Fails with the reason, and with what was seen that is against it.
    pub fn check(&self, scene: &Recording) -> Result<()> {
        (self.check)(scene).context(self.why)
    }
}

/// All of them.
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

const EVERYONE: fn(&Promises) -> bool = |_| true;

fn waits_for_readiness(promises: &Promises) -> bool {
    promises.waits_in.is_for_readiness()
}

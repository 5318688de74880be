//! What a model promises of its system calls, as rules with reasons. A
//! transcript says what is; a rule says what must be, whatever else changes.

mod answers;
mod connections;
mod learning;
mod registrations;
mod seen;
#[cfg(test)]
mod tests;
mod waits;

use anyhow::{Context, Result};
use lab::model::Transport;
use lab::promises::Promises;
pub use seen::Seen;

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// Who has to keep it: those who promise this.
    pub whose: fn(&Promises) -> bool,
    /// What it is about.
    pub transports: &'static [Transport],
    /// The reason; a failure says it first.
    pub why: &'static str,
    check: fn(&Seen) -> Result<()>,
}

impl Rule {
    /// Fails with the reason, and with what was seen that is against it.
    pub fn check(&self, seen: &Seen) -> Result<()> {
        (self.check)(seen).context(self.why)
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

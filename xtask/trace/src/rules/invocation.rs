//! Queries on a recorded scene for the rules, up to the moment at which
//! shutdown was requested.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::call::CallStep;
use crate::calls::Family;
use crate::phases;
use crate::role::Role;
use crate::scene::Recording;
use crate::steps::{Step, threads};
use crate::transcript::words;

/// A call with its step.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    pub step: &'a Step,
    pub call: &'a CallStep,
}

impl<'a> Invocation<'a> {
    pub fn of(step: &'a Step) -> Option<Self> {
        Some(Self { step, call: step.call()? })
    }

    /// Returns whether it is about a client, or about datagrams.
    pub fn is_about_client(&self) -> bool {
        self.call.is_about_client()
    }

    pub fn is(&self, family: Family) -> bool {
        self.call.family == family
    }

    /// Returns whether it can wait for events of many sockets: for readiness,
    /// or for signals, with or without a signalfd.
    pub fn waits_for_events(&self) -> bool {
        let reads = matches!(self.call.role(), Some(Role::Signals(_)));
        self.is(Family::Readiness)
            || self.is(Family::Signals)
            || (self.is(Family::Receive) && reads)
    }

    /// Returns whether it lasted from before a moment to after it.
    pub fn spans(&self, moment: Duration) -> bool {
        let until = self.step.until.unwrap_or(Duration::MAX);
        self.step.at < moment && until > moment
    }
}

impl Recording {
    pub fn main(&self) -> Pid {
        self.steps.first().map_or(Pid::from_raw(0), |step| step.tid)
    }

    /// Returns everything from the client's connect on, including calls that
    /// were in progress then.
    pub fn with_client(&self) -> impl Iterator<Item = &Step> {
        let (first, last) = (self.marks.connecting, self.marks.stopping);
        self.steps.iter().filter(move |step| {
            let made = Invocation::of(step);
            let begun = made.is_some_and(|made| made.spans(first));
            step.at < last && (step.at >= first || begun)
        })
    }

    /// Returns the calls of the scene.
    pub fn calls(&self) -> impl Iterator<Item = Invocation<'_>> {
        self.with_client().filter_map(Invocation::of)
    }

    /// Returns the calls that are about the client.
    pub fn of_client(&self) -> impl Iterator<Item = Invocation<'_>> {
        self.calls().filter(Invocation::is_about_client)
    }

    /// Returns the calls that the threads were in just before the request.
    pub fn in_silence(&self) -> impl Iterator<Item = Invocation<'_>> {
        self.calls().filter(|made| made.spans(self.marks.sending))
    }

    /// Returns the step that received the request.
    pub fn copier(&self) -> Result<&Step> {
        let copier = phases::copier(&self.steps, self.marks.sending);
        let (index, _) = copier.context("no step receives the request")?;
        Ok(&self.steps[index])
    }

    /// Returns the call that sends the reply.
    pub fn reply(&self) -> Result<Invocation<'_>> {
        let sends = |made: &Invocation<'_>| made.is(Family::Send);
        self.of_client().find(sends).context("no call sends the reply")
    }

    /// Returns a thread's name.
    pub fn who(&self, tid: Pid) -> String {
        let all = threads(&self.steps);
        let found = all.into_iter().find(|(other, _)| *other == tid);
        found.map_or_else(|| tid.to_string(), |(_, name)| name)
    }

    /// Describes a call and the thread that makes it, for a failure.
    pub fn describe(&self, made: &Invocation<'_>) -> String {
        format!("{} calls {}", self.who(made.step.tid), words(made.call))
    }

    /// Fails if there is a call for which `is_wrong` returns true.
    pub fn never(
        &self,
        is_wrong: impl Fn(&Invocation<'_>) -> bool,
    ) -> Result<()> {
        match self.calls().find(|made| is_wrong(made)) {
            Some(made) => Err(anyhow::Error::msg(self.describe(&made))),
            None => Ok(()),
        }
    }
}

//! The steps that wait for their turn, and the descriptors that they share.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit};

use super::case::Step;

/// Descriptors for a case that asks for none: what two servers and some
/// hundred clients take.
const ORDINARY: usize = 512;

/// Steps in their order, but for those with a crowd: they begin when there
/// are descriptors for it.
#[derive(Debug)]
pub struct Queue<'a> {
    waiting: Mutex<Waiting<'a>>,
    /// Told when descriptors are free again.
    freed: Condvar,
    /// How many clients all crowds together may have.
    room: usize,
}

#[derive(Debug)]
struct Waiting<'a> {
    steps: VecDeque<&'a Step>,
    free: usize,
}

impl<'a> Queue<'a> {
    /// For so many steps at a time, in this process's limit of descriptors.
    pub fn new(steps: VecDeque<&'a Step>, jobs: usize) -> Result<Self> {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let room = limit.saturating_sub(jobs * ORDINARY);
        let waiting = Mutex::new(Waiting { steps, free: room });
        Ok(Self { waiting, freed: Condvar::new(), room })
    }

    /// The first step that can run now; none when all have begun.
    pub fn next(&self) -> Option<&'a Step> {
        let mut waiting = self.waiting();
        loop {
            if waiting.steps.is_empty() {
                return None;
            }
            let free = waiting.free;
            let fits = |step: &&Step| step.case.crowd.min(self.room) <= free;
            if let Some(index) = waiting.steps.iter().position(fits) {
                let step = waiting.steps.remove(index)?;
                waiting.free -= step.case.crowd.min(self.room);
                return Some(step);
            }
            waiting = self
                .freed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why a step cannot run at all, if it cannot.
    pub fn lacks(&self, step: &Step) -> Option<String> {
        let (crowd, room) = (step.case.crowd, self.room);
        (crowd > room).then(|| {
            format!(
                "takes {crowd} clients, and the limit of open files \
                 (ulimit -Hn) leaves room for {room}"
            )
        })
    }

    pub fn ended(&self, step: &Step) {
        self.waiting().free += step.case.crowd.min(self.room);
        self.freed.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<'a>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The queues between the threads of `compute`: jobs, which the loop adds and
//! the workers remove, and a list of results for the way back.

use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use slotmap::DefaultKey;

use common::limits::INPUT_CHUNK;
use common::{About, Counters};

use crate::connection::Conversation;
use crate::notice::Notice;
use crate::worker;

/// The most jobs beyond those that the workers process: enough that no worker
/// waits for the loop. Each holds up to 16 KiB of input, so all hold 4 MiB at
/// most. Further requests stay in their sockets, where flow control slows down
/// the clients.
const QUEUED: usize = 256;

/// Input that was received from a client, and the conversation to process it
/// in.
pub struct Job {
    pub key: DefaultKey,
    pub conversation: Conversation,
    pub input: Vec<u8>,
    /// The loop's counts, for INFO.
    pub counters: Counters,
}

/// A job that was processed.
pub struct Answered {
    pub conversation: Conversation,
    /// The number of requests that the input has completed.
    pub completed: usize,
}

/// The loop's end of the queues.
pub struct Jobs {
    queues: Arc<Queues>,
    /// The number of jobs that are out: queued, with a worker, or on their way
    /// back.
    out: usize,
    /// The most jobs that are out at a time, so both queues are bounded.
    most: usize,
    /// Connections that may have a request, for which there was no room. They
    /// are read in this order.
    pub waiting: VecDeque<DefaultKey>,
    /// The loop receives here; a job gets a copy of the size that it needs.
    pub input: Box<[u8; INPUT_CHUNK]>,
}

/// The state that the loop and the workers share.
struct Queues {
    jobs: Mutex<Waiting>,
    filled: Condvar,
    /// `None` in place of a job that made its worker panic.
    results: Mutex<Vec<(DefaultKey, Option<Answered>)>>,
    /// Wakes the loop when there are results.
    notice: Arc<Notice>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// The number of workers that wait for a job.
    idle: usize,
}

impl Jobs {
    /// Starts the workers. `notice` wakes the loop when there are results.
    pub fn start(
        workers: usize,
        notice: &Arc<Notice>,
        about: &About,
    ) -> Result<Self> {
        let queues = Arc::new(Queues {
            jobs: Mutex::default(),
            filled: Condvar::new(),
            results: Mutex::default(),
            notice: Arc::clone(notice),
        });
        worker::start(workers, {
            let (queues, about) = (Arc::clone(&queues), about.clone());
            move || queues.work(about.clone().here())
        })?;
        Ok(Self {
            queues,
            out: 0,
            most: workers + QUEUED,
            waiting: VecDeque::new(),
            input: Box::new([0; INPUT_CHUNK]),
        })
    }

    pub fn has_room(&self) -> bool {
        self.out < self.most
    }

    /// Hands a job over. A worker is woken only if one is asleep; a busy one
    /// looks at the queue before it sleeps.
    pub fn push(&mut self, job: Job) {
        self.out += 1;
        let mut waiting = lock(&self.queues.jobs);
        waiting.jobs.push_back(job);
        let is_awaited = waiting.idle > 0;
        drop(waiting);
        if is_awaited {
            self.queues.filled.notify_one();
        }
    }

    /// Returns the results that have come back. The notice must have been
    /// cleared before: see `Queues::finish`.
    pub fn results(&mut self) -> Vec<(DefaultKey, Option<Answered>)> {
        let results = mem::take(&mut *lock(&self.queues.results));
        self.out -= results.len();
        results
    }
}

impl Queues {
    /// The work of a worker: one job after the other. It makes no call on a
    /// socket. A panic ends one client, and the worker goes on; the panic hook
    /// has reported it.
    fn work(&self, mut about: About) -> ! {
        loop {
            let Job { key, mut conversation, input, counters } = self.next();
            about.counters = counters;
            let answered = catch_unwind(AssertUnwindSafe(|| {
                let completed = conversation.answer(&input, &about);
                Answered { conversation, completed }
            }));
            self.finish(key, answered.ok());
        }
    }

    /// Waits for a job, and removes the one that has waited longest.
    fn next(&self) -> Job {
        let mut waiting = lock(&self.jobs);
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return job;
            }
            waiting.idle += 1;
            let woken = self.filled.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
    }

    /// Adds a result, and notifies the loop, unless it was notified and has not
    /// looked yet.
    ///
    /// No result stays behind. The loop clears the notice, then takes the list.
    /// A worker adds a result, then sends the notice. If the list was empty,
    /// the notice comes after the result, so the loop wakes up and finds it. If
    /// it was not, the worker of the first result has sent the notice or is
    /// about to, and the loop will take both. If the loop took the list before
    /// it cleared the notice, a worker could add a result and send the notice
    /// between the two, and that notice would be cleared unseen.
    fn finish(&self, key: DefaultKey, answered: Option<Answered>) {
        let mut results = lock(&self.results);
        let is_first = results.is_empty();
        results.push((key, answered));
        drop(results);
        if is_first {
            self.notice.send();
        }
    }
}

/// Locks a queue, even after a panic, because no panic leaves it half changed.
fn lock<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

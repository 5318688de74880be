//! The workers: threads that run tasks and lend them buffers.

use std::cell::RefCell;
use std::num::NonZero;
use std::panic;
use std::process::exit;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::{Builder, Runtime};

use common::About;
use common::limits::{INPUT_CHUNK, OUTPUT_KEPT};

use crate::MODEL;

/// Sanity limit for `--workers`; a larger number is a typo.
const WORKERS_MOST: i64 = 1024;

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Number of worker threads [default: the cores this process may use].
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=WORKERS_MOST))]
    workers: Option<u16>,
}

impl Flags {
    pub fn workers(self) -> usize {
        let cores = || available_parallelism().map_or(1, NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }
}

/// Creates the workers and the reactor: epoll, an eventfd that wakes it, and
/// timers.
///
/// tokio panics if a thread cannot be created, and the unwinding waits for ever
/// for the workers that were created before. So the panic hook ends the
/// process, with the message and the exit code of any other failure.
pub fn runtime(workers: usize) -> Result<Runtime> {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let why = panic.payload_as_str().unwrap_or("a worker panicked");
        let _ = common::conclude(Err(anyhow!(
            "cannot start {workers} workers: {why} (ulimit -u, ulimit -v)"
        )));
        exit(1)
    }));
    let built = Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("worker")
        .enable_all()
        .build();
    panic::set_hook(usual);
    built.context("cannot create tokio's runtime")
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new());
}

/// The buffers that a worker lends to the task it runs. An idle task holds
/// none: a buffer kept across an `.await` would be part of the task, one per
/// client. Only the output goes with a task, until it is sent.
pub struct Worker {
    pub input: Box<[u8; INPUT_CHUNK]>,
    pub output: Vec<u8>,
    /// The thread's own, so that it need not be looked up for each request: the
    /// next poll of a task may be on another worker.
    pub about: About,
}

impl Worker {
    fn new() -> Self {
        let about = About::new(MODEL.name, "");
        Self { input: Box::new([0; INPUT_CHUNK]), output: Vec::new(), about }
    }
}

/// Runs `work` with the buffers of the calling worker. `work` is not async, so
/// it cannot keep them across an `.await`.
pub fn borrow<T>(work: impl FnOnce(&mut Worker) -> T) -> T {
    WORKER.with_borrow_mut(work)
}

/// Returns an output buffer to the worker that runs the task now, perhaps not
/// the one that lent it.
pub fn give_back(mut output: Vec<u8>) {
    output.clear();
    output.shrink_to(OUTPUT_KEPT);
    borrow(|worker| {
        if worker.output.capacity() < output.capacity() {
            worker.output = output;
        }
    });
}

//! The workers: threads that run tasks, and what they lend them.

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

/// More workers than any machine has cores for: a number above is a slip.
const WORKERS_MOST: i64 = 1024;

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Threads that run the tasks [default: the cores this process may use].
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

/// Makes the workers, and all that is needed to wait: epoll, an eventfd that
/// wakes it, timers.
///
/// tokio panics where a thread is refused, and the unwinding waits for ever
/// for the workers that were made before. So the process ends where the panic
/// begins, with the words and the exit code of any other failure.
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
    built.context("cannot make tokio's runtime")
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new());
}

/// What a worker lends to the task that it runs. A task that waits has given
/// it back: what it kept would be part of the task, one for each client.
pub struct Worker {
    pub input: Box<[u8; INPUT_CHUNK]>,
    pub output: Vec<u8>,
    /// Asked for once: the next poll of a task may be another worker's.
    pub about: About,
}

impl Worker {
    fn new() -> Self {
        let about = About::new(MODEL.name, "");
        Self { input: Box::new([0; INPUT_CHUNK]), output: Vec::new(), about }
    }
}

/// Has the calling worker's buffers for as long as `work` takes, in which
/// nothing can wait.
pub fn borrow<T>(work: impl FnOnce(&mut Worker) -> T) -> T {
    WORKER.with_borrow_mut(work)
}

/// Gives an output buffer to whichever worker runs the task now.
pub fn give_back(mut output: Vec<u8>) {
    output.clear();
    output.shrink_to(OUTPUT_KEPT);
    borrow(|worker| {
        if worker.output.capacity() < output.capacity() {
            worker.output = output;
        }
    });
}

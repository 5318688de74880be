//! The variant `queue`: one thread accepts the clients and puts them into a
//! queue, from which the workers take them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};

use crate::{Client, Pool, worker};

/// The number of clients that the queue holds. A worker that becomes free finds
/// one there at once. More clients wait in the accept queue, where they use no
/// descriptor.
const LENGTH: usize = 16;

/// Starts the workers, and the thread that accepts.
pub fn start(pool: &Arc<Pool>, workers: usize) -> Result<()> {
    // Each client in the queue needs a descriptor, too.
    let more = common::descriptors_for_clients().saturating_sub(workers);
    let queue = Arc::new(Queue::new(LENGTH.min(more)));
    worker::start(workers, {
        let (pool, queue) = (Arc::clone(pool), Arc::clone(&queue));
        move || {
            while let Some(client) = queue.pop() {
                pool.serve(client);
            }
            Ok(())
        }
    })?;
    let pool = Arc::clone(pool);
    let accept = move || worker::run(&|| accept_into(&queue, &pool));
    worker::create("acceptor", accept).context("cannot create the acceptor")
}

/// Accepts clients while the queue has room. When it is full, they wait in the
/// accept queue.
fn accept_into(queue: &Queue, pool: &Pool) -> Result<()> {
    loop {
        queue.wait_for_room();
        let Some(stream) = pool.accept()? else { break };
        if let Some(client) = pool.admit(stream) {
            queue.push(client);
        }
    }
    queue.close();
    Ok(())
}

/// A bounded queue with one producer and many consumers.
struct Queue {
    state: Mutex<State>,
    /// The most clients that wait in it while no worker is idle.
    length: usize,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    clients: VecDeque<Client>,
    /// The number of workers that wait in `pop`.
    idle: usize,
    closed: bool,
}

impl Queue {
    fn new(length: usize) -> Self {
        Self {
            state: Mutex::default(),
            length,
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    /// Waits until one more client has a place, or an idle worker. `pop`
    /// signals when a worker becomes idle. A client that is removed makes no
    /// room, because the worker that removes it is not idle any more.
    fn wait_for_room(&self) {
        let mut state = self.lock();
        while state.clients.len() >= self.length + state.idle {
            state = wait(&self.emptied, state);
        }
    }

    /// Adds a client, and wakes one idle worker.
    fn push(&self, client: Client) {
        self.lock().clients.push_back(client);
        self.filled.notify_one();
    }

    /// Waits for a client, and removes the one that has waited longest. Returns
    /// None once the queue is closed and empty.
    fn pop(&self) -> Option<Client> {
        let mut state = self.lock();
        state.idle += 1;
        self.emptied.notify_one();
        while state.clients.is_empty() && !state.closed {
            state = wait(&self.filled, state);
        }
        state.idle -= 1;
        state.clients.pop_front()
    }

    /// Makes the workers end when the queue is empty.
    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Locks the state, even after a panic, because no panic leaves it half
    /// changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(
    condition: &Condvar,
    state: MutexGuard<'a, State>,
) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

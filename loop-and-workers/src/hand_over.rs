//! The hand-over of `compute`: the loop receives, a worker answers, the loop
//! sends.

use slotmap::DefaultKey;

use crate::Server;
use crate::connection::Outcome;
use crate::jobs::{Job, Jobs};

impl Server<'_> {
    /// Receives what has arrived from a client, and hands it over.
    pub fn read(&mut self, key: DefaultKey, jobs: &mut Jobs) {
        let connection = &mut self.connections[key];
        let outcome = connection.on_readable(&mut *jobs.input, &mut self.about);
        let Ok(Outcome::Received(received)) = outcome else {
            return self.apply_outcome(key, outcome);
        };
        // The interest stays as it is, because most clients send nothing until
        // they have their reply. That of one that does is changed then.
        if let Some(conversation) = connection.lend() {
            let input = jobs.input[..received].to_vec();
            let counters = self.about.counters;
            jobs.push(Job { key, conversation, input, counters });
        }
    }

    /// Sends what the workers have answered. A key that is not found is that of
    /// a client who has left meanwhile.
    pub fn on_results(&mut self, jobs: &mut Jobs) {
        for (key, answered) in jobs.results() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            // The worker has panicked, and the conversation is lost.
            let Some(answered) = answered else {
                self.close(key);
                continue;
            };
            connection.take_back(
                answered.conversation,
                answered.completed,
                &mut self.about,
            );
            let outcome = connection.flush_and_advance();
            self.apply_outcome(key, outcome);
        }
    }

    /// Puts a connection at the end of those that wait for room. The list is at
    /// most twice as long as the number of clients, because the keys of clients
    /// who have left are removed when they are the half of it.
    pub fn wait_for_room(&mut self, key: DefaultKey, jobs: &mut Jobs) {
        if jobs.waiting.len() >= 2 * self.connections.len() {
            jobs.waiting.retain(|key| self.connections.contains_key(*key));
        }
        self.registrations[key].is_waiting = true;
        jobs.waiting.push_back(key);
    }

    /// Reads from the connections that have waited for room, while there is
    /// some. If there is none, jobs are out, and the notice of a result wakes
    /// the loop.
    pub fn run_waiting_list(&mut self, jobs: &mut Jobs) {
        while jobs.has_room()
            && let Some(key) = jobs.waiting.pop_front()
        {
            if let Some(registration) = self.registrations.get_mut(key) {
                registration.is_waiting = false;
                self.read(key, jobs);
            }
        }
    }
}

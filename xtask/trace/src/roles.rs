//! The descriptors of all processes: one table per process, as in the kernel. A
//! child begins with a copy of its parent's; threads share one.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use nix::unistd::Pid;

use super::calls::{CallSpec, Effect};
use super::event::{Call, EventKind, Outcome};
use super::passed::{self, passed};
use super::remote::{u32_at, u64_at};
use super::role::Role;

/// The descriptors of all processes.
#[derive(Debug, Default)]
pub struct Roles {
    tables: HashMap<Pid, Table>,
    /// The number of roles of each kind so far.
    counts: HashMap<Discriminant<Role>, u32>,
    /// The roles of sockets that a process has passed on, by inode.
    passed: HashMap<u64, Role>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    roles: HashMap<i32, Role>,
    /// The role for the data that epoll(7) puts into an event, by epoll
    /// instance. A copy of the instance's descriptor has the same role.
    watched: HashMap<(Role, u64), Role>,
}

impl Roles {
    /// Returns the role of a process's descriptor.
    pub fn of(&self, pid: Pid, fd: i32) -> Role {
        let role = self.tables.get(&pid).and_then(|it| it.roles.get(&fd));
        role.cloned().unwrap_or(match fd {
            0 => Role::Input,
            1 => Role::Output,
            2 => Role::Errors,
            fd => Role::Unknown(fd),
        })
    }

    /// Returns the role that an event of epoll is about.
    pub fn watched(&self, pid: Pid, epoll: i32, data: u64) -> Option<Role> {
        let epoll = self.of(pid, epoll);
        self.tables.get(&pid)?.watched.get(&(epoll, data)).cloned()
    }

    /// Applies an event: a new process has its parent's descriptors.
    pub fn happened(&mut self, pid: Pid, what: &EventKind) {
        match *what {
            EventKind::Started { by } if by != pid => {
                let table = self.tables.get(&by).cloned().unwrap_or_default();
                self.tables.insert(pid, table);
            }
            EventKind::Executed => drop(self.tables.remove(&pid)),
            // Noted before the call ends, because the receiving one may end
            // earlier.
            EventKind::Enter(ref call) => {
                for (fd, inode) in passed(call.memory.of(passed::PLACE)) {
                    self.passed.insert(inode, self.of(pid, fd));
                }
            }
            _ => {}
        }
    }

    /// Applies a call that has succeeded.
    pub fn called(
        &mut self,
        pid: Pid,
        spec: &CallSpec,
        call: &Call,
        outcome: &Outcome,
    ) {
        let arguments = &call.arguments;
        let (new, fd) = (outcome.result as i32, arguments[0] as i32);
        match spec.effect {
            Effect::None | Effect::Maps | Effect::EquipsRing => {}
            Effect::Opens(role) => self.open(pid, new, role),
            Effect::SetsUpRing => self.open(pid, new, Role::Ring),
            Effect::OpensSocket
                if arguments[1] & 0xf == libc::SOCK_DGRAM as u64 =>
            {
                self.open(pid, new, Role::Datagrams);
            }
            Effect::OpensSocket => self.open(pid, new, Role::Socket),
            Effect::Listens => {
                if !matches!(self.of(pid, fd), Role::Listener(_)) {
                    self.open(pid, fd, Role::Listener);
                }
            }
            Effect::OpensPair(place) => {
                for fd in outcome.memory.of(place).chunks_exact(4) {
                    self.open(pid, u32_at(fd, 0).cast_signed(), Role::Pipe);
                }
            }
            Effect::OpensFile(place) => {
                self.file(pid, new, call.memory.of(place));
            }
            Effect::Duplicates => self.copy(pid, fd, new),
            Effect::Replaces => self.copy(pid, fd, arguments[1] as i32),
            Effect::Controls => {
                let command = arguments[1] as i32;
                if [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].contains(&command) {
                    self.copy(pid, fd, new);
                }
            }
            Effect::Closes => drop(self.table(pid).roles.remove(&fd)),
            Effect::ClosesRange => self.close_range(pid, arguments),
            Effect::Watches => self.watch(pid, arguments, call.memory.of(3)),
            Effect::Passes => {}
            Effect::Receives => {
                for (fd, inode) in passed(outcome.memory.of(passed::PLACE)) {
                    let role = self.passed.get(&inode).cloned();
                    let role = role.unwrap_or(Role::Unknown(fd));
                    self.table(pid).roles.insert(fd, role);
                }
            }
        }
    }

    /// Adds a descriptor that the kernel has opened for io_uring.
    pub fn accepted(&mut self, pid: Pid, fd: i32) -> Role {
        self.open(pid, fd, Role::Client);
        self.of(pid, fd)
    }

    fn table(&mut self, pid: Pid) -> &mut Table {
        self.tables.entry(pid).or_default()
    }

    fn open(&mut self, pid: Pid, fd: i32, kind: fn(u32) -> Role) {
        let count = self.counts.entry(discriminant(&kind(0))).or_default();
        *count += 1;
        let role = kind(*count);
        self.table(pid).roles.insert(fd, role);
    }

    fn file(&mut self, pid: Pid, fd: i32, path: &[u8]) {
        let role = match path {
            b"/dev/null" => Role::Spare,
            path => Role::File(String::from_utf8_lossy(path).into_owned()),
        };
        self.table(pid).roles.insert(fd, role);
    }

    fn copy(&mut self, pid: Pid, from: i32, to: i32) {
        let role = self.of(pid, from);
        self.table(pid).roles.insert(to, role);
    }

    fn close_range(&mut self, pid: Pid, arguments: &[u64; 6]) {
        let (first, last) = (arguments[0], arguments[1]);
        let later = u64::from(libc::CLOSE_RANGE_CLOEXEC);
        if arguments[2] & later == 0 {
            self.table(pid).roles.retain(|fd, _| {
                !(first..=last).contains(&u64::try_from(*fd).unwrap_or(0))
            });
        }
    }

    /// Applies epoll_ctl(2): EPOLL_CTL_ADD and EPOLL_CTL_MOD specify the data
    /// of later events.
    fn watch(&mut self, pid: Pid, arguments: &[u64; 6], event: &[u8]) {
        let Some(data) = epoll_data(event) else { return };
        let role = self.of(pid, arguments[2] as i32);
        let epoll = self.of(pid, arguments[0] as i32);
        self.table(pid).watched.insert((epoll, data), role);
    }
}

/// Returns the data of an epoll_event, its last eight bytes. Their offset
/// depends on whether the machine packs the struct.
pub fn epoll_data(event: &[u8]) -> Option<u64> {
    let at = std::mem::offset_of!(libc::epoll_event, u64);
    event.get(at..at + 8).map(|bytes| u64_at(bytes, 0))
}

#[cfg(test)]
mod tests {
    use crate::tape::Tape;

    #[test]
    fn a_passed_descriptor_keeps_its_role() {
        let entry = |fd: i32, inode: u64| {
            [&fd.to_ne_bytes()[..], &inode.to_ne_bytes()].concat()
        };
        let tape = Tape::serving()
            .call("sendmsg", [8], 1, &[(6, &entry(4, 77))], &[])
            .call("close", [4], 0, &[], &[])
            .call("recvmsg", [9], 1, &[], &[(6, &entry(4, 77))]);
        assert_eq!(tape.last_call(), "recvmsg(descriptor 9) = client 1");
        let tape = tape.call("lseek", [4], 0, &[], &[]);
        assert_eq!(tape.last_call(), "lseek(client 1) = 0");
        let tape = tape.call("recvmsg", [9], 1, &[], &[(6, &entry(5, 78))]);
        assert_eq!(tape.last_call(), "recvmsg(descriptor 9) = descriptor 5");
    }

    #[test]
    fn calls_give_descriptors_their_roles() {
        let datagram = libc::SOCK_DGRAM as u64 | libc::SOCK_CLOEXEC as u64;
        let duplicate = libc::F_DUPFD_CLOEXEC as u64;
        let rows: [(&'static str, [u64; 3], i64, u64, &str); 15] = [
            ("socket", [2, datagram, 0], 9, 9, "datagrams"),
            ("socket", [2, 1, 0], 9, 9, "socket 2"),
            ("accept", [3, 0, 0], 9, 9, "client 2"),
            ("epoll_create1", [0, 0, 0], 9, 9, "epoll 2"),
            ("eventfd2", [0, 0, 0], 9, 9, "eventfd"),
            ("signalfd4", [0, 0, 0], 9, 9, "signals 2"),
            ("timerfd_create", [0, 0, 0], 9, 9, "timer"),
            ("io_uring_setup", [0, 0, 0], 9, 9, "ring 2"),
            ("dup", [4, 0, 0], 9, 9, "client 1"),
            ("dup3", [4, 9, 0], 9, 9, "client 1"),
            ("fcntl", [3, duplicate, 0], 9, 9, "listener"),
            ("listen", [3, 9, 0], 0, 3, "listener"),
            ("close", [4, 0, 0], 0, 4, "descriptor 4"),
            ("close_range", [4, 9, 0], 0, 4, "descriptor 4"),
            ("close_range", [4, 9, 4], 0, 4, "client 1"),
        ];
        for (name, arguments, result, fd, expected) in rows {
            let tape = Tape::serving()
                .call(name, arguments, result, &[], &[])
                .call("lseek", [fd], 0, &[], &[]);
            let expected = format!("lseek({expected}) = 0");
            assert_eq!(tape.last_call(), expected, "{name}");
        }
    }
}

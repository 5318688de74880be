//! Descriptors that one process passes to another in a control message, see
//! SCM_RIGHTS in unix(7). Each process has a number of its own for the socket;
//! the socket's inode is the same in both.

use std::fs;

use nix::unistd::Pid;

use super::remote::{read, u32_at, u64_at};

/// The place of these descriptors in a call's memory, behind those of the six
/// arguments.
pub const PLACE: u8 = 6;

/// The most bytes of control messages that are read.
const CONTROL: u64 = 512;

/// The size of a cmsghdr: length, level and type.
const HEADER: usize = 16;

/// Size of a descriptor in [`read_passed`]: its number and the inode.
const ENTRY: usize = 12;

/// Reads the descriptors in the control messages of a msghdr.
pub fn read_passed(pid: Pid, address: u64) -> Option<Vec<u8>> {
    let message = read(pid, address, size_of::<libc::msghdr>() as u64)?;
    let (control, length) = (u64_at(&message, 32), u64_at(&message, 40));
    let control = read(pid, control, length.min(CONTROL))?;
    let entries = descriptors(&control).into_iter().flat_map(|fd| {
        let inode = inode(pid, fd).unwrap_or(0);
        [&fd.to_ne_bytes()[..], &inode.to_ne_bytes()].concat()
    });
    Some(entries.collect())
}

/// Returns the descriptors in control messages (cmsg(3)).
fn descriptors(mut control: &[u8]) -> Vec<i32> {
    let mut fds = Vec::new();
    while control.len() >= HEADER {
        let length = u64_at(control, 0) as usize;
        let (level, kind) = (u32_at(control, 8), u32_at(control, 12));
        let rights = (libc::SOL_SOCKET as u32, libc::SCM_RIGHTS as u32);
        let Some(data) = control.get(HEADER..length) else { break };
        if (level, kind) == rights {
            let each = data.chunks_exact(4).map(|it| u32_at(it, 0));
            fds.extend(each.map(u32::cast_signed));
        }
        let next = length.next_multiple_of(8).min(control.len());
        control = &control[next..];
    }
    fds
}

/// Returns the inode of a process's socket. /proc shows it as `socket:[1234]`.
fn inode(pid: Pid, fd: i32) -> Option<u64> {
    let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let name = target.to_str()?.strip_prefix("socket:[")?;
    name.strip_suffix(']')?.parse().ok()
}

/// Returns number and inode of each descriptor that was [read](read_passed).
pub fn passed(bytes: &[u8]) -> impl Iterator<Item = (i32, u64)> {
    let entries = bytes.chunks_exact(ENTRY);
    entries.map(|it| (u32_at(it, 0).cast_signed(), u64_at(it, 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_found_behind_other_messages() {
        let message = |kind: i32, data: &[u8]| {
            let length = (HEADER + data.len()) as u64;
            let level = libc::SOL_SOCKET.to_ne_bytes();
            let header = [&length.to_ne_bytes()[..], &level].concat();
            let mut all = [&header, &kind.to_ne_bytes()[..], data].concat();
            all.resize(all.len().next_multiple_of(8), 0);
            all
        };
        let fds = [7i32.to_ne_bytes(), 8i32.to_ne_bytes()].concat();
        let other = message(libc::SCM_CREDENTIALS, &[0; 12]);
        let rights = message(libc::SCM_RIGHTS, &fds);
        assert_eq!(descriptors(&[other, rights.clone()].concat()), [7, 8]);
        // A length beyond the end, as after MSG_CTRUNC.
        assert_eq!(descriptors(&rights[..20]), []);
    }
}

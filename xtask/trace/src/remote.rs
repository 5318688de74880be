//! Reads the memory of another process, which is stopped.

use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

const IO_VECTOR: u64 = size_of::<libc::iovec>() as u64;

/// Reads the bytes at an address. Returns None if the process has none there.
pub fn read(pid: Pid, address: u64, length: u64) -> Option<Vec<u8>> {
    if address == 0 || length == 0 {
        return None;
    }
    let length = usize::try_from(length).ok()?;
    let mut bytes = vec![0; length];
    let there =
        RemoteIoVec { base: usize::try_from(address).ok()?, len: length };
    let mut here = [IoSliceMut::new(&mut bytes)];
    let count = process_vm_readv(pid, &mut here, &[there]).ok()?;
    bytes.truncate(count);
    Some(bytes)
}

/// Reads the first bytes of the first buffer of an array of iovec.
pub fn read_vector(pid: Pid, address: u64, most: u64) -> Option<Vec<u8>> {
    let first = read(pid, address, IO_VECTOR)?;
    read(pid, u64_at(&first, 0), u64_at(&first, 8).min(most))
}

/// Reads the first bytes of the first buffer of a msghdr, which begins with the
/// address of the peer and its length.
pub fn read_message(pid: Pid, address: u64, most: u64) -> Option<Vec<u8>> {
    let message = read(pid, address, 24)?;
    read_vector(pid, u64_at(&message, 16), most)
}

/// Reads a string, which may end just before a page that is not mapped.
pub fn read_text(pid: Pid, address: u64, most: u64) -> Option<Vec<u8>> {
    let to_next_page = 4096 - address % 4096;
    let mut text = read(pid, address, most.min(to_next_page))?;
    let end = text.iter().position(|byte| *byte == 0);
    text.truncate(end.unwrap_or(text.len()));
    Some(text)
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    number_at(bytes, at).map_or(0, u16::from_ne_bytes)
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    number_at(bytes, at).map_or(0, u32::from_ne_bytes)
}

/// Returns zero if there are not enough bytes.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    number_at(bytes, at).map_or(0, u64::from_ne_bytes)
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

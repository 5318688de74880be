//! fork copies the table of descriptors; the descriptions behind them are
//! shared.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::close;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child;

pub const CLAIM: Claim = Claim {
    id: "fork-copies-descriptors",
    claim: "fork copies the list of descriptors, and both lists refer to the \
            same open files.",
    section: "Scaling by processes",
    criterion: "A child reads from a file that its parent opened, and closes \
                it. True if the parent's descriptor is still open afterwards, \
                and its offset has moved as far as the child read. False if \
                one of the two is different.",
    if_false: History::NeverTrue,
    sources: &["fork(2)", "open(2), Open file descriptions"],
    explanation: "The child has a table of its own, so it may close what it \
                  does not need. The entries refer to shared descriptions, \
                  with one offset and one set of status flags. For a server \
                  this means: a connection ends when the last process has \
                  closed it, so the parent must close its copy.",
    run,
    file: file!(),
};

/// Bytes that the child reads.
const READ: usize = 10;

fn run(_effort: Effort) -> Result<Finding> {
    let file = memfd_create(c"claim", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&[b'x'; 3 * READ])?;
    file.rewind()?;
    let number = file.as_raw_fd();
    let (read, _) = child::run(|| {
        let read = file.read(&mut [0; READ])?;
        close(number).context("close")?;
        Ok([read as f64])
    })
    .context("the child")?;
    ensure!(read == [READ as f64], "the child has read {read:?} bytes");
    let open = file.metadata().is_ok();
    let offset = file.stream_position().unwrap_or(0);
    Ok(Finding::new(
        judge(open, offset),
        [
            Figure::new(
                "offset of the parent's descriptor",
                "",
                offset as usize,
            ),
            Figure::new("bytes that the child has read", "", READ),
        ],
    ))
}

fn judge(open: bool, offset: u64) -> Answer {
    Answer::from_bool(open && offset == READ as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_must_be_so() {
        assert_eq!(judge(true, READ as u64), Answer::True);
        assert_eq!(judge(false, READ as u64), Answer::False);
        assert_eq!(judge(true, 0), Answer::False);
    }
}

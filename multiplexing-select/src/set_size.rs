//! FD_SETSIZE: the descriptors that a set of the C library has a bit for
//! (select(2), "C library/kernel differences"). Setting the bit of another one
//! ends the program here, because nix panics; in C it writes past the set's
//! end, or aborts the program if that was built with _FORTIFY_SOURCE.

use std::os::fd::{AsFd, AsRawFd as _};

use anyhow::{Result, ensure};
use nix::sys::select::FD_SETSIZE;

use common::{Config, ConnectionLimit, open_descriptors_below};

/// True where a set has a bit for the descriptor.
pub fn fits(fd: impl AsFd) -> bool {
    let number = usize::try_from(fd.as_fd().as_raw_fd());
    number.is_ok_and(|number| number < FD_SETSIZE)
}

/// Refuses to start with a descriptor of the server's own that has no bit.
pub fn ensure_fits(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    ensure!(
        fits(fd),
        "select(2) takes descriptors below FD_SETSIZE ({FD_SETSIZE}) only, \
         and one of the server's own is {}: start it with fewer open files",
        fd.as_raw_fd(),
    );
    Ok(())
}

/// As many clients as there are bits left. Call it when everything is bound.
pub fn limit(config: &Config) -> Result<ConnectionLimit> {
    let ceiling = FD_SETSIZE.saturating_sub(open_descriptors_below(FD_SETSIZE));
    ensure!(
        ceiling > 0,
        "all descriptors below FD_SETSIZE ({FD_SETSIZE}) are open already, and \
         select(2) takes no others: start it with fewer open files"
    );
    let why = "FD_SETSIZE in select(2)";
    Ok(ConnectionLimit::with_ceiling(config, 1, ceiling, why))
}

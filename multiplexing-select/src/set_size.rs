//! FD_SETSIZE: the number of bits in the C library's fd_set (select(2), "C
//! library/kernel differences"). Setting the bit of a higher descriptor panics
//! here, in nix. In C it writes past the set's end, or aborts the program if
//! that was built with _FORTIFY_SOURCE (feature_test_macros(7)).

use std::os::fd::{AsFd, AsRawFd as _};

use anyhow::{Result, ensure};
use nix::sys::select::FD_SETSIZE;

use common::{Config, ConnectionLimit, open_descriptors_below};

/// True if a set has a bit for the descriptor.
pub fn fits(fd: impl AsFd) -> bool {
    let number = usize::try_from(fd.as_fd().as_raw_fd());
    number.is_ok_and(|number| number < FD_SETSIZE)
}

/// Fails if a set has no bit for a descriptor of the server's own.
pub fn ensure_fits(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    ensure!(
        fits(fd),
        "select(2) supports only descriptors below FD_SETSIZE ({FD_SETSIZE}), \
         and one of the server's own is {}: start it with fewer open files",
        fd.as_raw_fd(),
    );
    Ok(())
}

/// Returns the connection limit: one client per descriptor that has a bit and
/// is not open yet. It is called after the server has opened its own.
pub fn limit(config: &Config) -> Result<ConnectionLimit> {
    let ceiling = FD_SETSIZE.saturating_sub(open_descriptors_below(FD_SETSIZE));
    ensure!(
        ceiling > 0,
        "all descriptors below FD_SETSIZE ({FD_SETSIZE}) are open already, and \
         select(2) supports no others: start it with fewer open files"
    );
    let why = "FD_SETSIZE in select(2)";
    Ok(ConnectionLimit::with_ceiling(config, 1, ceiling, why))
}

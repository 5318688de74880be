//! Measures processor time, which excludes the time of other programs on a busy
//! machine.

use anyhow::{Error, Result};

use super::clock;

/// Returns the mean processor time of one of `count` calls, in µs.
pub fn mean_micros<T, E: Into<Error>>(
    count: usize,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<f64> {
    let start = clock::thread_cpu_time()?;
    for _ in 0..count {
        call().map_err(E::into)?;
    }
    let spent = clock::thread_cpu_time()? - start;
    Ok(spent.as_secs_f64() * 1e6 / count as f64)
}

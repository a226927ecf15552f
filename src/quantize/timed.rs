//! Where the time of quantizing goes, for who wants to know (`RUST_LOG=wgquant=debug`).

use std::time::Instant;

use crate::error::Result;

/// Says how long `work` took.
///
/// # Errors
/// As `work`.
pub(crate) fn timed<T>(what: impl Fn() -> String, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let out = work()?;
    log::debug!("{}: {:.2} s", what(), start.elapsed().as_secs_f64());
    Ok(out)
}

//! What a signal that ends the program leaves behind: nothing half written.

/// Removes what is half written when the user or the system ends the program, which then ends as by the signal itself.
/// Elsewhere than on Unix the next run into the same output removes it.
pub(crate) fn clean_up() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let end = |mut signals: signal_hook::iterator::Signals| {
            if let Some(signal) = signals.forever().next() {
                for path in wgquant::files::remove_partial() {
                    log::info!("{}: kept, with what was done", path.display());
                }
                // As shells expect: a loop of commands ends with the one that was interrupted.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        };
        let hang_up = (!goes_on_after_hang_up()).then_some(SIGHUP);
        let started = signal_hook::iterator::Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up))
            .and_then(|signals| std::thread::Builder::new().name("signals".to_owned()).spawn(move || end(signals)));
        if let Err(e) = started {
            log::debug!("signals end the program as they are: {e}");
        }
    }
}

/// Was the program told to go on when its terminal closes (`nohup`)? Known on Linux alone, so elsewhere it ends as it would without us.
#[cfg(unix)]
fn goes_on_after_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let ignored = status.as_deref().and_then(|s| s.lines().find_map(|line| line.strip_prefix("SigIgn:")));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

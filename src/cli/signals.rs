//! What a signal that ends the program leaves behind: nothing.

/// Removes what is half written when the user or the system ends the program, which then ends as by the signal itself.
/// Elsewhere than on Unix the next run into the same output removes it.
pub(crate) fn clean_up() {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let end = |mut signals: signal_hook::iterator::Signals| {
            if let Some(signal) = signals.forever().next() {
                wgquant::files::remove_partial();
                // As shells expect: a loop of commands ends with the one that was interrupted.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        };
        let started = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
            .and_then(|signals| std::thread::Builder::new().name("signals".to_owned()).spawn(move || end(signals)));
        if let Err(e) = started {
            log::debug!("signals end the program as they are: {e}");
        }
    }
}

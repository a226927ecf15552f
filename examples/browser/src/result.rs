//! What the browser tells, put into the result file of `wgquant test-ops`.

use serde::Deserialize;
use wgquant::report::test_ops::{Browser, ResultFile};

/// What the page knows and wgpu is not told.
#[derive(Deserialize)]
pub(crate) struct About {
    browser: Browser,
    platform: String,
    time: String,
}

/// Fills in what wgpu left empty: a browser hides name and driver of its adapter, and wasm has no clock.
pub(crate) fn describe(file: &mut ResultFile, about: About) {
    let About { browser, platform, time } = about;
    let adapter = &mut file.adapter;
    if adapter.name.is_empty() {
        let words = [&browser.vendor, &browser.architecture, &browser.device, &browser.description];
        let known: Vec<&str> = words.into_iter().map(String::as_str).filter(|w| !w.is_empty()).collect();
        adapter.name = if known.is_empty() { "unnamed adapter".to_owned() } else { known.join(" ") };
    }
    if adapter.driver.is_empty() {
        adapter.driver.clone_from(&browser.name);
    }
    (file.platform, file.time, file.browser) = (format!("{platform} wasm32"), time, Some(browser));
}

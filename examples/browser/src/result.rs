//! The result file. The one place that knows its layout.

use serde_json::{Value, json};
use wgquant::gpu::Device;
use wgquant::kernels::check::Outcome;

/// Version of the layout.
const VERSION: u32 = 1;

/// What is known of the adapter: wgpu's report, and the browser's own words where wgpu has none.
pub(crate) fn adapter(device: &Device, browser: &Value) -> Value {
    let mut report = device.gpu().map_or(Value::Null, |g| json!(g.adapter));
    let words =
        ["vendor", "architecture", "device", "description"].map(|key| browser[key].as_str().unwrap_or_default());
    if report["name"].as_str().is_none_or(str::is_empty) {
        let known: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
        report["name"] = json!(if known.is_empty() { "unnamed adapter".to_owned() } else { known.join(" ") });
    }
    report["browser"] = browser.clone();
    report
}

/// One case.
pub(crate) fn case(outcome: &Outcome, seconds: f64) -> Value {
    let mut value = json!(outcome);
    value["status"] = json!(if outcome.failure.is_none() { "pass" } else { "fail" });
    value["seconds"] = json!(seconds);
    value
}

/// The whole file.
pub(crate) fn file(device: &Device, browser: &Value, seconds: f64, cases: &[Value], models: &[Value]) -> Value {
    let failed = cases.iter().filter(|c| c["status"] != "pass").count();
    json!({
        "version": VERSION,
        "tool": concat!("wgquant ", env!("CARGO_PKG_VERSION")),
        "adapter": adapter(device, browser),
        "seconds": seconds,
        "passed": cases.len() - failed,
        "failed": failed,
        "cases": cases,
        "models": models,
    })
}

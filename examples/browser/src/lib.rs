//! wgquant in a browser: opens the adapter, runs every kernel's cases, and quantizes and runs a small model.
//!
//! The page's worker (`page/worker.js`) calls [`Session`]; everything crosses as JSON text.

#![cfg(target_arch = "wasm32")]

mod model;
mod result;

use std::cell::RefCell;

use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use web_time::Instant;
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::kernels::ENTRIES;
use wgquant::kernels::check::{Case, Entry, Outcome, check, variants};

/// Seed of the inputs; a failure names it.
const SEED: u64 = 1;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);
}

/// A page's work on one device.
#[wasm_bindgen]
pub struct Session {
    device: Device,
    browser: Value,
    cases: RefCell<Vec<Value>>,
    models: RefCell<Vec<Value>>,
}

#[wasm_bindgen]
impl Session {
    /// Opens the browser's adapter. `browser` is what the page knows of it: wgpu is not told vendor and architecture.
    pub async fn open(browser: &str) -> Result<Session, JsError> {
        std::panic::set_hook(Box::new(|info| error(&info.to_string())));
        let device = Device::open(&DeviceChoice::Best, None).await?;
        let browser = serde_json::from_str(browser)?;
        Ok(Self { device, browser, cases: RefCell::default(), models: RefCell::default() })
    }

    /// The adapter as in the result file.
    pub fn adapter(&self) -> String {
        result::adapter(&self.device, &self.browser).to_string()
    }

    /// Kernel names with the number of cases each will run.
    pub fn kernels(&self) -> String {
        let count = |e: &Entry| e.cases.len() * variants(&self.device, e.name).len();
        let all: Vec<Value> = ENTRIES.iter().map(|e| json!({ "kernel": e.name, "cases": count(e) })).collect();
        Value::Array(all).to_string()
    }

    /// Runs every case; `each` gets each result as it comes.
    pub async fn check(&self, each: js_sys::Function) -> Result<(), JsError> {
        self.cases.borrow_mut().clear();
        for entry in ENTRIES {
            for variant in variants(&self.device, entry.name) {
                for case in entry.cases {
                    let result = self.check_one(entry, case, variant).await;
                    send(&each, &result);
                    self.cases.borrow_mut().push(result);
                }
            }
        }
        Ok(())
    }

    /// Quantizes a model and compares it with the original. `each` gets `{"step"}` or `{"model"}`.
    pub async fn measure(
        &self,
        config: String,
        weights: Vec<u8>,
        tokenizer: Vec<u8>,
        windows: Vec<u8>,
        each: js_sys::Function,
    ) -> Result<(), JsError> {
        let files = model::Files { config, weights, tokenizer, windows };
        let models = model::measure(&self.device, files, |event| send(&each, &event)).await?;
        *self.models.borrow_mut() = models;
        Ok(())
    }

    /// The result file; `seconds` is what all of it took.
    pub fn result(&self, seconds: f64) -> String {
        let file = result::file(&self.device, &self.browser, seconds, &self.cases.borrow(), &self.models.borrow());
        format!("{file:#}\n")
    }
}

impl Session {
    /// A case that cannot even run has failed.
    async fn check_one(&self, entry: &Entry, case: &Case, variant: Option<&'static str>) -> Value {
        let start = Instant::now();
        let outcome = check(&self.device, entry, case, variant, SEED).await.unwrap_or_else(|e| Outcome {
            kernel: entry.name,
            case: case.name,
            variant: variant.unwrap_or("best").to_owned(),
            nmse: 0.0,
            ties: 0,
            failure: Some(format!("{}/{}: {e}", entry.name, case.name)),
        });
        result::case(&outcome, start.elapsed().as_secs_f64())
    }
}

/// The page may be gone; what it throws is not ours to handle.
fn send(to: &js_sys::Function, event: &Value) {
    let _ = to.call1(&JsValue::NULL, &JsValue::from_str(&event.to_string()));
}

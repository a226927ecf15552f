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
use wgquant::Error;
use wgquant::gpu::{Caps, Device, DeviceChoice};
use wgquant::kernels::ENTRIES;
use wgquant::kernels::check::{Case, Entry, check, choices, concerned, lacking, variants};
use wgquant::report::test_ops::{BEST, Baseline, CaseId, CaseRecord, ResultFile, Status, params};

/// Seed of the inputs; a failure names it.
const SEED: u64 = 1;
/// What is known to fail, and why: as `test-ops test --baseline`.
const KNOWN: &str = include_str!("../../../results/test-ops/expected.csv");

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);
}

/// A page's work on one device.
#[wasm_bindgen]
pub struct Session {
    device: Device,
    known: Baseline,
    file: RefCell<ResultFile>,
}

#[wasm_bindgen]
impl Session {
    /// Opens the browser's adapter. `about` is what the page knows of it: wgpu is not told vendor and architecture.
    pub async fn open(about: &str) -> Result<Session, JsError> {
        std::panic::set_hook(Box::new(|info| error(&info.to_string())));
        let device = Device::open(&DeviceChoice::Best, None).await?;
        let mut file = ResultFile::new(&device, "test", SEED);
        result::describe(&mut file, serde_json::from_str(about)?);
        let known = Baseline::parse("expected.csv", KNOWN)?;
        Ok(Self { device, known, file: RefCell::new(file) })
    }

    /// The result file without cases.
    pub fn head(&self) -> Result<String, JsError> {
        Ok(self.file.borrow().json()?)
    }

    /// Kernel names with the number of cases each will give.
    pub fn kernels(&self) -> String {
        let caps = self.caps();
        let of = |e: &Entry, case| variants(&self.device, e, case).len() + lacking_of(e, case, &caps).len();
        let count = |e: &Entry| e.cases.iter().map(|case| of(e, case)).sum::<usize>();
        let all: Vec<Value> = ENTRIES.iter().map(|e| json!({ "kernel": e.name, "cases": count(e) })).collect();
        Value::Array(all).to_string()
    }

    /// Runs every case; `each` gets each record as it comes, those of variants that the adapter lacks as skipped. A lost
    /// device ends it: what failed by that says nothing of the kernels that are left.
    pub async fn check(&self, each: js_sys::Function) -> Result<(), JsError> {
        let caps = self.caps();
        for entry in ENTRIES {
            for case in entry.cases {
                for variant in variants(&self.device, entry, case) {
                    let record = self.check_one(entry, case, variant).await;
                    self.keep(&each, record);
                    if self.lost().is_some() {
                        return Err(JsError::new(&format!("the check ends with {}/{}", entry.name, case.name)));
                    }
                }
                for (variant, needs) in lacking_of(entry, case, &caps) {
                    let reason = Some(format!("the adapter lacks {needs}"));
                    self.keep(
                        &each,
                        CaseRecord::new(id(entry, case, variant), params(case), SEED, Status::Skip, reason),
                    );
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
        let models = model::measure(&self.device, files, |event| send(&each, &event.to_string())).await?;
        self.file.borrow_mut().models = models;
        Ok(())
    }

    /// How the device was lost, if it was.
    pub fn lost(&self) -> Option<String> {
        self.device.gpu()?.lost()
    }

    /// The result file; `seconds` is what all of it took.
    pub fn result(&self, seconds: f64) -> Result<String, JsError> {
        let mut file = self.file.borrow_mut();
        file.seconds = seconds;
        Ok(file.json()?)
    }
}

impl Session {
    fn caps(&self) -> Caps {
        self.file.borrow().caps
    }

    fn keep(&self, each: &js_sys::Function, record: CaseRecord) {
        send(each, &json!(record).to_string());
        self.file.borrow_mut().cases.push(record);
    }

    /// A case that cannot even run has failed, unless it is too large for the adapter.
    async fn check_one(&self, entry: &Entry, case: &Case, variant: Option<&'static str>) -> CaseRecord {
        let (start, id) = (Instant::now(), id(entry, case, variant.unwrap_or(BEST)));
        let mut record = match check(&self.device, entry, case, variant, SEED).await {
            Ok(outcome) => CaseRecord::compared(id, params(case), SEED, outcome),
            Err(e) => {
                let status = match e {
                    Error::LimitExceeded { .. } => Status::Skip,
                    _ if self.lost().is_some() => Status::Crash,
                    _ => Status::Fail,
                };
                CaseRecord::new(id, params(case), SEED, status, Some(e.to_string()))
            }
        };
        record.ms = start.elapsed().as_secs_f64() * 1e3;
        self.known.judge(&self.file.borrow(), &mut record);
        record
    }
}

fn id(entry: &Entry, case: &Case, variant: &str) -> CaseId {
    CaseId { kernel: entry.name.to_owned(), case: case.name.to_owned(), variant: variant.to_owned() }
}

/// Variants that a case is about and that need a capability the adapter does not have, and which.
fn lacking_of(entry: &Entry, case: &Case, caps: &Caps) -> Vec<(&'static str, String)> {
    let concerned = concerned(entry, case);
    lacking(choices(entry.name), caps).into_iter().filter(|(name, _)| concerned.contains(name)).collect()
}

/// The page may be gone; what it throws is not ours to handle.
fn send(to: &js_sys::Function, event: &str) {
    let _ = to.call1(&JsValue::NULL, &JsValue::from_str(event));
}

//! Two result files side by side.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{CaseId, CaseRecord, ResultFile, Status};

/// Errors below this are rounding; their ratio says nothing.
const SMALLEST: f64 = 1e-18;
/// A ratio of errors worth showing.
const RATIO: f64 = 10.0;

/// A value that is not the same in both files; `None` where a file does not have it.
#[derive(Clone, Debug, Serialize)]
pub struct Change<T> {
    /// What.
    pub what: String,
    /// In the first file.
    pub a: Option<T>,
    /// In the second.
    pub b: Option<T>,
}

/// What differs between two result files.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Adapter, driver, limits, features, seed, tool.
    pub machine: Vec<Change<String>>,
    /// Shaders whose source differs.
    pub shaders: Vec<Change<String>>,
    /// Cases that ended otherwise, or that one file lacks.
    pub statuses: Vec<Change<Status>>,
    /// Cases that ended alike, with errors more than ten times apart.
    pub errors: Vec<Change<f64>>,
    /// Cases in both.
    pub common: usize,
}

impl Comparison {
    /// Compares.
    #[must_use]
    pub fn new(a: &ResultFile, b: &ResultFile) -> Self {
        let by_id = |f: &ResultFile| -> BTreeMap<CaseId, CaseRecord> {
            f.cases.iter().map(|c| (c.id.clone(), c.clone())).collect()
        };
        let (cases_a, cases_b) = (by_id(a), by_id(b));
        let hashes = |f: &ResultFile| f.shaders.iter().map(|s| (s.shader.clone(), s.sha256.clone())).collect();
        let statuses = |c: &BTreeMap<CaseId, CaseRecord>| c.iter().map(|(i, c)| (i.to_string(), c.status)).collect();
        let errors = cases_a.iter().filter_map(|(id, a)| {
            let b = cases_b.get(id).filter(|b| b.status == a.status)?;
            let (x, y) = (a.nmse?.max(SMALLEST), b.nmse?.max(SMALLEST));
            (x / y > RATIO || y / x > RATIO).then(|| Change { what: id.to_string(), a: a.nmse, b: b.nmse })
        });
        Self {
            machine: changes(&machine(a), &machine(b)),
            shaders: changes(&hashes(a), &hashes(b)),
            statuses: changes(&statuses(&cases_a), &statuses(&cases_b)),
            errors: errors.collect(),
            common: cases_a.keys().filter(|id| cases_b.contains_key(id)).count(),
        }
    }

    /// Did every case end alike?
    #[must_use]
    pub fn same_statuses(&self) -> bool {
        self.statuses.is_empty()
    }
}

fn changes<T: Clone + PartialEq>(a: &BTreeMap<String, T>, b: &BTreeMap<String, T>) -> Vec<Change<T>> {
    let only_b = b.keys().filter(|k| !a.contains_key(*k));
    a.keys()
        .chain(only_b)
        .filter(|k| a.get(*k) != b.get(*k))
        .map(|k| Change { what: k.clone(), a: a.get(k).cloned(), b: b.get(k).cloned() })
        .collect()
}

/// Everything of the machine and the program, flat.
fn machine(file: &ResultFile) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let fields = [("tool", &file.tool), ("platform", &file.platform), ("mode", &file.mode)];
    all.extend(fields.map(|(k, v)| (k.to_owned(), v.clone())));
    all.insert("seed".to_owned(), file.seed.to_string());
    // Plain data: it serializes.
    for (name, value) in [("adapter", serde_json::to_value(&file.adapter)), ("caps", serde_json::to_value(file.caps))] {
        if let Ok(serde_json::Value::Object(map)) = value {
            let plain = map.into_iter().filter(|(k, _)| k != "caps");
            all.extend(plain.map(|(k, v)| {
                let text = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                (format!("{name}.{k}"), text)
            }));
        }
    }
    all
}

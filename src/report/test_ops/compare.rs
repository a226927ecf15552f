//! Two result files side by side.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The same, shorter: cases of a variant that changed alike are one entry.
    pub summary: Vec<Change<Status>>,
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
        let hashes = |f: &ResultFile| -> BTreeMap<String, String> {
            f.shaders.iter().map(|s| (s.shader.clone(), s.sha256.clone())).collect()
        };
        let statuses = |c: &BTreeMap<CaseId, CaseRecord>| -> BTreeMap<CaseId, Status> {
            c.iter().map(|(i, c)| (i.clone(), c.status)).collect()
        };
        let (of_a, of_b) = (statuses(&cases_a), statuses(&cases_b));
        let errors = cases_a.iter().filter_map(|(id, a)| {
            let b = cases_b.get(id).filter(|b| b.status == a.status)?;
            let (x, y) = (a.nmse?.max(SMALLEST), b.nmse?.max(SMALLEST));
            (x / y > RATIO || y / x > RATIO).then(|| Change { what: id.to_string(), a: a.nmse, b: b.nmse })
        });
        Self {
            machine: changes(&machine(a), &machine(b)),
            shaders: changes(&hashes(a), &hashes(b)),
            statuses: changes(&of_a, &of_b),
            summary: summary(&of_a, &of_b),
            errors: errors.collect(),
            common: cases_a.keys().filter(|id| cases_b.contains_key(id)).count(),
        }
    }

    /// Did every case end alike?
    #[must_use]
    pub fn same_statuses(&self) -> bool {
        self.statuses.is_empty()
    }

    /// Cases that both files ran and that ended otherwise, unlike those that only one file ran.
    #[must_use]
    pub fn contradictions(&self) -> usize {
        let ran = |s: Option<Status>| s.is_some_and(|s| s != Status::Skip);
        self.statuses.iter().filter(|c| ran(c.a) && ran(c.b)).count()
    }
}

/// Groups by kernel, variant and both statuses, in order of first appearance.
fn summary(a: &BTreeMap<CaseId, Status>, b: &BTreeMap<CaseId, Status>) -> Vec<Change<Status>> {
    type Key<'a> = (&'a str, &'a str, Option<Status>, Option<Status>);
    let mut groups: Vec<(Key<'_>, Vec<&CaseId>)> = Vec::new();
    let all: BTreeSet<&CaseId> = a.keys().chain(b.keys()).collect();
    for id in all.into_iter().filter(|id| a.get(id) != b.get(id)) {
        let key = (id.kernel.as_str(), id.variant.as_str(), a.get(id).copied(), b.get(id).copied());
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, ids)) => ids.push(id),
            None => groups.push((key, vec![id])),
        }
    }
    let name = |kernel: &str, variant: &str, ids: &[&CaseId]| match ids {
        [one] => one.to_string(),
        many => format!("{kernel} [{variant}], {} cases", many.len()),
    };
    groups.iter().map(|((k, v, a, b), ids)| Change { what: name(k, v, ids), a: *a, b: *b }).collect()
}

fn changes<K: Ord + ToString, T: Clone + PartialEq>(a: &BTreeMap<K, T>, b: &BTreeMap<K, T>) -> Vec<Change<T>> {
    let only_b = b.keys().filter(|k| !a.contains_key(*k));
    a.keys()
        .chain(only_b)
        .filter(|k| a.get(*k) != b.get(*k))
        .map(|k| Change { what: k.to_string(), a: a.get(k).cloned(), b: b.get(k).cloned() })
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

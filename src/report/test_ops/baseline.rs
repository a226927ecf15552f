//! Failures that are known: `wgquant test-ops test --baseline FILE`, and those a page was built with.

use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use super::{CaseRecord, ResultFile, Status};
use crate::error::{Error, Result};
use crate::kernels::ENTRIES;

/// One known failure. The patterns are regular expressions: of adapter and driver a part must match, in any case; of
/// the others the whole. An empty one matches everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    adapter: String,
    #[serde(default)]
    driver: String,
    kernel: String,
    #[serde(default)]
    case: String,
    #[serde(default)]
    variant: String,
    reason: String,
}

struct Entry {
    /// File and line, for messages.
    place: String,
    adapter: Regex,
    driver: Regex,
    kernel: Regex,
    case: Regex,
    variant: Regex,
    reason: String,
}

/// Known failures.
pub struct Baseline(Vec<Entry>);

const HEAD: &str = "adapter,driver,kernel,case,variant,reason";

impl Baseline {
    /// Reads a file as [`Baseline::parse`] does its text, and warns of lines that are of no case there is.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; as [`Baseline::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let read = Self::parse(&path.display().to_string(), &text)?;
        for entry in read.0.iter().filter(|e| !e.is_known()) {
            log::warn!("{}: there is no such kernel or no such case of it ({})", entry.place, entry.reason);
        }
        Ok(read)
    }

    /// CSV with the head line `adapter,driver,kernel,case,variant,reason` (the reason may hold commas), or JSON lines
    /// with these keys. Lines that start with `#` are comments. `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the file, the line and what is wrong there.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let lines = text.lines().zip(1..).map(|(l, n): (&str, usize)| (l.trim(), n));
        let mut lines = lines.filter(|(l, _)| !l.is_empty() && !l.starts_with('#')).peekable();
        let json = lines.peek().is_none_or(|(l, _)| l.starts_with('{'));
        let wrong = |n: usize, why: String| Error::argument(name, format!("line {n}: {why}"));
        if !json
            && let Some((head, n)) = lines.next()
            && head.replace(' ', "") != HEAD
        {
            return Err(wrong(n, format!("the head is `{head}`, expected `{HEAD}`")));
        }
        let entry = |(line, n): (&str, usize)| {
            let parsed = if json { serde_json::from_str(line).map_err(|e| e.to_string()) } else { csv(line) };
            parsed.and_then(|line| Entry::new(line, format!("{name}: line {n}"))).map_err(|why| wrong(n, why))
        };
        lines.map(entry).collect::<Result<_>>().map(Self)
    }

    /// Marks what was expected, and warns of entries that belong to this adapter and match none of its cases.
    pub fn apply(&self, file: &mut ResultFile) {
        let (adapter, driver) = (file.adapter.name.clone(), file.driver());
        for entry in self.0.iter().filter(|e| e.belongs(&adapter, &driver)) {
            let mut used = false;
            for case in file.cases.iter_mut().filter(|c| entry.covers(c)) {
                used = true;
                entry.judge(case);
            }
            if !used && entry.is_known() {
                log::warn!("{}: matches no case of this run ({})", entry.place, entry.reason);
            }
        }
    }

    /// Marks one case that ran where `file` says, if it is known to fail there.
    pub fn judge(&self, file: &ResultFile, case: &mut CaseRecord) {
        let (adapter, driver) = (&file.adapter.name, file.driver());
        for entry in self.0.iter().filter(|e| e.belongs(adapter, &driver)) {
            if entry.covers(case) {
                entry.judge(case);
            }
        }
    }
}

impl Entry {
    fn new(line: Line, place: String) -> Result<Self, String> {
        if line.reason.trim().is_empty() {
            return Err("an expected failure needs a reason".to_owned());
        }
        let regex = |p: &str| Regex::new(p).map_err(|e| e.to_string());
        let part = |p: &str| regex(&format!("(?i){p}"));
        let whole = |p: &str| regex(&if p.is_empty() { String::new() } else { format!("^(?:{p})$") });
        Ok(Self {
            place,
            adapter: part(&line.adapter)?,
            driver: part(&line.driver)?,
            kernel: whole(&line.kernel)?,
            case: whole(&line.case)?,
            variant: whole(&line.variant)?,
            reason: line.reason,
        })
    }

    /// Is there a case that it may be of?
    fn is_known(&self) -> bool {
        let mut all = ENTRIES.iter().flat_map(|e| [false, true].map(|large| (e.name, e.cases_of(large))));
        all.any(|(kernel, mut cases)| self.kernel.is_match(kernel) && cases.any(|c| self.case.is_match(c.name)))
    }

    fn belongs(&self, adapter: &str, driver: &str) -> bool {
        self.adapter.is_match(adapter) && self.driver.is_match(driver)
    }

    fn covers(&self, case: &CaseRecord) -> bool {
        let id = &case.id;
        self.kernel.is_match(&id.kernel) && self.case.is_match(&id.case) && self.variant.is_match(&id.variant)
    }

    fn judge(&self, case: &mut CaseRecord) {
        match case.status {
            Status::Pass => {
                case.status = Status::UnexpectedPass;
                case.message = Some(format!("passes; the baseline says: {}", self.reason));
            }
            // Two entries may match; the first reason stays.
            s if s.failed() && s != Status::ExpectedFail => {
                let was = case.message.take().unwrap_or_default();
                case.message = Some(format!("{}; {s:?}: {was}", self.reason));
                case.status = Status::ExpectedFail;
            }
            _ => {}
        }
    }
}

fn csv(line: &str) -> Result<Line, String> {
    let cells: Vec<&str> = line.splitn(6, ',').map(str::trim).collect();
    let [adapter, driver, kernel, case, variant, reason] = cells[..] else {
        return Err(format!("{} cells, expected 6: {HEAD}", cells.len()));
    };
    let own = str::to_owned;
    Ok(Line {
        adapter: own(adapter),
        driver: own(driver),
        kernel: own(kernel),
        case: own(case),
        variant: own(variant),
        reason: own(reason.trim_matches('"')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::report::test_ops::CaseId;

    fn statuses(baseline: &str, before: &[Status]) -> Vec<Status> {
        let mut file = ResultFile::new(&Device::Cpu, "test", 1);
        for (i, status) in before.iter().enumerate() {
            let id = CaseId { kernel: "argmax".to_owned(), case: format!("case_{i}"), variant: "best".to_owned() };
            file.cases.push(CaseRecord::new(id, String::new(), 1, *status, None));
        }
        Baseline::parse("known.csv", baseline).unwrap().apply(&mut file);
        file.cases.iter().map(|c| c.status).collect()
    }

    #[test]
    fn failures_become_expected_and_passes_unexpected() {
        use Status::{Crash, ExpectedFail, Fail, Flake, Pass, Skip, Timeout, UnexpectedPass};
        let all = [Fail, Crash, Timeout, Flake, Pass, Skip];
        let expected = [ExpectedFail, ExpectedFail, ExpectedFail, ExpectedFail, UnexpectedPass, Skip];
        assert_eq!(statuses(&format!("{HEAD}\n# why\ncpu REF,,argmax,,,bug 7, see there\n"), &all), expected);
        assert_eq!(statuses(r#"{"kernel":"arg.*","reason":"bug 7"}"#, &all), expected);
    }

    #[test]
    fn patterns_are_narrow() {
        use Status::{ExpectedFail, Fail};
        let of = |line: &str| statuses(&format!("{HEAD}\n{line}"), &[Fail, Fail]);
        assert_eq!(of("other adapter,,argmax,,,why"), [Fail, Fail]);
        assert_eq!(of(",,argma,,,why"), [Fail, Fail]);
        assert_eq!(of(",,argmax,case_1,,why"), [Fail, ExpectedFail]);
        assert_eq!(of(",,argmax,,base,why"), [Fail, Fail]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = |text: &str| Baseline::parse("known.csv", text).err().unwrap().to_string();
        assert!(error("kernel,case\n").contains("line 1: the head is"), "{}", error("kernel,case\n"));
        assert!(error(&format!("{HEAD}\na,b\n")).contains("line 2: 2 cells, expected 6"));
        assert!(error(&format!("{HEAD}\n,,argmax,,,\n")).contains("needs a reason"));
        assert!(error(&format!("{HEAD}\n,,(,,,why\n")).contains("line 2"));
        assert!(error(r#"{"kernel":"a","reason":"b","cases":"c"}"#).contains("unknown field `cases`"));
    }
}

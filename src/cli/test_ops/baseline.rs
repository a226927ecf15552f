//! Failures that are known: `--baseline FILE`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Deserialize;
use wgquant::report::test_ops::{ResultFile, Status};

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
    adapter: Regex,
    driver: Regex,
    kernel: Regex,
    case: Regex,
    variant: Regex,
    reason: String,
}

/// Known failures.
pub(super) struct Baseline(Vec<Entry>);

const HEAD: &str = "adapter,driver,kernel,case,variant,reason";

impl Baseline {
    /// Reads CSV with the head line `adapter,driver,kernel,case,variant,reason` (the reason may hold commas), or JSON
    /// lines with these keys. Lines that start with `#` are comments.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().zip(1..).map(|(l, n): (&str, usize)| (l.trim(), n));
        let mut lines = lines.filter(|(l, _)| !l.is_empty() && !l.starts_with('#')).peekable();
        let json = lines.peek().is_none_or(|(l, _)| l.starts_with('{'));
        if !json
            && let Some((head, n)) = lines.next()
            && head.replace(' ', "") != HEAD
        {
            bail!("line {n}: the head is `{head}`, expected `{HEAD}`");
        }
        let entry = |(line, n): (&str, usize)| {
            let parsed = if json { serde_json::from_str(line).map_err(Into::into) } else { csv(line) };
            parsed.and_then(Entry::new).with_context(|| format!("line {n}"))
        };
        lines.map(entry).collect::<Result<_>>().map(Self)
    }

    /// Marks what was expected, and warns of entries that belong to this adapter and match no case.
    pub(super) fn apply(&self, file: &mut ResultFile) {
        let (adapter, driver) = (file.adapter.name.clone(), file.driver());
        for entry in self.0.iter().filter(|e| e.adapter.is_match(&adapter) && e.driver.is_match(&driver)) {
            let matches = |e: &Entry, id: &wgquant::report::test_ops::CaseId| {
                e.kernel.is_match(&id.kernel) && e.case.is_match(&id.case) && e.variant.is_match(&id.variant)
            };
            let mut used = false;
            for case in file.cases.iter_mut().filter(|c| matches(entry, &c.id)) {
                used = true;
                match case.status {
                    Status::Pass => {
                        case.status = Status::UnexpectedPass;
                        case.message = Some(format!("passes; the baseline says: {}", entry.reason));
                    }
                    s if s.failed() => {
                        let was = case.message.take().unwrap_or_default();
                        // Two entries may match; the first reason stays.
                        case.message = Some(match s {
                            Status::ExpectedFail => was,
                            _ => format!("{}; {s:?}: {was}", entry.reason),
                        });
                        case.status = Status::ExpectedFail;
                    }
                    _ => {}
                }
            }
            if !used {
                log::warn!("baseline: `{}` matches no case of this run ({})", entry.kernel, entry.reason);
            }
        }
    }
}

impl Entry {
    fn new(line: Line) -> Result<Self> {
        if line.reason.trim().is_empty() {
            bail!("an expected failure needs a reason");
        }
        let part = |p: &str| Regex::new(&format!("(?i){p}"));
        let whole = |p: &str| Regex::new(&if p.is_empty() { String::new() } else { format!("^(?:{p})$") });
        Ok(Self {
            adapter: part(&line.adapter)?,
            driver: part(&line.driver)?,
            kernel: whole(&line.kernel)?,
            case: whole(&line.case)?,
            variant: whole(&line.variant)?,
            reason: line.reason,
        })
    }
}

fn csv(line: &str) -> Result<Line> {
    let cells: Vec<&str> = line.splitn(6, ',').map(str::trim).collect();
    let [adapter, driver, kernel, case, variant, reason] = cells[..] else {
        bail!("{} cells, expected 6: {HEAD}", cells.len());
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
    use wgquant::gpu::Device;
    use wgquant::report::test_ops::{CaseId, CaseRecord};

    fn statuses(baseline: &str, before: &[Status]) -> Vec<Status> {
        let mut file = ResultFile::new(&Device::Cpu, "test", 1);
        for (i, status) in before.iter().enumerate() {
            let id = CaseId { kernel: "argmax".to_owned(), case: format!("case_{i}"), variant: "best".to_owned() };
            file.cases.push(CaseRecord::new(id, String::new(), 1, *status, None));
        }
        Baseline::parse(baseline).unwrap().apply(&mut file);
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
        let error = |text: &str| format!("{:#}", Baseline::parse(text).err().unwrap());
        assert!(error("kernel,case\n").contains("line 1: the head is"), "{}", error("kernel,case\n"));
        assert!(error(&format!("{HEAD}\na,b\n")).contains("line 2: 2 cells, expected 6"));
        assert!(error(&format!("{HEAD}\n,,argmax,,,\n")).contains("needs a reason"));
        assert!(error(&format!("{HEAD}\n,,(,,,why\n")).contains("line 2"));
        assert!(error(r#"{"kernel":"a","reason":"b","cases":"c"}"#).contains("unknown field `cases`"));
    }
}

//! Running the chosen cases in watched processes, and those that fail once more.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use wgquant::kernels::ENTRIES;
use wgquant::report::test_ops::{CaseId, CaseRecord, Peaks, ResultFile, Status, params};

use super::super::args::DEVICE;
use super::super::progress::Bar;
use super::child::Ready;
use super::perf;
use super::supervise::{End, supervise};
use super::{Cases, Place};

/// Words of `-b` that choose a backend; others choose a device.
const BACKENDS: [&str; 4] = ["vulkan", "metal", "dx12", "gl"];

/// The device and its variants, as a child sees them: opening it may crash too.
pub(super) fn probe(place: &Place, seed: u64, limit: Duration) -> Result<Ready> {
    let ready = supervise(&|| command(place, seed, false), &[], limit, &mut |_, _, _| {})?;
    Ok(serde_json::from_str(&ready)?)
}

/// Runs everything that the filters choose.
pub(super) fn run(cases: &Cases, perf: bool) -> Result<ResultFile> {
    let start = Instant::now();
    cases.filter.ops.kernels()?; // a mistyped name is told before a device is opened
    let ready = probe(&cases.place, cases.seed, cases.limit())?;
    let mut file = ready.file;
    if file.adapter.is_software() && file.adapter.backend != "cpu" {
        log::info!("{} is a software driver", file.adapter.name);
    }
    file.mode = if perf { "perf" } else { "test" }.to_owned();
    file.time = rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()));
    let reference = file.adapter.backend == "cpu";
    let chosen = cases.filter.choose(&ready.variants, &file.caps, cases.seed)?;
    let mut records = watch(cases, perf, &chosen.run)?;
    again(cases, &mut records)?;
    if perf {
        match peaks(cases) {
            Ok(peaks) => {
                records.iter_mut().filter_map(|r| r.speed.as_mut()).for_each(|s| perf::relate(s, &peaks));
                file.peaks = Some(peaks);
            }
            // What was timed stands without percentages.
            Err(e) => log::warn!("the peaks of copies and multiply-adds were not measured: {e:#}"),
        }
    }
    // The reference has no variants to lack.
    records.extend(chosen.skipped.into_iter().filter(|_| !reference));
    records.sort_by_key(|r| ENTRIES.iter().position(|e| e.name == r.id.kernel));
    file.cases = records;
    file.seconds = start.elapsed().as_secs_f64();
    Ok(file)
}

/// Cases that failed run once more; what passes then is a flake.
fn again(cases: &Cases, records: &mut [CaseRecord]) -> Result<()> {
    let failed: Vec<usize> = (0..records.len()).filter(|i| records[*i].status.failed()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let ids: Vec<CaseId> = failed.iter().map(|i| records[*i].id.clone()).collect();
    for (i, second) in failed.into_iter().zip(watch(cases, false, &ids)?) {
        if second.status == Status::Pass {
            let first = &mut records[i];
            let was = first.message.take().unwrap_or_default();
            first.message = Some(format!("{:?}, then passed with the same seed: {was}", first.status));
            first.status = Status::Flake;
        }
    }
    Ok(())
}

/// Runs `ids` in as many processes as asked for; records in the order of `ids`. The device has been opened before, so where it
/// cannot be any more, that is how cases end and no reason to lose those that ran.
fn watch(cases: &Cases, perf: bool, ids: &[CaseId]) -> Result<Vec<CaseRecord>> {
    let bar = Bar::new("kernels", ids.len());
    let done = AtomicUsize::new(0);
    let slots: Mutex<Vec<Option<CaseRecord>>> = Mutex::new(vec![None; ids.len()]);
    let jobs = if perf { 1 } else { usize::from(cases.jobs).clamp(1, ids.len().max(1)) };
    let ended = |i: usize, end: End, time: Duration| {
        let record = record(&ids[i], cases.seed, end, time);
        slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[i] = Some(record);
        bar.at(done.fetch_add(1, Ordering::Relaxed) + 1);
    };
    let job = |job: usize| -> Result<()> {
        let mine: Vec<usize> = (job..ids.len()).step_by(jobs).collect();
        let items = mine.iter().map(|i| Ok(serde_json::to_string(&ids[*i])?)).collect::<Result<Vec<_>>>()?;
        let mut seen = |i: usize, end, time| ended(mine[i], end, time);
        if let Err(e) = supervise(&|| command(&cases.place, cases.seed, perf), &items, cases.limit(), &mut seen) {
            mine.iter().for_each(|i| ended(*i, End::Crash(format!("{e:#}")), Duration::ZERO));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|j| scope.spawn(move || job(j))).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| bail!("a watching thread panicked")))
    })?;
    let slots = slots.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    slots.into_iter().collect::<Option<Vec<_>>>().context("a case was not run")
}

fn record(id: &CaseId, seed: u64, end: End, time: Duration) -> CaseRecord {
    let entry = ENTRIES.iter().find(|e| e.name == id.kernel);
    let case = entry.and_then(|e| e.case(&id.case));
    let ended = |status, message| {
        let ms = time.as_secs_f64() * 1e3;
        let numbers = case.map(params).unwrap_or_default();
        CaseRecord { ms, ..CaseRecord::new(id.clone(), numbers, seed, status, Some(message)) }
    };
    match end {
        End::Answer(text) => serde_json::from_str(&text)
            .unwrap_or_else(|e| ended(Status::Crash, format!("the process answered nonsense: {e}"))),
        End::Crash(how) => ended(Status::Crash, how),
        End::Timeout(limit) => ended(Status::Timeout, late(limit)),
    }
}

fn late(limit: Duration) -> String {
    format!("not done after {} s", limit.as_secs_f64())
}

fn peaks(cases: &Cases) -> Result<Peaks> {
    let mut found = None;
    let items = [perf::PEAKS.to_owned()];
    supervise(&|| command(&cases.place, cases.seed, true), &items, cases.limit(), &mut |_, end, _| found = Some(end))?;
    match found {
        Some(End::Answer(text)) => Ok(serde_json::from_str(&text)?),
        Some(End::Crash(how)) => bail!("{how}"),
        Some(End::Timeout(limit)) => bail!("{}", late(limit)),
        None => bail!("nothing was asked for"),
    }
}

/// This program as a child.
fn command(place: &Place, seed: u64, perf: bool) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["test-ops", "run-case", "--seed", &seed.to_string()]);
    match place.backend.as_deref() {
        // The best of that backend, also where the environment names a device.
        Some(b) if BACKENDS.contains(&b) => {
            command.env("WGPU_BACKEND", b).args(["--device", DEVICE]);
        }
        other => {
            command.args(["--device", other.unwrap_or(&place.gpu.device)]);
        }
    }
    for (flag, value) in place.gpu.more() {
        command.arg(flag).arg(value);
    }
    if perf {
        command.arg("--perf");
    }
    Ok(command)
}

impl Cases {
    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }
}

/// Seconds since 1970 as `2026-01-31T12:34:56Z` (days to civil date: Hinnant, chrono-compatible algorithms).
pub(in crate::cli) fn rfc3339(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let (month, day) = (if shifted < 10 { shifted + 3 } else { shifted - 9 }, day - (153 * shifted + 2) / 5 + 1);
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}

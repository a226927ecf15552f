//! Which cases to run.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Args;
use regex::Regex;
use wgquant::gpu::Caps;
use wgquant::kernels::ENTRIES;
use wgquant::kernels::check::{Case, Entry, choices, concerned, lacking};
use wgquant::report::test_ops::{BEST, CaseId, CaseRecord, Status, params};

/// A filter over kernels.
#[derive(Clone, Debug, Args)]
pub(super) struct Ops {
    /// Only these kernels: names or regular expressions of whole names, separated by commas
    #[arg(short = 'o', long = "op", value_name = "OP|REGEX,..")]
    op: Option<String>,
}

/// Filters over kernels, cases and variants.
#[derive(Clone, Debug, Args)]
pub(super) struct Filter {
    #[command(flatten)]
    pub(super) ops: Ops,
    /// Only cases whose name this regular expression matches whole
    #[arg(short, long, value_name = "REGEX")]
    case: Option<String>,
    /// Only cases whose numbers (`rows=5, cols=128`) this regular expression matches in part
    #[arg(short, long, value_name = "REGEX")]
    params: Option<String>,
    /// Only variants whose name this regular expression matches whole; `best` is the one the adapter gets
    #[arg(long, value_name = "REGEX")]
    variant: Option<String>,
    /// Cases of real models' sizes instead; checking one takes the reference seconds to minutes
    #[arg(long)]
    pub(super) large: bool,
}

/// What filters say that leave nothing.
const NONE: &str = "no case matches the filters";

/// The cases to run, and those that cannot run here.
pub(super) struct Chosen {
    /// To run.
    pub(super) run: Vec<CaseId>,
    /// Skipped, with reasons.
    pub(super) skipped: Vec<CaseRecord>,
}

impl Ops {
    /// Names of the kernels that pass.
    pub(super) fn kernels(&self) -> Result<Vec<&'static str>> {
        let Some(list) = &self.op else { return Ok(ENTRIES.iter().map(|e| e.name).collect()) };
        let mut all = Vec::new();
        for pattern in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let wanted = whole("--op", pattern)?;
            let found = ENTRIES.iter().map(|e| e.name).filter(|n| wanted.is_match(n));
            let before = all.len();
            all.extend(found);
            if all.len() == before {
                bail!("--op: `{pattern}` matches no kernel; see `wgquant test-ops test --list-ops`");
            }
        }
        Ok(ENTRIES.iter().map(|e| e.name).filter(|n| all.contains(n)).collect())
    }
}

impl Filter {
    /// The cases that pass, kernel by kernel.
    pub(super) fn cases(&self) -> Result<Vec<(&'static Entry, &'static Case)>> {
        let (kernels, case) = (self.ops.kernels()?, self.case.as_deref().map(|c| whole("--case", c)).transpose()?);
        let numbers = self.params.as_deref().map(|p| Regex::new(p).context("--params")).transpose()?;
        let mut all = Vec::new();
        for entry in ENTRIES.iter().filter(|e| kernels.contains(&e.name)) {
            let cases = entry.cases_of(self.large).filter(|c| case.as_ref().is_none_or(|r| r.is_match(c.name)));
            let cases = cases.filter(|c| numbers.as_ref().is_none_or(|r| r.is_match(&params(c))));
            all.extend(cases.map(|c| (entry, c)));
        }
        if all.is_empty() {
            bail!("{NONE}");
        }
        Ok(all)
    }

    /// The cases that pass, in the `variants` that the adapter has; those it lacks are skipped.
    pub(super) fn choose(&self, variants: &BTreeMap<String, Vec<String>>, caps: &Caps, seed: u64) -> Result<Chosen> {
        let variant = self.variant.as_deref().map(|v| whole("--variant", v)).transpose()?;
        let mut chosen = Chosen { run: Vec::new(), skipped: Vec::new() };
        for (entry, c) in self.cases()? {
            let id = |v: &str| CaseId { kernel: entry.name.into(), case: c.name.into(), variant: v.into() };
            let wanted = |v: &&str| variant.as_ref().is_none_or(|r| r.is_match(v));
            let concerned = concerned(entry, c);
            let here = variants.get(entry.name).into_iter().flatten().map(String::as_str);
            let here = std::iter::once(BEST).chain(here.filter(|v| concerned.contains(v)));
            chosen.run.extend(here.filter(wanted).map(id));
            let lacking = lacking(choices(entry.name), caps).into_iter().filter(|(n, _)| concerned.contains(n));
            for (name, needs) in lacking.filter(|(n, _)| wanted(n)) {
                let reason = Some(format!("the adapter lacks {needs}"));
                chosen.skipped.push(CaseRecord::new(id(name), params(c), seed, Status::Skip, reason));
            }
        }
        if chosen.run.is_empty() && chosen.skipped.is_empty() {
            bail!("{NONE}");
        }
        Ok(chosen)
    }
}

fn whole(what: &'static str, pattern: &str) -> Result<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|_| anyhow::anyhow!("{what}: `{pattern}` is no regular expression"))
}

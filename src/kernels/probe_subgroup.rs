//! Probe of subgroups, for `doctor`; no model needs it. Skipped where the adapter has none.

use std::collections::BTreeSet;

use super::bindings::probe_subgroup::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::probe_subgroup::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "probe_subgroup";
/// What WGSL allows, for the reference.
const ANY_SIZE: (u32, u32) = (4, 128);
/// Bit of `sizes`: `num_subgroups` leaves out the last subgroup, which is not full.
const SHORT: u32 = 1 << 16;

/// `wrong` = bits of what contradicts, by thread (`shaders/probe_subgroup.wgsl` has their meanings), `totals` = sums of
/// `x`'s rows by way of subgroups, `sizes` = the subgroup size that each thread is told (bit 16: `num_subgroups`
/// leaves out the last subgroup). Rows are workgroups of 25, 32,
/// 33, 64 or 256 threads.
///
/// `x`, `wrong`, `sizes`: `[workgroups, threads]` u32; `totals`: `[workgroups]` u32. Faults: uVkCompute #43, gpuweb/cts
/// #4035, MoltenVK #1553, llama.cpp #10809.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for another number of threads
/// or no workgroup; [`Error::Lacks`] where the adapter has no subgroups.
pub fn probe_subgroup(
    plan: &mut Plan,
    x: &DeviceTensor,
    wrong: &DeviceTensor,
    totals: &DeviceTensor,
    sizes: &DeviceTensor,
) -> Result<()> {
    let (workgroups, threads) = (x.shape.rows(), x.shape.cols());
    for (name, tensor) in [("x", x), ("wrong", wrong), ("totals", totals), ("sizes", sizes)] {
        expect_dtype(NAME, name, tensor, DType::U32, "u32")?;
    }
    expect(NAME, "wrong", wrong, [workgroups, threads])?;
    expect(NAME, "totals", totals, [workgroups])?;
    expect(NAME, "sizes", sizes, [workgroups, threads])?;
    let format = match threads {
        25 => Format::Wg25,
        32 => Format::Wg32,
        33 => Format::Wg33,
        64 => Format::Wg64,
        256 => Format::Wg256,
        _ => {
            return Err(Error::argument(format!("{NAME}: x"), format!("rows of {threads}, not 25, 32, 33, 64 or 256")));
        }
    };
    if workgroups == 0 {
        return Err(Error::argument(format!("{NAME}: x"), "no rows"));
    }
    let (least, most) = plan.device().gpu().and_then(|g| g.caps.subgroups).unwrap_or(ANY_SIZE);
    let params = Params { workgroups: workgroups as u32, least, most };
    launch(plan, format, params, Bindings { x, wrong, totals, sizes }, Grid::linear(workgroups))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// uVkCompute #43 and gpuweb/cts #4035: the size is not the one reported, or changes between workgroups; MoltenVK #1553:
/// subgroups that are not full; llama.cpp #10809: subgroups of 8 where 32 were assumed.
const CASES: &[Case] = &[
    Case { name: "uvkcompute_43_size_within_reported", args: &[("threads", 64.0), ("workgroups", 37.0)] },
    Case { name: "cts_4035_size_through_a_dispatch", args: &[("threads", 256.0), ("workgroups", 200.0)] },
    Case { name: "moltenvk_1553_part_of_a_subgroup_25", args: &[("threads", 25.0), ("workgroups", 11.0)] },
    Case { name: "moltenvk_1553_part_of_a_subgroup_33", args: &[("threads", 33.0), ("workgroups", 11.0)] },
    Case { name: "llama_cpp_10809_subgroups_of_8", args: &[("threads", 32.0), ("workgroups", 65.0)] },
];

/// `subgroup size 8`, or all sizes where they vary.
fn describe(sizes: &[u32]) -> String {
    let all: BTreeSet<u32> = sizes.iter().map(|s| s & !SHORT).collect();
    let all: Vec<String> = all.iter().map(u32::to_string).collect();
    let varies = if all.len() > 1 { "s vary:" } else { "" };
    let short =
        if sizes.iter().any(|s| s & SHORT != 0) { "; num_subgroups leaves out one that is not full" } else { "" };
    format!("subgroup size{varies} {}{short}", all.join(", "))
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (workgroups, threads) = (a.usize("workgroups"), a.usize("threads"));
    let x = s.integers([workgroups, threads], u32::MAX)?;
    let wrong = s.output("wrong", DType::U32, [workgroups, threads])?;
    let totals = s.output("totals", DType::U32, [workgroups])?;
    let sizes = s.report([workgroups, threads], describe)?;
    probe_subgroup(s.plan(), &x, &wrong, &totals, &sizes)
}

fn work(a: &Args) -> Work {
    let n = a.usize("workgroups") * a.usize("threads");
    // Counting lanes in masks is most of it.
    Work { bytes: 12 * n, ops: 2000 * n }
}

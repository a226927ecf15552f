//! Probe of barriers and workgroup memory, for `doctor`; no model needs it.

use super::bindings::probe_barrier::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::probe_barrier::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "probe_barrier";
/// Largest size.
const MOST: usize = 1024;

/// Reduces, broadcasts and exchanges `size` integers in workgroup memory, for `out.rows` sizes from `first` on, `rounds`
/// times each, with `threads` (25, 32, 33, 65, 128 or 256) a workgroup.
///
/// `x`: `[1024]` u32; `out`: `[sizes, 1024]` u32, zero beyond a row's size. Faults: wgpu #4500, MoltenVK #2711.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for sizes outside 1..=1024
/// or another number of threads.
pub fn probe_barrier(
    plan: &mut Plan,
    x: &DeviceTensor,
    out: &DeviceTensor,
    threads: usize,
    first: usize,
    rounds: usize,
) -> Result<()> {
    expect_dtype(NAME, "x", x, DType::U32, "u32")?;
    expect_dtype(NAME, "out", out, DType::U32, "u32")?;
    let count = out.shape.rows();
    expect(NAME, "x", x, [MOST])?;
    expect(NAME, "out", out, [count, MOST])?;
    if first == 0 || first.saturating_add(count) > MOST + 1 {
        return Err(Error::argument(format!("{NAME}: first"), format!("{count} sizes from {first} on; 1 to {MOST}")));
    }
    let format = match threads {
        25 => Format::Wg25,
        32 => Format::Wg32,
        33 => Format::Wg33,
        65 => Format::Wg65,
        128 => Format::Wg128,
        256 => Format::Wg256,
        _ => {
            return Err(Error::argument(
                format!("{NAME}: threads"),
                format!("{threads}, not 25, 32, 33, 65, 128, 256"),
            ));
        }
    };
    let params = Params { first: first as u32, count: count as u32, rounds: rounds as u32 };
    launch(plan, format, params, Bindings { x, out }, Grid::linear(count))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// wgpu #4500 and #3181, MoltenVK #2711: barriers dropped for some numbers of threads.
const CASES: &[Case] = &[
    Case { name: "metal_dropped_barrier_25", args: &[("threads", 25.0), ("first", 20.0), ("sizes", 40.0)] },
    Case { name: "metal_dropped_barrier_32", args: &[("threads", 32.0), ("first", 25.0), ("sizes", 41.0)] },
    Case { name: "metal_dropped_barrier_33", args: &[("threads", 33.0), ("first", 25.0), ("sizes", 43.0)] },
    Case { name: "metal_dropped_barrier_65", args: &[("threads", 65.0), ("first", 60.0), ("sizes", 10.0)] },
    Case { name: "metal_dropped_barrier_128", args: &[("threads", 128.0), ("first", 100.0), ("sizes", 40.0)] },
    Case { name: "metal_every_size_to_1024", args: &[("threads", 256.0), ("first", 1.0), ("sizes", 1024.0)] },
];
/// Times a case repeats its exchange.
const ROUNDS: usize = 5;

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let x = s.integers([MOST], u32::MAX)?;
    let out = s.output("out", DType::U32, [a.usize("sizes"), MOST])?;
    probe_barrier(s.plan(), &x, &out, a.usize("threads"), a.usize("first"), ROUNDS)
}

fn work(a: &Args) -> Work {
    let n = a.usize("sizes") * MOST;
    Work { bytes: 4 * n, ops: 4 * n * ROUNDS }
}

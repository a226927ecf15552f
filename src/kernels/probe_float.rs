//! Probe of exp, log and the conversions to and from f16, for `doctor`; no model needs it.

use super::bindings::probe_float::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::reference::probe_float::{evaluate, key};
use crate::shaders::probe_float::Params;
use crate::tensor::DType;

const NAME: &str = "probe_float";

/// What is evaluated; the numbers are those of `shaders/probe_float.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatOp {
    /// exp
    Exp = 0,
    /// Natural logarithm.
    Log = 1,
    /// tanh
    Tanh = 2,
    /// softplus of `shaders/shared/float.wgsl`.
    Softplus = 3,
    /// silu of `shaders/shared/float.wgsl`.
    Silu = 4,
    /// `unpack2x16float`
    Unpack = 5,
    /// `pack2x16float`
    Pack = 6,
}

impl FloatOp {
    const ALL: [Self; 7] = [Self::Exp, Self::Log, Self::Tanh, Self::Softplus, Self::Silu, Self::Unpack, Self::Pack];
}

/// `wrong` = 1 where `f(x)` is not within `low..=high` (for [`FloatOp::Pack`]: is neither), `kind` = what the driver did
/// where it may choose: 1 rounded to nearest even, 2 toward zero, 3 flushed a subnormal to zero, 0 no choice.
///
/// `x`, `low`, `high`, `wrong`, `kind`: `[count]` u32, floats and f16 as bits.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn probe_float(
    plan: &mut Plan,
    op: FloatOp,
    [x, low, high]: [&DeviceTensor; 3],
    wrong: &DeviceTensor,
    kind: &DeviceTensor,
) -> Result<()> {
    let count = x.shape.elements();
    for (name, tensor) in [("x", x), ("low", low), ("high", high), ("wrong", wrong), ("kind", kind)] {
        expect_dtype(NAME, name, tensor, DType::U32, "u32")?;
        expect(NAME, name, tensor, [count])?;
    }
    let params = Params { count: count as u32, op: op as u32 };
    launch(plan, params, Bindings { x, low, high, wrong, kind }, Grid::cover(count, 64))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// Overflow on the way to a finite result (llama.cpp clamps tanh at 9.01 and exp at 80), and llama.cpp #22976: rounding
/// to f16 is not specified, and subnormals may flush; either is right, and anything else is not.
const CASES: &[Case] = &[
    Case { name: "fast_math_exp_1e4", args: &[("op", 0.0)] },
    Case { name: "fast_math_log", args: &[("op", 1.0)] },
    Case { name: "fast_math_tanh_1e4", args: &[("op", 2.0)] },
    Case { name: "fast_math_softplus_1e4", args: &[("op", 3.0)] },
    Case { name: "fast_math_silu_1e4", args: &[("op", 4.0)] },
    Case { name: "f16_every_pattern", args: &[("op", 5.0)] },
    Case { name: "f16_rounding_of_midpoints", args: &[("op", 6.0)] },
];

/// Bits of x, low and high of an operation.
fn table(s: &mut Setup, op: FloatOp) -> [Vec<u32>; 3] {
    match op {
        FloatOp::Unpack => {
            // All but infinities and NaN, which a shader may assume away.
            let x: Vec<u32> = (0..=0xffff).filter(|h| h & 0x7c00 != 0x7c00).collect();
            let exact = |h: &u32| evaluate(op as u32, *h);
            let flushed = |h: &u32| if h & 0x7c00 == 0 { 0 } else { exact(h) };
            let lower = |h: &u32| if *h > 0x8000 { exact(h) } else { flushed(h) };
            let upper = |h: &u32| if *h > 0x8000 { flushed(h) } else { exact(h) };
            [x.clone(), x.iter().map(lower).collect(), x.iter().map(upper).collect()]
        }
        FloatOp::Pack => {
            let mut rows = Vec::new();
            for h in (0..0x7bff).flat_map(|h: u16| [h, h | 0x8000]) {
                let at = |h: u16| half::f16::from_bits(h).to_f32();
                let middle = (at(h) + at(h + 1)) / 2.0;
                for (v, toward_zero) in [(at(h), h), (middle, h), (f32::from_bits(middle.to_bits() + 1), h)] {
                    rows.push([v.to_bits(), evaluate(op as u32, v.to_bits()), u32::from(toward_zero)]);
                }
            }
            [0, 1, 2].map(|i| rows.iter().map(|r: &[u32; 3]| r[i]).collect())
        }
        _ => bounds(s, op),
    }
}

/// Values at the edges and between them, with the accuracy WGSL (15.7.4.1) states, or what follows from it.
fn bounds(s: &mut Setup, op: FloatOp) -> [Vec<u32>; 3] {
    let edges =
        [0.0f32, 1e-40, 1e-38, 1e-30, 1e-7, 1e-3, 0.5, 1.0, 2.0, 9.0, 19.99, 20.0, 20.01, 50.0, 80.0, 87.0, 1e4];
    let mut x: Vec<f32> = edges.iter().flat_map(|v| [*v, -*v]).collect();
    x.extend(s.values(1000, Fill::Uniform(-30.0, 30.0)));
    match op {
        FloatOp::Exp => x.retain(|v| *v <= 88.0 || *v >= 1e3),
        FloatOp::Log => x.retain(|v| *v > 1e-37),
        _ => {}
    }
    let ulp = 2f64.powi(-23);
    let bound = |x: &f32, sign: f64| {
        if op == FloatOp::Exp && *x >= 1e3 {
            // Infinity, or the largest number where a shader may assume that there is none; never NaN.
            return if sign < 0.0 { f32::MAX.to_bits() } else { f32::INFINITY.to_bits() };
        }
        let y = f64::from(f32::from_bits(evaluate(op as u32, x.to_bits())));
        // Results below the smallest normal float may be zero.
        let error = match op {
            FloatOp::Exp => y * (3.0 + 2.0 * f64::from(x.abs())) * ulp + 2e-38,
            FloatOp::Log => y.abs() * 4.0 * ulp + 2f64.powi(-21),
            // Inherited from (exp x - exp -x) / (exp x + exp -x), which must not become infinity / infinity.
            FloatOp::Tanh => 2e-5,
            // log near 1 may be off by 2^-21, where the series does not serve.
            FloatOp::Softplus => y * 3e-5 + if *x > -4.7 { 2f64.powi(-20) } else { 2e-38 },
            // exp of up to 80, and a division; cut there, it leaves x e^-80.
            _ => y.abs() * 3e-5 + 1e-30,
        };
        ((y + sign * error) as f32).to_bits()
    };
    debug_assert!(x.iter().all(|v| key(bound(v, -1.0)) <= key(bound(v, 1.0))), "bounds are in order");
    let all = |sign| x.iter().map(|v| bound(v, sign)).collect();
    [x.iter().map(|v| v.to_bits()).collect(), all(-1.0), all(1.0)]
}

/// What the driver did where it may choose.
fn describe(kinds: &[u32]) -> String {
    let words =
        [(1, "rounds to f16 to nearest even"), (2, "rounds to f16 toward zero"), (3, "flushes subnormals of f16")];
    let found = words.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, words)| *words);
    found.collect::<Vec<_>>().join("; ")
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let op = FloatOp::ALL[a.usize("op")];
    let [x, low, high] = table(s, op);
    let count = x.len();
    let upload = |s: &Setup, words: &[u32]| s.device().upload_words(DType::U32, [count], words);
    let (x, low, high) = (upload(s, &x)?, upload(s, &low)?, upload(s, &high)?);
    let wrong = s.output("wrong", DType::U32, [count])?;
    let kind = s.report([count], describe)?;
    probe_float(s.plan(), op, [&x, &low, &high], &wrong, &kind)
}

fn work(a: &Args) -> Work {
    let n = if a.usize("op") < 5 { 1034 } else { 65_536 };
    Work { bytes: 20 * n, ops: 10 * n }
}

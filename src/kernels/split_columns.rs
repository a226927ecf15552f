//! f32 numbers as two f16 each, or one.

use super::bindings::split_columns::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::shaders::split_columns::Params;
use crate::tensor::DType;

const NAME: &str = "split_columns";
/// Columns of a workgroup (`QUADS` of the shader).
const COLUMNS: usize = 64;
/// Numbers that are loaded together by products of them.
const TOGETHER: usize = 8;

/// Numbers `[tokens, n]` as sums of two f16 or as one, times a power of two for each column. The numbers of a matrix product's
/// rows are columns here.
#[derive(Clone)]
pub struct Halves {
    /// `[parts · tokens, n]` f16: the first bits of all, then the rest.
    pub(super) numbers: DeviceTensor,
    /// f16 a number: 2, or 1.
    pub(super) parts: usize,
    /// `[1, n]` f32.
    pub(super) scales: DeviceTensor,
}

impl Halves {
    /// Is it worth cutting `n` columns on this device? It has matrix units, and rows are of whole 16 bytes.
    #[must_use]
    pub fn suit(device: &Device, n: usize) -> bool {
        device.has_matrix_units() && n.is_multiple_of(TOGETHER)
    }

    /// Room for `tokens` rows of `n` columns, a multiple of 8, or for a matrix of `n` rows transposed; `parts`: f16 a number, 2
    /// or 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for other columns or parts; as [`Device::alloc`].
    pub fn new(device: &Device, tokens: usize, n: usize, parts: usize) -> Result<Self> {
        if n == 0 || !n.is_multiple_of(TOGETHER) || ![1, 2].contains(&parts) {
            let what = format!("{n} columns in {parts} parts, not a multiple of {TOGETHER} in one or two");
            return Err(Error::argument("halves", what));
        }
        let numbers = device.alloc(DType::F16, [tokens.saturating_mul(parts), n])?;
        Ok(Self { numbers, parts, scales: device.alloc(DType::F32, [1, n])? })
    }

    /// The room for the first `rows` rows of a matrix that is transposed in here, a multiple of 8.
    ///
    /// # Errors
    /// [`Error::Argument`] for another number, or when there are not as many.
    pub fn rows(&self, rows: usize) -> Result<Self> {
        if rows == 0 || !rows.is_multiple_of(TOGETHER) {
            return Err(Error::argument("halves", format!("{rows} rows, not a multiple of {TOGETHER}")));
        }
        let numbers = self.numbers.view(DType::F16, [self.numbers.shape.rows(), rows])?;
        Ok(Self { numbers, scales: self.scales.view(DType::F32, [1, rows])?, ..*self })
    }

    /// The room for the first `tokens` rows.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are not as many.
    pub fn of(&self, tokens: usize) -> Result<Self> {
        let numbers = self.numbers.view(DType::F16, [tokens.saturating_mul(self.parts), self.numbers.shape.cols()])?;
        Ok(Self { numbers, scales: self.scales.clone(), ..*self })
    }

    pub(super) fn tokens(&self) -> usize {
        self.numbers.shape.rows() / self.parts
    }

    pub(super) fn columns(&self) -> usize {
        self.numbers.shape.cols()
    }
}

/// `out = x`, but for what is below 2^-21 of each number, or 2^-38 of its column's largest (Markidis et al. 2018,
/// arXiv:1803.04014); of one part rounded to the nearest f16.
///
/// `x`: `[tokens, n]` f32; `out` of as many tokens.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault.
pub fn split_columns(plan: &mut Plan, x: &DeviceTensor, out: &Halves) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    let (tokens, n) = (x.shape.rows(), x.shape.cols());
    expect(NAME, "halves", &out.numbers, [out.parts * tokens, n])?;
    let params = Params { tokens: tokens as u32, n: n as u32, parts: out.parts as u32 };
    let bindings = Bindings { x, halves: &out.numbers, scales: &out.scales };
    launch(plan, params, bindings, Grid::cover(n, COLUMNS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_token", args: &[("tokens", 1.0), ("n", 8.0), ("size", 1.0)] },
    Case { name: "past_a_workgroup", args: &[("tokens", 37.0), ("n", 72.0), ("size", 1.0)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("tokens", 19.0), ("n", 64.0), ("size", 1e5)] },
    Case { name: "below_f16", args: &[("tokens", 19.0), ("n", 64.0), ("size", 1e-9)] },
    Case { name: "one_part", args: &[("tokens", 37.0), ("n", 72.0), ("size", 1.0), ("parts", 1.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, n, size) = (a.usize("tokens"), a.usize("n"), a.f64("size") as f32);
    let values: Vec<f32> = s.values(tokens * n, Fill::Outliers).iter().map(|v| v * size).collect();
    let x = s.device().upload_f32([tokens, n], &values)?;
    let parts = a.get("parts").unwrap_or(2.0) as usize;
    let numbers = s.output("halves", DType::F16, [parts * tokens, n])?;
    let scales = s.output("scales", DType::F32, [1, n])?;
    split_columns(s.plan(), &x, &Halves { numbers, parts, scales })
}

fn work(a: &Args) -> Work {
    let n = a.usize("tokens") * a.usize("n");
    Work { bytes: 8 * n + 4 * a.usize("n"), ops: 6 * n }
}

//! A dense Hadamard matrix over a strided axis: the part of a transform that is not a power of two.

use super::bindings::hadamard_mix::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::hadamard::order_matrix;
use crate::shaders::hadamard_mix::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "hadamard_mix";

/// Rows and vectors of a workgroup (`shaders/hadamard_mix.wgsl`).
const TILE: (usize, usize) = (128, 32);
/// Vectors of a workgroup that makes all rows (`shaders/hadamard_mix.quads.wgsl`), and how many keep a GPU busy so.
const QUADS_TILE: usize = 64;
const MANY: usize = 4096;

/// The signs of the matrix of an order, as [`hadamard_mix`] reads them: `[order, order / 32]` words, each 32 columns of a
/// row (bits, from the low end), 1 for -1.
///
/// # Errors
/// [`Error::Argument`] for an order without construction; otherwise as [`Device::upload_words`].
pub fn hadamard_signs(device: &Device, order: usize) -> Result<DeviceTensor> {
    let none = || Error::argument(format!("{NAME}: order {order}"), "there is no construction of a matrix");
    let matrix = order_matrix(order).ok_or_else(none)?;
    let words = order.div_ceil(32);
    let mut signs = vec![0u32; order * words];
    for (i, _) in matrix.iter().enumerate().filter(|(_, v)| **v < 0) {
        let (row, col) = (i / order, i % order);
        signs[row * words + col / 32] |= 1 << (col % 32);
    }
    device.upload_words(DType::U32, [order, words], &signs)
}

/// `out = scale * H x` along the middle axis of `[outer, order, stride]`, the view of `x`'s elements that
/// `order` and `stride` give. QuaRot, arXiv:2404.00456.
///
/// `x`, `out`: `[rows, cols]` f32, `order * stride` dividing `cols`; `signs`: of [`hadamard_signs`].
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] when
/// `order * stride` does not divide `cols`.
pub fn hadamard_mix(
    plan: &mut Plan,
    x: &DeviceTensor,
    signs: &DeviceTensor,
    out: &DeviceTensor,
    order: usize,
    stride: usize,
    scale: f32,
) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    expect_dtype(NAME, "signs", signs, DType::U32, "u32")?;
    f32_tensor(NAME, "out", out)?;
    expect(NAME, "signs", signs, [order, order.div_ceil(32)])?;
    expect(NAME, "out", out, x.shape)?;
    if order == 0 || stride == 0 || !x.shape.cols().is_multiple_of(order * stride) {
        let reason = format!("order {order} times stride {stride} does not divide {} columns", x.shape.cols());
        return Err(Error::argument(format!("{NAME}: `x`"), reason));
    }
    let count = x.shape.elements();
    let params = Params { count: count as u32, order: order as u32, stride: stride as u32, scale };
    let vectors = count / order;
    let (format, workgroups) = if stride.is_multiple_of(4) && vectors >= MANY {
        (Format::Quads, vectors.div_ceil(QUADS_TILE))
    } else {
        (Format::Any, vectors.div_ceil(TILE.1) * order.div_ceil(TILE.0))
    };
    launch(plan, format, params, Bindings { x, signs, out }, Grid::linear(workgroups))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "order_2_padded_signs", args: &[("rows", 3.0), ("cols", 2.0), ("order", 2.0), ("stride", 1.0)] },
    Case {
        name: "sylvester_8_over_4096",
        args: &[("rows", 1.0), ("cols", 32768.0), ("order", 8.0), ("stride", 4096.0)],
    },
    Case { name: "partial_row_block", args: &[("rows", 5.0), ("cols", 36.0), ("order", 12.0), ("stride", 3.0)] },
    Case {
        name: "nemotron_8b_mlp_token",
        args: &[("rows", 1.0), ("cols", 21504.0), ("order", 84.0), ("stride", 256.0)],
    },
    Case {
        name: "nemotron_8b_mlp_tokens",
        args: &[("rows", 8.0), ("cols", 21504.0), ("order", 84.0), ("stride", 256.0)],
    },
    Case {
        name: "nemotron_8b_mlp_17_tokens",
        args: &[("rows", 17.0), ("cols", 21504.0), ("order", 84.0), ("stride", 256.0)],
    },
    Case { name: "order_20_last_quads", args: &[("rows", 205.0), ("cols", 400.0), ("order", 20.0), ("stride", 20.0)] },
    Case { name: "order_2_many", args: &[("rows", 1025.0), ("cols", 8.0), ("order", 2.0), ("stride", 4.0)] },
    Case { name: "order_104_many", args: &[("rows", 1025.0), ("cols", 416.0), ("order", 104.0), ("stride", 4.0)] },
    Case { name: "order_464", args: &[("rows", 2.0), ("cols", 1856.0), ("order", 464.0), ("stride", 4.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (shape, order) = ([a.usize("rows"), a.usize("cols")], a.usize("order"));
    let x = s.input(shape, Fill::Outliers)?;
    let signs = hadamard_signs(s.device(), order)?;
    let out = s.output("out", DType::F32, shape)?;
    hadamard_mix(s.plan(), &x, &signs, &out, order, a.usize("stride"), 1.0 / (order as f32).sqrt())
}

fn work(a: &Args) -> Work {
    let (n, order) = (a.usize("rows") * a.usize("cols"), a.usize("order"));
    Work { bytes: 8 * n + order * order / 8, ops: n * order }
}

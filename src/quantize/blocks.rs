//! Matrices on a device, worked on in blocks of rows: factoring, solving and multiplying with [`rank_update`].

use pollster::block_on;

use super::linalg::{cholesky, invert_lower};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{Epilogue, GPTQ_BLOCK, Halves, Part, Update, matmul_halves, rank_update, split_columns};
use crate::tensor::DType;

/// Rows of a block.
pub(super) const BLOCK: usize = GPTQ_BLOCK;
/// Depth of a product's launch, so that none takes long.
const DEPTH: usize = 1024;
/// The same on matrix units, where sums are read and written once a launch.
const HALVES_DEPTH: usize = 2048;

/// `h = mᵀ m`, `m` lower triangular, on a device.
pub(super) struct Factor {
    /// `[n, n]`; above the diagonal is no part of it.
    pub(super) m: DeviceTensor,
    /// `[n, BLOCK]`: the inverse of each block on the diagonal.
    inverses: DeviceTensor,
    /// `[n]`: `1 / m[i, i]`.
    pub(super) diagonal: Vec<f32>,
}

/// Blocks of `n` rows: first row and count.
pub(super) fn blocks(n: usize) -> impl DoubleEndedIterator<Item = (usize, usize)> {
    (0..n.div_ceil(BLOCK)).map(move |b| (b * BLOCK, BLOCK.min(n - b * BLOCK)))
}

/// `mᵀ m = h` for an f64 matrix `h` `[n, n]`, `m` lower triangular; `None` when it is not positive definite.
fn factor_f64(h: impl Fn(usize, usize) -> f64, n: usize) -> Option<Vec<f64>> {
    // Of the reversed matrix, the ordinary factor; reversed and transposed again.
    let reversed = (0..n * n).map(|e| h(n - 1 - e / n, n - 1 - e % n)).collect();
    let l = cholesky(reversed, n)?;
    Some((0..n * n).map(|e| l[(n - 1 - e % n) * n + n - 1 - e / n]).collect())
}

impl Factor {
    /// Factors `h` `[n, n]` in f64 on the host.
    pub(super) fn on_host(device: &Device, h: impl Fn(usize, usize) -> f64, n: usize) -> Result<Option<Self>> {
        let Some(m) = factor_f64(h, n) else { return Ok(None) };
        let mut diagonal = Small::new(n);
        for (first, width) in blocks(n) {
            let block: Vec<f64> = (0..width * width).map(|e| m[(first + e / width) * n + first + e % width]).collect();
            diagonal.add(&block, width);
        }
        let m: Vec<f32> = m.iter().map(|v| *v as f32).collect();
        Ok(Some(diagonal.finish(device, device.upload_f32([n, n], &m)?)?))
    }

    /// Factors `h` `[n, n]` where it is, in f32 but for the blocks on the diagonal. Its error is one of `h` by a few
    /// 1e-7 of its largest eigenvalue, far below the damping.
    pub(super) fn in_place(device: &Device, h: DeviceTensor) -> Result<Option<Self>> {
        let n = h.shape.rows();
        let mut diagonal = Small::new(n);
        let panel = device.alloc(DType::F32, [BLOCK, n])?;
        let own = device.alloc(DType::F32, [BLOCK, BLOCK])?;
        // From the last block to the first: m is lower triangular, and h = mᵀ m.
        for (first, width) in blocks(n).rev() {
            let one: Vec<f32> = (0..width * width).map(|e| if e % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let one = device.upload_f32([width, width], &one)?;
            let make = Update { rows: width, cols: width, depth: width, fresh: true, ..Update::default() };
            // The block alone is read back: as a product with the identity it comes out of its rows.
            let mut plan = Plan::new(device);
            rank_update(&mut plan, at(&one, 0), Part::new(&h, first, first), at(&own, 0), &make)?;
            plan.record()?.run_paced()?;
            let lines = block_on(device.read_f32(&own))?;
            let entry = |i: usize, j: usize| f64::from(lines[i.max(j) * BLOCK + i.min(j)]);
            let Some(block) = factor_f64(entry, width) else { return Ok(None) };
            diagonal.add(&block, width);
            let mut plan = Plan::new(device);
            let lower: Vec<f32> = block.iter().map(|v| *v as f32).collect();
            let [lower, inverse] = [lower, diagonal.last(width)].map(|v| device.upload_f32([width, width], &v));
            rank_update(&mut plan, at(&one, 0), at(&lower?, 0), Part::new(&panel, 0, first), &make)?;
            if first > 0 {
                // Left of the diagonal, m = (block⁻¹)ᵀ h; what it explains of h above is taken off.
                let make = Update { cols: first, ..make };
                rank_update(&mut plan, at(&inverse?, 0), at(&h, first), at(&panel, 0), &make)?;
                let off =
                    Update { rows: first, cols: first, depth: width, minus: true, lower: true, ..Update::default() };
                rank_update(&mut plan, at(&panel, 0), at(&panel, 0), at(&h, 0), &off)?;
            }
            plan.copy(&panel.rows(0, width)?, &h.rows(first, width)?)?;
            plan.record()?.run_paced()?;
        }
        diagonal.reverse();
        Ok(Some(diagonal.finish(device, h)?))
    }

    /// `x` becomes `h⁻¹ x`, `x` `[n, cols]`.
    pub(super) fn solve(&self, device: &Device, x: &DeviceTensor) -> Result<()> {
        let (n, cols) = (x.shape.rows(), x.shape.cols());
        let solved = device.alloc(DType::F32, [BLOCK, cols])?;
        let mut plan = Plan::new(device);
        for (back, blocks) in [(true, blocks(n).rev().collect::<Vec<_>>()), (false, blocks(n).collect())] {
            for (first, width) in blocks {
                let own = Update { rows: width, cols, depth: width, by_rows: !back, fresh: true, ..Update::default() };
                rank_update(&mut plan, at(&self.inverses, first), at(x, first), at(&solved, 0), &own)?;
                plan.copy(&solved.rows(0, width)?, &x.rows(first, width)?)?;
                // mᵀ from the last block up, then m from the first down.
                let (a, to, rows) = match back {
                    true => (at(&self.m, first), 0, first),
                    false => (Part::new(&self.m, first + width, first), first + width, n - first - width),
                };
                if rows > 0 {
                    let rest = Update { rows, cols, depth: width, by_rows: !back, minus: true, ..Update::default() };
                    rank_update(&mut plan, a, at(&solved, 0), at(x, to), &rest)?;
                }
            }
        }
        plan.record()?.run_paced()
    }
}

/// The rows of a matrix from `row` on.
pub(super) fn at(tensor: &DeviceTensor, row: usize) -> Part<'_> {
    Part::new(tensor, row, 0)
}

/// `aᵀ x`, `a` `[n, n]`, `x` `[n, cols]`.
pub(super) fn product(device: &Device, a: &DeviceTensor, x: &DeviceTensor) -> Result<DeviceTensor> {
    let (n, cols) = (x.shape.rows(), x.shape.cols());
    if Halves::suit(device, n) && Halves::suit(device, cols) {
        return product_of_halves(device, a, x);
    }
    let out = device.alloc(DType::F32, [n, cols])?;
    let mut plan = Plan::new(device);
    for first in (0..n).step_by(DEPTH) {
        let how = Update { rows: n, cols, depth: DEPTH.min(n - first), fresh: first == 0, ..Update::default() };
        rank_update(&mut plan, at(a, first), at(x, first), at(&out, 0), &how)?;
    }
    plan.record()?.run_paced()?;
    Ok(out)
}

/// The same on matrix units.
fn product_of_halves(device: &Device, a: &DeviceTensor, x: &DeviceTensor) -> Result<DeviceTensor> {
    let (n, cols) = (x.shape.rows(), x.shape.cols());
    let depth = HALVES_DEPTH.min(n);
    let (left, right) = (Halves::new(device, depth, n, 2)?, Halves::new(device, depth, cols, 2)?);
    let out = device.alloc(DType::F32, [n, cols])?;
    let mut plan = Plan::new(device);
    for first in (0..n).step_by(depth) {
        let depth = depth.min(n - first);
        let (left, right) = (left.of(depth)?, right.of(depth)?);
        split_columns(&mut plan, &a.rows(first, depth)?, &left)?;
        split_columns(&mut plan, &x.rows(first, depth)?, &right)?;
        let epilogue = if first == 0 { Epilogue::Store } else { Epilogue::Add };
        matmul_halves(&mut plan, &left, &right, &out, epilogue)?;
    }
    plan.record()?.run_paced()?;
    Ok(out)
}

/// Inverses of the blocks on the diagonal.
struct Small {
    n: usize,
    inverses: Vec<Vec<f32>>,
    diagonals: Vec<Vec<f32>>,
}

impl Small {
    fn new(n: usize) -> Self {
        Self { n, inverses: Vec::new(), diagonals: Vec::new() }
    }

    fn add(&mut self, block: &[f64], width: usize) {
        let inverse = invert_lower(block, width);
        self.diagonals.push((0..width).map(|i| inverse[i * (width + 1)] as f32).collect());
        let line = |l: &[f64]| (0..BLOCK).map(|i| l.get(i).map_or(0.0, |v| *v as f32)).collect::<Vec<f32>>();
        self.inverses.push(inverse.chunks_exact(width).flat_map(line).collect());
    }

    /// The inverse added last, `[width, width]`.
    fn last(&self, width: usize) -> Vec<f32> {
        let lines = self.inverses.last().map_or(&[][..], Vec::as_slice).chunks_exact(BLOCK);
        lines.flat_map(|line| &line[..width]).copied().collect()
    }

    /// For blocks added from the last to the first.
    fn reverse(&mut self) {
        self.inverses.reverse();
        self.diagonals.reverse();
    }

    fn finish(self, device: &Device, m: DeviceTensor) -> Result<Factor> {
        let inverses = device.upload_f32([self.n, BLOCK], &self.inverses.concat())?;
        Ok(Factor { m, inverses, diagonal: self.diagonals.concat() })
    }
}

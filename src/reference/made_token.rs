//! Products of one token whose codes the kernel makes: a weight's rows times those codes.

use super::matmul::{IntScales, Product, codes_of_row, scales_of_rows, token_codes};

/// The weight's side: `n` rows of `cols` codes of `bits`, a scale for each `group` of them.
pub(super) struct Weight<'a> {
    pub(super) n: u32,
    pub(super) cols: u32,
    pub(super) group: u32,
    pub(super) scale_bits: u32,
    /// Columns of the token that share a scale.
    pub(super) x_group: u32,
    pub(super) epilogue: u32,
    pub(super) bits: usize,
    pub(super) codes: &'a [u32],
    /// Of `scale_bits`, as [`scales_of_rows`] takes them.
    pub(super) scales: &'a [u32],
}

impl Weight<'_> {
    /// `codes`: `[tokens, cols]` int8, `token_scales` theirs; `out`: `[tokens, n]`.
    pub(super) fn times(&self, codes: &[u32], token_scales: &[f32], out: &mut [f32]) {
        let k = self.cols as usize;
        let product = Product { n: self.n, k: self.cols, epilogue: self.epilogue, stride: self.n, first: 0 };
        let groups = self.cols.div_ceil(self.group) as usize;
        let scales = IntScales {
            k,
            group: self.group as usize,
            x_group: self.x_group as usize,
            scales: token_scales,
            weight_scales: &scales_of_rows(self.scales, self.scale_bits, [self.n as usize, groups]),
        };
        let sum = |i: usize, j: usize, x: &[i16], w: &[i16]| scales.dot(i, j, x, w);
        product.run(&token_codes(codes, k), |j, row| codes_of_row(self.bits, self.codes, j, row), sum, out);
    }
}

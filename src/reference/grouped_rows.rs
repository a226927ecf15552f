//! Products of few tokens whose codes have a scale for each 32 columns, and may still lack the factors of RMS norms; and the codes of
//! such tokens. Zhang & Sennrich 2019, arXiv:1910.07467; Zhao et al. 2023, arXiv:2310.19102.

use super::made_token::Weight;
use super::quantize_tokens::group_codes;

/// Columns that share a scale.
pub(super) const GROUP: usize = 32;

/// The tokens' side of a product.
pub(super) struct Grouped<'a> {
    /// `[tokens, k]` int8.
    pub(super) codes: &'a [u32],
    /// `[2, tokens · k / 32]`: scales, sums of squares.
    pub(super) scales: &'a [f32],
    /// Columns of a norm; 0: none.
    pub(super) norm_group: u32,
    pub(super) eps: f32,
}

impl Grouped<'_> {
    /// `weight` times the tokens; its epilogue is to store.
    pub(super) fn times(&self, weight: &Weight<'_>, out: &mut [f32]) {
        let (scales, squares) = self.scales.split_at(self.scales.len() / 2);
        let mut scales = scales.to_vec();
        if self.norm_group > 0 {
            let groups = self.norm_group as usize / GROUP;
            for (scales, squares) in scales.chunks_mut(groups).zip(squares.chunks(groups)) {
                let mean = squares.iter().map(|v| f64::from(*v)).sum::<f64>() / f64::from(self.norm_group);
                let factor = 1.0 / (mean + f64::from(self.eps)).sqrt();
                scales.iter_mut().for_each(|s| *s = (f64::from(*s) * factor) as f32);
            }
        }
        weight.times(self.codes, &scales, out);
    }
}

/// Codes of `values`, of all tokens, their scales and the sums of squares of `before`, which has as many.
pub(super) fn put_codes(values: &[f32], before: &[f32], codes: &mut [u32], out_scales: &mut [f32]) {
    let (scales, squares) = out_scales.split_at_mut(values.len() / GROUP);
    group_codes(values, GROUP, codes, scales);
    for (sum, v) in squares.iter_mut().zip(before.chunks(GROUP)) {
        *sum = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() as f32;
    }
}

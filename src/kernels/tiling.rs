//! Which tiles make an integer product on matrix units, and in how many slices of its columns (split-K).

use super::matmul::Sizes;
use super::split_k_reduce::SplitK;

/// Processors that [`Tiling`]s are told for, an H100's and an H200's. A GPU that has fewer gets slices that it could do without.
const PROCESSORS: usize = 132;

/// The most slices, and the fewest columns that one is worth having.
const SLICES: usize = 16;
const SLICE: usize = 512;

/// Bytes that the GPU's cache holds. What slices leave beyond that goes to memory and back.
const CACHE: f64 = 50e6;

/// Rows of codes from which on large tiles may pay: more than the largest of the small ones has.
pub(super) const MORE_THAN_SMALL: usize = 65;

/// Tiles of a product's outputs, and what they take. Measured on an H200 of 132 processors by `wgquant bench --ops`, parameters compiled in; us for int4 weights and tokens in
/// groups of 32, with small tiles and large ones, in as many slices as in brackets:
///
/// | rows and columns of the weight | 16 tokens | 32 | 64 | 192 | 512 |
/// |---|--:|--:|--:|--:|--:|
/// | 131072 x 4096 | 181 | 229 | 362 | | |
/// | 21504 x 4096 | 43 | 55 (2) | 83 (2) | | -, 418 |
/// | 18560 x 4096 | 42 | 53 (8) | 77 (2) | | -, 406 |
/// | 4096 x 21504 | 38 (6) | 48 (12) | 70 (8) | -, 192 (4) | -, 358 (2) |
/// | 4096 x 8192 | 24 (6) | 28 (11) | 37 (8) | -, 82 (4) | -, 146 (2) |
///
/// Adding up takes 1 to 3 us of up to 64 tokens, 3 to 7 of more, and a launch. With two slices of 18560 x 4096 prompts of 384 and 512 tokens took up to 3 % longer than by a program without, on another machine.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    /// Rows of codes, and of the weight.
    pub(super) rows: usize,
    cols: usize,
    /// Workgroups that share a processor; one alone takes as long.
    share: usize,
    /// Nanoseconds before the first column and after the last.
    ends: f64,
    /// Nanoseconds that a column takes of as many tiles as the GPU computes at the same time.
    column: f64,
    /// Slices are of multiples of so many columns.
    unit: usize,
}

impl Tiling {
    /// 256 x 128 outputs (`shaders/shared/coop_rows.wgsl`); `of_rows`: of int8 weights where rows of both operands have one scale, which
    /// take a fifth less. `unit`: what slices must be multiples of.
    pub(super) fn large(of_rows: bool, unit: usize) -> Self {
        let (ends, column) = if of_rows { (10e3, 25.2) } else { (13e3, 30.3) };
        Self { rows: 256, cols: 128, share: 1, ends, column, unit }
    }

    /// Of `m` rows of codes at least those (`shaders/shared/coop_wide.wgsl`), whose rounds slices are whole ones of.
    pub(super) fn small(m: usize) -> Self {
        match m {
            ..=16 => Self { rows: 16, cols: 64, share: 3, ends: 3e3, column: 8.1, unit: 256 },
            17..=32 => Self { rows: 32, cols: 128, share: 3, ends: 9e3, column: 19.4, unit: 128 },
            _ => Self { rows: 64, cols: 128, share: 2, ends: 9e3, column: 20.4, unit: 128 },
        }
    }

    /// As many as have `m` by `n` outputs.
    pub(super) fn tiles(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.cols)
    }

    /// Columns of each of about so many slices.
    pub(super) fn slice(&self, k: usize, slices: usize) -> usize {
        k.div_ceil(slices.max(1)).next_multiple_of(self.unit).min(k)
    }

    /// Nanoseconds of a product whose slices have so many columns.
    pub(super) fn takes(&self, Sizes { m, n, k }: Sizes, slice: usize) -> f64 {
        let slices = k.div_ceil(slice.max(1));
        let tiles = (self.tiles(m, n) * slices).div_ceil(PROCESSORS);
        let rounds = tiles.max(self.share) as f64 / self.share as f64;
        // A launch, and the sums of all slices and outputs there and back.
        let bytes = (4 * m * n * (slices + 2)) as f64;
        let adding_up = if slices > 1 { 4e3 + bytes / 6e3 + (bytes - CACHE).max(0.0) / 4e3 } else { 0.0 };
        rounds * (self.ends + slice as f64 * self.column) + adding_up
    }

    /// Columns of each of the slices that take least time, where the sums of so many fit the room.
    pub(super) fn best(&self, sizes: Sizes, split: SplitK<'_>) -> usize {
        self.best_of(sizes, split.holds(sizes.m, sizes.n).min(SLICES).min(sizes.k / SLICE).max(1))
    }

    /// That, of up to `most` slices.
    fn best_of(&self, sizes: Sizes, most: usize) -> usize {
        let all = (1..=most).map(|slices| self.slice(sizes.k, slices));
        all.min_by(|a, b| self.takes(sizes, *a).total_cmp(&self.takes(sizes, *b))).unwrap_or(sizes.k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: fn() -> Tiling = || Tiling::large(false, 64);

    fn small_pays(m: usize, n: usize, large: Tiling) -> bool {
        let sizes = Sizes { m, n, k: 4096 };
        Tiling::small(m).takes(sizes, 4096) <= large.takes(sizes, 4096)
    }

    #[test]
    fn small_tiles_where_large_ones_leave_processors_idle() {
        let small = [(128, 4096), (128, 21504), (256, 18560), (256, 6144), (384, 4096), (384, 21504)];
        for (m, n) in small {
            assert!(small_pays(m, n, LARGE()), "{m} x {n}");
        }
        for (m, n) in [(512, 21504), (2048, 4096)] {
            assert!(!small_pays(m, n, LARGE()), "{m} x {n}");
        }
        let of_rows = Tiling::large(true, 64);
        assert!(small_pays(192, 21504, of_rows) && small_pays(256, 6144, of_rows));
        assert!(!small_pays(256, 21504, of_rows) && !small_pays(384, 6144, of_rows));
    }

    fn slices(tiling: Tiling, m: usize, n: usize, k: usize, most: usize) -> usize {
        k.div_ceil(tiling.best_of(Sizes { m, n, k }, most))
    }

    #[test]
    fn slices_where_tiles_are_few() {
        let cases = [(192, 4), (512, 2), (1024, 1), (1280, 4), (2048, 1)];
        let best = |m| slices(LARGE(), m, 4096, 21504, 4);
        assert_eq!(cases.map(|(m, _)| best(m)), cases.map(|(_, slices)| slices));
        let few = |m, n, k| slices(Tiling::small(m), m, n, k, SLICES);
        assert_eq!([few(16, 4096, 21504), few(16, 21504, 4096)], [6, 1]);
        assert_eq!([few(64, 4096, 21504), few(64, 21504, 4096), few(64, 131_072, 4096)], [8, 2, 1]);
        // A prompt's sums of two slices would not fit the cache.
        let wide =
            [256, 384, 512].map(|m| [true, false].map(|of_rows| slices(Tiling::large(of_rows, 64), m, 18560, 4096, 4)));
        assert_eq!(wide, [[2, 2], [1, 1], [1, 1]]);
        // Where a product is short, adding up costs more than it saves.
        assert_eq!([slices(LARGE(), 512, 4096, 512, 4), few(16, 4096, 512)], [1, 1]);
    }
}

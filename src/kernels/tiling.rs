//! Which tiles make an integer product on matrix units, and in how many slices of its columns (split-K).

use super::matmul::{Epilogue, Sizes};
use super::rms_norm_quantize::SLICES as OF_A_NORM;
use super::split_k_reduce::SplitK;

/// Processors that [`Tiling`]s are told for, an H100's and an H200's. A GPU that has fewer gets slices that it could do without.
const PROCESSORS: usize = 132;

/// The most slices, and the fewest columns that one is worth having.
const SLICES: usize = 16;
const SLICE: usize = 512;

/// Nanoseconds of a launch that waits for the one before.
const LAUNCH: f64 = 4e3;

/// Bytes that the GPU's cache holds. What slices leave beyond that goes to memory and back.
const CACHE: f64 = 50e6;

/// Rows of codes from which on large tiles may pay: more than the largest of the small ones has.
pub(super) const MORE_THAN_SMALL: usize = 65;

/// Tiles of a product's outputs, and what they take. Fitted to an H200 of 132 processors by `wgquant bench --ops` (4 to 5 us of each are the timestamps), parameters compiled
/// in; us for int4 weights and tokens in groups of 32, with small tiles unless it says large, by slices:
///
/// | rows and columns of the weight | 16 tokens | 32 | 64 | 192 | 384 | 512 |
/// |---|--:|--:|--:|--:|--:|--:|
/// | 131072 x 4096 | 181 | 229 | 358 | | | |
/// | 21504 x 4096, in 1, 2, 4 | 44, 45, 46 | 75, 54, - | -, 83, 85 | 187, 181, - | 359 | large 418 |
/// | 18560 x 4096, in 1, 2, 4, 8 | 42, 40, 40, 40 | 72, 54, -, 52 | -, 83, 75, 74 | 187 | 318 | large 406 |
/// | 4096 x 21504, in 1, 2, 4, 6, 8, 11, 16 | 104, 58, 43, 39, 46, 44, 42 | 245, 130, -, 64, 52, 52, 59 | -, 150, 84, 84, 67, 89, 73 | 287, 234, large 192 | 464 | large 358 (2) |
/// | 4096 x 8192, likewise | 48, 29, 22, 23, 25, 25, 27 | 105, 58, -, 33, 28, 29, 33 | -, 65, 41, 40, 34, 45, 38 | 122, 96, large 85 | 187 | large 146 (2) |
///
/// 512 tokens were timed when launches had workgroups beyond their tiles. Adding up takes 1 to 3 us of up to 64 tokens, 3 to 7 of more, and a launch where it has one. With two slices of 18560 x 4096 prompts of 384 and 512 tokens took up to 3 % longer than by a program without, on another machine.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    /// Rows of codes, and of the weight.
    pub(super) rows: usize,
    cols: usize,
    /// Workgroups that may share a processor.
    share: usize,
    /// Nanoseconds before a tile's first column and after its last.
    ends: f64,
    /// Nanoseconds that a column takes of the tiles that share a processor: of none, and of each more.
    column: [f64; 2],
    /// Slices are of multiples of so many columns.
    unit: usize,
}

/// Nanoseconds of adding up: the sums of all slices and outputs there and back, and a launch where what comes next does not do it along.
fn adding_up(Sizes { m, n, .. }: Sizes, slices: usize, epilogue: Epilogue) -> f64 {
    let bytes = (4 * m * n * (slices + 2)) as f64;
    let launch = if epilogue == Epilogue::Store { LAUNCH } else { 0.5e3 };
    launch + bytes / 6e3 + (bytes - CACHE).max(0.0) / 4e3
}

impl Tiling {
    /// 256 x 128 outputs (`shaders/shared/coop_rows.wgsl`); `of_rows`: of int8 weights where rows of both operands have one scale, which
    /// take a fifth less. `unit`: what slices must be multiples of.
    pub(super) fn large(of_rows: bool, unit: usize) -> Self {
        let (ends, column) = if of_rows { (10e3, 25.2) } else { (13e3, 30.3) };
        Self { rows: 256, cols: 128, share: 1, ends, column: [0.0, column], unit }
    }

    /// Of `m` rows of codes at least those (`shaders/shared/coop_wide.wgsl`), whose rounds slices are whole ones of.
    pub(super) fn small(m: usize) -> Self {
        match m {
            ..=16 => Self { rows: 16, cols: 64, share: 3, ends: 2.5e3, column: [2.4, 2.1], unit: 256 },
            17..=32 => Self { rows: 32, cols: 128, share: 3, ends: 5e3, column: [6.5, 4.35], unit: 128 },
            _ => Self { rows: 64, cols: 128, share: 2, ends: 5e3, column: [5.8, 7.1], unit: 128 },
        }
    }

    /// As many as have `m` by `n` outputs.
    pub(super) fn tiles(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.cols)
    }

    /// The most rows of the weight, whole tiles, whose tiles are as many as whole rounds of the processors have, if that is some and not all of them.
    pub(super) fn whole_rounds(&self, Sizes { m, n, .. }: Sizes) -> Option<usize> {
        let at_once = PROCESSORS * self.share;
        let full = self.tiles(m, n) / at_once * at_once;
        let rows = full / m.div_ceil(self.rows).max(1) * self.cols;
        (rows > 0 && rows < n).then_some(rows)
    }

    /// Columns of each of about so many slices.
    pub(super) fn slice(&self, k: usize, slices: usize) -> usize {
        k.div_ceil(slices.max(1)).next_multiple_of(self.unit).min(k)
    }

    /// Nanoseconds of a product whose slices have so many columns: rounds of as many tiles as share a processor, and of those left.
    pub(super) fn takes(&self, sizes: Sizes, slice: usize, epilogue: Epilogue) -> f64 {
        let slices = sizes.k.div_ceil(slice.max(1));
        let tiles = (self.tiles(sizes.m, sizes.n) * slices).div_ceil(PROCESSORS);
        let round = |tiles: usize| match tiles {
            0 => 0.0,
            _ => self.ends + slice as f64 * (self.column[0] + tiles as f64 * self.column[1]),
        };
        let rounds = (tiles / self.share) as f64 * round(self.share) + round(tiles % self.share);
        LAUNCH + rounds + if slices > 1 { adding_up(sizes, slices, epilogue) } else { 0.0 }
    }

    /// Columns of each of the slices that take least time, where the sums of so many fit the room.
    pub(super) fn best(&self, sizes: Sizes, split: SplitK<'_>, epilogue: Epilogue) -> usize {
        self.best_of(sizes, split.holds(sizes.m, sizes.n), epilogue)
    }

    /// That, of up to `holds` slices. Of what is added to the stream no more than the next norm adds up along: steps in which norms do so behind
    /// one product and a launch does behind the other are slower than either (32 tokens, out_proj and down_proj in 11 and 12 slices 4,540 a second, 8
    /// and 8 4,560, 11 and 8 4,335, 8 and 12 4,322 where 11 and 12 were 4,485; of 16 and 64 tokens 2 to 4 %). Why was not found.
    fn best_of(&self, sizes: Sizes, holds: usize, epilogue: Epilogue) -> usize {
        let most = if epilogue == Epilogue::Add { OF_A_NORM } else { SLICES };
        let all = (1..=most.min(holds).min(sizes.k / SLICE).max(1)).map(|slices| self.slice(sizes.k, slices));
        let takes = |slice: &usize| self.takes(sizes, *slice, epilogue);
        all.min_by(|a, b| takes(a).total_cmp(&takes(b))).unwrap_or(sizes.k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: fn() -> Tiling = || Tiling::large(false, 64);

    fn small_pays(m: usize, n: usize, large: Tiling) -> bool {
        let sizes = Sizes { m, n, k: 4096 };
        Tiling::small(m).takes(sizes, 4096, Epilogue::Store) <= large.takes(sizes, 4096, Epilogue::Store)
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

    #[test]
    fn whole_rounds_leave_some_rows() {
        let rows = |m, n| LARGE().whole_rounds(Sizes { m, n, k: 4096 });
        // 1344 tiles of 2048 x 21504 are ten rounds of 132 and 24 more: three of the 168 columns of eight.
        assert_eq!(rows(2048, 21504), Some(165 * 128));
        assert_eq!(rows(2048, 4480), Some(33 * 128));
        assert_eq!([rows(2048, 4096), rows(256, 132 * 128), rows(128, 4096)], [Some(16 * 128), None, None]);
    }

    /// As the runtime asks: writers add to the stream, up_proj squares, in_proj stores.
    fn slices(tiling: Tiling, m: usize, n: usize, k: usize, most: usize) -> usize {
        let epilogue = match n {
            4096 => Epilogue::Add,
            21504 => Epilogue::ReluSquared,
            _ => Epilogue::Store,
        };
        k.div_ceil(tiling.best_of(Sizes { m, n, k }, most, epilogue))
    }

    #[test]
    fn slices_where_tiles_are_few() {
        let cases = [(192, 4), (512, 2), (1024, 1), (1280, 4), (2048, 1)];
        let best = |m| slices(LARGE(), m, 4096, 21504, 4);
        assert_eq!(cases.map(|(m, _)| best(m)), cases.map(|(_, slices)| slices));
        let few = |m, n, k| slices(Tiling::small(m), m, n, k, SLICES);
        assert_eq!([16, 32, 64].map(|m| few(m, 4096, 21504)), [6, 8, 8]);
        assert_eq!([16, 32, 64].map(|m| few(m, 4096, 8192)), [6, 8, 8]);
        assert_eq!([16, 32, 64].map(|m| few(m, 21504, 4096)), [1, 2, 3]);
        assert_eq!([16, 32, 64].map(|m| few(m, 18560, 4096)), [1, 2, 3]);
        assert_eq!(few(64, 131_072, 4096), 1);
        // A prompt's sums of two slices would not fit the cache.
        let wide =
            [256, 384, 512].map(|m| [true, false].map(|of_rows| slices(Tiling::large(of_rows, 64), m, 18560, 4096, 4)));
        assert_eq!(wide, [[2, 2], [1, 1], [1, 1]]);
        // Where a product is short, adding up costs more than it saves.
        assert_eq!([slices(LARGE(), 512, 4096, 512, 4), few(16, 4096, 512)], [1, 1]);
    }
}

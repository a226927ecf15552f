//! Word layouts of quantized codes on the device: the only place on the host where bits are shifted.
//! `shaders/shared/pack.wgsl` is its twin, and draws the same pictures.
//!
//! A row of codes starts at a word boundary; the last word of a row is padded with zero codes.
//!
//! ```text
//! int8:  word = | e3 | e2 | e1 | e0 |                     4 codes, byte j (from the low end) = code j
//! int4:  word = | e7 e3 | e6 e2 | e5 e1 | e4 e0 |         8 codes, two's complement nibbles:
//!                  byte 3  byte 2  byte 1  byte 0           low nibble of byte j = code j,
//!                                                           high nibble of byte j = code j + 4
//! ```
//!
//! The int4 order makes two packed-int8 words of one packed-int4 word with a mask and a shift:
//! `(w << 4) & 0xf0f0f0f0` holds `16 * (e0, e1, e2, e3)` and `w & 0xf0f0f0f0` holds
//! `16 * (e4, e5, e6, e7)` as signed bytes, so a packed dot product of either is 16 times the true sum.

use rayon::prelude::*;

/// Codes that a task packs, at least.
const TASK: usize = 1 << 16;

/// Words a row of `cols` codes of `bits` takes: 4 or 8, or 16 where f16 lie as codes do.
///
/// # Panics
/// With `bits` that are not 1 to 32.
#[must_use]
pub fn words_per_row(bits: usize, cols: usize) -> usize {
    assert!((1..=32).contains(&bits), "codes of {bits} bits");
    cols.div_ceil(32 / bits)
}

/// Codes of a word.
fn per_word(bits: usize) -> usize {
    assert!(bits == 4 || bits == 8, "codes of {bits} bits, expected 4 or 8");
    32 / bits
}

/// Packs `codes` `[rows, cols]` of `bits` (4 or 8), values within the signed range, into device words.
///
/// # Panics
/// With other `bits`.
#[must_use]
pub fn pack_codes(bits: usize, codes: &[i8], cols: usize) -> Vec<u32> {
    let (cols, per_row) = (cols.max(1), cols.div_ceil(per_word(bits)).max(1));
    let mut words = vec![0; codes.len().div_ceil(cols) * per_row];
    // Tasks of whole rows.
    let rows = (TASK / cols).max(1);
    words.par_chunks_mut(rows * per_row).zip(codes.par_chunks(rows * cols)).for_each(|(words, codes)| {
        words.chunks_mut(per_row).zip(codes.chunks(cols)).for_each(|(words, row)| pack_row(bits, row, words));
    });
    words
}

fn pack_row(bits: usize, row: &[i8], words: &mut [u32]) {
    let word = |codes: [i8; 4]| u32::from_le_bytes(codes.map(i8::cast_unsigned));
    if bits == 8 {
        return pack_words(row, words, word);
    }
    let low = |codes| word(codes) & 0x0f0f_0f0f;
    pack_words(row, words, |[a, b, c, d, e, f, g, h]| low([a, b, c, d]) | low([e, f, g, h]) << 4);
}

/// Words of `N` codes each: sizes that the compiler knows, so that it takes several words at a time.
fn pack_words<const N: usize>(row: &[i8], words: &mut [u32], word: impl Fn([i8; N]) -> u32) {
    let (whole, rest) = row.as_chunks();
    words.iter_mut().zip(whole).for_each(|(to, codes)| *to = word(*codes));
    if !rest.is_empty() {
        let mut codes = [0; N];
        codes[..rest.len()].copy_from_slice(rest);
        words[whole.len()] = word(codes);
    }
}

/// Fills `codes` from one packed row, word by word: for products over whole weights.
///
/// # Panics
/// With `bits` other than 4 and 8.
pub fn unpack_row<T: From<i8>>(bits: usize, row: &[u32], codes: &mut [T]) {
    let (per_word, unused) = (per_word(bits), 32 - bits);
    for (codes, word) in codes.chunks_mut(per_word).zip(row) {
        for (i, code) in codes.iter_mut().enumerate() {
            *code = T::from(((word << (unused - shift(bits, i))).cast_signed() >> unused) as i8);
        }
    }
}

/// The inverse of [`pack_codes`]; drops the padding.
///
/// # Panics
/// With `bits` other than 4 and 8.
#[must_use]
pub fn unpack_codes(bits: usize, words: &[u32], cols: usize) -> Vec<i8> {
    let (per_row, rows) = (cols.div_ceil(per_word(bits)).max(1), (TASK / cols.max(1)).max(1));
    let mut codes = vec![0; words.len().div_ceil(per_row) * cols];
    codes.par_chunks_mut((rows * cols).max(1)).zip(words.par_chunks(rows * per_row)).for_each(|(codes, words)| {
        codes.chunks_mut(cols).zip(words.chunks(per_row)).for_each(|(codes, row)| unpack_row(bits, row, codes));
    });
    codes
}

/// Code `col` of a packed row.
///
/// # Panics
/// With `bits` other than 4 and 8, and beyond the row's last word.
#[must_use]
pub fn code_at(bits: usize, row: &[u32], col: usize) -> i8 {
    let per_word = per_word(bits);
    let word = row[col / per_word] >> shift(bits, col % per_word);
    let unused = 32 - bits as u32;
    (((word << unused).cast_signed()) >> unused) as i8
}

/// Bit position of code `i` within its word.
fn shift(bits: usize, i: usize) -> usize {
    if bits == 8 { 8 * i } else { 8 * (i % 4) + 4 * (i / 4) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn int4_word_is_the_picture() {
        let word = pack_codes(4, &[0, 1, 2, 3, 4, 5, 6, 7], 8);
        assert_eq!(word, [0x7362_5140]);
        assert_eq!(pack_codes(8, &[1, -1, 2, -2], 4), [0xfe02_ff01]);
    }

    #[test]
    fn codes_have_four_or_eight_bits() {
        let refused = |bits: usize| {
            let of = |panics: fn(usize)| std::panic::catch_unwind(|| panics(bits)).is_err();
            of(|bits| drop(pack_codes(bits, &[1], 1)))
                && of(|bits| drop(unpack_codes(bits, &[1], 1)))
                && of(|bits| unpack_row(bits, &[1], &mut [0i8]))
                && of(|bits| _ = code_at(bits, &[1], 0))
        };
        assert!([0, 2, 16, 64].into_iter().all(refused) && !refused(4) && !refused(8));
        assert_eq!(words_per_row(8, usize::MAX), usize::MAX / 4 + 1);
    }

    proptest! {
        #[test]
        fn round_trip(cols in 1usize..70, rows in 1usize..4, bits in prop_oneof![Just(4usize), Just(8)], seed in any::<u64>()) {
            let half = 1i64 << (bits - 1);
            let codes: Vec<i8> = (0..rows * cols)
                .map(|i| (((seed.wrapping_mul(i as u64 + 7) >> 13) as i64).rem_euclid(2 * half) - half) as i8)
                .collect();
            let words = pack_codes(bits, &codes, cols);
            prop_assert_eq!(words.len(), rows * words_per_row(bits, cols));
            let mut row = vec![0i16; cols];
            unpack_row(bits, &words[..words_per_row(bits, cols)], &mut row);
            prop_assert!(row.iter().zip(&codes).all(|(a, b)| *a == i16::from(*b)));
            // One code at a time, as the pictures have them.
            let mut want = vec![0u32; words.len()];
            for (row, codes) in want.chunks_mut(words_per_row(bits, cols)).zip(codes.chunks(cols)) {
                for (i, code) in codes.iter().enumerate() {
                    let (field, at) = (u32::from(code.cast_unsigned()) & ((1 << bits) - 1), i % (32 / bits));
                    row[i / (32 / bits)] |= field << if bits == 8 { 8 * at } else { 8 * (at % 4) + 4 * (at / 4) };
                    prop_assert_eq!(code_at(bits, row, i), *code);
                }
            }
            prop_assert_eq!(&words, &want);
            prop_assert_eq!(unpack_codes(bits, &words, cols), codes);
        }
    }
}

//! Bit packing of compressed-tensors' `pack-quantized` format, an exchange format: the device layout is
//! [`crate::pack`].
//!
//! Codes are stored unsigned, `q + 2^(bits - 1)`, as one little-endian bit string a row: element `i` is bits
//! `i * bits .. (i + 1) * bits`, bit `b` being bit `b % 32` of word `b / 32`. Nothing is wasted between elements, so
//! 3, 5, 6 and 7 bit codes may straddle two words.
//!
//! ```text
//! bits = 4:  word 0 = | e7 | e6 | e5 | e4 | e3 | e2 | e1 | e0 |
//! bits = 3:  word 0 = | low 2 bits of e10 | e9 | .. | e1 | e0 |     word 1 = | .. | e11 | high bit of e10 |
//! ```

use rayon::prelude::*;

/// Codes that a task packs or unpacks, at least.
const TASK: usize = 1 << 16;

/// Words a row of `cols` codes takes: `ceil(cols * bits / 32)`.
#[must_use]
pub fn packed_words(bits: usize, cols: usize) -> usize {
    // Words of 32 codes are `bits`: no product of both sizes, which may be beyond any number.
    cols / 32 * bits + (cols % 32 * bits).div_ceil(32)
}

/// Packs `codes` `[rows, cols]` within the signed range of `bits` (1 to 8) into `[rows, packed_words]`.
///
/// compressed-tensors pads a row with zero bits to 32 elements and then drops the words past the last element; the
/// unused high bits of the last word are therefore 0.
///
/// # Panics
/// With `bits` that are not 1 to 8.
#[must_use]
pub fn pack_bits(codes: &[i8], bits: usize, cols: usize) -> Vec<u32> {
    assert!((1..=8).contains(&bits), "codes of {bits} bits");
    let per_row = packed_words(bits, cols);
    let (offset, mask) = (1i16 << (bits - 1), (1u64 << bits) - 1);
    let mut words = vec![0; codes.len().checked_div(cols).unwrap_or(0) * per_row];
    // Tasks of whole rows.
    let (cols, per_row) = (cols.max(1), per_row.max(1));
    let rows = (TASK / cols).max(1);
    words.par_chunks_mut(rows * per_row).zip(codes.par_chunks(rows * cols)).for_each(|(words, codes)| {
        for (row, out) in codes.chunks_exact(cols).zip(words.chunks_exact_mut(per_row)) {
            for (i, code) in row.iter().enumerate() {
                let unsigned = u64::from((i16::from(*code) + offset).cast_unsigned()) & mask;
                let spread = unsigned << (i * bits % 32);
                out[i * bits / 32] |= spread as u32;
                if spread >> 32 != 0 {
                    out[i * bits / 32 + 1] |= (spread >> 32) as u32;
                }
            }
        }
    });
    words
}

/// The inverse of [`pack_bits`]; `words` is `[rows, packed_words]`. Every word is valid, so no code is out of range.
///
/// # Panics
/// With `bits` that are not 1 to 8.
#[must_use]
pub fn unpack_bits(words: &[u32], bits: usize, cols: usize) -> Vec<i8> {
    assert!((1..=8).contains(&bits), "codes of {bits} bits");
    let per_row = packed_words(bits, cols).max(1);
    let (offset, mask) = (1i16 << (bits - 1), (1u64 << bits) - 1);
    let mut codes = vec![0; words.len() / per_row * cols];
    // Tasks of whole rows.
    let rows = (TASK / cols.max(1)).max(1);
    let tasks = codes.par_chunks_mut((rows * cols).max(1)).zip(words.par_chunks(rows * per_row));
    tasks.for_each(|(codes, words)| {
        for (codes, row) in codes.chunks_mut(cols.max(1)).zip(words.chunks(per_row)) {
            match bits {
                2 => unpack_whole::<16>(row, codes),
                4 => unpack_whole::<8>(row, codes),
                8 => unpack_whole::<4>(row, codes),
                _ => {
                    for (i, code) in codes.iter_mut().enumerate() {
                        let word = i * bits / 32;
                        let high = row.get(word + 1).copied().unwrap_or(0);
                        let pair = u64::from(row[word]) | u64::from(high) << 32;
                        *code = (((pair >> (i * bits % 32)) & mask) as i16 - offset) as i8;
                    }
                }
            }
        }
    });
    codes
}

/// Fills `codes` from a row of words of `N` whole codes each.
fn unpack_whole<const N: usize>(row: &[u32], codes: &mut [i8]) {
    let (bits, mask, offset) = (32 / N, (1u32 << (32 / N)) - 1, 1i16 << (32 / N - 1));
    for (codes, word) in codes.chunks_mut(N).zip(row) {
        let all: [i8; N] = std::array::from_fn(|i| (((word >> (i * bits)) & mask) as i16 - offset) as i8);
        codes.copy_from_slice(&all[..codes.len()]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_words() {
        // -8 + 8 = 0, -7 + 8 = 1, ..: element 0 in the lowest nibble.
        assert_eq!(pack_bits(&[-8, -7, -6, -5, -4, -3, -2, -1, 7], 4, 9), [0x7654_3210, 0xf]);
        assert_eq!(pack_bits(&[-128, 0, 127, -1], 8, 4), [0x7fff_8000]);
        // Element 10 of 3 bits is bits 30 to 32: its two low bits in word 0, its high bit in word 1.
        assert_eq!(pack_bits(&[-4, -4, -4, -4, -4, -4, -4, -4, -4, -4, 3, -4], 3, 12), [0xc000_0000, 1]);
        assert_eq!(pack_bits(&[0, -1, 0], 1, 3), [0b101]);
    }

    #[test]
    fn rows_start_at_words() {
        assert_eq!(pack_bits(&[-7, -6, -5, -4], 4, 2), [0x21, 0x43]);
        assert_eq!(packed_words(4, 9), 2);
        assert_eq!([packed_words(3, 31), packed_words(3, 32), packed_words(3, 33)], [3, 3, 4]);
        assert_eq!(packed_words(8, usize::MAX), usize::MAX / 4 + 1);
    }

    #[test]
    #[should_panic(expected = "codes of 0 bits")]
    fn codes_have_bits() {
        let _ = unpack_bits(&[1, 2, 3], 0, 4);
    }

    proptest! {
        #[test]
        fn round_trip(bits in 1usize..=8, cols in 1usize..80, rows in 1usize..4, seed in any::<u64>()) {
            let half = 1i64 << (bits - 1);
            let codes: Vec<i8> = (0..rows * cols)
                .map(|i| ((seed.wrapping_mul(i as u64 * 2 + 7) >> 17) as i64).rem_euclid(2 * half) - half)
                .map(|q| q as i8)
                .collect();
            let words = pack_bits(&codes, bits, cols);
            prop_assert_eq!(words.len(), rows * packed_words(bits, cols));
            prop_assert_eq!(unpack_bits(&words, bits, cols), codes);
        }
    }
}

//! Range, sums of powers and a histogram of magnitudes of each channel, added to those of launches before.

use rayon::prelude::*;

use crate::shaders::channel_stats::Params;

/// Channels that share a row of counts.
const CHANNELS: usize = 32;
/// Bins of a row of counts: eighths of octaves from 2^-40 to 2^24, what is beyond in the first and the last.
const BINS: usize = 512;

/// `x[offset + o * stride + c * inner + i]`; `range`: `[2, channels]` smallest and largest; `sums`: `[8, channels]`
/// totals of the powers 1 to 4, then what they lost; `counts`: `[ceil(channels / 32), 512]`.
pub fn channel_stats(p: &Params, x: &[f32], range: &mut [f32], sums: &mut [f32], counts: &mut [u32]) {
    let (channels, inner) = (p.channels as usize, p.inner as usize);
    let samples = |c: usize| {
        let starts = (0..p.outer as usize).map(move |o| p.offset as usize + o * p.stride as usize + c * inner);
        starts.flat_map(move |at| x[at..at + inner].iter().copied())
    };
    counts.par_chunks_mut(BINS).enumerate().for_each(|(row, counts)| {
        for c in row * CHANNELS..((row + 1) * CHANNELS).min(channels) {
            samples(c).for_each(|v| counts[bin(v)] += 1);
        }
    });
    let found: Vec<(f32, f32, [f64; 4])> = (0..channels)
        .into_par_iter()
        .map(|c| {
            samples(c).fold((range[c], range[channels + c], [0.0; 4]), |(low, high, mut powers), v| {
                let x = f64::from(v);
                [x, x * x, x * x * x, (x * x) * (x * x)].iter().zip(&mut powers).for_each(|(v, p)| *p += v);
                (low.min(v), high.max(v), powers)
            })
        })
        .collect();
    for (c, (low, high, powers)) in found.into_iter().enumerate() {
        (range[c], range[channels + c]) = (low, high);
        for (power, sum) in powers.into_iter().enumerate() {
            let (at, lost) = (power * channels + c, (4 + power) * channels + c);
            let total = f64::from(sums[at]) + sum;
            sums[lost] = (f64::from(sums[lost]) + total - f64::from(total as f32)) as f32;
            sums[at] = total as f32;
        }
    }
}

/// The bin of `|v|`: its exponent and the first three bits of its fraction.
fn bin(v: f32) -> usize {
    let first = (127 - 40) << 3;
    let key = v.abs().to_bits() >> 20;
    (key.max(first) - first).min(BINS as u32 - 1) as usize
}

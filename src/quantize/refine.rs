//! After GPTQ: codes one at a time (coordinate descent, QuantEase, arXiv:2309.01885), and scales by least squares,
//! in turns. Each step can only lessen the error of the row's output.

use super::format::{Format, RowScales};
use super::gptq::Prepared;

/// Refines the codes and scales of one row in place.
pub(super) fn refine(
    target: &[f32],
    codes: &mut [i8],
    scales: &mut RowScales,
    prepared: &Prepared,
    format: &Format,
    sweeps: usize,
) {
    let n = target.len();
    let (group, half) = (format.group.len(n).max(1), format.half());
    let moments = |i: usize| &prepared.moments[i * n..][..n];
    for _ in 0..sweeps {
        // The gradient afresh: updates would let rounding pile up.
        let mut gradient = gradient(target, codes, scales, group, &prepared.moments);
        let mut changed = false;
        for g in 0..scales.values.len() {
            let (first, last) = (g * group, ((g + 1) * group).min(n));
            let own = &codes[first..last];
            let along: f32 = own.iter().zip(&gradient[first..last]).map(|(c, g)| f32::from(*c) * g).sum();
            let curvature: f32 = own
                .iter()
                .enumerate()
                .map(|(i, c)| {
                    let row = &moments(first + i)[first..last];
                    f32::from(*c) * own.iter().zip(row).map(|(c, m)| f32::from(*c) * m).sum::<f32>()
                })
                .sum();
            if curvature <= 0.0 {
                continue;
            }
            let before = scales.values[g];
            let wish = before + along / curvature;
            if wish <= 0.0 || !wish.is_finite() {
                continue;
            }
            format.set(scales, g, wish);
            let step = scales.values[g] - before;
            if step == 0.0 {
                continue;
            }
            changed = true;
            for (i, code) in (first..last).zip(own) {
                let change = f32::from(*code) * step;
                gradient.iter_mut().zip(moments(i)).for_each(|(g, m)| *g -= change * m);
            }
        }
        for i in 0..n {
            let scale = scales.values[i / group];
            let old = f32::from(codes[i]);
            let wish = old + gradient[i] / (prepared.diagonal[i] * scale);
            let new = wish.round_ties_even().clamp(-half, half - 1.0);
            if new != old {
                changed = true;
                codes[i] = new as i8;
                let change = (new - old) * scale;
                gradient.iter_mut().zip(moments(i)).for_each(|(g, m)| *g -= change * m);
            }
        }
        if !changed {
            break;
        }
    }
}

/// `(target - codes * scales) · moments`: half the error's descent for each weight.
fn gradient(target: &[f32], codes: &[i8], scales: &RowScales, group: usize, moments: &[f32]) -> Vec<f32> {
    let n = target.len();
    let mut out = vec![0.0; n];
    for (i, (t, c)) in target.iter().zip(codes).enumerate() {
        let error = t - f32::from(*c) * scales.values[i / group];
        out.iter_mut().zip(&moments[i * n..][..n]).for_each(|(o, m)| *o += error * m);
    }
    out
}

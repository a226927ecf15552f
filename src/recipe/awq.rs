//! Factors of smoothing by search (AWQ, Lin et al. 2023, arXiv:2306.00978): at each site, of a grid of candidates the one
//! under which the site's linear layers err least once weights and activations are rounded.
//!
//! With factors `s`, channel c of the input is `x_c / s_c` and column c of the weight `w_c s_c`. Roundings err without
//! regard to each other, so their squares add up, and of the inputs the mean squares `m_c = E x_c² / s_c²` are enough:
//!
//! ```text
//! error(s) = Σ_rows Σ_c m_c (w_c s_c - round(w_c s_c))²  +  Σ_groups step²/12 Σ_rows Σ_c in group (w_c s_c)²
//! ```
//!
//! with `step = peak / 127` of int8 activations. The peak of a token's group is estimated from the mean squares: that of
//! independent normal variables, `(1 + 2 ln n) max m`, and never more than their sum, as when one channel stands out.
//!
//! AWQ's other half, the search for how much to clip, is the scale search (`Format::search`) of weights that GPTQ rounds;
//! without GPTQ nothing is clipped.

use rayon::prelude::*;

use super::{Forms, Module, Recipe};
use crate::error::{Error, Result};
use crate::model::{Activations, ModelSource};
use crate::quantize::{Format, rounded};
use crate::transform::{Exponent, Inputs, Matrix, SiteStats, Smooth, Transformed, column_absmax, factors, scale, wide};

/// Exponents tried lie this close, as AWQ's.
const STEP: f64 = 0.05;
/// Rows of a weight that are looked at, spread evenly.
const ROWS: usize = 1024;
/// Largest code of an activation.
const TOP: f64 = 127.0;

/// The forms that `model`'s weights will have, for [`search`].
///
/// # Errors
/// [`Error::Argument`] when `recipe` quantizes nothing; as [`super::resolve`].
pub(super) fn forms(model: &Transformed<'_>, recipe: &Recipe) -> Result<Forms> {
    if recipe.rules.iter().all(|r| r.weights.is_none()) {
        let what = "exponents are searched for the forms that weights will have, and the recipe quantizes none";
        return Err(Error::argument("smooth", what));
    }
    Forms::new(recipe, model)
}

/// Puts the factors of every site of block `index` whose exponent is to be searched into `inputs`, which has the
/// statistics of `model`.
///
/// # Errors
/// [`Error::Argument`] when statistics are missing; as reading the model.
pub(super) fn search(
    model: &Transformed<'_>,
    index: usize,
    smooth: &Smooth,
    forms: &Forms,
    inputs: &mut Inputs,
) -> Result<()> {
    let layer = model.layer_f64(index)?;
    for site in sites(&layer, smooth) {
        let tap = format!("layer.{index}.{}", site.op);
        let stats = inputs.stats.get(&tap);
        let stats = stats.ok_or_else(|| Error::argument("transform", format!("needs statistics of `{tap}`")))?;
        let readers = site.readers.iter().map(|(part, weight)| Ok((forms.part(index, part)?, *weight)));
        let readers: Vec<(&Module, &Matrix)> = readers.collect::<Result<_>>()?;
        let share = |s: &[f64]| match site.op {
            "attention" => scale::shared(model.config(), s),
            _ => s.to_vec(),
        };
        let own = |x: &[f64]| match site.op {
            "attention" => scale::of_kv(model.config(), x),
            _ => x.to_vec(),
        };
        let found = best(&tap, &readers, stats, &own, &share);
        inputs.factors.insert(tap, found);
    }
    Ok(())
}

/// An activation that can be scaled for free, and what reads it.
struct Site<'a> {
    /// The tap within the block.
    op: &'static str,
    readers: Vec<(&'static str, &'a Matrix)>,
}

/// The sites of a block whose exponents are to be searched.
fn sites<'a>(layer: &'a wide::Layer, smooth: &Smooth) -> Vec<Site<'a>> {
    let (inner, outer, exponent) = match &layer.mixer {
        wide::Mixer::Mamba2(m) => {
            let inner = vec![("in_proj", &m.in_proj)];
            (inner, Site { op: "gated_norm", readers: vec![("out_proj", &m.out_proj)] }, smooth.gated_norm)
        }
        wide::Mixer::Mlp(m) => {
            let inner = vec![("up_proj", &m.up_proj)];
            (inner, Site { op: "up_proj", readers: vec![("down_proj", &m.down_proj)] }, smooth.relu2)
        }
        wide::Mixer::Attention(a) => {
            let inner = vec![("q_proj", &a.q_proj), ("k_proj", &a.k_proj), ("v_proj", &a.v_proj)];
            (inner, Site { op: "attention", readers: vec![("o_proj", &a.o_proj)] }, smooth.values)
        }
    };
    let both = [(Site { op: "norm", readers: inner }, smooth.norms), (outer, exponent)];
    both.into_iter().filter(|(_, e)| *e == Some(Exponent::Search)).map(|(site, _)| site).collect()
}

/// The best factors of a site; ones where nothing is better.
fn best(
    tap: &str,
    readers: &[(&Module, &Matrix)],
    stats: &SiteStats,
    own: &dyn Fn(&[f64]) -> Vec<f64>,
    share: &dyn Fn(&[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut largest = vec![0f64; stats.rms.len()];
    for (_, weight) in readers {
        largest.iter_mut().zip(column_absmax(weight)).for_each(|(m, w)| *m = m.max(w));
    }
    let (rms, absmax, weights) = (own(&stats.rms), own(&stats.absmax), own(&largest));
    let ones = vec![1.0; rms.len()];
    let loss = |s: &[f64]| -> f64 {
        let s = share(s);
        let moments: Vec<f64> = stats.rms.iter().zip(&s).map(|(r, s)| (r / s).powi(2)).collect();
        readers.iter().map(|(module, weight)| error(module, weight, &moments, &s)).sum()
    };
    let plain = loss(&ones);
    let (mut found, mut least, mut how) = (ones.clone(), plain, "none".to_owned());
    for i in 0..=(1.0 / STEP).round() as usize {
        let alpha = i as f64 * STEP;
        // AWQ's form and SmoothQuant's.
        for (name, s) in [("rms", factors(&rms, &ones, alpha)), ("absmax", factors(&absmax, &weights, alpha))] {
            let error = loss(&s);
            if error < least {
                (found, least, how) = (s, error, format!("{name}^{alpha:.2}"));
            }
        }
    }
    log::debug!("{tap}: factors {how}, {:.3} of the error without", least / plain.max(f64::MIN_POSITIVE));
    found
}

/// Squared error of a layer's outputs for a token, under factors `s` and inputs of these mean squares.
fn error(module: &Module, weight: &Matrix, moments: &[f64], s: &[f64]) -> f64 {
    let Some(format) = &module.weights else { return 0.0 };
    let n = weight.cols();
    let noise = noise(module.activations, moments);
    let importance: Vec<f32> = moments.iter().map(|m| *m as f32).collect();
    let all = weight.rows();
    let taken = all.min(ROWS);
    let rows: Vec<f64> = (0..taken)
        .into_par_iter()
        .map(|i| row_error(&weight.values()[i * all / taken * n..][..n], format, &importance, s, &noise))
        .collect();
    rows.iter().sum::<f64>() * all as f64 / taken.max(1) as f64
}

fn row_error(row: &[f64], format: &Format, importance: &[f32], s: &[f64], noise: &[f64]) -> f64 {
    let scaled: Vec<f32> = row.iter().zip(s).map(|(w, s)| (w * s) as f32).collect();
    let codes = rounded(&scaled, format);
    let of = |(((w, q), m), noise): (((&f32, &f32), &f32), &f64)| {
        f64::from(*m) * f64::from(w - q).powi(2) + noise * f64::from(*w).powi(2)
    };
    scaled.iter().zip(&codes).zip(importance).zip(noise).map(of).sum()
}

/// Mean square of what rounding adds to each channel of the activation.
fn noise(activations: Activations, moments: &[f64]) -> Vec<f64> {
    let Some(group) = activations.group() else { return vec![0.0; moments.len()] };
    let of = |m: &[f64]| {
        let (sum, most) = m.iter().fold((0f64, 0f64), |(sum, most), m| (sum + m, most.max(*m)));
        let peak = sum.min(most * (1.0 + 2.0 * (m.len() as f64).ln()));
        vec![peak / (TOP * TOP * 12.0); m.len()]
    };
    moments.chunks(group.len(moments.len()).max(1)).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Group, Role};
    use crate::quantize::{ROW_SCALE, ScaleFormat};

    fn module(activations: Activations) -> Module {
        let weights = Some(Format { bits: 4, group: Group::Channel, scales: ScaleFormat::Plain(ROW_SCALE) });
        Module {
            name: String::new(),
            role: Role::Linear,
            rows: 8,
            cols: 32,
            rule: Some(0),
            weights,
            activations,
            activation_percentile: None,
        }
    }

    /// What `s` the search finds for one channel of inputs `outlier` times the others, and weights that are all alike.
    fn found(outlier: f64, activations: Activations) -> (Vec<f64>, f64) {
        // As good as random: Knuth's multiplicative hash.
        let hash = |i: u32| f64::from(i.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
        let values = (1..=8 * 32).map(|i| 2.0 * hash(i) - 1.0).collect();
        let weight = Matrix::new(8, 32, values).unwrap();
        let mut rms = vec![1.0; 32];
        rms[5] = outlier;
        let stats = SiteStats { absmax: rms.iter().map(|r| 4.0 * r).collect(), rms, ..SiteStats::default() };
        let module = module(activations);
        let plain = |x: &[f64]| x.to_vec();
        let s = best("test", &[(&module, &weight)], &stats, &plain, &plain);
        let loss = |s: &[f64]| {
            let moments: Vec<f64> = stats.rms.iter().zip(s).map(|(r, s)| (r / s).powi(2)).collect();
            error(&module, &weight, &moments, s)
        };
        let ratio = loss(&s) / loss(&[1.0; 32]);
        (s, ratio)
    }

    #[test]
    fn an_outlier_is_shared_between_weight_and_activation() {
        for activations in [Activations::Float, Activations::TOKEN] {
            let (s, ratio) = found(50.0, activations);
            assert!(s[5] > 1.5 * s[6] && ratio < 0.7, "{activations:?}: {} to {}, error {ratio}", s[5], s[6]);
        }
        assert!(found(1.0, Activations::TOKEN).1 <= 1.0);
    }

    #[test]
    fn a_group_s_peak_is_no_more_than_its_channels_have() {
        let noise = |m: &[f64]| noise(Activations::Int8(Group::Size(4)), m);
        let unit = 1.0 / (TOP * TOP * 12.0);
        let got = noise(&[9.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        assert!((got[0] / unit - 9.0).abs() < 1e-9 && (got[3] / unit - 9.0).abs() < 1e-9);
        assert!((got[4] / unit - (1.0 + 2.0 * 4f64.ln())).abs() < 1e-9);
    }
}

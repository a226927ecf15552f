//! Smoothing: part of an activation's outliers moves into the weights that read it, by exact scalings.

use half::bf16;
use serde::{Deserialize, Serialize};

use super::inputs::sized;
use super::wide::{Layer, Mamba2, Mixer, Mlp};
use super::{Exponent, Inputs, Matrix, Transform, scale};
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// Factors beyond this or below its inverse are cut: of a channel that hardly ever is other than 0.
const MOST: f64 = 1_048_576.0;

/// Where activations are smoothed, and by which exponent of [`factors`], 0 to 1; absent: not there. Where an online
/// rotation follows, `x` and `w` are root mean squares, elsewhere largest magnitudes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smooth {
    /// Block norms, into the layers that read them. Not with folded norms, which have no weight left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norms: Option<Exponent>,
    /// The gated norm, into `out_proj`; before its online rotation, so that this is MambaQuant's smooth-fused rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated_norm: Option<Exponent>,
    /// The convolution's inputs, into its taps. By powers of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conv: Option<Exponent>,
    /// relu², into `down_proj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relu2: Option<Exponent>,
    /// Attention's values, into `o_proj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Exponent>,
}

impl Smooth {
    /// Nowhere.
    pub const NONE: Self = Self { norms: None, gated_norm: None, conv: None, relu2: None, values: None };

    /// Is there a site whose factors are to be searched?
    #[must_use]
    pub fn searches(&self) -> bool {
        [self.norms, self.gated_norm, self.relu2, self.values].contains(&Some(Exponent::Search))
    }

    /// Is nothing smoothed?
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.conv == Some(Exponent::Search) {
            return Err(Error::argument("smooth.conv", "what the convolution reads is not quantized; give a number"));
        }
        let sites = [self.norms, self.gated_norm, self.conv, self.relu2, self.values];
        for exponent in sites.into_iter().flatten() {
            if let Exponent::Fixed(a) = exponent
                && !(0.0..=1.0).contains(&a)
            {
                return Err(Error::argument("smooth", format!("exponent {a} is not within 0 and 1")));
            }
        }
        Ok(())
    }
}

/// `s_c = x_c^alpha / w_c^(1 - alpha)` over the power of 4 next to its geometric mean, to divide channel `c` of an activation by and multiply
/// the weight's columns by (SmoothQuant, arXiv:2211.10438, with `x` and `w` the largest magnitudes; AWQ,
/// arXiv:2306.00978, with `x` mean magnitudes and `w` ones, whose factors are these times the activation's exponent).
///
/// A model whose channels were scaled by powers of two before, and its weight's columns back, becomes the same model as
/// without that: the scale is in `x` and in `1 / w` alike, and a power of 4 leaves mantissas, and those of the square
/// root that relu² takes, as they are. 1 where `x` or `w` is 0. Factors are rounded to 8 bits, so that they do not hang
/// on the last bit of a machine's power function.
#[must_use]
pub fn factors(x: &[f64], w: &[f64], alpha: f64) -> Vec<f64> {
    let log = |(x, w): (&f64, &f64)| {
        let log = alpha * x.ln() - (1.0 - alpha) * w.ln();
        log.is_finite().then_some(log)
    };
    let logs: Vec<Option<f64>> = x.iter().zip(w).map(log).collect();
    let known: Vec<f64> = logs.iter().flatten().copied().collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let mean = 4f64.powi((mean / 4f64.ln()).round() as i32);
    logs.iter().map(|l| l.map_or(1.0, |l| short((l.exp() / mean).clamp(1.0 / MOST, MOST)))).collect()
}

/// How large a channel is: of an activation with what calibration saw of it, and of a weight's columns.
#[derive(Clone, Copy)]
enum Size {
    /// The largest magnitude: what sets the scale of a group of codes.
    Largest,
    /// The root mean square: what is left of a channel in every one that a rotation mixes it into. With exponent 1/2
    /// the product of both sides' energies, and so the error of an int8 product, is least (Cauchy and Schwarz).
    Rms,
}

impl Size {
    fn at(rotated: bool) -> Self {
        if rotated { Self::Rms } else { Self::Largest }
    }

    fn of_site(self, inputs: &Inputs, name: &str, n: usize) -> Result<Vec<f64>> {
        match self {
            Self::Largest => Ok(sized(name, "absmax", &inputs.site(name)?.absmax, n)?.to_vec()),
            Self::Rms => inputs.rms(name, n),
        }
    }

    fn of_columns(self, m: &Matrix) -> Vec<f64> {
        match self {
            Self::Largest => column_absmax(m),
            Self::Rms => {
                let mut sums = vec![0.0; m.cols()];
                for row in m.values().chunks_exact(m.cols()) {
                    sums.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
                }
                sums.into_iter().map(|s| (s / m.rows() as f64).sqrt()).collect()
            }
        }
    }
}

/// Smooths one block; gives what the input of its last linear layer was divided by.
pub(super) fn apply(
    layer: &mut Layer,
    config: &ModelConfig,
    transform: &Transform,
    index: usize,
    inputs: &Inputs,
) -> Result<Option<Vec<f64>>> {
    let (smooth, online) = (transform.smooth, transform.online);
    let site = |size: Size, op: &str, n: usize| size.of_site(inputs, &format!("layer.{index}.{op}"), n);
    // Of a site whose channels are those of `w`.
    let wanted = |size: Size, op: &str, exponent: Exponent, w: &[f64]| match exponent {
        Exponent::Fixed(alpha) => Ok(factors(&site(size, op, w.len())?, w, alpha)),
        Exponent::Search => inputs.found(&format!("layer.{index}.{op}"), w.len()),
    };
    if let Some(exponent) = smooth.norms {
        let mut w = vec![0.0; layer.norm.len()];
        layer.readers().into_iter().for_each(|r| larger(&mut w, &column_absmax(r)));
        let s = wanted(Size::Largest, "norm", exponent, &w)?;
        let s = short_quotients(&layer.norm, &s);
        scale::norm(layer, &s)?;
    }
    match &mut layer.mixer {
        Mixer::Mamba2(m) => {
            if let Some(Exponent::Fixed(alpha)) = smooth.conv {
                conv(m, &site(Size::Largest, "in_proj", config.in_proj_rows())?, alpha)?;
            }
            let Some(exponent) = smooth.gated_norm else { return Ok(None) };
            let size = Size::at(online.out_proj.is_some());
            let s = wanted(size, "gated_norm", exponent, &size.of_columns(&m.out_proj))?;
            let s = short_quotients(&m.norm, &s);
            scale::gated_norm(m, &s)?;
            Ok(Some(s))
        }
        Mixer::Mlp(m) => {
            let Some(exponent) = smooth.relu2 else { return Ok(None) };
            let size = Size::at(online.down_proj.is_some());
            let s = wanted(size, "up_proj", exponent, &size.of_columns(&m.down_proj))?;
            relu_squared(m, &s).map(Some)
        }
        Mixer::Attention(a) => {
            let Some(exponent) = smooth.values else { return Ok(None) };
            let w = scale::of_kv(config, &column_absmax(&a.o_proj));
            let s = match exponent {
                Exponent::Fixed(alpha) => {
                    factors(&scale::of_kv(config, &site(Size::Largest, "attention", a.o_proj.cols())?), &w, alpha)
                }
                Exponent::Search => inputs.found(&format!("layer.{index}.attention"), w.len())?,
            };
            scale::values(a, config, &s)?;
            Ok(Some(scale::shared(config, &s)))
        }
    }
}

fn conv(m: &mut Mamba2, in_proj: &[f64], alpha: f64) -> Result<()> {
    let taps: Vec<f64> = m.conv_weight.values().chunks_exact(m.conv_weight.cols()).map(absmax_of).collect();
    // Powers of two: the taps are stored as they come, and these keep their mantissas.
    let power = |s: f64| s.log2().round().exp2();
    let s: Vec<f64> = factors(&in_proj[m.norm.len()..][..taps.len()], &taps, alpha).into_iter().map(power).collect();
    scale::conv(m, &s)
}

/// The activation is divided by `s` when rows of `up_proj` are by `sqrt(s)`.
fn relu_squared(m: &mut Mlp, s: &[f64]) -> Result<Vec<f64>> {
    let rows: Vec<f64> = s.iter().map(|s| short(1.0 / s.sqrt())).collect();
    scale::relu_squared(m, &rows)?;
    Ok(rows.into_iter().map(|r| 1.0 / (r * r)).collect())
}

/// Factors near `s` that leave a norm's weight with 8 bits, which any float type holds exactly: also where one as large as `s`
/// would leave no number of bf16, and the factor is near 1.
fn short_quotients(norm: &[f64], s: &[f64]) -> Vec<f64> {
    let nearest = |(w, s): (&f64, &f64)| {
        let factors = [w / short(w / s), w / short(*w)];
        factors.into_iter().find(|f| f.is_finite() && *f > 0.0).unwrap_or(1.0)
    };
    norm.iter().zip(s).map(nearest).collect()
}

/// Rounded to bf16.
fn short(value: f64) -> f64 {
    bf16::from_f64(value).to_f64()
}

fn absmax_of(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))
}

/// The largest magnitude of each column.
pub(crate) fn column_absmax(m: &Matrix) -> Vec<f64> {
    let mut most = vec![0.0; m.cols()];
    m.values().chunks_exact(m.cols()).for_each(|row| larger(&mut most, row));
    most
}

fn larger(most: &mut [f64], values: &[f64]) {
    most.iter_mut().zip(values).for_each(|(m, v)| *m = m.max(v.abs()));
}

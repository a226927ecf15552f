//! Planted outliers: a model of the same function, bit for bit, that is much harder to quantize. For tests and
//! experiments: a good pipeline must not notice.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::scale;
use super::wide::{Layer, Mixer};
use crate::error::{Error, Result};
use crate::model::{self, Linear, ModelConfig, ModelSource, OnlineRotation};

/// Which outliers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outliers {
    /// Their share of the channels of each kind, 0 to 1.
    pub share: f64,
    /// Channels are multiplied by `2^exponent`: of both norms, of values, and of relu² before it is squared.
    pub exponent: u32,
    /// Which ones.
    pub seed: u64,
}

/// A model with outliers in its block norms, gated norms, values and relu² units, each undone in the weight that
/// reads it. Powers of two change no mantissa, so results stay the same bits until something over- or underflows.
pub struct Planted<'a> {
    source: &'a dyn ModelSource,
    outliers: Outliers,
}

impl<'a> Planted<'a> {
    /// Plants `outliers` in `source`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a share that is none or an exponent above 12.
    pub fn new(source: &'a dyn ModelSource, outliers: Outliers) -> Result<Self> {
        let Outliers { share, exponent, .. } = outliers;
        if !(0.0..=1.0).contains(&share) || exponent > 12 {
            return Err(Error::argument(
                "outliers",
                format!("share {share} of 0 to 1, exponent {exponent} of at most 12"),
            ));
        }
        Ok(Self { source, outliers })
    }

    /// `2^exponent` for the share of `n` channels, 1 for the others.
    fn draw(&self, rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
        let mut factors = vec![1.0; n];
        let count = (self.outliers.share * n as f64).ceil() as usize;
        factors[..count.min(n)].fill(f64::from(1u32 << self.outliers.exponent));
        // Fisher and Yates.
        for i in 1..n {
            factors.swap(i, rng.random_range(0..=i));
        }
        factors
    }

    fn plant(&self, index: usize, layer: &mut Layer) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.outliers.seed);
        rng.set_stream(index as u64);
        let inverse = |factors: Vec<f64>| -> Vec<f64> { factors.into_iter().map(|f| 1.0 / f).collect() };
        let norm = inverse(self.draw(&mut rng, layer.norm.len()));
        scale::norm(layer, &norm)?;
        match &mut layer.mixer {
            Mixer::Mamba2(m) => scale::gated_norm(m, &inverse(self.draw(&mut rng, m.norm.len()))),
            Mixer::Mlp(m) => scale::relu_squared(m, &self.draw(&mut rng, m.up_proj.rows())),
            Mixer::Attention(a) => {
                scale::values(a, self.source.config(), &inverse(self.draw(&mut rng, a.v_proj.rows())))
            }
        }
    }
}

impl ModelSource for Planted<'_> {
    fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    fn rotation(&self) -> OnlineRotation {
        self.source.rotation()
    }

    fn embedding(&self) -> Result<Linear> {
        self.source.embedding()
    }

    fn layer(&self, index: usize) -> Result<model::Layer> {
        let mut layer = self.source.layer(index)?;
        let mut wide = Layer::widen(&layer)?;
        self.plant(index, &mut wide)?;
        wide.narrow(&mut layer);
        Ok(layer)
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        self.source.norm_f()
    }

    fn head(&self) -> Result<Option<Linear>> {
        self.source.head()
    }
}

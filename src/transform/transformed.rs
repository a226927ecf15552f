//! A model under exact rewrites, one block at a time.

use std::fmt;

use super::inputs::{Inputs, Known, sized};
use super::klt::diagonal_block;
use super::rotation::{Rotation, Rotor};
use super::wide::{self, Attention, Layer, Mixer};
use super::{Matrix, Transform, heads, order, permute, scale, smooth};
use crate::error::{Error, Result};
use crate::hadamard;
use crate::model::{self, Linear, ModelConfig, ModelSource, OnlineRotation};

/// A model under exact rewrites: a [`ModelSource`] over another.
pub struct Transformed<'a> {
    source: &'a dyn ModelSource,
    config: ModelConfig,
    transform: Transform,
    known: Box<dyn Known + 'a>,
    residual: Option<Rotor>,
}

impl fmt::Debug for Transformed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transformed({} blocks by {:?})", self.config.blocks.len(), self.transform)
    }
}

impl<'a> Transformed<'a> {
    /// Prepares rewrites that need nothing but the model.
    ///
    /// # Errors
    /// As [`Transformed::with`].
    pub fn new(source: &'a dyn ModelSource, transform: Transform) -> Result<Self> {
        Self::with(source, transform, Inputs::default())
    }

    /// Prepares the rewrites. Of `known`, those of a block ask when they are done, a KLT of the stream now.
    ///
    /// # Errors
    /// [`Error::Argument`] when the rewrites do not fit together or the model, or when `known` lacks what they need;
    /// whatever asking it gives.
    pub fn with(source: &'a dyn ModelSource, transform: Transform, known: impl Known + 'a) -> Result<Self> {
        if source.rotation() != OnlineRotation::default() {
            return Err(Error::argument(
                "transform",
                "the model is rotated already; start from the original checkpoint",
            ));
        }
        let mut config = source.config().clone();
        transform.check(&config)?;
        // The folded final norm belongs to the head alone.
        config.tied &= !transform.fold_norms;
        let n = config.hidden_size;
        let covariance = || known.residual_covariance(&config);
        let given = || known.of(0)?.matrix("residual", n, n);
        let residual = transform.residual.map(|kind| Rotor::new(kind, n, covariance, given)).transpose()?;
        Ok(Self { source, config, transform, known: Box::new(known), residual })
    }

    /// [`ModelSource::embedding`] before it is rounded to f32.
    ///
    /// # Errors
    /// As [`ModelSource::embedding`]; [`Error::Argument`] for a quantized model. The same for the other functions.
    pub fn embedding_f64(&self) -> Result<Matrix> {
        let mut embedding = wide::matrix(&self.source.embedding()?)?;
        if let Some(r) = &self.residual {
            r.rows(&mut embedding);
        }
        Ok(embedding)
    }

    /// [`ModelSource::layer`] before it is rounded to f32.
    ///
    /// # Errors
    /// As [`Transformed::embedding_f64`]; [`Error::Argument`] when calibration lacks something.
    pub fn layer_f64(&self, index: usize) -> Result<Layer> {
        self.rewritten(index, &self.source.layer(index)?)
    }

    /// [`ModelSource::head`] before it is rounded to f32; the embedding where that is tied.
    ///
    /// # Errors
    /// As [`Transformed::embedding_f64`].
    pub fn head_f64(&self) -> Result<Matrix> {
        let mut head = wide::matrix(&self.source.head()?.map_or_else(|| self.source.embedding(), Ok)?)?;
        if self.transform.fold_norms {
            head.scale_columns(&wide::vector(&self.source.norm_f()?));
        }
        if let Some(r) = &self.residual {
            r.rows(&mut head);
        }
        Ok(head)
    }

    /// All rewrites of a block, in their order: what shapes an activation comes before what rotates it.
    fn rewritten(&self, index: usize, source: &model::Layer) -> Result<Layer> {
        let (t, config) = (&self.transform, &self.config);
        // First: finding it out may take memory, as the block in f64 does.
        let inputs = self.known.of(index)?;
        let mut layer = Layer::widen(source)?;
        if t.fold_norms {
            scale::fold_norm(&mut layer);
        }
        if let (Mixer::Attention(a), Some(kind)) = (&mut layer.mixer, t.keys) {
            let rotations = self.head_rotations(index, "keys", kind, |head| self.key_covariance(index, a, head))?;
            heads::keys(a, config, &rotations)?;
        }
        let smoothed = smooth::apply(&mut layer, config, t, index, inputs)?;
        self.permute(index, &mut layer, smoothed.as_deref())?;
        if let (Mixer::Attention(a), Some(kind)) = (&mut layer.mixer, t.values) {
            let covariance = |head| self.value_covariance(index, smoothed.as_deref(), head);
            let rotations = self.head_rotations(index, "values", kind, covariance)?;
            heads::values(a, config, &rotations)?;
        }
        if let Some(r) = &self.residual {
            r.residual(&mut layer);
        }
        self.online(&mut layer)?;
        Ok(layer)
    }

    /// Orders the inputs of the block's last linear layer.
    fn permute(&self, index: usize, layer: &mut Layer, smoothed: Option<&[f64]>) -> Result<()> {
        let (Some(kind), config) = (self.transform.permute, &self.config) else { return Ok(()) };
        let online = self.transform.online;
        match &mut layer.mixer {
            Mixer::Mamba2(m) => {
                let mass = self.mass(index, &format!("layer.{index}.gated_norm"), m.norm.len(), smoothed)?;
                permute::channels(m, config, &order::channels(kind, config, &mass, online.out_proj)?)
            }
            Mixer::Mlp(m) => {
                let mass = self.mass(index, &format!("layer.{index}.up_proj"), m.up_proj.rows(), smoothed)?;
                permute::units(m, &order::units(kind, &mass, online.down_proj)?)
            }
            Mixer::Attention(_) => Ok(()),
        }
    }

    /// Root mean square of each channel of a site after smoothing.
    fn mass(&self, index: usize, site: &str, n: usize, smoothed: Option<&[f64]>) -> Result<Vec<f64>> {
        let mut mass = self.known.of(index)?.rms(site, n)?;
        mass.iter_mut().zip(smoothed.into_iter().flatten()).for_each(|(m, s)| *m /= s);
        Ok(mass)
    }

    /// A rotation for each KV head.
    fn head_rotations(
        &self,
        index: usize,
        what: &str,
        kind: Rotation,
        covariance: impl Fn(usize) -> Result<Vec<f64>>,
    ) -> Result<Vec<Matrix>> {
        let (dim, heads) = (self.config.head_dim, self.config.kv_heads);
        if kind == Rotation::Given {
            // Any invertible matrix will do here.
            let all = self.known.of(index)?.matrix(&format!("layer.{index}.{what}"), heads * dim, dim)?;
            return all.values().chunks_exact(dim * dim).map(|t| Matrix::new(dim, dim, t.to_vec())).collect();
        }
        let rotation = |head| {
            let none = || Err(Error::argument("rotation of heads", "has no matrix of the caller's"));
            Ok(Rotor::new(kind, dim, || covariance(head), none)?.matrix(dim))
        };
        (0..heads).map(rotation).collect()
    }

    /// Of the keys of a KV head: `W C Wᵀ` of the covariance C of what they are projected from.
    fn key_covariance(&self, index: usize, a: &Attention, head: usize) -> Result<Vec<f64>> {
        let (n, dim) = (self.config.hidden_size, self.config.head_dim);
        let site = format!("layer.{index}.norm");
        let c = sized(&site, "covariance", &self.known.of(index)?.site(&site)?.covariance, n * n)?;
        let w = Matrix::new(dim, n, a.k_proj.values()[head * dim * n..][..dim * n].to_vec())?;
        Ok(w.times_transposed(&Matrix::new(n, n, c.to_vec())?).times_transposed(&w).values().to_vec())
    }

    /// Of what attention makes of the values of a KV head, over the query heads that share it: the input of `o_proj`.
    fn value_covariance(&self, index: usize, smoothed: Option<&[f64]>, kv: usize) -> Result<Vec<f64>> {
        let (dim, n) = (self.config.head_dim, self.config.attention_heads * self.config.head_dim);
        let repeats = self.config.attention_heads / self.config.kv_heads;
        let site = format!("layer.{index}.attention");
        let c = sized(&site, "covariance", &self.known.of(index)?.site(&site)?.covariance, n * n)?;
        let mut sum = vec![0.0; dim * dim];
        for head in kv * repeats..(kv + 1) * repeats {
            let block = diagonal_block(c, n, head * dim, dim);
            sum.iter_mut().zip(block).for_each(|(s, c)| *s += c);
        }
        if let Some(s) = smoothed {
            let s = &s[kv * repeats * dim..][..dim];
            sum.iter_mut().enumerate().for_each(|(i, c)| *c /= s[i / dim] * s[i % dim]);
        }
        Ok(sum)
    }

    /// Undoes, in the weights, the rotations done at run time.
    fn online(&self, layer: &mut Layer) -> Result<()> {
        let block = match &layer.mixer {
            Mixer::Mamba2(_) => self.transform.online.out_proj,
            Mixer::Mlp(_) => self.transform.online.down_proj,
            Mixer::Attention(_) => None,
        };
        let Some(block) = block else { return Ok(()) };
        let hadamard = hadamard::Transform::new(block)?;
        layer.writer().each_row(|row| hadamard.apply(row));
        Ok(())
    }
}

impl ModelSource for Transformed<'_> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn rotation(&self) -> OnlineRotation {
        self.transform.online
    }

    fn embedding(&self) -> Result<Linear> {
        let mut embedding = self.source.embedding()?;
        if self.residual.is_some() {
            wide::narrow(&self.embedding_f64()?, &mut embedding);
        }
        Ok(embedding)
    }

    fn layer(&self, index: usize) -> Result<model::Layer> {
        let mut layer = self.source.layer(index)?;
        if self.transform != Transform::NONE {
            self.rewritten(index, &layer)?.narrow(&mut layer);
        }
        Ok(layer)
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        let norm = self.source.norm_f()?;
        Ok(if self.transform.fold_norms { vec![1.0; norm.len()] } else { norm })
    }

    fn head(&self) -> Result<Option<Linear>> {
        if !self.transform.fold_norms {
            return self.source.head();
        }
        let mut head = self.source.head()?.map_or_else(|| self.source.embedding(), Ok)?;
        wide::narrow(&self.head_f64()?, &mut head);
        Ok(Some(head))
    }
}

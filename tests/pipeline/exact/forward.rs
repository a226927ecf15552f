//! A forward pass in f64 from the formulas alone, sequential and slow: what exact rewrites must leave as it is.

use wgquant::hadamard;
use wgquant::model::{ModelConfig, ModelSource};
use wgquant::transform::wide::{Attention, Layer, Mamba2, Mixer, Mlp};
use wgquant::transform::{Inputs, Matrix, SiteStats, StateAxis, Transformed};

/// Tokens by channels.
type Rows = Vec<Vec<f64>>;

/// What is done beside a plain pass.
#[derive(Default)]
pub(super) struct Extra<'a> {
    /// Transforms B and C after the convolution.
    pub(super) state_axis: Option<&'a StateAxis>,
    /// Takes statistics, by the runtime's taps.
    pub(super) stats: Option<&'a mut Inputs>,
}

/// A model in f64.
pub(super) struct Wide {
    config: ModelConfig,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm_f: Vec<f64>,
    head: Matrix,
    online: [Option<usize>; 2],
}

impl Wide {
    pub(super) fn new(model: &Transformed<'_>) -> Self {
        let config = model.config().clone();
        let online = model.rotation();
        Self {
            embedding: model.embedding_f64().unwrap(),
            layers: (0..config.blocks.len()).map(|i| model.layer_f64(i).unwrap()).collect(),
            norm_f: model.norm_f().unwrap().into_iter().map(f64::from).collect(),
            head: model.head_f64().unwrap(),
            online: [online.out_proj, online.down_proj],
            config,
        }
    }

    /// The blocks, to rewrite them by hand.
    pub(super) fn layers_mut(&mut self) -> &mut [Layer] {
        &mut self.layers
    }

    /// Logits of each token, one after another.
    pub(super) fn logits(&self, tokens: &[usize], mut extra: Extra<'_>) -> Vec<f64> {
        let mut hidden: Rows = tokens.iter().map(|t| self.embedding.row(*t).to_vec()).collect();
        for (i, layer) in self.layers.iter().enumerate() {
            let normed = self.normed(&hidden, &layer.norm);
            let mut look = |tap: &str, x: &Rows| {
                if let Some(inputs) = &mut extra.stats {
                    inputs.stats.insert(format!("layer.{i}.{tap}"), stats(x));
                }
            };
            look("norm", &normed);
            let out = match &layer.mixer {
                Mixer::Mamba2(m) => self.mamba2(m, &normed, extra.state_axis, &mut look),
                Mixer::Attention(a) => self.attention(a, &normed, &mut look),
                Mixer::Mlp(m) => self.mlp(m, &normed, &mut look),
            };
            hidden.iter_mut().zip(out).for_each(|(h, o)| h.iter_mut().zip(o).for_each(|(h, o)| *h += o));
        }
        let normed = self.normed(&hidden, &self.norm_f);
        project(&self.head, &normed).concat()
    }

    fn normed(&self, x: &Rows, weight: &[f64]) -> Rows {
        let eps = f64::from(self.config.norm_eps);
        let norm = |row: &Vec<f64>| {
            let scale = (mean_square(row) + eps).sqrt().recip();
            row.iter().zip(weight).map(|(v, w)| v * scale * w).collect()
        };
        x.iter().map(norm).collect()
    }

    fn mlp(&self, m: &Mlp, x: &Rows, look: &mut dyn FnMut(&str, &Rows)) -> Rows {
        let mut up = project(&m.up_proj, x);
        up.iter_mut().flatten().for_each(|v| *v = v.max(0.0).powi(2));
        look("up_proj", &up);
        rotate(&mut up, self.online[1]);
        project(&m.down_proj, &up)
    }

    fn attention(&self, a: &Attention, x: &Rows, look: &mut dyn FnMut(&str, &Rows)) -> Rows {
        let (q, k, v) = (project(&a.q_proj, x), project(&a.k_proj, x), project(&a.v_proj, x));
        let (dim, repeats) = (self.config.head_dim, self.config.attention_heads / self.config.kv_heads);
        let scale = (dim as f64).sqrt().recip();
        let context = |t: usize| {
            let head = |h: usize| {
                let kv = h / repeats * dim;
                let score = |s: usize| scale * dot(&q[t][h * dim..][..dim], &k[s][kv..][..dim]);
                let scores: Vec<f64> = (0..=t).map(score).collect();
                let peak = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
                let weights: Vec<f64> = scores.iter().map(|s| (s - peak).exp()).collect();
                let total: f64 = weights.iter().sum();
                let value = |c: usize| weights.iter().zip(&v).map(|(w, v)| w / total * v[kv + c]).sum();
                (0..dim).map(value).collect::<Vec<f64>>()
            };
            (0..self.config.attention_heads).flat_map(head).collect()
        };
        let context: Rows = (0..x.len()).map(context).collect();
        look("attention", &context);
        project(&a.o_proj, &context)
    }

    fn mamba2(&self, m: &Mamba2, x: &Rows, axis: Option<&StateAxis>, look: &mut dyn FnMut(&str, &Rows)) -> Rows {
        let (c, inner) = (&self.config, self.config.d_inner());
        let states = c.n_groups * c.state_size;
        let zxbcdt = project(&m.in_proj, x);
        look("in_proj", &zxbcdt);
        let taps = c.conv_kernel;
        let conv = |t: usize, channel: usize| {
            let seen = (0..taps).filter(|j| t + j + 1 >= taps);
            let sum = seen.map(|j| m.conv_weight.row(channel)[j] * zxbcdt[t + j + 1 - taps][inner + channel]);
            silu(sum.sum::<f64>() + m.conv_bias[channel])
        };
        let mut state = vec![vec![0.0; c.state_size]; inner];
        let token = |t: usize| {
            let mut xbc: Vec<f64> = (0..c.conv_dim()).map(|channel| conv(t, channel)).collect();
            if let Some(axis) = axis {
                axis.b(&mut xbc[inner..][..states]);
                axis.c(&mut xbc[inner + states..]);
            }
            let y = self.scan(m, &xbc, &zxbcdt[t][inner + c.conv_dim()..], &mut state);
            let mut gated: Vec<f64> = y.iter().zip(&zxbcdt[t]).map(|(y, z)| y * silu(*z)).collect();
            for group in gated.chunks_exact_mut(inner / c.n_groups) {
                let scale = (mean_square(group) + f64::from(c.norm_eps)).sqrt().recip();
                group.iter_mut().for_each(|v| *v *= scale);
            }
            gated.iter().zip(&m.norm).map(|(v, w)| v * w).collect()
        };
        let mut gated: Rows = (0..x.len()).map(token).collect();
        look("gated_norm", &gated);
        rotate(&mut gated, self.online[0]);
        project(&m.out_proj, &gated)
    }

    fn scan(&self, m: &Mamba2, xbc: &[f64], raw: &[f64], state: &mut [Vec<f64>]) -> Vec<f64> {
        let (c, inner, n) = (&self.config, self.config.d_inner(), self.config.state_size);
        let row = |(i, state): (usize, &mut Vec<f64>)| {
            let h = i / c.mamba_head_dim;
            let g = h / (c.mamba_heads / c.n_groups);
            let dt = (raw[h] + m.dt_bias[h]).exp().ln_1p();
            let decay = (-m.a_log[h].exp() * dt).exp();
            let (b, read) = (&xbc[inner + g * n..][..n], &xbc[inner + (c.n_groups + g) * n..][..n]);
            state.iter_mut().zip(b).for_each(|(s, b)| *s = decay * *s + dt * xbc[i] * b);
            dot(state, read) + m.d[h] * xbc[i]
        };
        state.iter_mut().enumerate().map(row).collect()
    }
}

fn project(w: &Matrix, x: &Rows) -> Rows {
    x.iter().map(|x| (0..w.rows()).map(|r| dot(w.row(r), x)).collect()).collect()
}

fn rotate(x: &mut Rows, block: Option<usize>) {
    if let Some(block) = block {
        x.iter_mut().for_each(|row| hadamard::transform(block, row).unwrap());
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mean_square(x: &[f64]) -> f64 {
    dot(x, x) / x.len() as f64
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn stats(x: &Rows) -> SiteStats {
    let n = x[0].len();
    let mean = |i: usize, j: usize| x.iter().map(|row| row[i] * row[j]).sum::<f64>() / x.len() as f64;
    SiteStats {
        absmax: (0..n).map(|c| x.iter().fold(0.0, |m: f64, row| m.max(row[c].abs()))).collect(),
        rms: (0..n).map(|c| mean(c, c).sqrt()).collect(),
        covariance: (0..n * n).map(|i| mean(i / n, i % n)).collect(),
        ..Default::default()
    }
}

//! One pass over the blocks as plan launches. Written once: GPU and reference both run it.

use super::scratch::Scratch;
use super::state::{self, BlockState, State};
use super::taps::Taps;
use super::weights::{DeviceAttention, DeviceLayer, DeviceLinear, DeviceMixer, DeviceMlp, Input, Int8, Token, Weights};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::kernels::{self, Columns, Epilogue, HadamardBuffers, KvCache, SplitK};
use crate::model::ModelConfig;
use crate::tensor::DType;

/// Most tokens of a pass whose recurrence takes less time one by one, in one launch, than in chunks, which takes six or seven.
pub(super) const FEW_TOKENS: usize = 32;

/// Everything a pass reads, and the number of tokens it is for.
pub(super) struct Forward<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) state: &'a State,
    pub(super) scratch: &'a Scratch,
    pub(super) dt_limit: (f32, f32),
    pub(super) tokens: usize,
    /// One token by the kernels of decoding, which give neither dt nor states to look at.
    pub(super) decode: bool,
    /// Else, tokens so few ([`FEW_TOKENS`]) that the recurrence goes through them one after the other where nobody looks at it.
    pub(super) few: bool,
    /// Slices of products, where they are given.
    pub(super) split_k: Option<usize>,
}

impl Forward<'_> {
    /// `ids` through all blocks; gives the stream before the final norm. `taps` sees the stream entering each block
    /// as `hidden.{i}`, the last as `hidden.{blocks}`, and what each op within a block gives as `layer.{i}.{op}`.
    pub(super) fn blocks(
        &self,
        plan: &mut Plan,
        weights: &Weights,
        ids: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<DeviceTensor> {
        let hidden = self.stream()?;
        weights.embedding.apply(plan, ids, &hidden)?;
        for (i, (layer, state)) in weights.layers.iter().zip(&self.state.blocks).enumerate() {
            taps.stream(plan, i, &hidden)?;
            self.block(plan, layer, state, taps)?;
        }
        taps.stream(plan, weights.layers.len(), &hidden)?;
        Ok(hidden)
    }

    /// The residual stream, `[tokens, hidden]`.
    pub(super) fn stream(&self) -> Result<DeviceTensor> {
        self.f32(&self.scratch.hidden, self.config.hidden_size)
    }

    /// One block, added to the stream.
    pub(super) fn block(
        &self,
        plan: &mut Plan,
        layer: &DeviceLayer,
        state: &BlockState,
        taps: &mut Taps<'_>,
    ) -> Result<()> {
        let hidden = self.stream()?;
        let norm = &layer.norm;
        match (&layer.mixer, state) {
            (DeviceMixer::Mamba2(m), BlockState::Mamba2(s)) => self.mamba2(plan, m, s, norm, &hidden, taps),
            (DeviceMixer::Attention(a), BlockState::Attention(s)) => self.attention(plan, a, s, norm, &hidden, taps),
            (DeviceMixer::Mlp(m), BlockState::Mlp) => self.mlp(plan, m, norm, &hidden, taps),
            _ => Err(Error::argument("forward", "a block and its state are of different kinds")),
        }
    }

    /// Final norm and head over the rows of `hidden`, into `logits` `[rows, vocab]`.
    pub(super) fn head(
        &self,
        plan: &mut Plan,
        weights: &Weights,
        hidden: &DeviceTensor,
        logits: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<()> {
        let input = match self.norm_codes(plan, hidden, &weights.norm_f, &[&weights.head], taps)? {
            Some(input) => input,
            None => {
                let normed = self.norm(plan, hidden, &weights.norm_f)?;
                taps.end(plan, "norm_f", &normed)?;
                self.input(plan, normed, &[&weights.head], taps, ["logits.codes", "logits.scales"])?
            }
        };
        weights.head.apply(plan, &input, logits, Epilogue::Store, None)?;
        taps.end(plan, "logits", logits)
    }

    /// A view `[tokens, cols]` of a scratch buffer.
    pub(super) fn f32(&self, buffer: &DeviceTensor, cols: usize) -> Result<DeviceTensor> {
        buffer.view(DType::F32, [self.tokens, cols])
    }

    pub(super) fn norm(&self, plan: &mut Plan, x: &DeviceTensor, weight: &DeviceTensor) -> Result<DeviceTensor> {
        let out = self.scratch.normed.view(DType::F32, [x.shape.rows(), self.config.hidden_size])?;
        kernels::rms_norm(plan, x, weight, &out, self.config.norm_eps)?;
        Ok(out)
    }

    /// The norm of `x` as its consumers want it.
    pub(super) fn normed(
        &self,
        plan: &mut Plan,
        x: &DeviceTensor,
        weight: &DeviceTensor,
        consumers: &[&DeviceLinear],
        taps: &mut Taps<'_>,
        names: [&'static str; 2],
    ) -> Result<Input> {
        if let Some(input) = self.norm_codes(plan, x, weight, consumers, taps)? {
            return Ok(input);
        }
        let normed = self.norm(plan, x, weight)?;
        taps.op(plan, "norm", &normed)?;
        self.input(plan, normed, consumers, taps, names)
    }

    /// The norm of `x` as codes alone, in one dispatch, where that is all anybody wants; of one token for one consumer in none where
    /// that pays: its product makes them.
    fn norm_codes(
        &self,
        plan: &mut Plan,
        x: &DeviceTensor,
        weight: &DeviceTensor,
        consumers: &[&DeviceLinear],
        taps: &Taps<'_>,
    ) -> Result<Option<Input>> {
        let (rows, cols) = (x.shape.rows(), x.shape.cols());
        let Some(group) = codes_alone(consumers, taps).filter(|g| kernels::rms_norm_quantize_fits(cols, *g)) else {
            return Ok(None);
        };
        if let (1, [consumer]) = (rows, consumers)
            && let Some(groups) = consumer.groups()
            && kernels::rms_norm_matvec_pays(plan.device(), cols, groups)
        {
            let token = Token::Normed { x: x.clone(), weight: weight.clone(), eps: self.config.norm_eps, group };
            return Ok(Some(Input { token: Some(token), ..Input::default() }));
        }
        let int8 = self.int8(rows, cols, group)?;
        kernels::rms_norm_quantize(plan, x, weight, int8.scaled(), self.config.norm_eps)?;
        Ok(Some(Input { int8: Some(int8), ..Input::default() }))
    }

    /// Where codes go.
    pub(super) fn int8(&self, rows: usize, cols: usize, group: usize) -> Result<Int8> {
        let codes = self.scratch.codes.view(DType::I8, [rows, cols])?;
        let scales = self.scratch.scales.view(DType::F32, [rows, cols.div_ceil(group)])?;
        Ok(Int8 { codes, scales, group })
    }

    /// Quantizes `x` once if any of its consumers wants int8; those that do must want the same groups and scales.
    pub(super) fn input(
        &self,
        plan: &mut Plan,
        x: DeviceTensor,
        consumers: &[&DeviceLinear],
        taps: &mut Taps<'_>,
        [codes_name, scales_name]: [&'static str; 2],
    ) -> Result<Input> {
        let mut all = consumers.iter().filter_map(|l| l.rounding());
        let (rows, cols) = (x.shape.rows(), x.shape.cols());
        let Some(rounding) = all.next() else { return Ok(Input { x: Some(x), ..Input::default() }) };
        if let Some(other) = all.find(|r| !r.agrees(rounding)) {
            let reason = format!("layers of one input round it to int8 in {rounding} and in {other}");
            return Err(Error::argument(codes_name, reason));
        }
        let int8 = self.int8(rows, cols, rounding.group)?;
        let Int8 { codes, scales, group } = &int8;
        match &rounding.fixed {
            None => kernels::quantize_tokens(plan, &x, codes, scales, *group)?,
            Some(fixed) => kernels::quantize_static(plan, &x, &fixed.tensor, codes, scales, *group)?,
        }
        taps.op(plan, codes_name, codes)?;
        taps.op(plan, scales_name, scales)?;
        Ok(Input { x: Some(x), int8: Some(int8), ..Input::default() })
    }

    /// How a product of `columns` outputs into `wide` may be cut: nothing is in `rotated` then. As many slices as are asked for, where they fit.
    pub(super) fn split(&self, columns: usize) -> Option<SplitK<'_>> {
        let split = SplitK { room: &self.scratch.rotated, slices: self.split_k };
        let fits = split.slices.is_none_or(|slices| slices <= split.holds(self.tokens, columns));
        fits.then_some(split)
    }

    /// Adds the product of `writer` to the stream, where that is wanted.
    pub(super) fn write(
        &self,
        plan: &mut Plan,
        writer: &DeviceLinear,
        input: &Input,
        hidden: &DeviceTensor,
        taps: &Taps<'_>,
    ) -> Result<()> {
        // What was written there is in the input's codes by now.
        let split = SplitK { room: &self.scratch.wide, slices: self.split_k };
        if taps.inputs_only() { Ok(()) } else { writer.apply(plan, input, hidden, Epilogue::Add, Some(split)) }
    }

    /// Applies the online rotation, where there is one.
    pub(super) fn rotated(
        &self,
        plan: &mut Plan,
        x: DeviceTensor,
        by: Option<&HadamardBuffers>,
        taps: &mut Taps<'_>,
    ) -> Result<DeviceTensor> {
        let Some(by) = by else { return Ok(x) };
        let out = self.f32(&self.scratch.rotated, x.shape.cols())?;
        kernels::hadamard_with(plan, &x, &out, by)?;
        taps.op(plan, "rotated", &out)?;
        Ok(out)
    }

    fn attention(
        &self,
        plan: &mut Plan,
        a: &DeviceAttention,
        cache: &KvCache,
        norm: &DeviceTensor,
        hidden: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<()> {
        let (c, s) = (self.config, self.scratch);
        let qkv = a.qkv.as_ref().filter(|_| !taps.looking());
        let consumers = qkv.map_or(vec![&a.q_proj, &a.k_proj, &a.v_proj], |qkv| vec![qkv]);
        let input = self.normed(plan, hidden, norm, &consumers, taps, ["qkv.codes", "qkv.scales"])?;
        let (query, kv) = (c.attention_heads * c.head_dim, c.kv_heads * c.head_dim);
        let (all, q) = (self.f32(&s.wide, query + 2 * kv)?, self.f32(&s.wide, query)?);
        let (k, v) = (self.f32(&s.xbc, kv)?, self.f32(&s.value, kv)?);
        let [q, k, v] = if let Some(qkv) = qkv {
            qkv.apply(plan, &input, &all, Epilogue::Store, self.split(query + 2 * kv))?;
            let columns = |offset, width| Columns::new("attention", &all, offset, width);
            [columns(0, query)?, columns(query, kv)?, columns(query + kv, kv)?]
        } else {
            for (name, proj, out) in [("q_proj", &a.q_proj, &q), ("k_proj", &a.k_proj, &k), ("v_proj", &a.v_proj, &v)] {
                proj.apply(plan, &input, out, Epilogue::Store, None)?;
                taps.op(plan, name, out)?;
            }
            [&q, &k, &v].map(Columns::from)
        };
        let context = self.attend(plan, [q, k, v], cache)?;
        taps.op(plan, "attention", &context)?;
        let input = self.input(plan, context, &[&a.o_proj], taps, ["o_proj.codes", "o_proj.scales"])?;
        self.write(plan, &a.o_proj, &input, hidden, taps)
    }

    /// What queries find among keys and values when those of these tokens are there, too: `[tokens, heads · head_dim]`.
    pub(super) fn attend(&self, plan: &mut Plan, [q, k, v]: [Columns<'_>; 3], cache: &KvCache) -> Result<DeviceTensor> {
        let (dims, cursor) = (state::attention(self.config), &self.state.cursor);
        kernels::kv_append(plan, k, v, cursor, cache, dims)?;
        let context = self.f32(&self.scratch.y, self.config.attention_heads * self.config.head_dim)?;
        match self.state.parts.as_ref().filter(|_| self.decode) {
            Some(parts) => kernels::attention_in_parts(plan, q, cache, cursor, &context, dims, parts)?,
            None => kernels::attention(plan, q, cache, cursor, &context, dims)?,
        }
        Ok(context)
    }

    fn mlp(
        &self,
        plan: &mut Plan,
        m: &DeviceMlp,
        norm: &DeviceTensor,
        hidden: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<()> {
        let input = self.normed(plan, hidden, norm, &[&m.up_proj], taps, ["up_proj.codes", "up_proj.scales"])?;
        let up = self.f32(&self.scratch.wide, self.config.intermediate_size)?;
        m.up_proj.apply(plan, &input, &up, Epilogue::ReluSquared, self.split(self.config.intermediate_size))?;
        taps.op(plan, "up_proj", &up)?;
        let input = self.down(plan, m, up, taps)?;
        self.write(plan, &m.down_proj, &input, hidden, taps)
    }

    /// `up` rotated, as down_proj wants it: codes, made by the rotation's last pass, where that is all anybody wants.
    fn down(&self, plan: &mut Plan, m: &DeviceMlp, up: DeviceTensor, taps: &mut Taps<'_>) -> Result<Input> {
        let (rows, cols, consumers) = (self.tokens, up.shape.cols(), [&m.down_proj]);
        let rotation = self.scratch.rotate_down.as_ref();
        let block = rotation.map_or(1, HadamardBuffers::block);
        if let Some(group) = codes_alone(&consumers, taps).filter(|g| kernels::hadamard_groups_fits(block, cols, *g)) {
            let int8 = self.int8(rows, cols, group)?;
            kernels::hadamard_groups(plan, &up, int8.scaled(), block)?;
            return Ok(Input { int8: Some(int8), ..Input::default() });
        }
        if let (Some(by), Some(group)) = (rotation, codes_alone(&consumers, taps))
            && by.fits_codes(plan.device(), cols, group)
        {
            let (between, int8) = (self.f32(&self.scratch.rotated, cols)?, self.int8(rows, cols, group)?);
            kernels::hadamard_codes_with(plan, &up, &between, int8.scaled(), by)?;
            return Ok(Input { int8: Some(int8), ..Input::default() });
        }
        let rotated = self.rotated(plan, up, rotation, taps)?;
        self.input(plan, rotated, &consumers, taps, ["down_proj.codes", "down_proj.scales"])
    }
}

/// The group of the consumers' codes, where all of them want codes of scales made from the token, and nobody looks at the
/// floats.
pub(super) fn codes_alone(consumers: &[&DeviceLinear], taps: &Taps<'_>) -> Option<usize> {
    let first = consumers.first()?.rounding()?;
    let same = consumers.iter().all(|l| l.rounding().is_some_and(|r| r.agrees(first)));
    (same && first.fixed.is_none() && !taps.looking()).then_some(first.group)
}

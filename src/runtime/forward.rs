//! One pass over the blocks as plan launches. Written once: GPU and reference both run it.

use super::scratch::{ScanFormat, Scratch};
use super::state::{self, BlockState, MambaState, SsmState, State, ssd};
use super::taps::Taps;
use super::weights::{
    DeviceAttention, DeviceLayer, DeviceLinear, DeviceMamba2, DeviceMixer, DeviceMlp, Input, Int8, Token, Weights,
};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::kernels::{self, Columns, Epilogue, GatedNorm, HadamardBuffers, KvCache, MambaVectors, SplitK};
use crate::model::ModelConfig;
use crate::tensor::DType;

/// Everything a pass reads, and the number of tokens it is for.
pub(super) struct Forward<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) state: &'a State,
    pub(super) scratch: &'a Scratch,
    pub(super) dt_limit: (f32, f32),
    pub(super) tokens: usize,
    /// One token by the kernels of decoding, which give neither dt nor states to look at.
    pub(super) decode: bool,
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
    fn f32(&self, buffer: &DeviceTensor, cols: usize) -> Result<DeviceTensor> {
        buffer.view(DType::F32, [self.tokens, cols])
    }

    pub(super) fn norm(&self, plan: &mut Plan, x: &DeviceTensor, weight: &DeviceTensor) -> Result<DeviceTensor> {
        let out = self.scratch.normed.view(DType::F32, [x.shape.rows(), self.config.hidden_size])?;
        kernels::rms_norm(plan, x, weight, &out, self.config.norm_eps)?;
        Ok(out)
    }

    /// The norm of `x` as its consumers want it.
    fn normed(
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
    fn int8(&self, rows: usize, cols: usize, group: usize) -> Result<Int8> {
        let codes = self.scratch.codes.view(DType::I8, [rows, cols])?;
        let scales = self.scratch.scales.view(DType::F32, [rows, cols.div_ceil(group)])?;
        Ok(Int8 { codes, scales, group })
    }

    /// Quantizes `x` once if any of its consumers wants int8; those that do must want the same groups and scales.
    fn input(
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
    fn split(&self, columns: usize) -> Option<SplitK<'_>> {
        let split = SplitK { room: &self.scratch.rotated, slices: self.split_k };
        let fits = split.slices.is_none_or(|slices| slices <= split.holds(self.tokens, columns));
        fits.then_some(split)
    }

    /// Adds the product of `writer` to the stream, where that is wanted.
    fn write(
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
    fn rotated(
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

    fn mamba2(
        &self,
        plan: &mut Plan,
        m: &DeviceMamba2,
        state: &MambaState,
        norm: &DeviceTensor,
        hidden: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<()> {
        let (c, s) = (self.config, self.scratch);
        let (d_inner, conv_dim) = (c.d_inner(), c.conv_dim());
        let input = self.normed(plan, hidden, norm, &[&m.in_proj], taps, ["in_proj.codes", "in_proj.scales"])?;
        let zxbcdt = self.f32(&s.wide, c.in_proj_rows())?;
        m.in_proj.apply(plan, &input, &zxbcdt, Epilogue::Store, self.split(c.in_proj_rows()))?;
        taps.op(plan, "in_proj", &zxbcdt)?;

        let columns = |offset, width| Columns::new("mamba2", &zxbcdt, offset, width);
        let (z, raw_xbc, raw_dt) =
            (columns(0, d_inner)?, columns(d_inner, conv_dim)?, columns(d_inner + conv_dim, c.mamba_heads)?);
        let xbc = self.f32(&s.xbc, conv_dim)?;
        let mut y = self.f32(&s.y, d_inner)?;
        let fused = self.decode && !taps.looking() && kernels::fuses(ssd(c), c.conv_kernel);
        if let (true, SsmState::F32(ssm)) = (fused, &state.ssm) {
            let raw = columns(d_inner, conv_dim + c.mamba_heads)?;
            let MambaState { conv, .. } = state;
            let DeviceMamba2 { conv_weight, conv_bias, per_head, .. } = m;
            let vectors = MambaVectors { conv_weight, conv_bias, per_head };
            let (tickets, limit) = (&self.state.tickets, self.dt_limit);
            kernels::mamba2_update(plan, &raw, vectors, conv, ssm, tickets, &y, ssd(c), limit)?;
        } else if let (true, SsmState::Int8 { stored, .. }) = (self.fuses_stored(&state.ssm, taps), &state.ssm) {
            let raw = columns(d_inner, conv_dim + c.mamba_heads)?;
            let (conv, clock, limit) = (&state.conv, &self.state.clock, self.dt_limit);
            kernels::mamba2_update_int8(plan, &raw, &m.vectors, conv, stored, clock, &y, ssd(c), limit)?;
        } else if self.decode {
            kernels::causal_conv1d_update(plan, &raw_xbc, &m.conv_weight, &m.conv_bias, &state.conv, &xbc)?;
            taps.op(plan, "conv", &xbc)?;
            self.update(plan, m, &state.ssm, &raw_dt, &xbc, &y)?;
        } else {
            let xbc = s.xbc.view(s.scan.dtype(), [self.tokens, conv_dim])?;
            y = s.y.view(s.scan.dtype(), [self.tokens, d_inner])?;
            kernels::causal_conv1d(plan, &raw_xbc, &state.conv, &m.conv_weight, &m.conv_bias, &xbc)?;
            kernels::causal_conv1d_state(plan, &raw_xbc, &state.conv)?;
            taps.op(plan, "conv", &xbc)?;
            self.scan(plan, m, state, &raw_dt, &xbc, &y, taps)?;
        }
        taps.op(plan, "scan", &y)?;

        let input = self.gated(plan, m, &y, &z, taps)?;
        self.write(plan, &m.out_proj, &input, hidden, taps)
    }

    /// Are convolution and update of this state one dispatch?
    fn fuses_stored(&self, ssm: &SsmState, taps: &Taps<'_>) -> bool {
        let (dims, conv_kernel) = (ssd(self.config), self.config.conv_kernel);
        let stored =
            matches!(ssm, SsmState::Int8 { stored, .. } if kernels::fuses_stored(dims, conv_kernel, stored.sequences));
        self.decode && !taps.looking() && stored
    }

    /// Gated norm and rotation of `y`, as out_proj wants it: codes in one dispatch where that is all anybody wants, in none of one token
    /// where that pays: the product makes them.
    fn gated(
        &self,
        plan: &mut Plan,
        m: &DeviceMamba2,
        y: &DeviceTensor,
        z: &Columns<'_>,
        taps: &mut Taps<'_>,
    ) -> Result<Input> {
        let (c, s) = (self.config, self.scratch);
        let (rows, cols, consumers) = (self.tokens, c.d_inner(), [&m.out_proj]);
        let block = s.rotate_out.as_ref().map_or(1, HadamardBuffers::block);
        let norm = GatedNorm { groups: c.n_groups, block, eps: c.norm_eps };
        if let Some(group) = codes_alone(&consumers, taps).filter(|g| norm.fits(z, *g)) {
            if let (1, Some(groups)) = (rows, m.out_proj.groups())
                && kernels::rms_norm_gated_matvec_pays(plan.device(), norm, z, groups)
            {
                let (gate, weight) = (z.tensor.clone(), m.norm.clone());
                let token = Token::Gated { y: y.clone(), gate, offset: z.offset, weight, norm, group };
                return Ok(Input { token: Some(token), ..Input::default() });
            }
            let int8 = self.int8(rows, cols, group)?;
            kernels::rms_norm_gated_quantize(plan, y, z, &m.norm, int8.scaled(), norm)?;
            return Ok(Input { int8: Some(int8), ..Input::default() });
        }
        let gated = self.f32(&s.gated, cols)?;
        kernels::rms_norm_gated(plan, y, z, &m.norm, &gated, c.n_groups, c.norm_eps)?;
        taps.op(plan, "gated_norm", &gated)?;
        let rotated = self.rotated(plan, gated, s.rotate_out.as_ref(), taps)?;
        self.input(plan, rotated, &consumers, taps, ["out_proj.codes", "out_proj.scales"])
    }

    /// One token of the recurrence.
    fn update(
        &self,
        plan: &mut Plan,
        m: &DeviceMamba2,
        state: &SsmState,
        raw_dt: &Columns<'_>,
        xbc: &DeviceTensor,
        y: &DeviceTensor,
    ) -> Result<()> {
        let (dims, limit) = (ssd(self.config), self.dt_limit);
        match state {
            SsmState::F32(ssm) => {
                kernels::selective_state_update(plan, xbc, raw_dt, &m.dt_bias, &m.a_log, &m.d, ssm, y, dims, limit)
            }
            SsmState::Int8 { stored, .. } => kernels::selective_state_update_int8(
                plan,
                xbc,
                raw_dt,
                &m.per_head,
                stored,
                &self.state.clock,
                y,
                dims,
                limit,
            ),
        }
    }

    /// The chunked scan (Mamba-2, arXiv:2405.21060, section 6).
    #[allow(clippy::too_many_arguments, reason = "the block's parts and buffers, all distinct types")]
    fn scan(
        &self,
        plan: &mut Plan,
        m: &DeviceMamba2,
        state: &MambaState,
        raw_dt: &Columns<'_>,
        xbc: &DeviceTensor,
        y: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<()> {
        let (s, dims) = (self.scratch, ssd(self.config));
        let heads_by_tokens = [dims.heads, self.tokens];
        let dt = s.dt.view(DType::F32, heads_by_tokens)?;
        let da_cumsum = s.da_cumsum.view(DType::F32, heads_by_tokens)?;
        let per_chunk = [dims.chunks(self.tokens), dims.state_len()];
        let dtype = s.scan.dtype();
        let entering = s.entering.view(dtype, per_chunk)?;
        kernels::chunk_cumsum(plan, raw_dt, &m.dt_bias, &m.a_log, &dt, &da_cumsum, dims, self.dt_limit)?;
        taps.op(plan, "dt", &dt)?;
        taps.op(plan, "da_cumsum", &da_cumsum)?;
        // An int8 state is f32 within a call: only what is carried to the next one is rounded.
        let ssm = match &state.ssm {
            SsmState::F32(ssm) => ssm,
            SsmState::Int8 { stored, work, .. } => {
                kernels::ssm_load(plan, stored, &self.state.clock, work, dims)?;
                work
            }
        };
        if s.scan == ScanFormat::F16 {
            kernels::chunk_entering(plan, xbc, &dt, &da_cumsum, ssm, &entering, dims)?;
        } else {
            let states = s.chunk_states.view(DType::F32, per_chunk)?;
            kernels::chunk_state(plan, xbc, &dt, &da_cumsum, &states, dims)?;
            taps.op(plan, "chunk_state", &states)?;
            kernels::state_passing(plan, &states, &da_cumsum, ssm, &entering, dims, self.tokens)?;
        }
        if let SsmState::Int8 { stored, work, rounding } = &state.ssm {
            kernels::ssm_store(plan, work, &self.state.clock, stored, dims, *rounding)?;
        }
        taps.op(plan, "state_passing", &entering)?;
        let products = s.products.view(dtype, [self.tokens, dims.products_len(dtype)])?;
        kernels::chunk_products(plan, xbc, &products, dims)?;
        taps.op(plan, "chunk_products", &products)?;
        kernels::chunk_scan(plan, xbc, &products, &dt, &da_cumsum, &entering, &m.d, y, dims)
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
fn codes_alone(consumers: &[&DeviceLinear], taps: &Taps<'_>) -> Option<usize> {
    let first = consumers.first()?.rounding()?;
    let same = consumers.iter().all(|l| l.rounding().is_some_and(|r| r.agrees(first)));
    (same && first.fixed.is_none() && !taps.looking()).then_some(first.group)
}

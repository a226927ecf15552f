//! One token, one of each of few sequences, or few of one, through all blocks where every product makes the codes of the next one's tokens: five
//! launches for a Mamba block and its MLP, where its state is f32 and the heads of a norm are whole groups; else, of no more than a token of each
//! sequence, six or seven. So activations must be int8 with a scale for each [`TOKEN_GROUP`] columns, which no workgroup has to wait for another to find.

use super::forward::Forward;
use super::state::{BlockState, MambaState, SsmState, attention, ssd};
use super::taps::Taps;
use super::weights::{DeviceAttention, DeviceLayer, DeviceLinear, DeviceMamba2, DeviceMixer, DeviceMlp, Weights};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, Columns, GatedMixer, GroupedTokens, HadamardBuffers, KvCache, NormFactors, TOKEN_GROUP};
use crate::tensor::DType;

/// What a block reads and writes.
struct Stream<'a> {
    /// `[rows, hidden]` f32.
    hidden: &'a DeviceTensor,
    /// Its codes times the weight of the next norm.
    tokens: GroupedTokens<'a>,
    /// The factor that they lack.
    norm: Option<NormFactors>,
    /// The weight of the norm behind this block.
    next: &'a DeviceTensor,
}

impl Forward<'_> {
    /// Rows of products: of few tokens of one sequence a power of two, so that few numbers of them are compiled in. Those beyond the tokens mean
    /// nothing.
    pub(super) fn rows(&self) -> usize {
        if self.decode { self.tokens } else { self.tokens.next_power_of_two() }
    }

    /// Does [`Forward::chain`] take these weights, and is it faster on `device`?
    pub(super) fn chains(&self, device: &Device, weights: &Weights) -> bool {
        let mut blocks = weights.layers.iter().zip(&self.state.blocks);
        let few = (self.decode || self.few) && self.rows() <= kernels::GROUPED_TOKENS.min(self.scratch.tokens());
        let (hidden, norm) = (self.config.hidden_size, self.stream_norm());
        let norms = kernels::rms_norm_quantize_fits(hidden, TOKEN_GROUP) && norm.fit(hidden);
        few && norms && blocks.all(|(layer, state)| self.links(device, layer, state))
    }

    fn links(&self, device: &Device, layer: &DeviceLayer, state: &BlockState) -> bool {
        let s = self.scratch;
        let short = |by: &Option<HadamardBuffers>| by.as_ref().is_none_or(|by| kernels::turns_in_groups(by.block()));
        let reads = |linear: &DeviceLinear| linear.grouped(device).is_some();
        // What makes codes makes whole groups.
        let writes = |linear: &DeviceLinear| linear.grouped(device).is_some_and(|w| whole(w.codes.shape.rows()));
        match (&layer.mixer, state) {
            (DeviceMixer::Mamba2(m), BlockState::Mamba2(state)) => {
                let codes = self.gates(state) || self.decode && self.makes_codes();
                codes && short(&s.rotate_out) && reads(&m.in_proj) && writes(&m.out_proj)
            }
            (DeviceMixer::Mlp(m), BlockState::Mlp) => {
                short(&s.rotate_down) && writes(&m.up_proj) && writes(&m.down_proj)
            }
            (DeviceMixer::Attention(a), BlockState::Attention(_)) => {
                let inputs = [&a.q_proj, &a.k_proj, &a.v_proj];
                inputs.into_iter().all(reads) && writes(&a.o_proj)
            }
            _ => false,
        }
    }

    /// The tokens of `ids` `[rows]` through all blocks, and where they are wanted their `logits` `[rows, vocab]`.
    pub(super) fn chain(
        &self,
        plan: &mut Plan,
        weights: &Weights,
        ids: &DeviceTensor,
        logits: Option<&DeviceTensor>,
    ) -> Result<()> {
        let (c, rows) = (self.config, self.rows());
        let hidden = self.scratch.hidden.view(DType::F32, [rows, c.hidden_size])?;
        weights.embedding.apply(plan, ids, &hidden)?;
        let mut norms = weights.layers.iter().map(|layer| &layer.norm).chain([&weights.norm_f]);
        let link = self.scratch.links[0].of(rows, c.hidden_size)?;
        if let Some(first) = norms.next() {
            let out = kernels::Scaled { codes: &link.codes, scales: &link.scales()?, group: TOKEN_GROUP };
            kernels::rms_norm_quantize(plan, &hidden, first, out, c.norm_eps)?;
        }
        let (tokens, mut norm) = (link.tokens(), None);
        for ((layer, state), next) in weights.layers.iter().zip(&self.state.blocks).zip(norms) {
            let stream = Stream { hidden: &hidden, tokens, norm, next };
            match (&layer.mixer, state) {
                (DeviceMixer::Mamba2(m), BlockState::Mamba2(s)) => self.mamba2_link(plan, m, s, &stream)?,
                (DeviceMixer::Attention(a), BlockState::Attention(s)) => self.attention_link(plan, a, s, &stream)?,
                (DeviceMixer::Mlp(m), _) => self.mlp_link(plan, m, &stream)?,
                _ => return Err(Error::argument("chain", "a block and its state are of different kinds")),
            }
            norm = Some(self.stream_norm());
        }
        match (logits, weights.head.grouped(plan.device())) {
            (None, _) => Ok(()),
            (Some(logits), Some(head)) => kernels::matvec_grouped(plan, tokens, norm, head, logits),
            (Some(logits), None) => self.head(plan, weights, &hidden, logits, &mut Taps::none()),
        }
    }

    /// Does the launch of a token in such a mixer make out_proj's codes, too?
    fn gates(&self, state: &MambaState) -> bool {
        let (c, f32) = (self.config, matches!(state.ssm, SsmState::F32(_)));
        let gates = if self.decode { kernels::gates } else { kernels::gates_tokens };
        f32 && gates(ssd(c), c.conv_kernel) && self.gated_factors().fit(c.d_inner())
    }

    /// Do codes of groups come of the gated norm behind the recurrence?
    fn makes_codes(&self) -> bool {
        let zxbcdt = self.f32(&self.scratch.wide, self.config.in_proj_rows());
        let gate = zxbcdt.as_ref().ok().and_then(|all| self.gate(all).ok());
        gate.is_some_and(|gate| self.gated_norm().fits(&gate, TOKEN_GROUP))
    }

    fn mamba2_link(&self, plan: &mut Plan, m: &DeviceMamba2, state: &MambaState, stream: &Stream<'_>) -> Result<()> {
        let (c, dims) = (self.config, ssd(self.config));
        let projected = self.projected(plan, &m.in_proj, stream)?;
        let inner = self.scratch.links[1].of(self.rows(), c.d_inner())?;
        let (tokens, scales) = (inner.tokens(), inner.scales()?);
        if let (true, SsmState::F32(ssm)) = (self.gates(state), &state.ssm) {
            let mixer = GatedMixer {
                projected: &Columns::from(&projected),
                vectors: &m.gated,
                conv_state: &state.conv,
                ssm_state: ssm,
                tickets: &self.state.tickets,
                out: tokens,
            };
            let (limit, block) = (self.dt_limit, self.gated_norm().block);
            if self.decode {
                kernels::mamba2_update_gated(plan, mixer, dims, limit, block)?;
            } else {
                kernels::mamba2_tokens_gated(plan, mixer, self.tokens, dims, limit, block)?;
            }
            return self.written(plan, tokens, Some(self.gated_factors()), &m.out_proj, stream);
        }
        let y = self.token(plan, m, state, &projected, &mut Taps::none())?;
        let out = kernels::Scaled { codes: &inner.codes, scales: &scales, group: TOKEN_GROUP };
        kernels::rms_norm_gated_quantize(plan, &y, &self.gate(&projected)?, &m.norm, out, self.gated_norm())?;
        self.written(plan, tokens, None, &m.out_proj, stream)
    }

    fn mlp_link(&self, plan: &mut Plan, m: &DeviceMlp, stream: &Stream<'_>) -> Result<()> {
        let inner = self.scratch.links[1].of(self.rows(), self.config.intermediate_size)?;
        let block = self.scratch.rotate_down.as_ref().map_or(1, HadamardBuffers::block);
        let up = m.up_proj.whole()?;
        kernels::matvec_grouped_relu2(plan, stream.tokens, stream.norm, up, block, inner.tokens())?;
        self.written(plan, inner.tokens(), None, &m.down_proj, stream)
    }

    fn attention_link(&self, plan: &mut Plan, a: &DeviceAttention, cache: &KvCache, stream: &Stream<'_>) -> Result<()> {
        let (c, s) = (self.config, self.scratch);
        let (query, kv) = (c.attention_heads * c.head_dim, c.kv_heads * c.head_dim);
        let rows = |tensor: DeviceTensor| tensor.rows(0, self.tokens);
        let (all, q, k, v);
        let [q, k, v] = if let Some(qkv) = &a.qkv {
            all = rows(self.projected(plan, qkv, stream)?)?;
            let columns = |offset, width| Columns::new("attention", &all, offset, width);
            [columns(0, query)?, columns(query, kv)?, columns(query + kv, kv)?]
        } else {
            q = rows(self.projected(plan, &a.q_proj, stream)?)?;
            let made = |plan: &mut Plan, proj: &DeviceLinear, buffer: &DeviceTensor| {
                let out = buffer.view(DType::F32, [self.rows(), kv])?;
                kernels::matvec_grouped(plan, stream.tokens, stream.norm, proj.whole()?, &out)?;
                rows(out)
            };
            (k, v) = (made(plan, &a.k_proj, &s.xbc)?, made(plan, &a.v_proj, &s.value)?);
            [&q, &k, &v].map(Columns::from)
        };
        let (inner, dims, cursor) = (s.links[1].of(self.rows(), query)?, attention(c), &self.state.cursor);
        let (codes, scales) = (rows(inner.codes.clone())?, rows(inner.scales()?)?);
        let makes_codes = self.decode && c.head_dim.is_multiple_of(TOKEN_GROUP);
        let parts = self.state.parts.as_ref().filter(|_| makes_codes);
        if let Some(parts) = parts.filter(|parts| kernels::takes_parts(&q, cache, dims, parts)) {
            kernels::kv_append(plan, k, v, cursor, cache, dims)?;
            kernels::attention_split(plan, q, cache, cursor, parts, dims)?;
            let out = kernels::Scaled { codes: &codes, scales: &scales, group: TOKEN_GROUP };
            kernels::attention_merge_codes(plan, parts, cache, cursor, out, dims)?;
        } else {
            let context = self.attend(plan, [q, k, v], cache)?;
            kernels::quantize_tokens(plan, &context, &codes, &scales, TOKEN_GROUP)?;
        }
        self.written(plan, inner.tokens(), None, &a.o_proj, stream)
    }

    /// The factor of a block's first norm.
    fn stream_norm(&self) -> NormFactors {
        NormFactors { group: self.config.hidden_size, eps: self.config.norm_eps }
    }

    /// Those of a Mamba-2 mixer's last norms.
    fn gated_factors(&self) -> NormFactors {
        NormFactors { group: self.config.d_inner() / self.config.n_groups.max(1), eps: self.config.norm_eps }
    }

    /// The product of `linear` with the stream's tokens, a row of f32 for each.
    fn projected(&self, plan: &mut Plan, linear: &DeviceLinear, stream: &Stream<'_>) -> Result<DeviceTensor> {
        let weight = linear.whole()?;
        let out = self.scratch.wide.view(DType::F32, [self.rows(), weight.codes.shape.rows()])?;
        kernels::matvec_grouped(plan, stream.tokens, stream.norm, weight, &out)?;
        Ok(out)
    }

    /// The product of `linear` with `tokens`, added to the stream, and the stream's codes for the next block.
    fn written(
        &self,
        plan: &mut Plan,
        tokens: GroupedTokens<'_>,
        norm: Option<NormFactors>,
        linear: &DeviceLinear,
        stream: &Stream<'_>,
    ) -> Result<()> {
        kernels::matvec_grouped_add(plan, tokens, norm, linear.whole()?, stream.next, stream.hidden, stream.tokens)
    }
}

/// Whole groups of a token?
fn whole(columns: usize) -> bool {
    columns.is_multiple_of(TOKEN_GROUP)
}

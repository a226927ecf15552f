//! A Mamba-2 mixer: in_proj, convolution, recurrence or scan, gated norm and out_proj.

use super::forward::{Forward, codes_alone};
use super::scratch::ScanFormat;
use super::state::{MambaState, SsmState, ssd};
use super::taps::Taps;
use super::weights::{DeviceMamba2, Input, Token};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::kernels::{self, Columns, Epilogue, GatedNorm, HadamardBuffers, MambaVectors, Mixer};
use crate::tensor::DType;

impl Forward<'_> {
    pub(super) fn mamba2(
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

        let one_by_one = self.few && !taps.looking() && kernels::fuses_tokens(ssd(c), c.conv_kernel);
        let y = if self.decode {
            self.token(plan, m, state, &zxbcdt, taps)?
        } else if one_by_one {
            self.one_by_one(plan, m, state, &zxbcdt)?
        } else {
            let raw_xbc = Columns::new("mamba2", &zxbcdt, d_inner, conv_dim)?;
            let raw_dt = Columns::new("mamba2", &zxbcdt, d_inner + conv_dim, c.mamba_heads)?;
            let xbc = s.xbc.view(s.scan.dtype(), [self.tokens, conv_dim])?;
            let y = s.y.view(s.scan.dtype(), [self.tokens, d_inner])?;
            kernels::causal_conv1d(plan, &raw_xbc, &state.conv, &m.conv_weight, &m.conv_bias, &xbc)?;
            kernels::causal_conv1d_state(plan, &raw_xbc, &state.conv)?;
            taps.op(plan, "conv", &xbc)?;
            self.scan(plan, m, state, &raw_dt, &xbc, &y, taps)?;
            y
        };
        taps.op(plan, "scan", &y)?;

        let input = self.gated(plan, m, &y, &self.gate(&zxbcdt)?, taps)?;
        self.write(plan, &m.out_proj, &input, hidden, taps)
    }

    /// The columns of the gate, of in_proj's outputs.
    pub(super) fn gate<'a>(&self, zxbcdt: &'a DeviceTensor) -> Result<Columns<'a>> {
        Columns::new("mamba2", zxbcdt, 0, self.config.d_inner())
    }

    /// Convolution and recurrence of one token of each sequence, in as few dispatches as there are for such states: `y` `[tokens, d_inner]` of
    /// in_proj's outputs `zxbcdt`.
    pub(super) fn token(
        &self,
        plan: &mut Plan,
        m: &DeviceMamba2,
        state: &MambaState,
        zxbcdt: &DeviceTensor,
        taps: &mut Taps<'_>,
    ) -> Result<DeviceTensor> {
        let (c, dims, limit) = (self.config, ssd(self.config), self.dt_limit);
        let (d_inner, conv_dim) = (c.d_inner(), c.conv_dim());
        let columns = |offset, width| Columns::new("mamba2", zxbcdt, offset, width);
        let raw = columns(d_inner, conv_dim + c.mamba_heads)?;
        let (xbc, y) = (self.f32(&self.scratch.xbc, conv_dim)?, self.f32(&self.scratch.y, d_inner)?);
        let unseen = !taps.looking();
        match &state.ssm {
            SsmState::F32(ssm) if unseen && kernels::fuses(dims, c.conv_kernel) => {
                kernels::mamba2_update(plan, self.mixer(m, state, ssm, &raw, &y), dims, limit)?;
            }
            SsmState::Int8 { stored, .. } if unseen && kernels::fuses_stored(dims, c.conv_kernel, stored.sequences) => {
                let (conv, clock) = (&state.conv, &self.state.clock);
                kernels::mamba2_update_int8(plan, &raw, &m.vectors, conv, stored, clock, &y, dims, limit)?;
            }
            ssm => {
                let (raw_xbc, raw_dt) = (columns(d_inner, conv_dim)?, columns(d_inner + conv_dim, c.mamba_heads)?);
                kernels::causal_conv1d_update(plan, &raw_xbc, &m.conv_weight, &m.conv_bias, &state.conv, &xbc)?;
                taps.op(plan, "conv", &xbc)?;
                self.update(plan, m, ssm, &raw_dt, &xbc, &y)?;
            }
        }
        Ok(y)
    }

    /// What kernels of convolution and recurrence read and write, of columns `raw` and the state `ssm`.
    fn mixer<'a>(
        &'a self,
        m: &'a DeviceMamba2,
        state: &'a MambaState,
        ssm_state: &'a DeviceTensor,
        raw: &'a Columns<'a>,
        y: &'a DeviceTensor,
    ) -> Mixer<'a> {
        let DeviceMamba2 { conv_weight, conv_bias, per_head, .. } = m;
        let vectors = MambaVectors { conv_weight, conv_bias, per_head };
        Mixer { raw, vectors, conv_state: &state.conv, ssm_state, tickets: &self.state.tickets, y }
    }

    /// As [`Forward::token`], of few tokens of one sequence.
    fn one_by_one(
        &self,
        plan: &mut Plan,
        m: &DeviceMamba2,
        state: &MambaState,
        zxbcdt: &DeviceTensor,
    ) -> Result<DeviceTensor> {
        let c = self.config;
        let raw = Columns::new("mamba2", zxbcdt, c.d_inner(), c.conv_dim() + c.mamba_heads)?;
        let y = self.f32(&self.scratch.y, c.d_inner())?;
        let ssm = self.loaded(plan, state)?;
        kernels::mamba2_tokens(plan, self.mixer(m, state, ssm, &raw, &y), ssd(c), self.dt_limit)?;
        self.stored(plan, state)?;
        Ok(y)
    }

    /// The state in f32. One in int8 is so within a call: only what is carried to the next one is rounded, by [`Forward::stored`].
    fn loaded<'a>(&self, plan: &mut Plan, state: &'a MambaState) -> Result<&'a DeviceTensor> {
        match &state.ssm {
            SsmState::F32(ssm) => Ok(ssm),
            SsmState::Int8 { stored, work, .. } => {
                kernels::ssm_load(plan, stored, &self.state.clock, work, ssd(self.config))?;
                Ok(work)
            }
        }
    }

    fn stored(&self, plan: &mut Plan, state: &MambaState) -> Result<()> {
        match &state.ssm {
            SsmState::F32(_) => Ok(()),
            SsmState::Int8 { stored, work, rounding } => {
                kernels::ssm_store(plan, work, &self.state.clock, stored, ssd(self.config), *rounding)
            }
        }
    }

    /// The norm behind the recurrence, and the transform behind that.
    pub(super) fn gated_norm(&self) -> GatedNorm {
        let block = self.scratch.rotate_out.as_ref().map_or(1, HadamardBuffers::block);
        GatedNorm { groups: self.config.n_groups, block, eps: self.config.norm_eps }
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
        let norm = self.gated_norm();
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
        let ssm = self.loaded(plan, state)?;
        if s.scan == ScanFormat::F16 {
            kernels::chunk_entering(plan, xbc, &dt, &da_cumsum, ssm, &entering, dims)?;
        } else {
            let states = s.chunk_states.view(DType::F32, per_chunk)?;
            kernels::chunk_state(plan, xbc, &dt, &da_cumsum, &states, dims)?;
            taps.op(plan, "chunk_state", &states)?;
            kernels::state_passing(plan, &states, &da_cumsum, ssm, &entering, dims, self.tokens)?;
        }
        self.stored(plan, state)?;
        taps.op(plan, "state_passing", &entering)?;
        let products = s.products.view(dtype, [self.tokens, dims.products_len(dtype)])?;
        kernels::chunk_products(plan, xbc, &products, dims)?;
        taps.op(plan, "chunk_products", &products)?;
        kernels::chunk_scan(plan, xbc, &products, &dt, &da_cumsum, &entering, &m.d, y, dims)
    }
}

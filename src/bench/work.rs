//! What a launch must move and compute, by its tensors: no more than that is known of kernels that are still to come.

use crate::gpu::{DeviceTensor, Launched};

/// What a launch costs at least.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Sizes that tell one use of a kernel from another: `1 x 18560 x 4096`.
    pub sizes: String,
    /// Bytes read once and written once.
    pub bytes: u64,
    /// Operations, a multiply-add being two; 0 where memory is all there is.
    pub ops: u64,
}

/// A launch of a pass that leaves `seen` tokens in the caches; `next` is the launch behind it.
#[must_use]
pub fn cost(launch: &Launched<'_>, next: Option<&Launched<'_>>, seen: usize) -> Cost {
    let of = Named(launch);
    let queries = of.queries(next.map(Named).as_ref());
    let mut bytes = 0;
    for (binding, tensor) in launch.kernel.bindings.iter().zip(launch.bindings) {
        let times = if binding.writable && of.updates(binding.name) { 2 } else { 1 };
        bytes += times * of.touched(binding.name, tensor, seen, queries);
    }
    Cost { sizes: of.sizes(), bytes, ops: of.ops(seen, queries) }
}

/// Does most of the multiplying by weights in these launches run on matrix units?
#[must_use]
pub fn multiplies_on_matrices<'a>(launches: impl Iterator<Item = Launched<'a>>) -> bool {
    let (mut all, mut on_matrices) = (0, 0);
    for launch in launches {
        let of = Named(&launch);
        if of.multiplies() {
            let ops = of.ops(0, 0);
            all += ops;
            on_matrices += if launch.needs("coop_matrix") { ops } else { 0 };
        }
    }
    2 * on_matrices > all
}

/// A launch's tensors by name.
struct Named<'a>(&'a Launched<'a>);

impl Named<'_> {
    fn get(&self, name: &str) -> Option<&DeviceTensor> {
        let at = self.0.kernel.bindings.iter().position(|b| b.name == name)?;
        self.0.bindings.get(at)
    }

    fn rows(&self, name: &str) -> usize {
        self.get(name).map_or(0, |t| t.shape.rows())
    }

    fn cols(&self, name: &str) -> usize {
        self.get(name).map_or(0, |t| t.shape.cols())
    }

    /// The result: by its usual name, else the largest tensor written.
    fn out(&self) -> Option<&DeviceTensor> {
        let written = || self.0.kernel.bindings.iter().zip(self.0.bindings).filter(|(b, _)| b.writable);
        let usual = written().find(|(b, _)| matches!(b.name, "out" | "y" | "out_codes"));
        usual.or_else(|| written().max_by_key(|(_, t)| t.shape.elements())).map(|(_, t)| t)
    }

    /// Is what this kernel writes there read first? States are; products add to the stream.
    fn updates(&self, binding: &str) -> bool {
        matches!(binding, "ssm_state" | "state" | "conv_state" | "stream")
    }

    /// Bytes of a binding that the launch needs. Of a wide tensor that several kernels share, each reads its columns.
    fn touched(&self, binding: &str, tensor: &DeviceTensor, seen: usize, queries: usize) -> u64 {
        let rows = tensor.shape.rows();
        let some = |count: usize| (count.min(rows) * tensor.row_words() * 4) as u64;
        let columns = |cols: usize| (rows * cols.min(tensor.shape.cols()) * 4) as u64;
        match (self.0.kernel.name, binding) {
            // Of scales four rows lie next to each other.
            ("embed", "table") | ("embed_codes", "codes" | "weight_scales") => some(self.rows("out")),
            ("attention" | "attention_split", "k_cache" | "v_cache") => some(seen * self.sequences()),
            ("kv_append", "k_cache" | "v_cache") => some(self.rows("k")),
            // Columns of one product's output.
            ("kv_append", "k" | "v") => columns(self.cols("k_cache")),
            ("attention" | "attention_split", "q") => columns(queries),
            // A weight in parts has a launch for each, into columns of the output.
            (_, "out") if self.multiplies() && self.get("weight").is_some() => columns(self.rows("weight")),
            (_, "dt_raw") => columns(self.heads()),
            ("mamba2_update" | "mamba2_tokens", "input") => columns(self.rows("weight") + self.heads()),
            ("mamba2_update_gated" | "mamba2_tokens_gated", "input") => {
                columns(self.cols("out_codes") + self.rows("conv_state") + self.rows("ssm_state"))
            }
            ("mamba2_update_int8", "input") => {
                let (channels, inner) = (self.rows("conv_state") / rows.max(1), self.cols("y"));
                // `recent` has a number a head, x and B; `vectors` are rounded up to whole vec4s.
                let heads = self.cols("recent") - inner - (channels - inner) / 2;
                columns(channels + heads)
            }
            ("causal_conv1d" | "causal_conv1d_update", "input") => columns(self.cols("out")),
            ("causal_conv1d_state", "input") => {
                let (channels, taps) = (self.rows("state"), self.cols("state"));
                (channels * taps.min(rows) * 4) as u64
            }
            ("argmax_merge", "logits") => columns(self.cols("candidates")),
            ("rms_norm_gated" | "rms_norm_gated_quantize" | "rms_norm_gated_matvec", "gate") => columns(self.cols("y")),
            _ => tensor.bytes() as u64,
        }
    }

    /// Columns of an attention kernel's queries, whose tensor may hold keys and values, too: those of the result, which is the
    /// next launch's where this one leaves parts.
    fn queries(&self, next: Option<&Self>) -> usize {
        let whole = if self.get("parts").is_some() { next } else { Some(self) };
        whole.and_then(Named::out).map_or(0, |out| out.shape.cols())
    }

    /// Sequences of an attention kernel.
    fn sequences(&self) -> usize {
        self.get("cursor").map_or(1, |t| t.shape.elements())
    }

    /// Heads of a Mamba-2 kernel.
    fn heads(&self) -> usize {
        ["dt_bias", "a_log", "per_head"].into_iter().find_map(|n| self.get(n)).map_or(0, |t| t.shape.cols())
    }

    /// Rows of a product: `rows` of outputs may be those of several slices of its columns.
    fn tokens(&self, rows: usize) -> usize {
        self.get("codes").map_or(rows, |codes| codes.shape.rows().min(rows))
    }

    /// Products: outputs by weight's rows and columns. Others: rows by columns written.
    fn sizes(&self) -> String {
        let Some(out) = self.out() else { return String::new() };
        let (rows, cols) = (out.shape.rows(), out.shape.cols());
        match self.get("weight") {
            Some(w) if self.multiplies() => format!("{} x {} x {}", self.tokens(rows), w.shape.rows(), w.shape.cols()),
            _ => format!("{rows} x {cols}"),
        }
    }

    fn multiplies(&self) -> bool {
        self.0.kernel.name.starts_with("mat") || self.0.kernel.name.ends_with("matvec")
    }

    fn ops(&self, seen: usize, queries: usize) -> u64 {
        let Some(out) = self.out() else { return 0 };
        let (rows, cols) = (out.shape.rows(), out.shape.cols());
        let ops = match self.0.kernel.name {
            _ if self.multiplies() => 2 * self.tokens(rows) * self.rows("weight") * self.cols("weight"),
            // A token sees, on average, half of its own pass.
            "attention" => 4 * rows * cols * (seen - (rows / self.sequences()).min(seen) / 2),
            "attention_split" => 4 * self.rows("q") * queries * seen,
            "chunk_state" => 2 * self.rows("xbc") * cols,
            "chunk_scan" => {
                let (tokens, inner, state) = (self.rows("y"), self.cols("y"), self.cols("entering"));
                let chunk = tokens.div_ceil(self.rows("entering").max(1));
                2 * tokens * (state + inner * chunk.div_ceil(2))
            }
            _ => 0,
        };
        ops as u64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::gpu::{Device, Plan};
    use crate::kernels::{
        self, AttentionDims, AttentionParts, Columns, Epilogue, KvCache, KvFormat, MambaVectors, ScaleBits, Scaled,
        ScaledWeight, SplitK, SsdDims, StoredState, TablePart,
    };
    use crate::tensor::DType;

    fn of(add: impl FnOnce(&mut Plan, &dyn Fn(DType, [usize; 2]) -> DeviceTensor), seen: usize) -> Cost {
        let mut plan = Plan::new(&Device::Cpu);
        add(&mut plan, &|dtype, shape| Device::Cpu.alloc(dtype, shape).unwrap());
        let recording = plan.record().unwrap();
        let launched: Vec<_> = recording.launches().collect();
        cost(&launched[0], launched.get(1), seen)
    }

    #[test]
    fn a_product_by_hand() {
        let got = of(
            |plan, t| {
                let (codes, scales) = (t(DType::I8, [1, 256]), t(DType::F32, [1, 1]));
                let (w, w_scales, out) = (t(DType::I4, [64, 256]), t(DType::F32, [16, 8]), t(DType::F32, [1, 64]));
                let (x, w) = (
                    Scaled { codes: &codes, scales: &scales, group: 256 },
                    ScaledWeight { codes: &w, scales: &w_scales, group: 128 },
                );
                kernels::matvec_w4a8(plan, x, w, &out, Epilogue::Store).unwrap();
            },
            1,
        );
        let bytes = 256 + 4 + 64 * 128 + 64 * 2 * 4 + 64 * 4;
        assert_eq!(got, Cost { sizes: "1 x 64 x 256".to_owned(), bytes, ops: 2 * 64 * 256 });
    }

    /// Its outputs are written once for each slice; what is multiplied is as much as without.
    #[test]
    fn a_product_in_slices() {
        let got = of(
            |plan, t| {
                let (codes, scales) = (t(DType::I8, [130, 320]), t(DType::F32, [130, 1]));
                let (w, w_scales) = (t(DType::I8, [4, 320]), t(DType::F32, [1, 4]));
                let (room, out) = (t(DType::F32, [260, 4]), t(DType::F32, [130, 4]));
                let x = Scaled { codes: &codes, scales: &scales, group: 320 };
                let w = ScaledWeight { codes: &w, scales: &w_scales, group: 320 };
                let split = Some(SplitK { room: &room, slices: Some(2) });
                kernels::matmul_w8a8(plan, x, w, ScaleBits::Any, &out, Epilogue::Add, split).unwrap();
            },
            1,
        );
        let bytes = 130 * 320 + 130 * 4 + 4 * 320 + 4 * 4 + 2 * 130 * 4 * 4;
        assert_eq!(got, Cost { sizes: "130 x 4 x 320".to_owned(), bytes, ops: 2 * 130 * 4 * 320 });
    }

    /// A weight in parts has launches that each make some columns of its output.
    #[test]
    fn a_part_of_a_product() {
        let got = of(
            |plan, t| {
                let (codes, scales) = (t(DType::I8, [130, 320]), t(DType::F32, [130, 1]));
                let (w, w_scales, out) = (t(DType::I8, [4, 320]), t(DType::F32, [1, 4]), t(DType::F32, [130, 12]));
                let x = Scaled { codes: &codes, scales: &scales, group: 320 };
                let w = ScaledWeight { codes: &w, scales: &w_scales, group: 320 };
                let part = Columns::new("test", &out, 4, 4).unwrap();
                kernels::matmul_w8a8(plan, x, w, ScaleBits::Any, part, Epilogue::Store, None).unwrap();
            },
            1,
        );
        let bytes = 130 * 320 + 130 * 4 + 4 * 320 + 4 * 4 + 130 * 4 * 4;
        assert_eq!(got, Cost { sizes: "130 x 4 x 320".to_owned(), bytes, ops: 2 * 130 * 4 * 320 });
    }

    #[test]
    fn an_embedding_reads_its_rows_and_their_scales() {
        let got = of(
            |plan, t| {
                let (ids, out) = (Device::Cpu.alloc(DType::U32, [3]).unwrap(), t(DType::F32, [3, 256]));
                let (codes, scales) = (t(DType::I8, [1000, 256]), t(DType::F32, [250, 8 * 4]));
                let table = ScaledWeight { codes: &codes, scales: &scales, group: 32 };
                kernels::embed_codes(plan, &ids, table, TablePart::whole(1000), &out).unwrap();
            },
            1,
        );
        assert_eq!((got.bytes, got.ops), (3 * 4 + 3 * 256 + 3 * 8 * 4 * 4 + 3 * 256 * 4, 0));
    }

    /// A plan for the CPU may name any variant.
    #[test]
    fn products_count_by_the_units_they_run_on() {
        let on_matrices = |by: &[(&'static str, usize)]| {
            let mut launches = Vec::new();
            for (variant, rows) in by {
                let t = |dtype, shape: [usize; 2]| Device::Cpu.alloc(dtype, shape).unwrap();
                let (codes, scales, out) =
                    (t(DType::I8, [128, 32]), t(DType::F32, [128, 1]), t(DType::F32, [128, *rows]));
                let w_scales = kernels::upload_scales(&Device::Cpu, [*rows, 1], &vec![1.0; *rows]).unwrap();
                let x = Scaled { codes: &codes, scales: &scales, group: 32 };
                let w = ScaledWeight { codes: &t(DType::I8, [*rows, 32]), scales: &w_scales, group: 32 };
                let mut plan = Plan::new(&Device::Cpu);
                plan.force_variant(variant);
                kernels::matmul_w8a8(&mut plan, x, w, ScaleBits::Any, &out, Epilogue::Store, None).unwrap();
                launches.push(plan.record().unwrap());
            }
            multiplies_on_matrices(launches.iter().flat_map(|r| r.launches()))
        };
        assert!(on_matrices(&[("rows_coop", 64), ("blocks_of_rows", 32)]));
        assert!(!on_matrices(&[("rows_coop", 32), ("blocks_of_rows", 64)]));
        assert!(!on_matrices(&[("rows_coop_emulated", 64)]) && !on_matrices(&[]));
    }

    #[test]
    fn a_fused_token_reads_its_columns_and_updates_both_states() {
        let dims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 1 };
        let got = of(
            |plan, t| {
                let f32s = |shape| t(DType::F32, shape);
                let (input, tickets) = (f32s([1, 32 + 80 + 4]), t(DType::U32, [1, 2]));
                let (weight, bias, per_head) = (f32s([80, 4]), f32s([1, 80]), f32s([3, 4]));
                let (conv, ssm, y) = (f32s([80, 4]), f32s([4, 96]), f32s([1, 32]));
                let raw = Columns::new("test", &input, 32, 84).unwrap();
                let vectors = MambaVectors { conv_weight: &weight, conv_bias: &bias, per_head: &per_head };
                let any_dt = (0.0, f32::INFINITY);
                let (conv_state, ssm_state, tickets) = (&conv, &ssm, &tickets);
                let mixer = kernels::Mixer { raw: &raw, vectors, conv_state, ssm_state, tickets, y: &y };
                kernels::mamba2_update(plan, mixer, dims, any_dt).unwrap();
            },
            1,
        );
        let (vectors, states) = (80 * 4 + 80 + 12, 80 * 4 + 4 * 96);
        assert_eq!(got.bytes, 4 * (84 + vectors + 2 * states + 2 + 32));
        assert_eq!(got.sizes, "1 x 32");
    }

    #[test]
    fn a_gated_token_reads_its_gate_and_writes_codes() {
        let dims = SsdDims { heads: 2, head_dim: 32, groups: 1, state: 12, chunk: 1 };
        let (inner, channels) = (dims.d_inner(), dims.conv_dim());
        let all = 5 * channels + 6 + inner;
        let got = of(
            |plan, t| {
                let f32s = |shape| t(DType::F32, shape);
                let (input, tickets) = (f32s([1, 8 + inner + channels + 2]), t(DType::U32, [1, 1]));
                let (vectors, conv, ssm) = (f32s([1, all]), f32s([channels, 4]), f32s([2, 32 * 12]));
                let (codes, scales) = (t(DType::I8, [1, inner]), f32s([2, 2]));
                let zxbcdt = Columns::new("test", &input, 8, inner + channels + 2).unwrap();
                let any_dt = (0.0, f32::INFINITY);
                let mixer = kernels::GatedMixer {
                    projected: &zxbcdt,
                    vectors: &vectors,
                    conv_state: &conv,
                    ssm_state: &ssm,
                    tickets: &tickets,
                    out: kernels::GroupedTokens { codes: &codes, scales: &scales },
                };
                kernels::mamba2_update_gated(plan, mixer, dims, any_dt, 32).unwrap();
            },
            1,
        );
        let states = 4 * channels + 2 * 32 * 12;
        assert_eq!(got.bytes, (4 * (inner + channels + 2 + all + 2 * states + 1 + 4) + inner) as u64);
        assert_eq!(got.sizes, "1 x 64");
    }

    #[test]
    fn a_fused_token_on_a_stored_state_reads_its_columns() {
        let dims = SsdDims { heads: 3, head_dim: 4, groups: 3, state: 16, chunk: 1 };
        let channels = dims.conv_dim();
        let padded = (5 * channels + 9).next_multiple_of(4);
        let stored = StoredState::new(&Device::Cpu, dims, 4, true).unwrap();
        let state = stored.bytes() as u64;
        let got = of(
            |plan, t| {
                let f32s = |shape| t(DType::F32, shape);
                let (input, clock) = (f32s([1, 8 + channels + 3]), t(DType::U32, [1, 2]));
                let (vectors, conv, y) = (f32s([1, padded]), f32s([channels, 4]), f32s([1, 12]));
                let raw = Columns::new("test", &input, 8, channels + 3).unwrap();
                let any_dt = (0.0, f32::INFINITY);
                kernels::mamba2_update_int8(plan, &raw, &vectors, &conv, &stored, &clock, &y, dims, any_dt).unwrap();
            },
            1,
        );
        let own = (channels + 3) + padded + 2 * 4 * channels + 2 + 12;
        assert_eq!(got.bytes, 4 * own as u64 + state);
    }

    #[test]
    fn attention_reads_what_was_seen_and_not_the_whole_cache() {
        let dims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 8 };
        let got = of(
            |plan, t| {
                let (q, out) = (t(DType::F32, [1, 32]), t(DType::F32, [1, 32]));
                let cache = KvCache::new(&Device::Cpu, dims, 100, KvFormat::F32).unwrap();
                let cursor = Device::Cpu.alloc(DType::U32, [1]).unwrap();
                kernels::attention(plan, &q, &cache, &cursor, &out, dims).unwrap();
            },
            10,
        );
        assert_eq!(got.bytes, 4 * (32 + 2 * 10 * 16 + 1 + 32));
        assert_eq!(got.ops, 4 * 32 * 10);
    }

    /// The queries are columns of a product that made keys and values, too.
    #[test]
    fn attention_in_parts_reads_its_queries() {
        let dims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 8 };
        let parts = AttentionParts::new(&Device::Cpu, dims, 1, 100).unwrap();
        let got = of(
            |plan, t| {
                let (qkv, out) = (t(DType::F32, [1, 64]), t(DType::F32, [1, 32]));
                let cache = KvCache::new(&Device::Cpu, dims, 100, KvFormat::F32).unwrap();
                let cursor = Device::Cpu.alloc(DType::U32, [1]).unwrap();
                let q = Columns::new("test", &qkv, 0, 32).unwrap();
                kernels::attention_in_parts(plan, q, &cache, &cursor, &out, dims, &parts).unwrap();
            },
            10,
        );
        assert_eq!(got.bytes, 4 * (32 + 2 * 10 * 16 + 1) + parts.bytes() as u64);
        assert_eq!(got.ops, 4 * 32 * 10);
    }
}

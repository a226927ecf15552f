"""llama.cpp's quantization of a nemotron_h model, measured as wgquant's own: bits, perplexity, KL, top-1.

    pip install numpy gguf tokenizers
    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz   # llama.cpp v0.5.0, prebuilt
    python3 tests/interop/llama.py MODEL --llama package/bins/linux-x64 --calibration calibration.jsonl

MODEL is a Hugging Face directory of a dense nemotron_h model with `golden.safetensors` (p{i}.input_ids, p{i}.logits) and
`val_ids_u16.npy` (windows of 1025 ids) in it, or named by --golden and --windows. The script writes MODEL as GGUF in F32,
refuses to go on unless llama.cpp's logits equal the golden ones, lets llama.cpp's quantizer make every type (`+im`: with
an importance matrix collected as llama-imatrix does, from the calibration text only), and runs all of them over the same
windows on the CPU, each window from an empty state, with K and V in f32. The table goes to standard output. The structs
below are those of include/llama.h in v0.5.0, so another version of the library is refused. Not part of `make test`.
"""

import argparse
import ctypes as c
import json
import sys
import tempfile
from pathlib import Path

try:
    import gguf
    import numpy as np
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install numpy gguf tokenizers")

VERSION = "0.5.0"
FTYPES = {"Q8_0": 7, "Q6_K": 18, "Q5_K_M": 17, "Q4_K_M": 15, "Q4_K_S": 14, "Q4_0": 2, "IQ4_XS": 30, "Q3_K_M": 12}
F32 = 0  # GGML_TYPE_F32
EVAL = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_bool, c.c_void_p)
LOG = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)


def struct(name, *fields):
    """A C struct from (type, "names ...") pairs."""
    members = [(member, kind) for kind, names in fields for member in names.split()]
    return type(name, (c.Structure,), {"_fields_": members})


ModelParams = struct("ModelParams", (c.c_void_p, "devices buft_overrides"), (c.c_int32, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
                     (c.c_void_p, "tensor_split progress progress_data kv_overrides"),
                     (c.c_bool, "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"))
ContextParams = struct("ContextParams", (c.c_uint32, "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
                       (c.c_int32, "n_threads n_threads_batch ctx_type rope_scaling pooling attention flash_attn"),
                       (c.c_float, "rope_base rope_scale yarn_ext yarn_attn yarn_fast yarn_slow"), (c.c_uint32, "yarn_orig_ctx"),
                       (c.c_float, "defrag_thold"), (EVAL, "cb_eval"), (c.c_void_p, "cb_eval_data"), (c.c_int32, "type_k type_v"),
                       (c.c_void_p, "abort abort_data"), (c.c_bool, "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
                       (c.c_void_p, "samplers"), (c.c_size_t, "n_samplers"), (c.c_void_p, "ctx_other"))
Imatrix = struct("Imatrix", (c.c_char_p, "name"), (c.POINTER(c.c_float), "data"), (c.c_size_t, "size"))
QuantizeParams = struct("QuantizeParams", (c.c_int32, "nthread ftype output_type embedding_type"),
                        (c.c_bool, "allow_requantize quantize_output only_copy pure keep_split dry_run"),
                        (c.POINTER(Imatrix), "imatrix"), (c.c_void_p, "kv_overrides tensor_overrides prune_layers"), (c.c_size_t, "max_buf_size"))
Batch = struct("Batch", (c.c_int32, "n_tokens"), (c.c_void_p, "token embd pos n_seq_id seq_id logits"))
Tensor = struct("Tensor", (c.c_int32, "type"), (c.c_void_p, "buffer"), (c.c_int64 * 4, "ne"), (c.c_size_t * 4, "nb"), (c.c_int32, "op"),
                (c.c_int32 * 16, "op_params"), (c.c_int32, "flags"), (c.c_void_p * 10, "src"), (c.c_void_p, "view_src"),
                (c.c_size_t, "view_offset"), (c.c_void_p, "data"), (c.c_char * 64, "name"))


class Llama:
    """The library: structs by value, errors as exceptions, its log silent."""

    def __init__(self, directory, threads):
        found = sorted(Path(directory).glob("libllama.v*.so")) or sorted(Path(directory).glob("libllama.so"))
        if not found:
            sys.exit(f"{directory}: no libllama.so; npm pack @node-llama-cpp/linux-x64@3.22.1 holds one under package/bins/linux-x64")
        directory = Path(directory).resolve()
        self.base = c.CDLL(str(directory / "libggml-base.so"), mode=c.RTLD_GLOBAL)
        ggml = c.CDLL(str(next(directory.glob("libggml.*so"))), mode=c.RTLD_GLOBAL)
        self.lib, self.threads = c.CDLL(str(found[0].resolve())), threads
        self.base.ggml_op_name.restype = c.c_char_p
        returns = {"llama_version": c.c_char_p, "llama_model_default_params": ModelParams, "llama_context_default_params": ContextParams,
                   "llama_model_quantize_default_params": QuantizeParams, "llama_model_load_from_file": c.c_void_p,
                   "llama_init_from_model": c.c_void_p, "llama_get_memory": c.c_void_p, "llama_get_logits": c.POINTER(c.c_float)}
        for name, kind in returns.items():
            getattr(self.lib, name).restype = kind
        self.version = self.lib.llama_version().decode()
        if not self.version.startswith(VERSION):
            sys.exit(f"{found[0]} is llama.cpp {self.version}; the structs here are those of {VERSION}")
        self.silent = LOG(lambda level, text, data: None)
        self.lib.llama_log_set(self.silent, None)
        ggml.ggml_backend_load_all_from_path(str(directory).encode())

    def load(self, path, length, callback=None):
        """A model with a context of `length` tokens; `callback` sees every node of the graph (cb_eval)."""
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = 0
        model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            sys.exit(f"llama.cpp does not load {path}")
        params = self.lib.llama_context_default_params()
        params.n_ctx = params.n_batch = length
        params.n_threads = params.n_threads_batch = self.threads
        params.type_k = params.type_v = F32
        params.flash_attn = 0
        if callback:
            params.cb_eval = callback
        context = self.lib.llama_init_from_model(c.c_void_p(model), params)
        if not context:
            sys.exit(f"llama.cpp makes no context of {length} tokens for {path}")
        return c.c_void_p(context)

    def logits(self, context, ids, vocab):
        """Logits [len(ids), vocab] in f32 of every position, from an empty state."""
        self.lib.llama_memory_clear(c.c_void_p(self.lib.llama_get_memory(context)), True)
        ids, wanted = np.ascontiguousarray(ids, dtype=np.int32), np.ones(len(ids), dtype=np.int8)
        status = self.lib.llama_decode(context, Batch(len(ids), ids.ctypes.data, None, None, None, None, wanted.ctypes.data))
        if status:
            sys.exit(f"llama_decode of {len(ids)} tokens returned {status}")
        return np.ctypeslib.as_array(self.lib.llama_get_logits(context), (len(ids), vocab)).copy()

    def quantize(self, source, target, ftype, importance):
        params = self.lib.llama_model_quantize_default_params()
        params.ftype, params.nthread = ftype, self.threads
        if importance:
            entries = [Imatrix(n.encode(), v.ctypes.data_as(c.POINTER(c.c_float)), v.size) for n, v in importance.items()]
            params.imatrix = (Imatrix * (len(entries) + 1))(*entries)  # ends at the entry without a name
        status = self.lib.llama_model_quantize(str(source).encode(), str(target).encode(), c.byref(params))
        if status:
            sys.exit(f"llama_model_quantize to {target.name} returned {status}")

    def importance(self, path, windows, vocab):
        """Mean squares of the inputs of every projection inside the blocks (as llama-imatrix: not of the head)."""
        sums, counts = {}, {}

        def collect(node, ask, _):
            node = Tensor.from_address(node)
            if self.base.ggml_op_name(node.op) != b"MUL_MAT" or not node.src[0]:
                return not ask
            name, inputs = Tensor.from_address(node.src[0]).name.decode(), Tensor.from_address(node.src[1])
            if not (name.startswith("blk.") and name.endswith(".weight")):
                return not ask
            if not ask:
                width, rows = inputs.ne[0], inputs.ne[1] * inputs.ne[2] * inputs.ne[3]
                if inputs.type != F32 or inputs.nb[1] != 4 * width:
                    sys.exit(f"{name}: inputs of type {inputs.type} and row stride {inputs.nb[1]}, expected {F32} and {4 * width}")
                values = np.ctypeslib.as_array((c.c_float * (rows * width)).from_address(inputs.data)).reshape(rows, width)
                sums[name] = sums.get(name, 0) + np.square(values, dtype=np.float64).sum(0)
                counts[name] = counts.get(name, 0) + rows
            return True

        callback = EVAL(collect)
        context = self.load(path, windows.shape[1], callback)
        for ids in windows:
            self.logits(context, ids, vocab)
        self.lib.llama_free(context)
        if not sums:
            sys.exit("the graph showed no projection: no importance matrix")
        return {name: (total / counts[name]).astype(np.float32) for name, total in sums.items()}


def tensors(path):
    """A safetensors file as {name: array}, bf16 widened to f32."""
    data = Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    out = {}
    for name, info in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in info["data_offsets"])
        kind = {"BF16": "<u2", "F32": "<f4", "I32": "<i4", "F16": "<f2", "I64": "<i8"}[info["dtype"]]
        array = np.frombuffer(data[begin:end], kind).reshape(info["shape"])
        out[name] = (array.astype(np.uint32) << 16).view(np.float32) if info["dtype"] == "BF16" else array
    return out


NAMES = {"norm": "attn_norm", "mixer.in_proj": "ssm_in", "mixer.conv1d": "ssm_conv1d", "mixer.norm": "ssm_norm", "mixer.out_proj": "ssm_out",
         "mixer.q_proj": "attn_q", "mixer.k_proj": "attn_k", "mixer.v_proj": "attn_v", "mixer.o_proj": "attn_output",
         "mixer.up_proj": "ffn_up", "mixer.down_proj": "ffn_down"}
WHOLE = {"backbone.embeddings.weight": "token_embd.weight", "backbone.norm_f.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def converted(name, value, groups):
    """The GGUF name and values of one tensor of the checkpoint."""
    if name in WHOLE:
        return WHOLE[name], value
    _, _, block, rest = name.split(".", 3)
    special = {"mixer.A_log": ("ssm_a", lambda v: -np.exp(v.reshape(-1, 1))), "mixer.D": ("ssm_d", lambda v: v.reshape(-1, 1)),
               "mixer.dt_bias": ("ssm_dt.bias", lambda v: v), "mixer.norm.weight": ("ssm_norm.weight", lambda v: v.reshape(groups, -1)),
               "mixer.conv1d.weight": ("ssm_conv1d.weight", lambda v: v.reshape(v.shape[0], -1))}
    if rest in special:
        target, change = special[rest]
        return f"blk.{block}.{target}", change(value)
    stem, kind = rest.rsplit(".", 1)
    if stem not in NAMES:
        sys.exit(f"{name}: not a tensor of a dense nemotron_h model")
    return f"blk.{block}.{NAMES[stem]}.{kind}", value


def write_gguf(model, config, path):
    """MODEL as GGUF, all tensors F32. The tokenizer stays out: the windows are ids."""
    pattern, eps = config["hybrid_override_pattern"], config["layer_norm_epsilon"]
    writer = gguf.GGUFWriter(path, "nemotron_h")
    writer.add_block_count(len(pattern))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_feed_forward_length([config["intermediate_size"] if kind == "-" else 0 for kind in pattern])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv([config["num_key_value_heads"] if kind == "*" else 0 for kind in pattern])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_eps(eps)
    writer.add_layer_norm_rms_eps(eps)
    writer.add_ssm_conv_kernel(config["conv_kernel"])
    writer.add_ssm_inner_size(config["mamba_num_heads"] * config["mamba_head_dim"])
    writer.add_ssm_state_size(config["ssm_state_size"])
    writer.add_ssm_time_step_rank(config["mamba_num_heads"])
    writer.add_ssm_group_count(config["n_groups"])
    writer.add_tokenizer_model("none")
    shards = sorted(Path(model).glob("model*.safetensors"))
    if not shards:
        sys.exit(f"{model}: no model*.safetensors")
    for name, value in (item for shard in shards for item in tensors(shard).items()):
        name, value = converted(name, value, config["n_groups"])
        writer.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def kl(reference, other):
    """KL(reference || other) of each row of log-probabilities, in nats."""
    return (np.exp(reference) * (reference - other)).sum(-1)


def verify(llama, path, golden, vocab):
    """llama.cpp's F32 logits against the golden ones; ends the script where they differ."""
    golden = tensors(golden)
    for prompt in sorted(name.split(".")[0] for name in golden if name.endswith(".input_ids")):
        ids, expected = golden[f"{prompt}.input_ids"], golden[f"{prompt}.logits"]
        context = llama.load(path, len(ids))
        found = llama.logits(context, ids, vocab)
        llama.lib.llama_free(context)
        far, divergence = np.abs(found - expected).max(), kl(log_softmax(expected), log_softmax(found)).mean()
        print(f"{prompt}: {len(ids)} tokens, logits within {far:.1e}, KL {divergence:.1e}", file=sys.stderr)
        if not (far < 1e-3 and divergence < 1e-7):
            sys.exit(f"{prompt}: F32 logits differ by {far:.2e} (limit 1e-3), KL {divergence:.2e} (limit 1e-7)")


def calibration_windows(model, path, count, length, bos):
    """`count` windows of `length` ids, evenly spaced over the documents of a JSONL file, each after a BOS."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        sys.exit("tokenizers is missing: pip install tokenizers (or leave out --calibration)")
    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    texts = [json.loads(line)["text"] for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    stream = np.concatenate([[bos, *tokenizer.encode(text, add_special_tokens=False).ids] for text in texts])
    if len(stream) < count * length:
        sys.exit(f"{path}: {len(stream)} tokens, {count} windows of {length} need {count * length}")
    starts = np.linspace(0, len(stream) - length, count).astype(int)
    return np.stack([stream[start : start + length] for start in starts])


def bits(path):
    """Bits of all tensors of a GGUF file by its parameters."""
    found = gguf.GGUFReader(path).tensors
    return 8 * sum(int(t.n_bytes) for t in found) / sum(int(t.n_elements) for t in found)


def compare(llama, contexts, ids, vocab):
    """One window through every context: (negative log-likelihood, KL from the first context, top-1 agreement with it)."""
    targets, reference, out = ids[1:].astype(int)[:, None], None, []
    for context in contexts:
        current = log_softmax(llama.logits(context, ids[:-1], vocab))
        reference = current if reference is None else reference
        nll = -np.take_along_axis(current, targets, -1).mean()
        out.append((nll, kl(reference, current).mean(), (current.argmax(-1) == reference.argmax(-1)).mean()))
    return out


def measure(llama, files, windows, vocab):
    """[windows, files, 3] as `compare` gives them, but from the second file on the likelihood is the excess over the first."""
    contexts = [llama.load(path, windows.shape[1] - 1) for path in files.values()]
    done = []
    try:
        for ids in windows:
            done.append(compare(llama, contexts, ids, vocab))
            print(f"window {len(done)}/{len(windows)}", file=sys.stderr)
    except KeyboardInterrupt:  # the whole windows so far are a result too
        if len(done) < 2:
            raise
    values = np.array(done)
    values[:, 1:, 0] -= values[:, :1, 0]
    return values


def table(values, files):
    count, means, errors = len(values), values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
    print(f"{count} windows, f32 perplexity {np.exp(means[0, 0]):.4f}\n")
    print("| type | bits per parameter | perplexity ratio | KL (nats) | top-1 % |\n|---|--:|--:|--:|--:|")
    for (name, path), (excess, divergence, top), (e, d, _) in list(zip(files.items(), means, errors))[1:]:
        ratio = np.exp(excess)
        print(f"| {name} | {bits(path):.3f} | {ratio:.4f} ± {ratio * e:.4f} | {divergence:.5f} ± {d:.5f} | {100 * top:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="directory of a nemotron_h model")
    parser.add_argument("--llama", type=Path, required=True, help=f"directory of libllama.so, llama.cpp {VERSION}")
    parser.add_argument("--windows", type=Path, help="windows of ids, .npy (default: MODEL/val_ids_u16.npy)")
    parser.add_argument("--golden", type=Path, help="logits to agree with (default: MODEL/golden.safetensors)")
    parser.add_argument("--count", type=int, default=32, help="windows to run (default 32)")
    parser.add_argument("--types", nargs="+", choices=FTYPES, default=list(FTYPES), metavar="TYPE", help="of " + " ".join(FTYPES))
    parser.add_argument("--calibration", type=Path, help="JSONL with `text`; adds a +im row for each type but Q8_0, which ignores it")
    parser.add_argument("--calibration-windows", type=int, default=12, help="windows of 1024 tokens for the matrix (default 12)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    if config["model_type"] != "nemotron_h":
        sys.exit(f"{args.model}: model_type is {config['model_type']}, expected nemotron_h")
    windows = np.load(args.windows or args.model / "val_ids_u16.npy")[: args.count]
    if len(windows) < max(args.count, 2):
        sys.exit(f"{len(windows)} windows, {max(args.count, 2)} are needed")
    llama, vocab = Llama(args.llama, args.threads), config["vocab_size"]
    with tempfile.TemporaryDirectory() as directory:
        files = {"F32": Path(directory) / "F32.gguf"}
        write_gguf(args.model, config, files["F32"])
        verify(llama, files["F32"], args.golden or args.model / "golden.safetensors", vocab)
        importance = None
        if args.calibration:
            ids = calibration_windows(args.model, args.calibration, args.calibration_windows, 1024, config["bos_token_id"])
            importance = llama.importance(files["F32"], ids, vocab)
        for kind in args.types:
            for name, matrix in ((kind, None), (f"{kind} +im", importance)):
                if matrix is None and name != kind or matrix and kind == "Q8_0":
                    continue
                files[name] = Path(directory) / f"{name.replace(' +', '-')}.gguf"
                llama.quantize(files["F32"], files[name], FTYPES[kind], matrix)
        table(measure(llama, files, windows, vocab), files)


if __name__ == "__main__":
    main()

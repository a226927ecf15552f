"""llama.cpp's quantization of a nemotron_h model, measured as wgquant's own: bits, perplexity, KL, top-1.

    pip install numpy gguf tokenizers
    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz   # llama.cpp v0.5.0, prebuilt
    python3 tests/interop/llama.py MODEL --llama package/bins/linux-x64 --calibration calibration.jsonl

MODEL is a Hugging Face directory of a dense nemotron_h model with `golden.safetensors` (p{i}.input_ids, p{i}.logits) and
`val_ids_u16.npy` (windows of 1025 ids) in it, or named by --golden and --windows. The script writes MODEL as GGUF in F32,
refuses to go on unless llama.cpp's logits equal the golden ones, lets llama.cpp's quantizer make every type (`+im`: with
an importance matrix collected as llama-imatrix does, from the calibration text only), and runs all of them over the same
windows on the CPU, each window from an empty state, with K and V in f32. The table goes to standard output; Ctrl-C
prints that of the windows done so far. Not part of `make test`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

try:
    import gguf
    import numpy as np
    from llama_library import FTYPES, VERSION, Llama
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install numpy gguf tokenizers")


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

"""llama.cpp's C interface through ctypes: loading, logits, quantization, importance matrix.

The structs are those of include/llama.h and ggml.h in v0.5.0; Llama refuses a library of another version.
"""

import ctypes as c
import sys
from pathlib import Path

import numpy as np

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

"""Does compressed-tensors read what wgquant writes?

    python3 tests/interop/check.py QUANTIZED [DEQUANTIZED]

QUANTIZED is a directory `wgquant quantize` wrote, DEQUANTIZED what `cargo run --example dequantize` made of it.
Every module that quantization_config says is quantized is decompressed by compressed-tensors (PyPI) with the scheme
its own matching gives, and must equal wgquant's weight bit for bit. A QUANTIZED of wgquant's own method, which other
readers would compute wrong, needs no DEQUANTIZED: transformers (PyPI) must refuse it, and so must what vLLM does to
`quant_method` first. Not part of `make test`: it needs PyTorch.
"""

import json
import sys
from pathlib import Path

import torch
from compressed_tensors import __version__
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils.match import match_name
from safetensors.torch import load_file


def load(directory):
    tensors = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def scheme_of(config, module):
    """The scheme of a module: by name, then by pattern, then by class, as compressed-tensors ranks them."""
    kind = "Embedding" if "embed" in module else "Linear"
    for wanted in (lambda t: not t.startswith("re:") and match_name(module, t), lambda t: t.startswith("re:") and match_name(module, t), lambda t: t == kind):
        for scheme in config.config_groups.values():
            if any(wanted(t) for t in scheme.targets):
                return scheme
    return None


def refused(quantized, raw):
    """Does transformers refuse a model of wgquant's own method, and vLLM, which makes small letters of its name?"""
    from transformers import AutoModelForCausalLM, __version__

    assert "quant_method" in raw and not hasattr(raw["quant_method"], "lower"), f"vLLM takes {raw['quant_method']}"
    try:
        AutoModelForCausalLM.from_pretrained(quantized)
    except ValueError as error:
        assert "quant_method" in str(error), error
        print(f"transformers {__version__}: refused: {error}")
        return
    raise AssertionError(f"transformers {__version__} takes {quantized}, and computes it wrong")


def main(quantized, dequantized=None):
    raw = json.loads((Path(quantized) / "config.json").read_text())["quantization_config"]
    if "wgquant_method" in raw or raw["quant_method"] == "wgquant":
        return refused(quantized, raw)
    config = QuantizationConfig.model_validate(raw)
    stored, ours = load(quantized), load(dequantized)
    modules = sorted(n.removesuffix(".weight_scale") for n in stored if n.endswith(".weight_scale"))
    checked = 0
    for module in modules:
        scheme = scheme_of(config, module)
        assert scheme is not None, f"{module}: no scheme matches"
        inputs = scheme.input_activations
        if inputs is not None and inputs.dynamic is False:
            shape = tuple(stored[module + ".input_scale"].shape)
            assert (inputs.strategy, shape) == ("tensor", (1,)), f"{module}: {inputs.strategy} input scale {shape}"
        parts = {n.removeprefix(module + "."): t for n, t in stored.items() if n.startswith(module + ".")}
        compressor = BaseCompressor.get_value_from_registry(scheme.format)
        weight = compressor.decompress(parts, scheme)["weight"]
        expected = ours[module + ".weight"]
        assert weight.shape == expected.shape, f"{module}: {weight.shape} for {expected.shape}"
        assert torch.equal(weight, expected), f"{module}: differs by {(weight.float() - expected.float()).abs().max()}"
        checked += weight.numel()
    print(f"compressed-tensors {__version__}: {len(modules)} modules, {checked} weights, all equal ({raw['format']})")


if __name__ == "__main__":
    main(*sys.argv[1:])

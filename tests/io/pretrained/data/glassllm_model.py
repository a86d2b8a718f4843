#!/usr/bin/env python3
"""Writes the English model of the package glassllm (MIT) as safetensors, with its own results.

glassllm/ beside this script receives model.safetensors (f16, under the package's own names and in
its own layout), config.json in the fields of Llama, the package's licence, and expected.safetensors: tokens [T] i32 and logits [T, V] f32 of its NumPy
reference, and the tokens [N] i32 that it writes greedily behind the first 8 of them.

Usage: glassllm_model.py [OUTPUT_DIRECTORY]     (tested with glassllm 0.1.0)
"""

import json
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

import glassllm
import numpy as np
from glassllm.model import GlassLM
from safetensors.numpy import save_file


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder = out / "glassllm"
    folder.mkdir(parents=True, exist_ok=True)
    weights = Path(glassllm.__file__).parent / "weights" / "en.npz"
    with np.load(weights) as stored:
        tensors = {name: stored[name] for name in stored.files if name != "__config__"}
    assert all(tensor.dtype == np.float16 for tensor in tensors.values())
    save_file(tensors, folder / "model.safetensors")

    model = GlassLM.load(weights, dtype=np.float64)
    cfg = model.cfg
    config = {
        "model_type": "llama",
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.d_model,
        "intermediate_size": tensors["blocks.0.ffn.W1"].shape[1],
        "num_hidden_layers": cfg.n_layers,
        "num_attention_heads": cfg.n_heads,
        "num_key_value_heads": cfg.n_kv_heads,
        "max_position_embeddings": cfg.max_len,
        "rms_norm_eps": cfg.eps,
        "rope_theta": cfg.rope_base,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    files = distribution("glassllm").files
    licence = next(file for file in files if file.name == "LICENSE")
    shutil.copy(licence.locate(), folder / "LICENSE")

    tokens = np.random.default_rng(1).integers(0, model.cfg.vocab_size, 24).astype(np.int32)
    logits = model(tokens[None]).data[0]  # [T, V]
    written = [step.token for step in model.generate(tokens[:8], 100, greedy=True)]
    save_file(
        {
            "tokens": tokens,
            "logits": logits.astype(np.float32),
            "written": np.array(written, dtype=np.int32),
        },
        folder / "expected.safetensors",
    )


if __name__ == "__main__":
    main()

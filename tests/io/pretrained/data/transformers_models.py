#!/usr/bin/env python3
"""Writes tiny random checkpoints of each family with logits of Hugging Face transformers.

Each folder <family>/ beside this script receives config.json, model.safetensors (or shards and an
index) and expected.safetensors: tokens [T] i32 and logits [T, V] f32, computed in float32.

Usage: transformers_models.py [OUTPUT_DIRECTORY]     (tested with transformers 5.24, torch 2.15)
"""

import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

torch.set_num_threads(1)

SIZES = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(
    rope_type="yarn",
    rope_theta=10000.0,
    factor=4.0,
    beta_fast=4.0,
    beta_slow=0.5,
    original_max_position_embeddings=16,
)
CASES = {
    "llama": (transformers.LlamaConfig, dict(rope_parameters=LLAMA3), torch.float32, "5GB"),
    "smollm2": (transformers.LlamaConfig, dict(tie_word_embeddings=True), torch.bfloat16, "5GB"),
    "mistral": (transformers.MistralConfig, dict(sliding_window=None), torch.float16, "5GB"),
    "qwen2": (transformers.Qwen2Config, dict(), torch.float32, "30KB"),
    "qwen3": (
        transformers.Qwen3Config,
        dict(head_dim=16, tie_word_embeddings=True, rope_parameters=YARN),
        torch.float32,
        "5GB",
    ),
    "glm4": (
        transformers.Glm4Config,
        dict(
            attention_bias=True,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5),
            pad_token_id=None,
        ),
        torch.float32,
        "5GB",
    ),
}


def write(folder, config_class, changes, dtype, shard_size):
    config = config_class(**{**SIZES, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # Biases and scales of norms count as well; matrices keep the size of their rows.
            scale = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            offset = 1.0 if parameter.ndim == 1 else 0.0
            parameter.copy_((offset + scale * noise).to(dtype).float())
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    # Read anew: a conversion of the model would round the rotary frequencies as well.
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.randint(0, SIZES["vocab_size"], (48,), generator=generator)
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    for extra in folder.glob("generation_config.json"):
        extra.unlink()
    save_file({"tokens": tokens.int(), "logits": logits.contiguous()}, folder / "expected.safetensors")


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, case in CASES.items():
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write(folder, *case)
        files = sorted(path.name for path in folder.iterdir())
        print(name, sum(path.stat().st_size for path in folder.iterdir()), "bytes:", *files)


if __name__ == "__main__":
    main()

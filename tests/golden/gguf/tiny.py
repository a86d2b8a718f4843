#!/usr/bin/env python3
"""Writes tiny.gguf, a random model with tensors of several types, and tiny.safetensors, the values of
one tensor of each. Prints the text behind "the cat sat", which tests/scripts/generate_test.sh expects.

    pip install gguf safetensors
    python3 tests/golden/gguf/tiny.py
"""

import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

import ggml_llama

folder = os.path.dirname(os.path.abspath(__file__))
path = os.path.join(folder, "tiny.gguf")
width, inner, heads, kv_heads, layers = 32, 64, 2, 1, 2

specials = ["<unk>", "<s>", "</s>"]
letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
tokens = specials + ["\u0120", "th", "the"] + letters + ["<tool>", "[PAD33]", "[PAD34]", "[PAD35]"]
types = [2, 3, 3] + [1] * 3 + [1] * len(letters) + [4] + [5] * 3

writer = gguf.GGUFWriter(path, "llama")
writer.add_context_length(64)
writer.add_embedding_length(width)
writer.add_block_count(layers)
writer.add_feed_forward_length(inner)
writer.add_head_count(heads)
writer.add_head_count_kv(kv_heads)
writer.add_rope_dimension_count(width // heads)
writer.add_rope_freq_base(1000.0)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(len(tokens))
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("smollm")
writer.add_token_list(tokens)
writer.add_token_types(types)
writer.add_token_merges(["t h", "th e"])
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)
writer.add_add_bos_token(False)
writer.add_chat_template("{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}")

random = np.random.default_rng(12)


def add(name, shape, kind):
    values = random.standard_normal(shape).astype(np.float32)
    if len(shape) == 1:
        values = 1 + values / 4
    elif name == "token_embd.weight":
        values *= 2
    else:
        values *= 3 / np.sqrt(shape[1])
    if kind == Type.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


add("token_embd.weight", (len(tokens), width), Type.Q8_0)
kinds = [[Type.Q4_1, Type.Q4_0, Type.Q8_0, Type.F16, Type.BF16, Type.Q4_1, Type.F32], [Type.Q4_1] * 7]
for layer in range(layers):
    q, k, v, o, gate, up, down = kinds[layer]
    blk = f"blk.{layer}."
    add(blk + "attn_norm.weight", (width,), Type.F32)
    add(blk + "attn_q.weight", (width, width), q)
    add(blk + "attn_k.weight", (width // heads * kv_heads, width), k)
    add(blk + "attn_v.weight", (width // heads * kv_heads, width), v)
    add(blk + "attn_output.weight", (width, width), o)
    add(blk + "ffn_norm.weight", (width,), Type.F32)
    add(blk + "ffn_gate.weight", (inner, width), gate)
    add(blk + "ffn_up.weight", (inner, width), up)
    add(blk + "ffn_down.weight", (width, inner), down)
add("output_norm.weight", (width,), Type.F32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

model = ggml_llama.Model(path)
row = [tokens.index(t) for t in ["the", "\u0120", "c", "a", "t", "\u0120", "s", "a", "t"]]
written, lead = model.write(row, 20)
print("least lead", lead, "text '" + "".join(tokens[t] for t in written).replace("\u0120", " ") + "'")
assert lead > 0.1 and all(2 < t < 32 for t in written), "take another seed"
expected = {}
for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down"]:
    name = f"blk.0.{name}.weight"
    expected[name] = model.tensors[name].astype(np.float32)
save_file(expected, os.path.join(folder, "tiny.safetensors"))

#!/usr/bin/env python3
"""Writes smollm2.safetensors: what SmolLM2-135M-Instruct makes of two prompts, by ggml_llama.py.

    pip install gguf safetensors tokenizers
    scripts/fetch_models smollm2
    python3 tests/golden/gguf/smollm2.py build/models/SmolLM2-135M-Instruct.Q4_1.gguf

`stride` of the vocabulary is kept of the logits, which would be large otherwise.
"""

import os
import sys

import numpy as np
from safetensors.numpy import save_file

import ggml_llama

stride, count = 97, 220
chat = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n"
)
text = "The capital of France is"


def encode(model, merges, prompt):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: i for i, token in enumerate(model.tokens)}
    coder = Tokenizer(models.BPE(vocabulary, merges))
    coder.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    coder.decoder = decoders.ByteLevel()
    coder.add_special_tokens([AddedToken(t, special=True) for t in model.tokens[:17]])
    return coder.encode(prompt).ids


def main():
    import gguf

    path = sys.argv[1]
    model = ggml_llama.Model(path)
    merges = gguf.GGUFReader(path).fields["tokenizer.ggml.merges"].contents()
    merges = [tuple(each.split(" ")) for each in merges]
    expected = {}
    for name, prompt in {"text": text, "chat": chat}.items():
        row = encode(model, merges, prompt)
        model.clear()
        logits = model.logits(row)
        written, lead = model.write(row, count)
        print(name, len(row), "tokens, least lead", lead, "first end", written.index(2) if 2 in written else None)
        expected[name + ".tokens"] = np.array(row, np.int32)
        expected[name + ".logits"] = logits[:, ::stride].astype(np.float32)
        expected[name + ".best"] = logits.argmax(axis=1).astype(np.int32)
        expected[name + ".written"] = np.array(written, np.int32)
    folder = os.path.dirname(os.path.abspath(__file__))
    save_file(expected, os.path.join(folder, "smollm2.safetensors"), {"text": text, "chat": chat})


main()

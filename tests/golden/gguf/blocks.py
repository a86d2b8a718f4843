#!/usr/bin/env python3
"""Writes blocks.gguf, a tensor of random blocks of each quantized type, and blocks.safetensors, their values by the
package gguf.

    pip install gguf safetensors
    python3 tests/golden/gguf/blocks.py
"""

import os

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

folder = os.path.dirname(os.path.abspath(__file__))
# Where the halves d and dmin or m of a block stand.
halves = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
}
random = np.random.default_rng(16)
writer = gguf.GGUFWriter(os.path.join(folder, "blocks.gguf"), "llama")
values = {}
for kind, places in halves.items():
    count, size = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = 2, 512
    blocks = random.integers(0, 256, (rows, columns // count, size), dtype=np.uint8)
    for place in places:
        # Signs, a subnormal number and ordinary ones.
        numbers = random.standard_normal(blocks.shape[:2]).astype(np.float16) / 8
        numbers[0, 0] = 3e-7
        blocks[:, :, place : place + 2] = numbers[..., None].view(np.uint8)
    data = blocks.reshape(rows, -1)
    writer.add_tensor(kind.name.lower(), data, raw_dtype=kind)
    values[kind.name.lower()] = gguf.quants.dequantize(data, kind).reshape(rows, columns)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(values, os.path.join(folder, "blocks.safetensors"))

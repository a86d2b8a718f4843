#!/usr/bin/env python3
"""Greedy decoding with a KV cache in plain PyTorch on the CPU, driven over stdin/stdout.

The model and its parameters are those of benchmarks/peers/passes_peer.cpp, which saves them to a file.
`tokens N` writes N tokens behind the prompt and prints the milliseconds of their passes, `pass M`
those of one pass over M rows with all logits, `text N` the N tokens themselves; `quit` ends.
"""

import argparse
import sys
import time

import torch
import torch.nn.functional as F

from train_step import EPS, HAS_SDPA, ROPE_THETA, blas
from waking import wake_up

# vocabulary, width, heads, positions
MODELS = {"small": (256, 256, 4, 256), "large": (32000, 512, 8, 512)}
PROMPT = [7] * 64


def load(path):
    """Lines "name outputs inputs", an empty line, then all elements as f32."""
    shapes, parameters = [], {}
    with open(path, "rb") as file:
        while line := file.readline().split():
            shapes.append((line[0].decode(), int(line[1]), int(line[2])))
        for name, outputs, inputs in shapes:
            count = outputs * max(inputs, 1)
            data = torch.frombuffer(bytearray(file.read(4 * count)), dtype=torch.float32)
            parameters[name] = data.view(outputs, inputs) if inputs else data
    return parameters


class Decoder:
    def __init__(self, model, parameters):
        self.vocabulary, self.width, self.heads, positions = MODELS[model]
        self.head_dim = self.width // self.heads
        self.p = parameters
        self.layers = 1 + max(int(n.split(".")[1]) for n in parameters if n[:7] == "layers.")
        frequency = ROPE_THETA ** (-torch.arange(0, self.head_dim, 2).double() / self.head_dim)
        angle = torch.arange(positions).double()[:, None] * frequency  # [P, E/2]
        cos, sin = angle.cos().float(), angle.sin().float()
        self.cos = torch.cat([cos, cos], -1)[:, None]  # [P, 1, E]
        self.sin = torch.cat([-sin, sin], -1)[:, None]
        shape = (self.layers, self.heads, positions, self.head_dim)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)
        self.mask = torch.full((positions, positions), float("-inf")).triu(1)

    def norm(self, x, name):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * self.p[name]

    def rope(self, x, first):
        rows = slice(first, first + x.shape[0])
        return torch.addcmul(
            x * self.cos[rows], x.roll(self.head_dim // 2, -1), self.sin[rows]
        )

    def attend(self, layer, q, k, v, first):
        """q, k, v [M, H, E] at positions first .. first + M - 1; the result is [M, C]."""
        M = q.shape[0]
        end = first + M
        self.keys[layer, :, first:end] = k.transpose(0, 1)
        self.values[layer, :, first:end] = v.transpose(0, 1)
        keys, values = self.keys[layer, :, :end], self.values[layer, :, :end]
        q = q.transpose(0, 1)  # [H, M, E]
        mask = None if M == 1 else self.mask[first:end, :end]
        if HAS_SDPA:
            out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        else:
            scores = q @ keys.transpose(1, 2) * self.head_dim**-0.5
            out = torch.softmax(scores if mask is None else scores + mask, -1) @ values
        return out.transpose(0, 1).reshape(M, self.width)

    def forward(self, tokens, first):
        """Logits [M, V] of tokens at positions first .. first + M - 1."""
        x = F.embedding(torch.tensor(tokens), self.p["embed_tokens.weight"])
        for layer in range(self.layers):
            at = f"layers.{layer}."
            y = self.norm(x, at + "input_layernorm.weight")
            qkv = F.linear(y, self.p[at + "self_attn.qkv_proj.weight"])
            q, k, v = qkv.view(-1, 3, self.heads, self.head_dim).unbind(1)
            y = self.attend(layer, self.rope(q, first), self.rope(k, first), v, first)
            x = x + F.linear(y, self.p[at + "self_attn.o_proj.weight"])
            y = self.norm(x, at + "post_attention_layernorm.weight")
            gate, up = F.linear(y, self.p[at + "mlp.gate_up_proj.weight"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, self.p[at + "mlp.down_proj.weight"])
        return F.linear(self.norm(x, "norm.weight"), self.p["lm_head.weight"])

    def generate(self, count):
        """(tokens, milliseconds of their passes); the prompt's own pass is not timed."""
        self.forward(PROMPT[:-1], 0)
        token, written = PROMPT[-1], []
        start = time.perf_counter()
        for position in range(len(PROMPT) - 1, len(PROMPT) - 1 + count):
            token = self.forward([token], position)[0].argmax().item()
            written.append(token)
        return written, (time.perf_counter() - start) * 1e3

    def timed_pass(self, rows):
        self.forward(PROMPT, 0)
        wake_up(lambda: self.forward(PROMPT[:rows], len(PROMPT)))
        start = time.perf_counter()
        self.forward(PROMPT[:rows], len(PROMPT))
        return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--parameters", required=True, help="a file that passes_peer.cpp saved")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    with torch.inference_mode():
        decoder = Decoder(options.model, load(options.parameters))
        print(f"torch {torch.__version__}, BLAS {blas()[0]}", file=sys.stderr, flush=True)
        for line in iter(sys.stdin.readline, ""):
            command, *count = line.split()
            if command == "tokens":
                print(f"{decoder.generate(int(count[0]))[1]:.4f}", flush=True)
            elif command == "pass":
                print(f"{decoder.timed_pass(int(count[0])):.4f}", flush=True)
            elif command == "text":
                print(*decoder.generate(int(count[0]))[0], flush=True)
            elif command == "quit":
                break
            else:
                sys.exit(f"unknown command: {line.strip()}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Logits of the checkpoint deepseek_v3 beside this script, by formulas in NumPy and float64.

A second source beside transformers, whose module is not applied more than once while scoring and
has no loss that runs. Written from the report (DeepSeek-V3, arXiv 2412.19437, section 2) and from
what engines compute for released weights: equation 21 with the embedding first, the stream behind
the trunk's norm, the output norm of the module, and what a module hands on behind that norm.

deepseek_v3/numpy.safetensors receives logits.k [T - k, V] f32 for k = 0, 1, 2, of the module applied
k times: row i has read the tokens up to t[i + k].

Usage: deepseek_numpy.py [FOLDER]     (tested with NumPy 2.4)
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

FORMATS = {"F32": np.float32, "F64": np.float64, "I32": np.int32}


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, info in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in info["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], FORMATS[info["dtype"]]).reshape(info["shape"])
    return tensors


def write(path, tensors):
    header, body = {}, b""
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + 4 * tensor.size],
        }
        body += tensor.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


class Model:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = {n: t.astype(np.float64) for n, t in read(folder / "model.safetensors").items()}

    def linear(self, name, x):
        return x @ self.tensors[name + ".weight"].T

    def norm(self, name, x, eps=None):
        eps = self.config["rms_norm_eps"] if eps is None else eps
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * self.tensors[name + ".weight"]

    def swiglu(self, stem, x):
        gate = self.linear(stem + "gate_proj", x)
        return self.linear(stem + "down_proj", gate / (1 + np.exp(-gate)) * self.linear(stem + "up_proj", x))

    def frequencies(self, r):
        """YaRN (arXiv 2309.00071), and the factor of cosine and sine."""
        rope = self.config["rope_parameters"]
        theta, factor, length = rope["rope_theta"], rope["factor"], rope["original_max_position_embeddings"]
        plain = theta ** (-np.arange(0, r, 2) / r)
        turns = lambda count: r * np.log(length / (2 * np.pi * count)) / (2 * np.log(theta))
        low = max(np.floor(turns(rope["beta_fast"])), 0)
        high = min(np.ceil(turns(rope["beta_slow"])), r - 1)
        ramp = np.clip((np.arange(r // 2) - low) / (high - low + (0.001 if high == low else 0)), 0, 1)
        m = lambda scale: 0.1 * scale * np.log(factor) + 1
        return plain / factor * ramp + plain * (1 - ramp), m(rope["mscale"]) / m(rope["mscale_all_dim"])

    def rotate(self, x):
        """Pairs of neighbours.  [T, .., r]"""
        frequency, scale = self.frequencies(x.shape[-1])
        turn = np.exp(1j * np.arange(len(x))[:, None] * frequency) * scale
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn.reshape(len(x), *[1] * (x.ndim - 2), -1)
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    def attention(self, stem, x):
        c, T = self.config, len(x)
        H, n, r, v = (c[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        q = self.linear(stem + "q_b_proj", self.norm(stem + "q_a_layernorm", self.linear(stem + "q_a_proj", x), 1e-6))
        q = q.reshape(T, H, n + r)
        low = self.linear(stem + "kv_a_proj_with_mqa", x)
        rank = c["kv_lora_rank"]
        latent, key = self.norm(stem + "kv_a_layernorm", low[:, :rank], 1e-6), self.rotate(low[:, rank:])
        up = self.tensors[stem + "kv_b_proj.weight"].reshape(H, n + v, rank)
        U, V = up[:, :n], up[:, n:]
        rope = c["rope_parameters"]
        scale = (0.1 * rope["mscale_all_dim"] * np.log(rope["factor"]) + 1) ** 2 / np.sqrt(n + r)
        # In the absorbed form: of all heads one key and one value, the latent.
        absorbed = np.einsum("thn,hnk->thk", q[..., :n], U)
        scores = np.einsum("thk,sk->hts", absorbed, latent) + np.einsum("thr,sr->hts", self.rotate(q[..., n:]), key)
        scores = np.where(np.tril(np.ones((T, T), bool)), scores * scale, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        out = np.einsum("thk,hvk->thv", np.einsum("hts,sk->thk", weights, latent), V)
        return self.linear(stem + "o_proj", out.reshape(T, H * v))

    def experts(self, stem, x):
        c = self.config
        E, k = c["n_routed_experts"], c["num_experts_per_tok"]
        scores = 1 / (1 + np.exp(-self.linear(stem + "gate", x)))
        y = self.swiglu(stem + "shared_experts.", x)
        for row, score in enumerate(scores):
            choice = score + self.tensors[stem + "gate.e_score_correction_bias"]
            groups = choice.reshape(c["n_group"], -1)
            best = np.argsort(-np.sort(groups, -1)[:, -2:].sum(-1), kind="stable")[: c["topk_group"]]
            allowed = np.full_like(groups, -np.inf)
            allowed[best] = groups[best]
            chosen = np.argsort(-allowed.reshape(E), kind="stable")[:k]
            weights = score[chosen] / (score[chosen].sum() + 1e-20) * c["routed_scaling_factor"]
            for expert, weight in zip(chosen, weights):
                y[row] += weight * self.swiglu(f"{stem}experts.{expert}.", x[row])
        return y

    def block(self, i, x):
        stem = f"model.layers.{i}."
        x = x + self.attention(stem + "self_attn.", self.norm(stem + "input_layernorm", x))
        normed = self.norm(stem + "post_attention_layernorm", x)
        dense = i < self.config["first_k_dense_replace"]
        return x + (self.swiglu if dense else self.experts)(stem + "mlp.", normed)

    def logits(self, tokens, depths):
        L = self.config["num_hidden_layers"]
        embedding, output = self.tensors["model.embed_tokens.weight"], self.tensors["lm_head.weight"]
        x = embedding[tokens]
        for i in range(L):
            x = self.block(i, x)
        stream = self.norm("model.norm", x)
        all_logits = [stream @ output.T]
        stem = f"model.layers.{L}."
        for k in range(1, depths):
            h, e = stream[:-1], embedding[tokens[k:]]
            joined = np.concatenate([self.norm(stem + "enorm", e), self.norm(stem + "hnorm", h)], -1)
            stream = self.norm(stem + "shared_head.norm", self.block(L, self.linear(stem + "eh_proj", joined)))
            all_logits.append(stream @ output.T)
        return all_logits


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "deepseek_v3"
    expected = read(folder / "expected.safetensors")
    found = Model(folder).logits(expected["tokens"], 3)
    for name, logits in (("logits", found[0]), ("mtp_logits", found[1])):
        error = np.abs(logits - expected[name]).max() / np.abs(expected[name]).max()
        print(f"{name}: differs from transformers by {error:.1e} of the largest")
    write(folder / "numpy.safetensors", {f"logits.{k}": logits for k, logits in enumerate(found)})


if __name__ == "__main__":
    main()

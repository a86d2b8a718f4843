"""A model of the architecture llama as GGUF files define it, in NumPy and double precision.

It shares nothing with the library: tensors come dequantized from the package gguf, rows of q and k
stay in the order of the file, and neighbours are rotated together.
"""

import gguf
import numpy as np


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {
            t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors
        }

        def value(name):
            return reader.fields["llama." + name].contents()

        self.layers = value("block_count")
        self.heads = value("attention.head_count")
        self.kv_heads = value("attention.head_count_kv")
        self.epsilon = value("attention.layer_norm_rms_epsilon")
        self.theta = value("rope.freq_base")
        self.tokens = reader.fields["tokenizer.ggml.tokens"].contents()
        self.clear()

    def clear(self):
        self.cache = [(np.zeros((0, self.kv_heads, 0)),) * 2 for _ in range(self.layers)]
        self.position = 0

    def norm(self, x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * weight

    def rotate(self, x):  # [T, heads, E], from the current position on
        width = x.shape[-1]
        frequency = self.theta ** (-np.arange(0, width, 2) / width)
        angle = (self.position + np.arange(x.shape[0]))[:, None] * frequency
        cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        result = np.empty_like(x)
        result[..., 0::2] = even * cos - odd * sin
        result[..., 1::2] = even * sin + odd * cos
        return result

    def logits(self, tokens):  # [T, V] of the next tokens
        w = self.tensors
        x = w["token_embd.weight"][tokens]
        count = len(tokens)
        for layer in range(self.layers):
            name = f"blk.{layer}."
            h = self.norm(x, w[name + "attn_norm.weight"])
            q = (h @ w[name + "attn_q.weight"].T).reshape(count, self.heads, -1)
            k = (h @ w[name + "attn_k.weight"].T).reshape(count, self.kv_heads, -1)
            v = (h @ w[name + "attn_v.weight"].T).reshape(count, self.kv_heads, -1)
            q, k = self.rotate(q), self.rotate(k)
            if self.position > 0:
                k = np.concatenate([self.cache[layer][0], k])
                v = np.concatenate([self.cache[layer][1], v])
            self.cache[layer] = (k, v)
            group = self.heads // self.kv_heads
            score = np.einsum("the,she->hts", q, np.repeat(k, group, axis=1)) / np.sqrt(q.shape[-1])
            is_later = np.arange(k.shape[0])[None, :] > (self.position + np.arange(count))[:, None]
            score[:, is_later] = -np.inf
            score = np.exp(score - score.max(axis=-1, keepdims=True))
            score /= score.sum(axis=-1, keepdims=True)
            mixed = np.einsum("hts,she->the", score, np.repeat(v, group, axis=1)).reshape(count, -1)
            x = x + mixed @ w[name + "attn_output.weight"].T
            h = self.norm(x, w[name + "ffn_norm.weight"])
            gate = h @ w[name + "ffn_gate.weight"].T
            up = h @ w[name + "ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w[name + "ffn_down.weight"].T
        self.position += count
        h = self.norm(x, w["output_norm.weight"])
        return h @ w.get("output.weight", w["token_embd.weight"]).T

    def write(self, prompt, count):
        """The most likely tokens after a prompt, and the least lead of one over the second."""
        self.clear()
        row, written, lead = self.logits(prompt)[-1], [], np.inf
        for _ in range(count):
            second, first = np.sort(row)[-2:]
            lead = min(lead, first - second)
            written.append(int(np.argmax(row)))
            row = self.logits(written[-1:])[-1]
        return written, lead

#!/usr/bin/env python3
"""Writes the golden files: reference losses, logits and gradients for every head kind.

This is a second, independent implementation of the model in PyTorch. It computes in float64,
takes its gradients from autograd and favours following the equations over speed. Parameters are
rounded to float32 first, so that a float32 and a float64 reader start from identical values.

Usage: generate.py [OUTPUT_DIRECTORY]        (default: the directory of this script)

Letters in the shape comments:
    B batch       T positions           C hidden_size        F intermediate_size   V vocab_size
    H query heads G key/value heads     E head_dim           D depth (number of extra predictions)
    N = T + 1 + D, the length of a token row
"""

import json
import struct
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

# One thread keeps the order of every floating-point sum, and so the bytes, the same on each run.
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


# --- Configuration ---------------------------------------------------------------------------


@dataclass
class Config:
    """Everything that is stored as JSON in the metadata of a golden file.

    Every field is stored for every head kind; a kind ignores the options it has no use for.
    """

    head: str
    depth: int
    loss_weights: list
    vocab_size: int = 19
    hidden_size: int = 12
    num_layers: int = 2
    num_heads: int = 2
    num_key_value_heads: int = 1
    head_dim: int = 6
    intermediate_size: int = 13
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    concat_order: str = "hidden_first"  # or embedding_first
    hidden_tap: str = "post_final_norm"  # or pre_final_norm
    recycle_tap: str = "post_output_norm"  # or pre_output_norm
    output_norm: str = "per_depth"  # or shared
    loss_normalization: str = "positions"  # or valid_targets
    detach_heads: bool = False
    batch: int = 2
    length: int = 7

    @property
    def row(self):
        """Tokens in a row: T inputs, the next token of the last one, D more for the heads."""
        return self.length + 1 + self.depth


@dataclass
class Case:
    name: str
    seed: int
    config: Config
    # Per batch row, the positions at which a new document starts.
    boundaries: list = field(default_factory=lambda: [[], []])
    # Per batch row, the positions whose token is no target.
    masked: list = field(default_factory=lambda: [[], []])


# --- Parameters ------------------------------------------------------------------------------


def block_shapes(prefix, config):
    """Names and logical shapes [outputs, inputs] of one transformer block."""
    c, f, e = config.hidden_size, config.intermediate_size, config.head_dim
    h, g = config.num_heads, config.num_key_value_heads
    shapes = {
        f"{prefix}.input_layernorm.weight": (c,),
        f"{prefix}.self_attn.qkv_proj.weight": ((h + 2 * g) * e, c),
        f"{prefix}.self_attn.o_proj.weight": (c, h * e),
        f"{prefix}.post_attention_layernorm.weight": (c,),
        f"{prefix}.mlp.gate_up_proj.weight": (2 * f, c),
        f"{prefix}.mlp.down_proj.weight": (c, f),
    }
    if config.qkv_bias:
        shapes[f"{prefix}.self_attn.qkv_proj.bias"] = ((h + 2 * g) * e,)
    if config.qk_norm:
        shapes[f"{prefix}.self_attn.q_norm.weight"] = (e,)
        shapes[f"{prefix}.self_attn.k_norm.weight"] = (e,)
    return shapes


def parameter_shapes(config):
    c, v = config.hidden_size, config.vocab_size
    shapes = {"embed_tokens.weight": (v, c)}
    for layer in range(config.num_layers):
        shapes.update(block_shapes(f"layers.{layer}", config))
    shapes["norm.weight"] = (c,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (v, c)

    modules = {"none": 0, "shared_logit": 0, "recurrent": 1}.get(config.head, config.depth)
    for m in range(modules):
        if config.head in ("sequential", "recurrent"):
            shapes[f"mtp.{m}.enorm.weight"] = (c,)
            shapes[f"mtp.{m}.hnorm.weight"] = (c,)
            shapes[f"mtp.{m}.eh_proj.weight"] = (c, 2 * c)
        if config.head in ("sequential", "recurrent", "parallel"):
            shapes.update(block_shapes(f"mtp.{m}.block", config))
            if config.output_norm == "per_depth":
                shapes[f"mtp.{m}.norm.weight"] = (c,)
        if config.head == "independent":
            shapes[f"mtp.{m}.residual.weight"] = (c, c)
            shapes[f"mtp.{m}.residual.bias"] = (c,)
            shapes[f"mtp.{m}.lm_head.weight"] = (v, c)
    return shapes


def random_parameters(config, rng):
    """Non-zero values of moderate size, so that no softmax or silu saturates; float32 arrays."""
    values = {}
    for name, shape in sorted(parameter_shapes(config).items()):
        noise = rng.standard_normal(shape)
        if name.endswith(".bias"):
            value = 0.1 * noise
        elif len(shape) == 1:  # a norm weight
            value = 1 + 0.1 * noise
        elif name == "embed_tokens.weight":
            value = 0.4 * noise
        else:
            value = 0.8 * noise / np.sqrt(shape[1])
        values[name] = value.astype(np.float32)
        assert np.all(values[name] != 0), name
    return values


def below(params, prefix):
    """The parameters whose names start with `prefix.`, without that prefix."""
    return {n[len(prefix) + 1 :]: p for n, p in params.items() if n.startswith(prefix + ".")}


# --- Transformer block -----------------------------------------------------------------------


def rms_norm(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight, the mean over the last axis."""
    mean_square = (x * x).mean(dim=-1, keepdim=True)  # [..., 1]
    return x / torch.sqrt(mean_square + eps) * weight  # [..., width]


def silu(x):
    return x * torch.sigmoid(x)  # the shape of x


def rope(x, theta):
    """Rotates the pairs (j, j + E/2) of position t by the angle t * theta^(-2j/E)."""
    t, e = x.shape[-2:]
    frequency = theta ** (-2 * torch.arange(e // 2) / e)  # [E/2]
    angle = torch.outer(torch.arange(t).double(), frequency)  # [T, E/2]
    cos, sin = torch.cos(angle), torch.sin(angle)  # 2 x [T, E/2]
    low, high = x[..., : e // 2], x[..., e // 2 :]  # 2 x [B, heads, T, E/2]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)  # [B, heads, T, E]


def attention(p, x, config):
    """Causal self-attention with grouped key/value heads; query head h reads h // (H / G)."""
    b, t, _ = x.shape
    h, g, e = config.num_heads, config.num_key_value_heads, config.head_dim

    qkv = x @ p["qkv_proj.weight"].T  # [B, T, (H+2G)*E]
    if config.qkv_bias:
        qkv = qkv + p["qkv_proj.bias"]  # [B, T, (H+2G)*E]
    qkv = qkv.reshape(b, t, h + 2 * g, e).transpose(1, 2)  # [B, H+2G, T, E]
    q = qkv[:, :h]  # [B, H, T, E]
    k = qkv[:, h : h + g]  # [B, G, T, E]
    v = qkv[:, h + g :]  # [B, G, T, E]

    if config.qk_norm:
        q = rms_norm(q, p["q_norm.weight"], config.rms_norm_eps)  # [B, H, T, E]
        k = rms_norm(k, p["k_norm.weight"], config.rms_norm_eps)  # [B, G, T, E]
    q = rope(q, config.rope_theta)  # [B, H, T, E]
    k = rope(k, config.rope_theta)  # [B, G, T, E]

    source = torch.arange(h) // (h // g)  # [H]
    k, v = k[:, source], v[:, source]  # 2 x [B, H, T, E]
    scores = q @ k.transpose(-1, -2) / e**0.5  # [B, H, T, T]
    future = torch.ones(t, t, dtype=torch.bool).triu(diagonal=1)  # [T, T]
    scores = scores.masked_fill(future, float("-inf"))  # [B, H, T, T]
    mixed = torch.softmax(scores, dim=-1) @ v  # [B, H, T, E]
    joined = mixed.transpose(1, 2).reshape(b, t, h * e)  # [B, T, H*E]
    return joined @ p["o_proj.weight"].T  # [B, T, C]


def mlp(p, x):
    """down(silu(gate(x)) * up(x)); gate and up share one matrix, the gate rows first."""
    gate, up = (x @ p["gate_up_proj.weight"].T).chunk(2, dim=-1)  # 2 x [B, T, F]
    return (silu(gate) * up) @ p["down_proj.weight"].T  # [B, T, C]


def block(p, x, config):
    """Pre-norm block: x + attention(norm(x)), then x + mlp(norm(x))."""
    eps = config.rms_norm_eps
    normed = rms_norm(x, p["input_layernorm.weight"], eps)  # [B, T, C]
    x = x + attention(below(p, "self_attn"), normed, config)  # [B, T, C]
    normed = rms_norm(x, p["post_attention_layernorm.weight"], eps)  # [B, T, C]
    return x + mlp(below(p, "mlp"), normed)  # [B, T, C]


# --- Model and head kinds --------------------------------------------------------------------


class Model:
    """The trunk with next-token logits (head kind `none`): logits_0 = lm_head(norm(x)).

    Every head kind derives from this class and supplies `extra_logits`.
    """

    def __init__(self, config, params):
        self.config = config
        self.params = params

    def norm(self, x, weight):
        return rms_norm(x, weight, self.config.rms_norm_eps)  # [B, T, C]

    def output_matrix(self):
        tied = self.config.tie_word_embeddings
        return self.params["embed_tokens.weight" if tied else "lm_head.weight"]  # [V, C]

    def from_trunk(self, x):
        """For what a head takes from the trunk: cut off from its gradient if detach_heads."""
        return x.detach() if self.config.detach_heads else x  # the shape of x

    def embed(self, tokens):
        return self.params["embed_tokens.weight"][tokens]  # [B, T, C]

    def output_norm_weight(self, module):
        if self.config.output_norm == "shared":
            return self.from_trunk(self.params["norm.weight"])  # [C]
        return self.params[f"mtp.{module}.norm.weight"]  # [C]

    def tapped(self):
        """The trunk's hidden state that sequential, recurrent and independent heads read."""
        after = self.config.hidden_tap == "post_final_norm"
        return self.from_trunk(self.normed if after else self.hidden)  # [B, T, C]

    def logits(self, tokens):
        """A list of D + 1 tensors [B, T, V], the ordinary next-token logits first."""
        x = self.embed(tokens[:, : self.config.length])  # [B, T, C]
        for layer in range(self.config.num_layers):
            self.last_input = x  # [B, T, C]
            x = block(below(self.params, f"layers.{layer}"), x, self.config)  # [B, T, C]
        self.hidden = x  # [B, T, C]
        self.normed = self.norm(x, self.params["norm.weight"])  # [B, T, C]
        self.logits_0 = self.normed @ self.output_matrix().T  # [B, T, V]
        return [self.logits_0] + self.extra_logits(tokens)  # (D+1) x [B, T, V]

    def extra_logits(self, tokens):
        return []


class Sequential(Model):
    """DeepSeek-V3, equations 21-25. For k = 1..D, with its own module for every depth:

        h'_i     = eh_proj [ hnorm(h^{k-1}_i) ; enorm(Emb(t_{i+k})) ]
        h^k      = block(h')
        logits_k = lm_head(norm(h^k))
    """

    def module(self, k):
        """The index of the module that depth k applies."""
        return k - 1

    def extra_logits(self, tokens):
        config, result = self.config, []
        h = self.tapped()  # [B, T, C]
        for k in range(1, config.depth + 1):
            p = below(self.params, f"mtp.{self.module(k)}")
            ahead = self.from_trunk(self.embed(tokens[:, k : k + config.length]))  # [B, T, C]
            hidden = self.norm(h, p["hnorm.weight"])  # [B, T, C]
            embedding = self.norm(ahead, p["enorm.weight"])  # [B, T, C]
            hidden_first = config.concat_order == "hidden_first"
            pair = [hidden, embedding] if hidden_first else [embedding, hidden]  # 2 x [B, T, C]
            mixed = torch.cat(pair, dim=-1) @ p["eh_proj.weight"].T  # [B, T, C]
            raw = block(below(p, "block"), mixed, config)  # [B, T, C]
            out = self.norm(raw, self.output_norm_weight(self.module(k)))  # [B, T, C]
            result.append(out @ self.from_trunk(self.output_matrix()).T)  # [B, T, V]
            h = out if config.recycle_tap == "post_output_norm" else raw  # [B, T, C]
        return result  # D x [B, T, V]


class Recurrent(Sequential):
    """The equations of `Sequential`, one module applied D times."""

    def module(self, k):
        return 0


class Parallel(Model):
    """Gloeckle et al.: z is the input of the trunk's last layer, which serves as head 0.

        logits_k = lm_head(norm_k(block_k(z)))
    """

    def extra_logits(self, tokens):
        result = []
        z = self.from_trunk(self.last_input)  # [B, T, C]
        for m in range(self.config.depth):
            h = block(below(self.params, f"mtp.{m}.block"), z, self.config)  # [B, T, C]
            out = self.norm(h, self.output_norm_weight(m))  # [B, T, C]
            result.append(out @ self.from_trunk(self.output_matrix()).T)  # [B, T, V]
        return result  # D x [B, T, V]


class Independent(Model):
    """Medusa: y = x + silu(W_k x + b_k), logits_k = lm_head_k(y)."""

    def extra_logits(self, tokens):
        result = []
        x = self.tapped()  # [B, T, C]
        for m in range(self.config.depth):
            p = below(self.params, f"mtp.{m}")
            y = x + silu(x @ p["residual.weight"].T + p["residual.bias"])  # [B, T, C]
            result.append(y @ p["lm_head.weight"].T)  # [B, T, V]
        return result  # D x [B, T, V]


class SharedLogit(Model):
    """No parameters: logits_k = logits_0, so that one distribution is scored on D + 1 targets."""

    def extra_logits(self, tokens):
        return [self.from_trunk(self.logits_0)] * self.config.depth  # D x [B, T, V]


MODELS = {
    "none": Model,
    "sequential": Sequential,
    "recurrent": Recurrent,
    "parallel": Parallel,
    "independent": Independent,
    "shared_logit": SharedLogit,
}


# --- Loss ------------------------------------------------------------------------------------


def valid_targets(k, segments, mask, config):
    """Which positions have a target at depth k: unmasked, and of the same document."""
    t = config.length
    same = segments[:, k + 1 : k + 1 + t] == segments[:, :t]  # [B, T]
    return same & (mask[:, k + 1 : k + 1 + t] == 1)  # [B, T]


def depth_loss(k, logits, tokens, segments, mask, config):
    """Cross entropy (nats) of tokens[:, i + 1 + k] over the valid positions, normalised."""
    target = tokens[:, k + 1 : k + 1 + config.length]  # [B, T]
    valid = valid_targets(k, segments, mask, config)  # [B, T]
    log_probability = torch.log_softmax(logits, dim=-1)  # [B, T, V]
    chosen = log_probability.gather(-1, target.unsqueeze(-1)).squeeze(-1)  # [B, T]
    if config.loss_normalization == "valid_targets":
        normaliser = max(1, int(valid.sum()))
    else:
        normaliser = config.batch * config.length
    return -(chosen * valid).sum() / normaliser  # []


def evaluate(config, params, tokens, segments, mask):
    """The logits of each depth, the losses of each depth, and their weighted sum."""
    logits = MODELS[config.head](config, params).logits(tokens)  # (D+1) x [B, T, V]
    losses = torch.stack(
        [depth_loss(k, x, tokens, segments, mask, config) for k, x in enumerate(logits)]
    )  # [D+1]
    total = (torch.tensor(config.loss_weights) * losses).sum()  # []
    return logits, losses, total


# --- safetensors -----------------------------------------------------------------------------

DTYPES = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "I32": np.dtype("<i4")}


def to_safetensors(arrays, metadata):
    """The bytes of a safetensors file: header length, JSON header, tensors without gaps."""
    code = {dtype: name for name, dtype in DTYPES.items()}
    header, chunks, offset = {"__metadata__": metadata}, [], 0
    # Wider elements first: with a padded header, each tensor is aligned to its element size.
    for name in sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n)):
        array = arrays[name]
        chunk = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": code[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(chunks)


def from_safetensors(data):
    """Arrays and metadata of a safetensors file; the offsets must be contiguous."""
    (size,) = struct.unpack("<Q", data[:8])
    assert size % 8 == 0
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    body, position, arrays = data[8 + size :], 0, {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert begin == position, name
        array = np.frombuffer(body[begin:end], dtype=DTYPES[entry["dtype"]])
        arrays[name] = array.reshape(entry["shape"]).copy()
        position = end
    assert position == len(body)
    return arrays, metadata


# --- One golden file -------------------------------------------------------------------------


def inputs(case, rng):
    """Random tokens, and the segments and mask that the case describes; int32 arrays [B, N]."""
    config = case.config
    shape = (config.batch, config.row)
    tokens = rng.randint(0, config.vocab_size, shape).astype(np.int32)  # [B, N]
    segments = np.zeros(shape, np.int32)  # [B, N]
    mask = np.ones(shape, np.int32)  # [B, N]
    for row in range(config.batch):
        for start in case.boundaries[row]:
            segments[row, start:] += 1  # [B, N]
        mask[row, case.masked[row]] = 0  # [B, N]
    return tokens, segments, mask  # 3 x [B, N]


def build(case):
    """The bytes of the golden file of a case."""
    config = case.config
    # RandomState promises the same stream in every NumPy release.
    rng = np.random.RandomState(case.seed)
    stored = random_parameters(config, rng)
    tokens, segments, mask = inputs(case, rng)  # 3 x [B, N]

    params = {n: torch.from_numpy(v).double().requires_grad_() for n, v in stored.items()}
    batch = [torch.from_numpy(x).long() for x in (tokens, segments, mask)]  # 3 x [B, N]
    logits, losses, total = evaluate(config, params, *batch)
    total.backward()

    arrays = {"tokens": tokens, "segments": segments, "mask": mask}  # 3 x [B, N]
    arrays["losses"] = losses.detach().numpy()  # [D+1]
    arrays["total"] = total.detach().reshape(1).numpy()  # [1]
    for k, x in enumerate(logits):
        arrays[f"logits.{k}"] = x.detach().contiguous().numpy()  # [B, T, V]
    for name, value in stored.items():
        arrays[f"param.{name}"] = value  # the parameter's shape
        p = params[name]  # the parameter's shape
        # A parameter that no term of the loss reaches has the gradient zero.
        gradient = torch.zeros_like(p) if p.grad is None else p.grad  # the parameter's shape
        arrays[f"grad.{name}"] = gradient.numpy()  # the parameter's shape
    return to_safetensors(arrays, {"config": json.dumps(asdict(config))})


# --- Verification ----------------------------------------------------------------------------


def check_direction(label, f, params, gradients, chosen, rng):
    """Compares a central difference of f along a random unit direction with the gradient."""
    direction = {n: torch.from_numpy(rng.standard_normal(params[n].shape)) for n in chosen}
    norm = sum(float((d * d).sum()) for d in direction.values()) ** 0.5
    direction = {n: d / norm for n, d in direction.items()}
    step = 1e-5

    def shifted(sign):
        moved = dict(params)
        for name, d in direction.items():
            moved[name] = params[name] + sign * step * d  # the parameter's shape
        with torch.no_grad():
            return float(f(moved))

    measured = (shifted(1) - shifted(-1)) / (2 * step)
    expected = sum(float((gradients[n] * d).sum()) for n, d in direction.items())
    error = abs(measured - expected)
    # Truncation and rounding are both near 1e-10 at this step.
    if not error <= 1e-8 + 1e-6 * abs(expected):
        raise SystemExit(f"{label}: derivative {measured:.12g}, stored gradient {expected:.12g}")
    return error


def verify(case, data):
    """Checks a golden file from its own bytes; returns the largest deviation of a derivative."""
    arrays, metadata = from_safetensors(data)
    config = Config(**json.loads(metadata["config"]))
    assert config == case.config and len(config.loss_weights) == config.depth + 1
    params = {n: torch.from_numpy(v).double() for n, v in below(arrays, "param").items()}
    gradients = {n: torch.from_numpy(v) for n, v in below(arrays, "grad").items()}
    assert params.keys() == gradients.keys() == parameter_shapes(config).keys()
    names = ("tokens", "segments", "mask")
    batch = [torch.from_numpy(arrays[n]).long() for n in names]  # 3 x [B, N]
    counts = [int(valid_targets(k, *batch[1:], config).sum()) for k in range(config.depth + 1)]
    assert min(counts) > 0, (case.name, counts)
    if case.name == "sequential_paper_window":
        assert counts == [config.batch * (config.length - k) for k in range(config.depth + 1)]

    def weighted(depths):
        weights = torch.zeros(config.depth + 1)  # [D+1]
        weights[depths] = torch.tensor(config.loss_weights)[depths]  # [D+1]
        return lambda p: (weights * evaluate(config, p, *batch)[1]).sum()  # []

    rng = np.random.RandomState(1000 + case.seed)
    if not config.detach_heads:
        return check_direction(case.name, weighted(slice(None)), params, gradients, params, rng)
    # Detached, the stored gradient is not that of the total: the head terms move the parameters
    # named mtp.* and nothing else, the ordinary next-token term moves all the others.
    heads = [n for n in params if n.startswith("mtp.")]
    trunk = [n for n in params if not n.startswith("mtp.")]
    return max(
        check_direction(case.name, weighted(slice(1, None)), params, gradients, heads, rng),
        check_direction(case.name, weighted(slice(0, 1)), params, gradients, trunk, rng),
    )


# --- Cases -----------------------------------------------------------------------------------

MTP_2 = [1.0, 0.15, 0.15]

CASES = [
    Case("none_tied", 1, Config("none", 0, [1.0], tie_word_embeddings=True)),
    # Only H = 4, G = 2 tells h // (H / G) from h % G; it also has H * E different from C.
    Case(
        "none_bias_qknorm_untied",
        2,
        Config(
            "none", 0, [1.0], qkv_bias=True, qk_norm=True,
            num_heads=4, num_key_value_heads=2, head_dim=4,
        ),
    ),
    Case("sequential", 3, Config("sequential", 2, MTP_2)),
    Case(
        "sequential_knobs",
        4,
        Config(
            "sequential", 3, [1.0, 0.3, 0.2, 0.1], tie_word_embeddings=True, qkv_bias=True,
            qk_norm=True, concat_order="embedding_first", hidden_tap="pre_final_norm",
            recycle_tap="pre_output_norm", output_norm="shared",
            loss_normalization="valid_targets",
        ),
        boundaries=[[4], []],
        masked=[[2], [5, 10]],
    ),
    # Tokens past index T are no targets: depth k keeps T - k of them but divides by T.
    Case(
        "sequential_paper_window",
        5,
        Config("sequential", 2, MTP_2),
        masked=[[8, 9], [8, 9]],
    ),
    Case("sequential_detached", 6, Config("sequential", 2, MTP_2, detach_heads=True)),
    Case("recurrent", 7, Config("recurrent", 3, [1.0, 0.4, 0.2, 0.1])),
    Case(
        "recurrent_knobs",
        8,
        Config(
            "recurrent", 2, [1.0, 0.3, 0.2], tie_word_embeddings=True,
            concat_order="embedding_first", loss_normalization="valid_targets",
        ),
        boundaries=[[3, 6], [5]],
    ),
    Case("parallel", 9, Config("parallel", 2, [1.0, 1.0, 1.0], output_norm="shared")),
    Case(
        "parallel_own_norm",
        10,
        Config(
            "parallel", 2, [1.0, 1.0, 1.0], tie_word_embeddings=True,
            num_heads=3, num_key_value_heads=3, head_dim=4, loss_normalization="valid_targets",
        ),
        boundaries=[[], [4]],
        masked=[[3, 9], [1]],
    ),
    Case(
        "parallel_detached",
        11,
        Config("parallel", 2, [1.0, 1.0, 1.0], output_norm="shared", detach_heads=True),
    ),
    Case("independent", 12, Config("independent", 2, [1.0, 0.8, 0.64])),
    Case(
        "independent_knobs",
        13,
        Config(
            "independent", 2, [1.0, 0.8, 0.64], tie_word_embeddings=True,
            hidden_tap="pre_final_norm",
        ),
        boundaries=[[5], [2]],
    ),
    Case("shared_logit", 14, Config("shared_logit", 2, [1.0, 0.5, 0.25])),
]


def main():
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for case in CASES:
        data = build(case)
        error = verify(case, data)  # before writing: a wrong file never reaches the directory
        (directory / f"{case.name}.safetensors").write_bytes(data)
        print(f"{case.name:26} {len(data):7} bytes   derivative error {error:.1e}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""One training step of a model in plain PyTorch on the CPU, driven over stdin/stdout.

The line `step` runs one training step (forward, backward, clipping, AdamW, zero_grad) on fresh
random tokens and prints its milliseconds; `quit`, or the end of the input, ends the program.
Nothing else is written to stdout. Runs with PyTorch 1.13 and newer.
"""

import argparse
import gc
import inspect
import math
import os
import re
import sys
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


class Size(NamedTuple):
    vocabulary: int
    width: int
    layers: int
    heads: int
    ffn: int
    batch: int
    length: int

    @property
    def head_dim(self):
        return self.width // self.heads


SIZES = {
    "small": Size(256, 256, 4, 4, 704, batch=16, length=256),
    "large": Size(32000, 512, 8, 8, 1408, batch=4, length=512),
}
EPS, ROPE_THETA = 1e-5, 10000.0
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP = 3e-4, (0.9, 0.95), 0.1, 1.0
MTP_WEIGHT = 0.3  # lambda of DeepSeek-V3, divided by the depth

HAS_SDPA = hasattr(F, "scaled_dot_product_attention")


# --- Model -----------------------------------------------------------------------------------
# Activations are [B*T, C]; only attention looks at them as [B, T, H, E].


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size.width))

    def forward(self, x):
        # Faster on the CPU than F.rms_norm and than pow(2).
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * self.weight


def linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


class Attention(nn.Module):
    """Causal attention with rotation; q, k, v and the result are [B, T, H, E]."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        frequency = ROPE_THETA ** (-torch.arange(0, size.head_dim, 2).double() / size.head_dim)
        angle = torch.arange(size.length).double()[:, None] * frequency  # [T, E/2]
        cos, sin = angle.cos().float(), angle.sin().float()
        shape = (1, size.length, 1, size.head_dim)
        self.register_buffer("cos", torch.cat([cos, cos], -1).view(shape))
        self.register_buffer("sin", torch.cat([-sin, sin], -1).view(shape))
        mask = torch.full((size.length, size.length), -math.inf).triu(1)  # [T, T]
        self.register_buffer("mask", None if HAS_SDPA else mask)

    def rotate(self, x):
        """Half split: (a, b) -> (a cos - b sin, b cos + a sin); rolling by E/2 swaps the halves."""
        rolled = x.roll(self.size.head_dim // 2, -1)
        return torch.addcmul(x * self.cos.to(x.dtype), rolled, self.sin.to(x.dtype))

    def forward(self, q, k, v):
        q, k = self.rotate(q), self.rotate(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H, T, E]
        if HAS_SDPA:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        batch, heads, length, width = q.shape
        q, k, v = (x.reshape(-1, length, width) for x in (q, k, v))
        mask = self.mask.expand(batch * heads, length, length)
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=width**-0.5)
        out = torch.bmm(torch.softmax(scores, -1), v)
        return out.view(batch, heads, length, width).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        C, F_ = size.width, size.ffn
        self.rows = (size.batch, size.length, 3, size.heads, size.head_dim)
        self.attention_norm, self.ffn_norm = Norm(size), Norm(size)
        self.qkv, self.out = linear(C, 3 * C), linear(C, C)
        self.attention = Attention(size)
        self.gate, self.up, self.down = linear(C, F_), linear(C, F_), linear(F_, C)

    def forward(self, x):
        q, k, v = self.qkv(self.attention_norm(x)).view(self.rows).unbind(2)
        x = x + self.out(self.attention(q, k, v).reshape(x.shape))
        y = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class SequentialModule(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.hnorm, self.enorm, self.norm = Norm(size), Norm(size), Norm(size)
        self.eh_proj = linear(2 * size.width, size.width)
        self.block = Block(size)

    def forward(self, h, embedding):
        h = self.eh_proj(torch.cat([self.hnorm(h), self.enorm(embedding)], -1))
        return self.norm(self.block(h))


class ParallelHead(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.block, self.norm = Block(size), Norm(size)

    def forward(self, z):
        return self.norm(self.block(z))


class IndependentHead(nn.Module):
    """Medusa: a residual block and an output matrix of its own."""

    def __init__(self, size):
        super().__init__()
        self.residual = nn.Linear(size.width, size.width)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)
        self.output = linear(size.width, size.vocabulary)

    def forward(self, x):
        return self.output(x + F.silu(self.residual(x)))


class Model(nn.Module):
    """The trunk; `tokens` are rows of T + 1 + D, so that every depth has T targets."""

    def __init__(self, size, depth):
        super().__init__()
        self.size, self.depth = size, depth
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = Norm(size)
        self.lm_head = linear(size.width, size.vocabulary)

    def embed(self, tokens, k):
        return self.embedding(tokens[:, k : k + self.size.length].reshape(-1))  # [B*T, C]

    def loss_of(self, logits, tokens, k):
        target = tokens[:, k + 1 : k + 1 + self.size.length].reshape(-1)
        return F.cross_entropy(logits, target)

    def loss(self, hidden, tokens, k):
        return self.loss_of(self.lm_head(hidden), tokens, k)

    def trunk(self, tokens):
        x = self.embed(tokens, 0)
        for layer in self.layers:
            x = layer(x)
        return x

    def losses(self, tokens):
        """(the next token's loss, the sum over all depths)"""
        loss = self.loss(self.norm(self.trunk(tokens)), tokens, 0)
        return loss, loss

    def forward_backward(self, tokens, autocast):
        """Leaves the gradients in the parameters; returns the next-token loss."""
        with autocast():
            main, total = self.losses(tokens)
        total.backward()
        return main.detach()


class Sequential(Model):
    """DeepSeek-V3: D modules in a row, sharing the embedding and the output matrix."""

    def __init__(self, size, depth):
        super().__init__(size, depth)
        self.mtp = nn.ModuleList(SequentialModule(size) for _ in range(depth))

    def module(self, k):
        return self.mtp[k]

    def losses(self, tokens):
        h = self.norm(self.trunk(tokens))
        main = total = self.loss(h, tokens, 0)
        for k in range(1, self.depth + 1):
            h = self.module(k - 1)(h, self.embed(tokens, k))
            total = total + (MTP_WEIGHT / self.depth) * self.loss(h, tokens, k)
        return main, total


class Recurrent(Sequential):
    """FastMTP: one such module at all depths."""

    def __init__(self, size, depth):
        super().__init__(size, depth)
        del self.mtp[1:]

    def module(self, k):
        return self.mtp[0]


class Independent(Model):
    def __init__(self, size, depth):
        super().__init__(size, depth)
        self.heads = nn.ModuleList(IndependentHead(size) for _ in range(depth))

    def losses(self, tokens):
        x = self.norm(self.trunk(tokens))
        main = total = self.loss(x, tokens, 0)
        for k, head in enumerate(self.heads, 1):
            total = total + (MTP_WEIGHT / self.depth) * self.loss_of(head(x), tokens, k)
        return main, total


class Parallel(Model):
    """Gloeckle et al.: n = D + 1 heads of one block each on a trunk of one block less.

    The heads run forward and backward one at a time on the detached output of the trunk, so
    that the activations and logits of one head only are alive at any time.
    """

    def __init__(self, size, depth):
        super().__init__(size, depth)
        del self.layers[-1], self.norm
        self.heads = nn.ModuleList(ParallelHead(size) for _ in range(depth + 1))

    def forward_backward(self, tokens, autocast):
        with autocast():
            z = self.trunk(tokens)
        detached = z.detach().requires_grad_()
        main = None
        for k, head in enumerate(self.heads):
            with autocast():
                loss = self.loss(head(detached), tokens, k)
            loss.backward()
            main = loss.detach() if main is None else main
        z.backward(detached.grad)
        return main


KINDS = {
    "none": Model,
    "sequential": Sequential,
    "parallel": Parallel,
    "recurrent": Recurrent,
    "independent": Independent,
}


# --- Training step ---------------------------------------------------------------------------


def make_optimizer(model, kind):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=1e-8, **{kind: True})


def fastest_optimizer():
    """The fused AdamW where this PyTorch has one for the CPU, else the one with foreach."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    try:
        torch.optim.AdamW([parameter], fused=True).step()
    except (TypeError, RuntimeError):
        return "foreach"
    return "fused"


class Trainer:
    def __init__(self, options):
        self.size = SIZES[options.model]
        self.model = KINDS[options.head](self.size, options.depth)
        self.autocast = lambda: torch.autocast("cpu", torch.bfloat16, options.type == "bf16")
        if options.compile:
            self.compile_parts()
        self.parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(self.model, options.optimizer)
        known = inspect.signature(nn.utils.clip_grad_norm_).parameters
        self.clip_options = {"foreach": True} if "foreach" in known else {}
        self.loss = math.nan

    def compile_parts(self):
        """What forward_backward calls: the whole forward pass, or the trunk and each head."""
        if isinstance(self.model, Parallel):
            self.model.trunk = torch.compile(self.model.trunk)
            self.model.loss = torch.compile(self.model.loss)
            for head in self.model.heads:
                head.compile()
        else:
            self.model.losses = torch.compile(self.model.losses)

    def step(self, tokens=None):
        """Returns the milliseconds of one step."""
        start = time.perf_counter()
        if tokens is None:
            tokens = torch.randint(
                self.size.vocabulary, (self.size.batch, self.size.length + 1 + self.model.depth)
            )
        loss = self.model.forward_backward(tokens, self.autocast)
        nn.utils.clip_grad_norm_(self.parameters, CLIP, **self.clip_options)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = loss.item()
        return (time.perf_counter() - start) * 1e3


# --- Description and protocol ----------------------------------------------------------------


def blas():
    """(description, whether it is the unoptimised reference implementation)"""
    config = torch.__config__.show()
    if torch.backends.mkl.is_available():
        version = re.search(r"Math Kernel Library Version ([\d.]+)", config)
        return "MKL " + (version.group(1) if version else ""), False
    info = re.search(r"BLAS_INFO=(\w+)", config)
    text = info.group(1) if info else "unknown"
    loaded = set()
    if os.path.exists("/proc/self/maps"):
        with open("/proc/self/maps") as maps:
            for line in maps:
                name = os.path.basename(line.split()[-1])
                if re.match(r"lib(open)?blas|libblis|libmkl_rt|libatlas", name):
                    loaded.add(name)
    real = {n for n in loaded if not re.match(r"libblas\.so", n)}
    text += "".join(f" {name}" for name in sorted(loaded))
    # An optimised libblas.so.3 of a Linux distribution loads the library that does the work.
    reference = bool(loaded) and not real
    return text, reference


def describe(options, model):
    name, reference = blas()
    capability = re.search(r"CPU capability usage: (\w+)", torch.__config__.show())
    count = sum(p.numel() for p in model.parameters())

    def say(text):
        print(text, file=sys.stderr)

    say(f"torch {torch.__version__}, Python {sys.version.split()[0]}")
    say(f"BLAS {name}, CPU capability {capability.group(1) if capability else 'unknown'}")
    say(f"threads {torch.get_num_threads()}")
    say(
        f"attention {'scaled_dot_product_attention' if HAS_SDPA else 'masked softmax'},"
        f" AdamW {options.optimizer}"
    )
    say(
        f"{options.model} model, {options.type}{' compiled' if options.compile else ''},"
        f" head {options.head}, depth {options.depth}, {count} parameters"
    )
    if reference:
        say(
            "warning: this PyTorch uses the reference BLAS, which is many times slower than an"
            " optimised one; on Debian install libopenblas0-openmp"
        )
    sys.stderr.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--type", choices=["f32", "bf16"], default="f32", help="bf16: autocast")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--head", choices=KINDS, default="none")
    parser.add_argument(
        "--depth",
        type=int,
        help="D, the tokens predicted beyond the next one (default: 0 for none, else 1);"
        " parallel heads number D + 1, the next token's included",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--optimizer", choices=["auto", "foreach", "fused"], default="auto")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the first line is read")
    options = parser.parse_args()
    if options.depth is None:
        options.depth = 0 if options.head == "none" else 1
    if (options.depth < 1) != (options.head == "none") or options.depth < 0:
        parser.error("--depth is 0 for --head none and at least 1 for the others")

    if options.optimizer == "auto":
        options.optimizer = fastest_optimizer()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    trainer = Trainer(options)
    describe(options, trainer.model)
    for _ in range(options.warmup):
        trainer.step()
    gc.disable()  # a collection would fall into some steps and not into others

    steps = 0
    for line in iter(sys.stdin.readline, ""):
        command = line.strip()
        if command == "step":
            print(f"{trainer.step():.3f}", flush=True)
            steps += 1
        elif command == "quit":
            break
        elif command:
            sys.exit(f"unknown command: {command}")
    print(f"{steps} steps, next-token loss {trainer.loss:.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()

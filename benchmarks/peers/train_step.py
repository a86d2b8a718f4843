#!/usr/bin/env python3
"""One training step of the "small" model in plain PyTorch on the CPU, driven over stdin/stdout.

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

import torch
import torch.nn.functional as F
from torch import nn

VOCAB, WIDTH, LAYERS, HEADS, FFN = 256, 256, 4, 4, 704
HEAD_DIM = WIDTH // HEADS
LENGTH, BATCH = 256, 16
EPS, ROPE_THETA = 1e-5, 10000.0
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP = 3e-4, (0.9, 0.95), 0.1, 1.0
MTP_WEIGHT = 0.3  # lambda of DeepSeek-V3, divided by the depth

HAS_SDPA = hasattr(F, "scaled_dot_product_attention")


# --- Model -----------------------------------------------------------------------------------
# Activations are [B*T, C]; only attention looks at them as [B, T, H, E].


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        # Faster on the CPU than F.rms_norm and than pow(2).
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * self.weight


def linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def rope_tables():
    frequency = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2).double() / HEAD_DIM)
    angle = torch.arange(LENGTH).double()[:, None] * frequency  # [T, E/2]
    cos, sin = angle.cos().float(), angle.sin().float()
    shape = (1, LENGTH, 1, HEAD_DIM)
    return torch.cat([cos, cos], -1).view(shape), torch.cat([-sin, sin], -1).view(shape)


COS, SIN = rope_tables()
CAUSAL = torch.full((LENGTH, LENGTH), -math.inf).triu(1)  # [T, T]


def rope(x):
    """Half split: (a, b) -> (a cos - b sin, b cos + a sin); rolling by E/2 swaps the halves."""
    return torch.addcmul(x * COS, x.roll(HEAD_DIM // 2, -1), SIN)


def attention(q, k, v):
    """Causal attention; q, k, v and the result are [B, T, H, E]."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H, T, E]
    if HAS_SDPA:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    flat = (BATCH * HEADS, LENGTH, HEAD_DIM)
    q, k, v = q.reshape(flat), k.reshape(flat), v.reshape(flat)
    mask = CAUSAL.expand(BATCH * HEADS, LENGTH, LENGTH)
    scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=HEAD_DIM**-0.5)
    out = torch.bmm(torch.softmax(scores, -1), v)
    return out.view(BATCH, HEADS, LENGTH, HEAD_DIM).transpose(1, 2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.ffn_norm = Norm(), Norm()
        self.qkv, self.out = linear(WIDTH, 3 * WIDTH), linear(WIDTH, WIDTH)
        self.gate, self.up = linear(WIDTH, FFN), linear(WIDTH, FFN)
        self.down = linear(FFN, WIDTH)

    def forward(self, x):
        qkv = self.qkv(self.attention_norm(x)).view(BATCH, LENGTH, 3, HEADS, HEAD_DIM)
        q, k, v = qkv.unbind(2)
        x = x + self.out(attention(rope(q), rope(k), v).reshape(-1, WIDTH))
        y = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class SequentialModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.hnorm, self.enorm, self.norm = Norm(), Norm(), Norm()
        self.eh_proj = linear(2 * WIDTH, WIDTH)
        self.block = Block()

    def forward(self, h, embedding):
        h = self.eh_proj(torch.cat([self.hnorm(h), self.enorm(embedding)], -1))
        return self.norm(self.block(h))


class ParallelHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.norm = Block(), Norm()

    def forward(self, z):
        return self.norm(self.block(z))


class Model(nn.Module):
    """The trunk; `tokens` are rows of T + 1 + D, so that every depth has T targets."""

    def __init__(self, depth):
        super().__init__()
        self.depth = depth
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        self.lm_head = linear(WIDTH, VOCAB)

    def embed(self, tokens, k):
        return self.embedding(tokens[:, k : k + LENGTH].reshape(-1))  # [B*T, C]

    def loss(self, hidden, tokens, k):
        target = tokens[:, k + 1 : k + 1 + LENGTH].reshape(-1)
        return F.cross_entropy(self.lm_head(hidden), target)

    def trunk(self, tokens):
        x = self.embed(tokens, 0)
        for layer in self.layers:
            x = layer(x)
        return x

    def forward_backward(self, tokens):
        """Leaves the gradients in the parameters; returns the next-token loss."""
        loss = self.loss(self.norm(self.trunk(tokens)), tokens, 0)
        loss.backward()
        return loss.detach()


class Sequential(Model):
    """DeepSeek-V3: D modules in a row, sharing the embedding and the output matrix."""

    def __init__(self, depth):
        super().__init__(depth)
        self.mtp = nn.ModuleList(SequentialModule() for _ in range(depth))

    def forward_backward(self, tokens):
        h = self.norm(self.trunk(tokens))
        main = self.loss(h, tokens, 0)
        total = main
        for k, module in enumerate(self.mtp, 1):
            h = module(h, self.embed(tokens, k))
            total = total + (MTP_WEIGHT / self.depth) * self.loss(h, tokens, k)
        total.backward()
        return main.detach()


class Parallel(Model):
    """Gloeckle et al.: n = D + 1 heads of one block each on a trunk of LAYERS - 1 blocks.

    The heads run forward and backward one at a time on the detached output of the trunk, so
    that the activations and logits of one head only are alive at any time.
    """

    def __init__(self, depth):
        super().__init__(depth)
        del self.layers[-1], self.norm
        self.heads = nn.ModuleList(ParallelHead() for _ in range(depth + 1))

    def forward_backward(self, tokens):
        z = self.trunk(tokens)
        detached = z.detach().requires_grad_()
        main = None
        for k, head in enumerate(self.heads):
            loss = self.loss(head(detached), tokens, k)
            loss.backward()
            main = loss.detach() if main is None else main
        z.backward(detached.grad)
        return main


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
    def __init__(self, head, depth, optimizer):
        kinds = {"none": Model, "sequential": Sequential, "parallel": Parallel}
        self.model = kinds[head](depth)
        self.parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(self.model, optimizer)
        known = inspect.signature(nn.utils.clip_grad_norm_).parameters
        self.clip_options = {"foreach": True} if "foreach" in known else {}
        self.loss = math.nan

    def step(self, tokens=None):
        """Returns the milliseconds of one step."""
        start = time.perf_counter()
        if tokens is None:
            tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1 + self.model.depth))
        loss = self.model.forward_backward(tokens)
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
    say(f"head {options.head}, depth {options.depth}, {count} parameters")
    if reference:
        say(
            "warning: this PyTorch uses the reference BLAS, which is many times slower than an"
            " optimised one; on Debian install libopenblas0-openmp"
        )
    sys.stderr.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head", choices=["none", "sequential", "parallel"], default="none")
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
    trainer = Trainer(options.head, options.depth, options.optimizer)
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

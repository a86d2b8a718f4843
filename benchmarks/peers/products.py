#!/usr/bin/env python3
"""Products by oneDNN and MKL, as PyTorch calls them, driven over stdin/stdout.

The line `KIND TYPE M N K` multiplies for 20 ms, until all threads are awake, then once more, and prints
the milliseconds of that: KIND is forward (x W^T), input (the gradient dy W) or weight (the gradient
dy^T x), TYPE f32 or bf16. Of the ways that PyTorch has, the one that was fastest in some runs is
taken; among them oneDNN with a weight that was reordered before. `quit` ends.
"""

import argparse
import sys
import time

import torch
import torch.nn.functional as F

from waking import wake_up

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def ways_of(kind, type_name, M, N, K):
    """name -> a function that multiplies"""
    dtype = TYPES[type_name]
    x, dy = torch.rand(M, K).to(dtype) - 0.5, torch.rand(M, N).to(dtype) - 0.5
    w = torch.rand(N, K).to(dtype) - 0.5
    if kind == "forward":
        ways = {"F.linear": lambda: F.linear(x, w)}
        try:
            packed = torch.ops.mkldnn._reorder_linear_weight(w, M)
            multiply = torch.ops.mkldnn._linear_pointwise
            ways["oneDNN, weight reordered before"] = lambda: multiply(
                x, packed, None, "none", [], ""
            )
            ways["oneDNN, weight reordered before"]()
        except (AttributeError, RuntimeError) as fault:
            ways.pop("oneDNN, weight reordered before", None)
            print(f"no reordered weight: {fault}".splitlines()[0], file=sys.stderr)
        return ways
    if kind == "input":
        return {"mm": lambda: torch.mm(dy, w)}
    return {"mm": lambda: torch.mm(dy.t(), x)}


def milliseconds(multiply):
    start = time.perf_counter()
    multiply()
    return (time.perf_counter() - start) * 1e3


def fastest(ways, question):
    if len(ways) == 1:
        return next(iter(ways.values()))
    best = {}
    for _ in range(7):
        for name, multiply in ways.items():
            best[name] = min(best.get(name, float("inf")), milliseconds(multiply))
    name = min(best, key=best.get)
    print(f"{question}: {name}", file=sys.stderr)
    return ways[name]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}", file=sys.stderr)
    made_for, multiply = None, None
    with torch.inference_mode():
        for line in iter(sys.stdin.readline, ""):
            question = line.strip()
            if question == "quit":
                break
            if question != made_for:
                kind, type_name, *size = question.split()
                multiply = fastest(ways_of(kind, type_name, *map(int, size)), question)
                made_for = question
            wake_up(multiply)
            print(f"{milliseconds(multiply):.4f}", flush=True)


if __name__ == "__main__":
    main()

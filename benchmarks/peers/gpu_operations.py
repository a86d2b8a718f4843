"""The cases of benchmarks/cuda in PyTorch on the same GPU, one by one.

    python3 benchmarks/peers/gpu_operations.py OUT.jsonl [--only NAME,...] [--seconds N] [--list]

A case is written as it ends, a line of JSON each, so that whoever ends the program loses one case at
most. The first line says what ran. Lines have the name that the benchmark has without
"/iterations:N" and "/manual_time", the kind of the peer, seconds, and rates; or the error. Times are
medians by CUDA events. Small kernels run inside a replayed CUDA graph, and their operands take turns
so that the L2 cache does not serve them: as in bench.cuh.
"""

import argparse
import importlib
import itertools
import json
import math
import os
import signal
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as functional
except ImportError:  # --list works without
    torch = functional = None

DEVICE = "cuda"
CACHE_BYTES = 128 << 20  # twice the L2 cache, and more


class OutOfTime(BaseException):
    """A base exception, so that no case takes it for an error of its own."""


# --- Timing ----------------------------------------------------------------------------------


def median_seconds(run, calls, rounds):
    """The median time of run(), which makes `calls` calls, divided by them."""
    run()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3 / calls)
    return statistics.median(times)


def seconds(call, calls=3, rounds=7):
    def run():
        for _ in range(calls):
            call()

    call()
    return median_seconds(run, calls, rounds)


def graph_seconds(call, sets, calls=10, rounds=9):
    """call(*set) inside a CUDA graph, each set equally often."""
    count = math.ceil(calls / len(sets)) * len(sets)

    def run():
        for i in range(count):
            call(*sets[i % len(sets)])

    for _ in range(3):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        run()
    return median_seconds(graph.replay, count, rounds)


def random(*shape, dtype=None, scale=1.0, grad=False):
    """Uniform in [-scale, scale), made in pieces: the f32 of a large tensor would not fit beside it."""
    made = torch.empty(*shape, device=DEVICE, dtype=dtype or torch.bfloat16)
    for piece in made.view(-1).split(1 << 26):
        piece.copy_(torch.rand(piece.shape, device=DEVICE).mul_(2).sub_(1).mul_(scale))
    return made.requires_grad_(grad)


def turns(bytes_of_one, make):
    return [make() for _ in range(min(64, max(2, CACHE_BYTES // bytes_of_one + 1)))]


def rates(took, **counts):
    return {"seconds": took} | {f"{what}_per_second": count / took for what, count in counts.items()}


# --- Attention -------------------------------------------------------------------------------


def attention(length, e, group, backend):
    """Both directions: [(name, rates)]."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    h, b = 2048 // e, 16384 // length
    flops = 2.0 * b * length * length * h * e
    q = random(b, h, length, e, grad=True)
    k, v = (random(b, h // group, length, e, grad=True) for _ in range(2))
    dout = random(b, h, length, e)
    options = {"enable_gqa": True} if group > 1 else {}
    with sdpa_kernel([getattr(SDPBackend, backend)]):
        call = lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True, **options)
        with torch.no_grad():
            took = seconds(call, calls=5)
        yield f"attention_forward/{length}/{e}/{group}", rates(took, flops=flops)
        out = call()
        took = seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
        yield f"attention_backward/{length}/{e}/{group}", rates(took, flops=2.5 * flops)


# --- Training step ---------------------------------------------------------------------------
# The model of train_step_bench.cu: V 32768, C 1024, L 12, H 8, G 2, F 2816, T 1024, B 16.

V, C, L, H, G, F, T, B = 32768, 1024, 12, 8, 2, 2816, 1024, 16


def make_model():
    from torch import nn

    e = C // H

    def linear(inputs, outputs):
        layer = nn.Linear(inputs, outputs, bias=False)
        nn.init.normal_(layer.weight, std=inputs**-0.5)
        return layer

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(C))

        def forward(self, x):  # in the type of x: autocast would leave the fused kernel for f32
            return functional.rms_norm(x, (C,), self.weight.to(x.dtype), 1e-5)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm, self.ffn_norm = Norm(), Norm()
            self.qkv, self.out = linear(C, (H + 2 * G) * e), linear(H * e, C)
            self.gate_up, self.down = linear(C, 2 * F), linear(F, C)

        def forward(self, x, cos, sin):
            q, k, v = self.qkv(self.attention_norm(x)).view(B, T, H + 2 * G, e).split((H, G, G), 2)
            rotate = lambda y: y * cos + torch.cat((-y[..., e // 2 :], y[..., : e // 2]), -1) * sin
            q, k, v = (y.transpose(1, 2) for y in (rotate(q), rotate(k), v))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(B, T, H * e))
            gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, -1)
            return x + self.down(functional.silu(gate) * up)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(V, C)
            nn.init.normal_(self.embedding.weight, std=C**-0.5)
            self.blocks = nn.ModuleList(Block() for _ in range(L))
            self.norm, self.head = Norm(), linear(C, V)
            frequency = 1e4 ** (-torch.arange(0, e, 2).double() / e)
            angle = torch.outer(torch.arange(T).double(), frequency).repeat(1, 2)[None, :, None, :]
            self.register_buffer("cos", angle.cos().bfloat16(), persistent=False)
            self.register_buffer("sin", angle.sin().bfloat16(), persistent=False)

        def forward(self, tokens):
            x = self.embedding(tokens[:, :-1]).to(torch.bfloat16)
            for block in self.blocks:
                x = block(x, self.cos, self.sin)
            logits = self.head(self.norm(x))
            return functional.cross_entropy(logits.view(-1, V).float(), tokens[:, 1:].reshape(-1))

    return Model().to(DEVICE)


def train_step(compiled, autocast):
    """Forward, backward, clipping, AdamW. autocast: f32 parameters, which autocast casts to bf16 for
    products. Else bf16 parameters and gradients with f32 masters and moments, as this library has
    them (whose gradients are f32)."""
    torch.manual_seed(1)
    model = make_model()
    parameters = list(model.parameters())
    if autocast:
        trained = parameters
    else:
        trained = [p.detach().clone() for p in parameters]
        for master in trained:
            master.grad = torch.zeros_like(master)
        model.bfloat16()
        parameters = list(model.parameters())
    decays = [p for p in trained if p.dim() > 1]
    others = [p for p in trained if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step():
        tokens = torch.randint(V, (B, T + 1), device=DEVICE)
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=autocast):
            loss = forward(tokens)
        loss.backward()
        with torch.no_grad():
            if not autocast:
                torch._foreach_copy_([m.grad for m in trained], [p.grad for p in parameters])
            torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
            optimizer.step()
            if not autocast:
                torch._foreach_copy_(parameters, trained)
        for p in parameters:
            p.grad = None
        return loss

    first = step().item()
    if not 9.9 < first < 11.9:
        raise RuntimeError(f"the first loss is {first}")
    took = seconds(lambda: step().item(), calls=1, rounds=10)
    weights = L * (C * (H + 2 * G) * (C // H) + C * C + 3 * C * F) + C * V
    flops = B * T * (6.0 * weights + L * 6.0 * T * C)
    yield "train_step/none/0", rates(took, flops=flops, tokens=B * T)


# --- Output matrix and loss ------------------------------------------------------------------


def linear_cross_entropy(way, r=8192, c=2048, v=131072, chunk=2048):
    """Loss, and gradients by hidden states and matrix."""
    hidden, w = random(r, c, grad=True), random(v, c, scale=0.1, grad=True)
    targets = torch.randint(v, (r,), device=DEVICE)
    if way == "liger":
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss(reduction="sum")
        call = lambda: torch.autograd.grad(fused(w, hidden, targets), (hidden, w))
    else:
        loss = lambda h, m, t: functional.cross_entropy((h @ m.T).float(), t, reduction="sum")
        if "compiled" in way:
            loss = torch.compile(loss, dynamic=False)
        if "whole" in way:
            call = lambda: torch.autograd.grad(loss(hidden, w, targets), (hidden, w))
        else:
            dw = torch.zeros(v, c, device=DEVICE)
            rows = [x.detach().requires_grad_() for x in hidden.split(chunk)]

            def call():
                dw.zero_()
                for x, t in zip(rows, targets.split(chunk)):
                    _, part = torch.autograd.grad(loss(x, w, t), (x, w))
                    dw.add_(part)

    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    took = seconds(call, calls=1, rounds=5)
    extra = torch.cuda.max_memory_allocated() - before
    yield f"linear_cross_entropy/{r}/{c}/{v}", rates(took, flops=6.0 * r * c * v) | {"extra_bytes": extra}


# --- Rows ------------------------------------------------------------------------------------


def both_directions(name, backward_name, function, make, bytes_of_one, forward_bytes, backward_bytes, compiled):
    """`make` gives the arguments of function, which need gradients, and that of its result."""
    call = torch.compile(function, dynamic=False) if compiled else function
    sets = turns(bytes_of_one, make)
    with torch.no_grad():
        took = graph_seconds(lambda arguments, _: call(*arguments), sets)
    yield name, rates(took, bytes=forward_bytes)
    made = [(call(*arguments), arguments, gradient) for arguments, gradient in sets]
    backward = lambda out, arguments, gradient: torch.autograd.grad(out, arguments, gradient, retain_graph=True)
    yield backward_name, rates(graph_seconds(backward, made), bytes=backward_bytes)


def rms_norm(c, compiled, n=8192):
    function = lambda x, w: functional.rms_norm(x, (c,), w, 1e-5)
    make = lambda: ((random(n, c, grad=True), random(c, grad=True)), random(n, c))
    return both_directions(f"rms_norm_forward/{c}", f"rms_norm_backward/{c}/residual:0", function, make,
                           4 * n * c * 2, 4 * n * c, 6 * n * c, compiled)


def swiglu(f, compiled, n=8192):
    def function(gate_up):
        gate, up = gate_up.chunk(2, -1)
        return functional.silu(gate) * up

    make = lambda: ((random(n, 2 * f, scale=4, grad=True),), random(n, f))
    return both_directions(f"swiglu_forward/{f}", f"swiglu_backward/{f}", function, make,
                           5 * n * f * 2, 6 * n * f, 10 * n * f, compiled)


def adamw(copies, p=500_000_000):
    """f32 parameters, gradients and moments: 28 bytes for each; with a copy of the parameters to
    bf16, which this library writes as well, 30 (and a second read of 4 that one kernel need not)."""
    parameter = torch.nn.Parameter(random(p, dtype=torch.float32))
    parameter.grad = random(p, dtype=torch.float32)
    rounded = torch.empty(p if copies else 0, device=DEVICE, dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW([parameter], lr=1e-4, weight_decay=0.1, fused=True)

    def call():
        optimizer.step()
        if copies:
            rounded.copy_(parameter.detach())

    yield f"adamw_update/{p}", rates(seconds(call), bytes=(30 if copies else 28) * p)


def row_product(m, n, k):
    sets = turns(2 * n * k, lambda: (random(m, k), random(n, k)))
    with torch.no_grad():
        took = graph_seconds(lambda x, w: x @ w.T, sets, calls=20)
    yield f"row_product/{m}/{n}/{k}", rates(took, bytes=2.0 * n * k)


def ceilings():
    n, m = 1 << 28, 8192
    source, target = random(n, dtype=torch.float32), torch.empty(n, device=DEVICE)
    yield "ceiling/copy", rates(seconds(lambda: target.copy_(source)), bytes=8.0 * n)
    a, b = random(m, m), random(m, m)
    yield "ceiling/product", rates(seconds(lambda: a @ b.T), flops=2.0 * m**3)


# --- Cases -----------------------------------------------------------------------------------


def cases():
    """(group, sizes, kind, results), the most important first."""
    ways = (("eager", False), ("compiled", True))
    backends = ("FLASH_ATTENTION", "CUDNN_ATTENTION")

    def attention_case(*sizes):
        for backend in backends:
            yield "attention", sizes, f"sdpa {backend}", lambda backend=backend: attention(*sizes, backend)

    def loss_case(way):
        return "linear_cross_entropy", (8192, 2048, 131072), way, lambda: linear_cross_entropy(way)

    def row_cases(group, function, size):
        for kind, how in ways:
            yield group, (size,), kind, lambda how=how: function(size, how)

    yield from attention_case(4096, 128, 1)
    yield "train_step", ("none", 0), "eager, autocast, fused AdamW", lambda: train_step(False, True)
    yield "train_step", ("none", 0), "compiled, autocast, fused AdamW", lambda: train_step(True, True)
    yield loss_case("eager, chunks of 2048")
    yield loss_case("compiled, chunks of 2048")
    yield loss_case("liger")
    for m in (1, 5):
        for n, k in ((11264, 2048), (2048, 5632), (131072, 2048)):
            yield "row_product", (m, n, k), "matmul", lambda m=m, n=n, k=k: row_product(m, n, k)
    yield from row_cases("rms_norm", rms_norm, 4096)
    yield from row_cases("swiglu", swiglu, 5632)
    yield "adamw", (500_000_000,), "fused, f32", lambda: adamw(False)
    yield "adamw", (500_000_000,), "fused, f32, then a copy to bf16", lambda: adamw(True)
    yield "ceiling", (), "eager", ceilings
    # The rest of the grid.
    yield ("train_step", ("none", 0), "compiled, bf16 with f32 masters, fused AdamW",
           lambda: train_step(True, False))
    yield loss_case("eager, whole")
    yield loss_case("compiled, whole")
    for sizes in itertools.product((1024, 2048, 4096, 8192), (64, 128), (1, 4)):
        if sizes != (4096, 128, 1):
            yield from attention_case(*sizes)
    for c in (1024, 2048, 8192):
        yield from row_cases("rms_norm", rms_norm, c)
    for f in (2816, 11264):
        yield from row_cases("swiglu", swiglu, f)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", help="JSON lines, appended")
    groups = sorted({case[0] for case in cases()})
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(groups)}")
    parser.add_argument("--seconds", type=float, help="ends after so long, in the middle of a case if need be")
    parser.add_argument("--list", action="store_true", help="prints the cases and runs nothing")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else groups
    for name in wanted:
        if name not in groups:
            parser.error(f"--only: there is no {name}, only {', '.join(groups)}")
    chosen = [case for case in cases() if case[0] in wanted]
    if options.list:
        for group, sizes, kind, _ in chosen:
            print("/".join(map(str, (group, *sizes))), kind, sep=": ")
        return 0
    if options.out is None:
        parser.error("a file for the results is missing")
    if options.seconds is not None and options.seconds <= 0:
        parser.error("--seconds: expected a positive number")
    if torch is None or not torch.cuda.is_available():
        print("skipped: there is no PyTorch with CUDA", file=sys.stderr)
        return 77

    def expire(*_):
        raise OutOfTime

    signal.signal(signal.SIGALRM, expire)
    if options.seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, options.seconds)
    torch.cuda.set_stream(torch.cuda.Stream())  # graphs cannot be recorded on the default one
    try:  # backward passes are repeated, which donated buffers forbid where there are any
        importlib.import_module("torch._functorch.config").donated_buffer = False
    except (ImportError, AttributeError):
        pass
    with open(options.out, "a", encoding="utf-8") as out:

        def write(line):
            out.write(json.dumps(line) + "\n")
            out.flush()
            os.fsync(out.fileno())

        try:
            write({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
                   "cudnn": torch.backends.cudnn.version(), "only": options.only})
            for group, sizes, kind, run in chosen:
                case = "/".join(map(str, (group, *sizes)))
                begin = time.monotonic()
                try:
                    for name, result in run():
                        write({"name": name, "kind": kind} | result | {"case_seconds": time.monotonic() - begin})
                except Exception as problem:  # what a peer cannot do is a result, too
                    text = f"{type(problem).__name__}: {problem}".splitlines()[0]
                    write({"name": case, "kind": kind, "error": text, "case_seconds": time.monotonic() - begin})
                finally:
                    torch.compiler.reset()  # other sizes are other code, not dynamic sizes
                    torch.cuda.empty_cache()
        except OutOfTime:
            write({"name": "deadline", "error": f"ended after {options.seconds} seconds, in or behind {case}: {kind}"})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The operations of benchmarks/cuda in PyTorch on the same GPU, eager and compiled, as JSON.

    python3 benchmarks/peers/gpu_operations.py OUT.json

Times are medians by CUDA events over inputs that do not fit the L2 cache together.
"""

import json
import sys

import torch
import torch.nn.functional as functional

DEVICE = "cuda"
BF16 = torch.bfloat16


def seconds(call, sets, calls=5, rounds=7):
    """The median time of one call; each call takes the next set of operands."""
    for operands in sets[:2]:
        call(*operands)
    torch.cuda.synchronize()
    times = []
    turn = 0
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            call(*sets[turn % len(sets)])
            turn += 1
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e-3 / calls)
    return sorted(times)[len(times) // 2]


def random(*shape, dtype=BF16, scale=1.0, grad=False):
    return (torch.rand(*shape, device=DEVICE, dtype=torch.float32) * 2 - 1).mul_(scale).to(dtype).requires_grad_(grad)


def both(results, name, function, sets, **counts):
    """Eager and compiled."""
    for kind, call in (("eager", function), ("compiled", torch.compile(function))):
        try:
            took = seconds(call, sets)
        except Exception as problem:  # a compiler that does not take it is a result, too
            results.append({"name": name, "kind": kind, "error": str(problem).splitlines()[0]})
            continue
        results.append({"name": name, "kind": kind, "seconds": took}
                       | {f"{what}_per_second": count / took for what, count in counts.items()})


def rows(results):
    n = 8192
    for c in (1024, 2048, 4096, 8192):
        sets = [(random(n, c), random(c)) for _ in range(8)]
        both(results, f"rms_norm_forward/{c}", lambda x, w: functional.rms_norm(x, (x.shape[1],), w, 1e-5), sets,
             bytes=2 * n * c * 2)
    for f in (2816, 5632, 11264):
        sets = [(random(n, 2 * f),) for _ in range(4)]
        both(results, f"swiglu_forward/{f}", lambda g: functional.silu(g[:, : g.shape[1] // 2]) * g[:, g.shape[1] // 2:],
             sets, bytes=3 * n * f * 2)
    p = 500_000_000
    parameter = torch.nn.Parameter(random(p, dtype=torch.float32))
    parameter.grad = random(p, dtype=torch.float32)
    optimizer = torch.optim.AdamW([parameter], fused=True)
    took = seconds(lambda: optimizer.step(), [()])
    results.append({"name": f"adamw_update/{p}", "kind": "fused, f32", "seconds": took, "bytes_per_second": 28 * p / took})
    del optimizer, parameter


def attention(results):
    for length in (1024, 2048, 4096, 8192):
        for e in (64, 128):
            h, b = 2048 // e, 16384 // length
            flops = 2.0 * b * length * length * h * e
            q, k, v = (random(b, h, length, e, grad=True) for _ in range(3))
            call = lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            took = seconds(call, [()])
            results.append({"name": f"attention_forward/{length}/{e}/1", "kind": "sdpa", "seconds": took,
                            "flops_per_second": flops / took})
            out, dout = call(), random(b, h, length, e)
            took = seconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True), [()])
            results.append({"name": f"attention_backward/{length}/{e}/1", "kind": "sdpa", "seconds": took,
                            "flops_per_second": 2.5 * flops / took})


def linear_cross_entropy(results):
    r, c, v = 8192, 2048, 131072
    hidden, w = random(r, c, grad=True), random(v, c, scale=0.1, grad=True)
    targets = torch.randint(v, (r,), device=DEVICE)

    def step(hidden, w):
        loss = functional.cross_entropy((hidden @ w.T).float(), targets, reduction="sum")
        return torch.autograd.grad(loss, (hidden, w))

    for kind, call in (("eager", step), ("compiled", torch.compile(step))):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            took = seconds(call, [(hidden, w)], calls=1, rounds=5)
        except Exception as problem:
            results.append({"name": "linear_cross_entropy", "kind": kind, "error": str(problem).splitlines()[0]})
            continue
        results.append({"name": f"linear_cross_entropy/{r}/{c}/{v}", "kind": kind, "seconds": took,
                        "flops_per_second": 6.0 * r * c * v / took,
                        "extra_bytes": torch.cuda.max_memory_allocated() - before})


def row_products(results):
    for m in (1, 5, 8):
        for n, k in ((11264, 2048), (131072, 2048)):
            sets = [(random(m, k), random(n, k)) for _ in range(max(2, 2**27 // (2 * n * k) + 1))]
            took = seconds(lambda x, w: x @ w.T, sets, calls=20)
            results.append({"name": f"row_product/{m}/{n}/{k}", "kind": "matmul", "seconds": took,
                            "bytes_per_second": 2.0 * n * k / took})


def ceilings(results):
    n = 1 << 28
    source, target = random(n, dtype=torch.float32), torch.empty(n, device=DEVICE)
    took = seconds(lambda: target.copy_(source), [()])
    results.append({"name": "copy", "kind": "eager", "seconds": took, "bytes_per_second": 8.0 * n / took})
    m = 8192
    a, b = random(m, m), random(m, m)
    took = seconds(lambda: a @ b, [()])
    results.append({"name": "product/8192", "kind": "eager", "seconds": took, "flops_per_second": 2.0 * m**3 / took})


def main():
    results = []
    for part in (ceilings, rows, attention, linear_cross_entropy, row_products):
        part(results)
        torch.cuda.empty_cache()
    record = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "results": results}
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(record, out, indent=1)


if __name__ == "__main__":
    main()

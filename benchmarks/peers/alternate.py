#!/usr/bin/env python3
"""Times training steps, decoding or products of this library against PyTorch, in turns.

Both programs read a question and answer with the milliseconds of what they did: `step`, one
training step; `tokens N`, N tokens written greedily; `pass M`, a decoding pass over M rows; `KIND
TYPE M N K`, a product. `quit` ends them. In every round each program answers once, and the order is swapped from round to round,
so that a slow phase of the machine meets both. Only one of them works at any time.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = "build/release/benchmarks"
# task -> (this library's program, PyTorch's)
PEERS = {
    "train": ("training_peer", "benchmarks/peers/train_step.py"),
    "decode": ("passes_peer", "benchmarks/peers/decode.py"),
    "experts": ("experts_peer", "benchmarks/peers/train_experts.py"),
    "products": ("product_peer", "benchmarks/peers/products.py"),
}
WRITTEN = 64  # tokens of a text

# model -> tokens of a step
TRAINED = {"small": 16 * 256, "large": 4 * 512}
TYPES = ["f32", "bf16"]
# model -> heads and depths
CONFIGURATIONS = {
    "small": [
        ("none", 0),
        ("sequential", 1),
        ("sequential", 4),
        ("parallel", 3),
        ("recurrent", 4),
        ("independent", 4),
    ],
    "large": [
        ("none", 0),
        ("sequential", 4),
        ("parallel", 4),
        ("recurrent", 4),
        ("independent", 4),
    ],
}
DECODED = ["small", "large"]
EXPERTS = ["grouped_mm", "eager"]  # how transformers multiplies them
QUESTIONS = [f"tokens {WRITTEN}"] + [f"pass {rows}" for rows in (1, 2, 4, 5, 8)]
# Rows, outputs and inputs.
PRODUCTS = [
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 768, 256),
    (4096, 256, 704),
    (2048, 1408, 512),
    (2048, 512, 1408),
    (2048, 4096, 1024),
    (512, 32000, 512),
]
KINDS = ["forward", "input", "weight"]

# Keeps glibc from returning memory to the system after every step, and pins the threads.
PEER_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "OMP_PROC_BIND": "true",
    "OMP_PLACES": "cores",
}


class Program:
    def __init__(self, name, command, environment):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            bufsize=1,
        )

    def messages(self):
        self.errors.seek(0)
        return self.errors.read().splitlines()

    def fail(self, reason):
        print(f"{self.name}: {reason}", file=sys.stderr)
        print("\n".join(self.messages()[-20:]), file=sys.stderr)
        sys.exit(1)

    def ask(self, question):
        """(the answer, the milliseconds until it came)"""
        start = time.perf_counter()
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        elapsed = (time.perf_counter() - start) * 1e3
        if not answer:
            self.process.wait()
            self.fail(f"ended with status {self.process.returncode} instead of answering")
        return answer.strip(), elapsed

    def time(self, question):
        """(the milliseconds that the program reports, the milliseconds until it answered)"""
        answer, elapsed = self.ask(question)
        try:
            reported = float(answer)
        except ValueError:
            self.fail(f"answered {answer!r} instead of milliseconds")
        if not 0 < reported <= elapsed:
            self.fail(f"reports {reported} ms for what was answered in {elapsed:.3f} ms")
        return reported, elapsed

    def peak_memory(self):
        """The most megabytes that were in memory; None where the system does not say."""
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                for line in status:
                    if line.startswith("VmHWM:"):
                        return round(int(line.split()[1]) / 1024)
        except OSError:
            pass
        return None

    def stop(self):
        if self.process.poll() is None:
            try:
                self.process.communicate("quit\n", timeout=20)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                self.process.wait()
        return self.messages()


def alternate(ours, peer, question, options):
    """The same question to both programs, round by round."""
    for program in [ours, peer] * options.warmup:
        program.time(question)
    reported = {"ours": [], "PyTorch": []}
    overhead = {"ours": [], "PyTorch": []}
    for round_number in range(options.rounds):
        for program in [ours, peer] if round_number % 2 == 0 else [peer, ours]:
            time.sleep(options.pause)  # threads that still wait actively go to sleep
            milliseconds, elapsed = program.time(question)
            reported[program.name].append(milliseconds)
            overhead[program.name].append(elapsed - milliseconds)

    ratios = [p / o for o, p in zip(reported["ours"], reported["PyTorch"])]
    result = {}
    for key, name in (("ours", "ours"), ("pytorch", "PyTorch")):
        result[key] = {
            "ms_median": round(statistics.median(reported[name]), 4),
            "ms": [round(ms, 4) for ms in reported[name]],
            # Between the question and the answer, but not in the reported time.
            "unreported_ms_median": round(statistics.median(overhead[name]), 3),
        }
    result["ratio_pytorch_over_ours"] = {
        "median": round(statistics.median(ratios), 4),
        "min": round(min(ratios), 4),
        "max": round(max(ratios), 4),
    }
    return result


def start(ours_command, peer_command, options):
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    ours = Program("ours", ours_command, threads)
    try:
        return ours, Program("PyTorch", peer_command, {**threads, **PEER_ENVIRONMENT})
    except OSError:
        ours.stop()
        raise


def with_rates(result, messages, tokens):
    for key, lines in zip(("ours", "pytorch"), messages):
        result[key]["tokens_per_second"] = round(tokens / result[key]["ms_median"] * 1e3, 1)
        result[key]["stderr"] = lines[:20]
    return result


def measure_training(model, kind, head, depth, ours_command, peer_command, options):
    arguments = ["--model", model, "--type", kind, "--head", head, "--depth", str(depth)]
    arguments += ["--threads", str(options.threads)]
    compiled = ["--compile"] if options.compile else []
    programs = start(ours_command + arguments, peer_command + arguments + compiled, options)
    try:
        result = {"model": model, "type": kind, "head": head, "depth": depth}
        result.update(alternate(*programs, "step", options))
        for key, program in zip(("ours", "pytorch"), programs):
            result[key]["peak_memory_mib"] = program.peak_memory()
    finally:
        messages = [program.stop() for program in programs]
    return with_rates(result, messages, TRAINED[model])


def measure_experts(how, ours_command, peer_command, options):
    threads = ["--threads", str(options.threads)]
    programs = start(ours_command + threads, peer_command + threads + ["--experts", how], options)
    try:
        result = {"experts": how, **alternate(*programs, "step", options)}
    finally:
        messages = [program.stop() for program in programs]
    return with_rates(result, messages, TRAINED["small"])


def measure_products(kind, ours_command, peer_command, options, show):
    """Calls show(name, result) for each kind of product of each size."""
    threads = ["--threads", str(options.threads)]
    programs = start(ours_command + threads, peer_command + threads, options)
    try:
        for size in PRODUCTS:
            for what in KINDS:
                question = " ".join([what, kind, *map(str, size)])
                result = {"type": kind, "kind": what, "size": list(size)}
                result.update(alternate(*programs, question, options))
                flops = 2.0 * size[0] * size[1] * size[2]
                for key in ("ours", "pytorch"):
                    result[key]["gflops"] = round(flops / result[key]["ms_median"] / 1e6, 1)
                    result[key]["stderr"] = programs[1].messages()[:1]
                show(f"{what} {kind} {size[0]}x{size[1]}x{size[2]}", result)
    finally:
        for program in programs:
            program.stop()


def measure_decoding(model, ours_command, peer_command, options):
    """One result for each question. Both programs have the same parameters, and their texts are
    compared first: rounding may lead them apart where two tokens are almost equally likely."""
    ours_command = ours_command + ["--model", model]
    ours_command += ["--threads", str(options.threads)]
    programs, results = [], []
    with tempfile.TemporaryDirectory() as folder:
        parameters = os.path.join(folder, "parameters")
        ours = Program("ours", ours_command, {"OMP_NUM_THREADS": str(options.threads)})
        programs.append(ours)
        try:
            answer = ours.ask(f"save {parameters}")[0]
            if answer != "saved":
                ours.fail(f"answered {answer!r} instead of saving its parameters")
            command = peer_command + ["--model", model, "--parameters", parameters]
            command += ["--threads", str(options.threads)]
            environment = {"OMP_NUM_THREADS": str(options.threads), **PEER_ENVIRONMENT}
            peer = Program("PyTorch", command, environment)
            programs.append(peer)
            texts = [program.ask(f"text {WRITTEN}")[0].split() for program in programs]
            same = next(
                (i for i, (a, b) in enumerate(zip(*texts)) if a != b), min(map(len, texts))
            )
            if same < WRITTEN // 4:
                peer.fail(f"writes another text: only the first {same} tokens are the same")
            for question in QUESTIONS:
                result = {"model": model, "question": question, "same_tokens": same}
                results.append({**result, **alternate(ours, peer, question, options)})
        finally:
            messages = [program.stop() for program in programs]
    for result in results:
        if result["question"].startswith("tokens"):
            for key in ("ours", "pytorch"):
                median = result[key]["ms_median"]
                result[key]["tokens_per_second"] = round(WRITTEN / median * 1e3, 1)
        result["pytorch"]["stderr"] = messages[-1][:20]
    return results


# --- Report ----------------------------------------------------------------------------------

HEADER = f"{'configuration':<28}{'ms ours':>10}{'ms PyTorch':>12}"
HEADER += "  PyTorch/ours (min .. max)"


def label(model, kind, head, depth):
    return f"{model} {kind} " + (head if head == "none" else f"{head} D={depth}")


def row(name, result):
    ratio = result["ratio_pytorch_over_ours"]
    return (
        f"{name:<28}{result['ours']['ms_median']:>10.2f}{result['pytorch']['ms_median']:>12.2f}"
        f"  {ratio['median']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})"
    )


def processor():
    try:
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit():
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=PEERS, default="train")
    parser.add_argument("--python", default=sys.executable, help="the interpreter with PyTorch")
    parser.add_argument("--ours", help="command of this library's program")
    parser.add_argument("--optimizer", choices=["auto", "foreach", "fused"], default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before every step")
    parser.add_argument("--models", choices=TRAINED, nargs="+", default=["small"], help="that are trained")
    parser.add_argument("--types", choices=TYPES, nargs="+", default=["f32"], help="of training and products")
    parser.add_argument("--compile", action="store_true", help="PyTorch's training step compiled")
    parser.add_argument("--only", action="append", metavar="NAME", help="of those that are listed; may be repeated")
    parser.add_argument("--commit", help="default: what git says")
    parser.add_argument("--mode", default="full", help="a word that is written to the output")
    parser.add_argument("--output", help="default: benchmarks/results/<task>_vs_torch.json")
    options = parser.parse_args()
    if options.ours is None:
        options.ours = f"{PROGRAMS}/{PEERS[options.task][0]}"
    if options.rounds < 1 or options.warmup < 0 or options.threads < 1:
        parser.error("--rounds and --threads are at least 1, --warmup at least 0")
    return options


def main():
    options = parse_arguments()
    ours_command = shlex.split(options.ours)
    if not os.path.exists(os.path.join(ROOT, ours_command[0])) and "/" in ours_command[0]:
        target = PEERS[options.task][0]
        sys.exit(
            f"{ours_command[0]} is missing: cmake --build --preset release --target {target}"
        )
    script = [PEERS[options.task][1]]
    if options.task == "train":
        script += ["--optimizer", options.optimizer]

    load = os.getloadavg()
    if load[0] > 0.5:
        print(f"warning: load average {load[0]:.2f}; other work distorts it", file=sys.stderr)
    peer_command = [options.python] + script
    results = []

    def show(name, result):
        if not results:
            lines = result["pytorch"]["stderr"]
            print("\n".join(lines[:3] + [m for m in lines[3:] if m.startswith("warning")]))
            print(f"\n{HEADER}")
        print(row(name, result), flush=True)
        results.append(result)

    def wanted(name):
        return not options.only or name in options.only

    arguments = f"--threads {options.threads}"
    if options.task == "train":
        arguments = f"--model MODEL --type TYPE --head HEAD --depth DEPTH {arguments}"
        for model in options.models:
            for head, depth in CONFIGURATIONS[model]:
                for kind in options.types:
                    if model == "small" and kind == "bf16" and (head, depth) == ("sequential", 1):
                        continue
                    name = label(model, kind, head, depth)
                    if wanted(name):
                        chosen = (model, kind, head, depth, ours_command, peer_command, options)
                        show(name, measure_training(*chosen))
    elif options.task == "experts":
        for how in EXPERTS:
            if wanted(how):
                show(how, measure_experts(how, ours_command, peer_command, options))
    elif options.task == "products":
        for kind in options.types:
            if wanted(kind):
                measure_products(kind, ours_command, peer_command, options, show)
    else:
        arguments = f"--model MODEL {arguments}"
        for model in DECODED:
            if wanted(model):
                for result in measure_decoding(model, ours_command, peer_command, options):
                    show(f"{model} {result['question']}", result)
    if not results:
        sys.exit("--only names nothing that this task measures")

    settings = " ".join(f"{k}={v}" for k, v in PEER_ENVIRONMENT.items())
    peer_arguments = arguments
    if options.task == "decode":
        peer_arguments += " --parameters FILE"
    elif options.compile:
        peer_arguments += " --compile"
    torch_version = re.match(r"torch ([^,\s]+)", results[0]["pytorch"]["stderr"][0])
    report = {
        "benchmark": f"{options.task}_vs_torch",
        "mode": options.mode,
        "processor": processor(),
        "logical_processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": [round(x, 2) for x in load],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "ours": options.commit or commit(),
            "torch": torch_version.group(1) if torch_version else "unknown",
        },
        "commands": {
            "ours": f"{options.ours} {arguments}",
            "pytorch": f"{settings} python3 {' '.join(script)} {peer_arguments}",
        },
        "compiled": options.compile,
        "threads": options.threads,
        "warmup_rounds": options.warmup,
        "rounds": options.rounds,
        "results": results,
    }
    output = options.output
    if not output:
        output = os.path.join(ROOT, "benchmarks", "results", f"{options.task}_vs_torch.json")
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    print(f"\nwritten: {os.path.relpath(output)}")


if __name__ == "__main__":
    main()

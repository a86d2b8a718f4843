#!/usr/bin/env python3
"""Times training steps of this library against PyTorch, alternating between two programs.

Both programs read the line `step` and answer with the milliseconds of one training step; `quit`
ends them. In every round each program makes one step, and the order is swapped from round to
round, so that a slow phase of the machine meets both. Only one of them works at any time.
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
OURS = "build/release/benchmarks/train_step_peer"
PEER = "benchmarks/peers/train_step.py"
TOKENS = 16 * 256  # per step

CONFIGURATIONS = [("none", 0), ("sequential", 1), ("sequential", 4), ("parallel", 3)]

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

    def step(self):
        """(the milliseconds that the program reports, the milliseconds until it answered)"""
        start = time.perf_counter()
        try:
            self.process.stdin.write("step\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        elapsed = (time.perf_counter() - start) * 1e3
        if not answer:
            self.process.wait()
            self.fail(f"ended with status {self.process.returncode} instead of answering")
        try:
            reported = float(answer)
        except ValueError:
            self.fail(f"answered {answer.strip()!r} instead of milliseconds")
        if not 0 < reported <= elapsed:
            self.fail(f"reports {reported} ms for a step that was answered in {elapsed:.3f} ms")
        return reported, elapsed

    def stop(self):
        if self.process.poll() is None:
            try:
                self.process.communicate("quit\n", timeout=20)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                self.process.wait()
        return self.messages()


def measure(head, depth, ours_command, peer_command, options):
    arguments = ["--head", head, "--depth", str(depth), "--threads", str(options.threads)]
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    programs = []
    try:
        ours = Program("ours", ours_command + arguments, threads)
        programs.append(ours)
        peer = Program("PyTorch", peer_command + arguments, {**threads, **PEER_ENVIRONMENT})
        programs.append(peer)
        for program in programs * options.warmup:
            program.step()
        reported = {"ours": [], "PyTorch": []}
        overhead = {"ours": [], "PyTorch": []}
        for round_number in range(options.rounds):
            for program in [ours, peer] if round_number % 2 == 0 else [peer, ours]:
                time.sleep(options.pause)  # threads that still wait actively go to sleep
                milliseconds, elapsed = program.step()
                reported[program.name].append(milliseconds)
                overhead[program.name].append(elapsed - milliseconds)
    finally:
        messages = {program.name: program.stop() for program in programs}

    ratios = [p / o for o, p in zip(reported["ours"], reported["PyTorch"])]
    result = {"head": head, "depth": depth}
    for key, name in (("ours", "ours"), ("pytorch", "PyTorch")):
        median = statistics.median(reported[name])
        result[key] = {
            "ms_median": round(median, 3),
            "tokens_per_second": round(TOKENS / median * 1e3, 1),
            "ms": [round(ms, 3) for ms in reported[name]],
            # Between the question and the answer, but not in the reported time.
            "unreported_ms_median": round(statistics.median(overhead[name]), 3),
            "stderr": messages[name][:20],
        }
    result["ratio_pytorch_over_ours"] = {
        "median": round(statistics.median(ratios), 4),
        "min": round(min(ratios), 4),
        "max": round(max(ratios), 4),
    }
    return result


# --- Report ----------------------------------------------------------------------------------

HEADER = f"{'configuration':<16}{'ms ours':>10}{'ms PyTorch':>12}"
HEADER += f"  {'PyTorch/ours (min .. max)':<27}"
HEADER += f"{'tokens/s ours':>14}{'tokens/s PyTorch':>18}"


def label(head, depth):
    return head if head == "none" else f"{head} D={depth}"


def row(result):
    ours, peer = result["ours"], result["pytorch"]
    ratio = result["ratio_pytorch_over_ours"]
    ratios = f"{ratio['median']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})"
    return (
        f"{label(result['head'], result['depth']):<16}{ours['ms_median']:>10.1f}"
        f"{peer['ms_median']:>12.1f}  {ratios:<27}"
        f"{ours['tokens_per_second']:>14.0f}{peer['tokens_per_second']:>18.0f}"
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
    names = [label(*c) for c in CONFIGURATIONS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter with PyTorch")
    parser.add_argument("--ours", default=OURS, help="command of this library's program")
    parser.add_argument("--optimizer", choices=["auto", "foreach", "fused"], default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before every step")
    parser.add_argument("--only", choices=names, action="append", help="may be repeated")
    parser.add_argument("--output", help="default: a file in benchmarks/results/, named by version")
    options = parser.parse_args()
    if options.rounds < 1 or options.warmup < 0 or options.threads < 1:
        parser.error("--rounds and --threads are at least 1, --warmup at least 0")
    return options


def main():
    options = parse_arguments()
    ours_command = shlex.split(options.ours)
    if not os.path.exists(os.path.join(ROOT, ours_command[0])) and "/" in ours_command[0]:
        sys.exit(f"{ours_command[0]} is missing: build the release preset first")
    script = [PEER, "--optimizer", options.optimizer]

    load = os.getloadavg()
    if load[0] > 0.5:
        print(f"warning: load average {load[0]:.2f}; other work distorts it", file=sys.stderr)
    results = []
    for head, depth in CONFIGURATIONS:
        if options.only and label(head, depth) not in options.only:
            continue
        results.append(measure(head, depth, ours_command, [options.python] + script, options))
        if len(results) == 1:
            warnings = [m for m in results[0]["pytorch"]["stderr"] if m.startswith("warning")]
            print("\n".join(results[0]["pytorch"]["stderr"][:3] + warnings))
            print(f"\n{HEADER}")
        print(row(results[-1]), flush=True)

    settings = " ".join(f"{k}={v}" for k, v in PEER_ENVIRONMENT.items())
    arguments = f"--head HEAD --depth DEPTH --threads {options.threads}"
    torch_version = re.match(r"torch ([^,\s]+)", results[0]["pytorch"]["stderr"][0])
    torch_version = torch_version.group(1) if torch_version else "unknown"
    report = {
        "benchmark": "train_step_vs_torch",
        "processor": processor(),
        "logical_processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": [round(x, 2) for x in load],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"ours": commit(), "torch": torch_version},
        "commands": {
            "ours": f"{options.ours} {arguments}",
            "pytorch": f"{settings} python3 {' '.join(script)} {arguments}",
        },
        "threads": options.threads,
        "warmup_rounds": options.warmup,
        "rounds": options.rounds,
        "tokens_per_step": TOKENS,
        "results": results,
    }
    output = options.output
    if not output:
        name = f"train_step_vs_torch_{torch_version.split('+')[0]}.json"
        output = os.path.join(ROOT, "benchmarks", "results", name)
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    print(f"\nwritten: {os.path.relpath(output)}")


if __name__ == "__main__":
    main()

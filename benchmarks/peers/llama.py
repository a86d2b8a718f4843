#!/usr/bin/env python3
"""Times decoding of this library against llama.cpp, which take turns, on a model of the same shape.

llama.cpp comes as the source package llama-cpp-python, and its tools are built once with --build.
Random weights of the shape that build/release/benchmarks/decoding_peer tells are written with the
package gguf. What is missing is named, with the command that brings it. In every round each side
writes as many tokens, alone and in 4 and 16 sequences; the order is swapped from round to round.
"""

import argparse
import datetime
import glob
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from alternate import ROOT, Program, commit, processor

OURS = "build/release/benchmarks/decoding_peer"
PACKAGE = "llama-cpp-python"
TOOLS = ["llama-bench", "llama-batched-bench"]
SEQUENCES = [1, 4, 16]
WARM = 8  # tokens of ours before a turn is timed; llama-bench does the same by itself
DRAFTS = 4

# Of llama.cpp, and ours beside it.
TYPES = {"f32": "f32", "bf16": "bf16", "q8_0": "int8"}


def run(command, seconds, **options):
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=True, **options
        )
    except FileNotFoundError:
        sys.exit(f"{command[0]} is missing")
    except subprocess.TimeoutExpired:
        sys.exit(f"{' '.join(command)}: took more than {seconds} s")
    except subprocess.CalledProcessError as fault:
        print("\n".join(fault.stderr.splitlines()[-20:]), file=sys.stderr)
        sys.exit(f"{' '.join(command)}: failed")


# --- What it needs -----------------------------------------------------------------------------


def build(folder, jobs):
    """Gets the source package from the package index and builds the two tools."""
    os.makedirs(folder, exist_ok=True)
    archives = glob.glob(os.path.join(folder, "llama_cpp_python-*.tar.gz"))
    if not archives:
        print(f"fetching the source of {PACKAGE}", flush=True)
        arguments = ["download", "--no-deps", "--no-binary", PACKAGE, "--dest", folder, PACKAGE]
        run([sys.executable, "-m", "pip", *arguments], 600)
        archives = glob.glob(os.path.join(folder, "llama_cpp_python-*.tar.gz"))
    source = sorted(archives)[-1][: -len(".tar.gz")]
    if not os.path.isdir(source):
        run(["tar", "-xzf", source + ".tar.gz", "-C", folder], 300)
    made = os.path.join(folder, "build")
    settings = ["CMAKE_BUILD_TYPE=Release", "BUILD_SHARED_LIBS=OFF", "GGML_NATIVE=ON"]
    parts = ["TESTS", "EXAMPLES", "SERVER", "APP", "UI"]
    settings += [f"LLAMA_BUILD_{part}=OFF" for part in parts]
    settings += ["LLAMA_BUILD_TOOLS=ON", "LLAMA_CURL=OFF", "LLAMA_OPENSSL=OFF"]
    llama = os.path.join(source, "vendor", "llama.cpp")
    print("building its tools: some minutes", flush=True)
    run(["cmake", "-S", llama, "-B", made, *(f"-D{each}" for each in settings)], 300)
    run(["cmake", "--build", made, "--parallel", str(jobs), "--target", *TOOLS], 3600)


def check_needs(options):
    if not os.path.exists(os.path.join(ROOT, OURS)):
        sys.exit(
            f"{OURS} is missing: cmake --build --preset release --target decoding_peer"
        )
    try:
        import gguf  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as fault:
        sys.exit(f"{fault.name} is missing: pip install gguf")
    for tool in TOOLS:
        if not os.path.exists(os.path.join(options.llama, "build", "bin", tool)):
            sys.exit(f"{tool} is missing: {sys.argv[0]} --llama {options.llama} --build")


# --- The model ---------------------------------------------------------------------------------


def write_model(path, shape, kind):
    """A model of llama.cpp's architecture `llama` with random weights and no vocabulary."""
    import gguf
    import numpy

    V, C, L, H, G, F, P = shape
    E = C // H
    as_type = getattr(gguf.GGMLQuantizationType, kind.upper())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(V)
    writer.add_context_length(P)
    writer.add_embedding_length(C)
    writer.add_block_count(L)
    writer.add_feed_forward_length(F)
    writer.add_head_count(H)
    writer.add_head_count_kv(G)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(E)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("no_vocab")
    random = numpy.random.default_rng(1)

    def matrix(name, outputs, inputs):
        values = random.standard_normal((outputs, inputs), dtype=numpy.float32)
        values *= numpy.float32(inputs**-0.5)
        writer.add_tensor(name, gguf.quants.quantize(values, as_type), raw_dtype=as_type)

    def norm(name):
        writer.add_tensor(name, numpy.ones(C, dtype=numpy.float32))

    matrix("token_embd.weight", V, C)
    for layer in range(L):
        at = f"blk.{layer}."
        norm(at + "attn_norm.weight")
        matrix(at + "attn_q.weight", H * E, C)
        matrix(at + "attn_k.weight", G * E, C)
        matrix(at + "attn_v.weight", G * E, C)
        matrix(at + "attn_output.weight", C, H * E)
        norm(at + "ffn_norm.weight")
        matrix(at + "ffn_gate.weight", F, C)
        matrix(at + "ffn_up.weight", F, C)
        matrix(at + "ffn_down.weight", C, F)
    norm("output_norm.weight")
    matrix("output.weight", V, C)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- Turns -------------------------------------------------------------------------------------


class Ours:
    def __init__(self, kind, options):
        command = [OURS, "--type", kind, "--threads", str(options.threads)]
        self.program = Program("decoding_peer", command, {})
        self.options = options

    def shape(self):
        return [int(word) for word in self.program.ask("shape")[0].split()]

    def rate(self, sequences, drafts):
        """Tokens per second behind fresh prompts."""
        self.program.ask(f"write {sequences} {self.options.context} {drafts}")
        self.program.ask(f"tokens {WARM}")
        return float(self.program.ask(f"tokens {self.options.tokens}")[0])

    def turn(self):
        rates = {str(count): self.rate(count, 0) for count in SEQUENCES}
        rates["speculative"] = self.rate(1, DRAFTS)
        return rates


class Llama:
    def __init__(self, model, options):
        self.model = model
        self.options = options

    def run(self, tool, arguments):
        program = os.path.join(self.options.llama, "build", "bin", tool)
        threads = ["-t", str(self.options.threads)]
        return run([program, "-m", self.model, *threads, *arguments], 300).stdout

    def turn(self):
        tokens, context = str(self.options.tokens), str(self.options.context)
        arguments = ["-p", "0", "-n", tokens, "-d", context, "-r", "1", "-o", "json"]
        rates = {"1": json.loads(self.run(TOOLS[0], arguments))[0]["avg_ts"]}
        several = SEQUENCES[1:]
        room = max(several) * (self.options.tokens + self.options.context)
        arguments = ["-c", str(room), "-b", "2048", "-ub", "512", "--output-format", "jsonl"]
        arguments += ["-npp", context, "-ntg", tokens, "-npl", ",".join(map(str, several))]
        for line in self.run(TOOLS[1], arguments).splitlines():
            if line.startswith("{"):
                answer = json.loads(line)
                rates[str(answer["pl"])] = answer["speed_tg"]
        for count in several:
            if str(count) not in rates:
                sys.exit(f"{TOOLS[1]}: says nothing of {count} sequences")
        return rates


def spread(values):
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def measure(kind, options, deadline):
    """One result for each number of sequences, and one for speculative decoding."""
    ours = Ours(TYPES[kind], options)
    try:
        model = os.path.join(options.llama, f"random_{kind}.gguf")
        if not os.path.exists(model):
            write_model(model + ".part", ours.shape(), kind)
            os.rename(model + ".part", model)
        sides = [("ours", ours), ("llama", Llama(model, options))]
        taken = {"ours": [], "llama": []}
        for number in range(options.rounds):
            if number > 0 and time.monotonic() > deadline:
                print(f"{kind}: ends after {number} rounds, as --seconds says", file=sys.stderr)
                break
            for name, side in sides if number % 2 == 0 else reversed(sides):
                time.sleep(options.pause)  # threads that still wait actively go to sleep
                taken[name].append(side.turn())
    finally:
        ours.program.stop()

    results = []
    for question in [str(count) for count in SEQUENCES] + ["speculative"]:
        theirs = "1" if question == "speculative" else question
        own = [turn[question] for turn in taken["ours"]]
        other = [turn[theirs] for turn in taken["llama"]]
        results.append(
            {
                "type": kind,
                "type_ours": TYPES[kind],
                "sequences": int(theirs),
                "drafts": DRAFTS if question == "speculative" else 0,
                "tokens_per_second_ours": [round(rate, 2) for rate in own],
                "tokens_per_second_llama": [round(rate, 2) for rate in other],
                "ratio_ours_over_llama": spread([a / b for a, b in zip(own, other)]),
            }
        )
        ratio = results[-1]["ratio_ours_over_llama"]
        print(
            f"{kind:<6}{question:<12}{statistics.median(own):>10.1f}"
            f"{statistics.median(other):>12.1f}"
            f"  {ratio['median']:.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})",
            flush=True,
        )
    return results


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama", required=True, help="folder of its source, build and models")
    parser.add_argument("--build", action="store_true", help="fetches and builds it, and ends")
    parser.add_argument("--jobs", type=int, default=1, help="of that build")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--tokens", type=int, default=128, help="of each sequence in a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds before every turn")
    parser.add_argument("--seconds", type=float, default=1200, help="after which no round begins")
    parser.add_argument("--commit", help="default: what git says")
    parser.add_argument("--mode", default="full", help="a word that is written to the output")
    parser.add_argument("--output", help="default: benchmarks/results/decode_vs_llama.json")
    options = parser.parse_args()
    if min(options.rounds, options.threads, options.context, options.tokens) < 1:
        parser.error("--rounds, --threads, --context and --tokens are at least 1")
    options.llama = os.path.abspath(options.llama)
    return options


def main():
    options = parse_arguments()
    if options.build:
        return build(options.llama, options.jobs)
    check_needs(options)
    load = os.getloadavg()
    if load[0] > 0.5:
        print(f"warning: load average {load[0]:.2f}; other work distorts it", file=sys.stderr)
    archives = glob.glob(os.path.join(options.llama, "llama_cpp_python-*.tar.gz"))
    version = os.path.basename(sorted(archives)[-1])[17:-7] if archives else "unknown"
    deadline = time.monotonic() + options.seconds
    print(f"{'type':<6}{'sequences':<12}{'ours /s':>10}{'llama /s':>12}  ours / llama")
    results = [each for kind in options.types for each in measure(kind, options, deadline)]
    arguments = f"-t {options.threads} -n {options.tokens} -d {options.context}"
    report = {
        "benchmark": "decode_vs_llama",
        "mode": options.mode,
        "processor": processor(),
        "logical_processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": [round(x, 2) for x in load],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"ours": options.commit or commit(), PACKAGE: version},
        "commands": {
            "ours": f"{OURS} --type TYPE --threads {options.threads}",
            "llama": f"llama-bench -m MODEL -p 0 {arguments} -r 1",
        },
        "threads": options.threads,
        "context": options.context,
        "tokens": options.tokens,
        "rounds": len(results[0]["tokens_per_second_ours"]),
        "results": results,
    }
    output = options.output or os.path.join(ROOT, "benchmarks/results/decode_vs_llama.json")
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    print(f"\nwritten: {os.path.relpath(output)}")


if __name__ == "__main__":
    main()

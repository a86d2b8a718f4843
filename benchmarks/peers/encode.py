#!/usr/bin/env python3
"""Times encoding of a text by this library against the package tokenizers, which take turns.

Both encode the text line by line on one thread with the same tokenizer.json. Their tokens are
compared before anything is timed. What is missing is named, with the command that brings it.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time

from alternate import ROOT, Program, commit, processor

OURS = "build/release/benchmarks/tokenizer_peer"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def train(path, lines):
    """A byte-level BPE of 8000 tokens with GPT-2's pre-tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(path)


def check_tokens(theirs, ours, lines):
    for number, line in enumerate(lines):
        answer, _ = ours.ask("encode " + line.encode().hex())
        got = [int(each) for each in answer.split()]
        expected = theirs.encode(line).ids
        if got != expected:
            sys.exit(f"line {number + 1}: ours {got}, theirs {expected}")


def measure(theirs, ours, lines, options):
    taken = {"ours": [], "theirs": []}

    def our_turn():
        return float(ours.ask("time")[0].split()[0])

    def their_turn():
        begin = time.perf_counter()
        theirs.encode_batch_fast(lines)
        return time.perf_counter() - begin

    sides = [("ours", our_turn), ("theirs", their_turn)]
    for number in range(options.warmup + options.rounds):
        for name, turn in sides if number % 2 == 0 else reversed(sides):
            time.sleep(options.pause)
            seconds = turn()
            if number >= options.warmup:
                taken[name].append(seconds)
    return taken


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", help="a tokenizer.json; default: trained on the text")
    parser.add_argument("--text", required=True, help="a file in UTF-8")
    parser.add_argument("--ours", default=OURS)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before every turn")
    parser.add_argument("--commit", help="default: what git says")
    parser.add_argument("--mode", default="full", help="a word that is written to the output")
    parser.add_argument("--output", help="default: benchmarks/results/encode_vs_tokenizers.json")
    options = parser.parse_args()
    if options.rounds < 1 or options.warmup < 0:
        parser.error("--rounds is at least 1, --warmup at least 0")
    return options


def main():
    options = parse_arguments()
    try:
        import tokenizers
    except ImportError as fault:
        sys.exit(f"{fault.name} is missing: pip install tokenizers")
    if not os.path.exists(os.path.join(ROOT, options.ours)):
        sys.exit(f"{options.ours} is missing: cmake --build --preset release --target tokenizer_peer")
    load = os.getloadavg()
    if load[0] > 0.5:
        print(f"warning: load average {load[0]:.2f}; other work distorts it", file=sys.stderr)
    with open(options.text, encoding="utf-8", newline="") as file:
        text = file.read()
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    size = len(text.encode())
    with tempfile.TemporaryDirectory() as folder:
        path = options.tokenizer
        if not path:
            path = os.path.join(folder, "tokenizer.json")
            train(path, lines)
        theirs = tokenizers.Tokenizer.from_file(path)
        ours = Program("ours", [os.path.join(ROOT, options.ours), os.path.abspath(path)], {})
        check_tokens(theirs, ours, lines)
        ours.ask("text " + os.path.abspath(options.text))
        taken = measure(theirs, ours, lines, options)
        ours.stop()

    ratios = [b / a for a, b in zip(taken["ours"], taken["theirs"])]
    rates = {name: [size / each / 1e6 for each in all_] for name, all_ in taken.items()}
    print(f"ours   {statistics.median(rates['ours']):8.1f} MB/s")
    print(f"theirs {statistics.median(rates['theirs']):8.1f} MB/s")
    print(f"ratio  {statistics.median(ratios):8.2f} ({min(ratios):.2f} .. {max(ratios):.2f})")
    report = {
        "benchmark": "encode_vs_tokenizers",
        "mode": options.mode,
        "processor": processor(),
        "logical_processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": [round(x, 2) for x in load],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"ours": options.commit or commit(), "tokenizers": tokenizers.__version__},
        "commands": {"ours": f"{options.ours} TOKENIZER", "theirs": "encode_batch_fast(lines)"},
        "tokenizer": os.path.basename(options.tokenizer or "trained on the text"),
        "bytes": size,
        "warmup_rounds": options.warmup,
        "rounds": options.rounds,
        "megabytes_per_second_ours": [round(each, 2) for each in rates["ours"]],
        "megabytes_per_second_theirs": [round(each, 2) for each in rates["theirs"]],
        "ratio_ours_over_theirs": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
    }
    output = options.output or os.path.join(ROOT, "benchmarks/results/encode_vs_tokenizers.json")
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    print(f"\nwritten: {os.path.relpath(output)}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times encoding of a text by this library against the package tokenizers, which take turns.

Both encode the text line by line on one thread with the same tokenizer.json. Their tokens are
compared before anything is timed. What is missing is named, with the command that brings it.
"""

import argparse
import os
import sys
import tempfile
import time

import turns
from alternate import ROOT, Program

OURS = "build/release/benchmarks/tokenizer_peer"
OUTPUT = "benchmarks/results/encode_vs_tokenizers.json"
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


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", help="a tokenizer.json; default: trained on the text")
    parser.add_argument("--text", required=True, help="a file in UTF-8")
    parser.add_argument("--ours", default=OURS)
    turns.add_arguments(parser, OUTPUT)
    return turns.parse(parser)


def main():
    options = parse_arguments()
    try:
        import tokenizers
    except ImportError as fault:
        sys.exit(f"{fault.name} is missing: pip install tokenizers")
    if not os.path.exists(os.path.join(ROOT, options.ours)):
        sys.exit(f"{options.ours} is missing: cmake --build --preset release --target tokenizer_peer")
    load = turns.warn_of_load()
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

        def our_turn():
            return float(ours.ask("time")[0].split()[0])

        def their_turn():
            begin = time.perf_counter()
            theirs.encode_batch_fast(lines)
            return time.perf_counter() - begin

        taken = turns.take(our_turn, their_turn, options)
        ours.stop()
    details = {
        "versions": {"tokenizers": tokenizers.__version__},
        "commands": {"ours": f"{options.ours} TOKENIZER", "theirs": "encode_batch_fast(lines)"},
        "tokenizer": os.path.basename(options.tokenizer or "trained on the text"),
    }
    turns.report("encode_vs_tokenizers", taken, size, load, options, details, OUTPUT)


if __name__ == "__main__":
    main()

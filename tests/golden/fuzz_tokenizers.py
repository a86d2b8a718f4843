#!/usr/bin/env python3
"""Compares the tokens of this library with those of the package tokenizers on random texts.

    pip install tokenizers
    cmake --build --preset release --target tokenizer_peer
    python3 tests/golden/fuzz_tokenizers.py [--texts N] [--seed N] [TOKENIZER_JSON...]

Without files it takes those of tests/golden/tokenizers. Texts are made of what is hard: words of the
vocabulary, added tokens, white space, contractions, characters of all planes. Characters that
Unicode 15.0 does not assign are left out, since the package has a later version. The first text that
differs is shortened and printed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import unicodedata

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "tests", "golden", "tokenizers")
PARTS = ["'s", "'T", "'Re", "'ll", "'\u017f", "'", " ", "  ", "\n", "\r\n", "\r", "\t", "\u00a0", "\u3000"]
PARTS += ["\u2028", "\u0085", "a", "Z", "\u00e9", "e\u0301", "1", "12", "\u00bd", "\u0967", ".", "!?", "_"]
PARTS += ["-", "\u4e2d", "\u3042", "\u30fb", "\u30fc", "\u309b", "\u0e48", "\u093f", "\u0915", "\ud55c"]
PARTS += ["\u1100", "\u1161", "\u11a8", "\u20ac", "\u200d", "\u200b", "\ufeff", "\x00", "\x1b", "\U0001f44d"]
PARTS += ["\u00ad", "\ue000", "\ufb06", "\u212a", "\u0130", "\u0345", "\u0323", "\u0302"]


def full(name):
    """The text of a file of tests/golden/tokenizers, with its vocabulary in it."""
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(FOLDER, "model.json"), encoding="utf-8") as file:
        model = json.load(file)
    with open(os.path.join(FOLDER, "characters.json"), encoding="utf-8") as file:
        text = text.replace('"@characters"', file.read())
    text = text.replace('"@model"', json.dumps(model))
    return text.replace('"@ignore_merges"', json.dumps({**model, "ignore_merges": True}))


def random_text(random_, words, added):
    def part():
        kind = random_.random()
        if kind < 0.45:
            return random_.choice(PARTS)
        if kind < 0.7:
            return random_.choice(words)
        if kind < 0.8 and added:
            return random_.choice(added)
        while True:
            limit = random_.choice([0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000])
            character = chr(random_.randrange(limit))
            if unicodedata.category(character) not in ("Cn", "Cs"):
                return character

    return "".join(part() for _ in range(random_.randrange(1, 24)))


class Peer:
    def __init__(self, program, path):
        self.process = subprocess.Popen(
            [program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            sys.exit("the peer has ended")
        answer = self.process.stdout.readline()
        if not answer and command != "quit":
            sys.exit("the peer ended instead of answering")
        return answer.strip()

    def encode(self, text):
        return [int(each) for each in self.ask("encode " + text.encode().hex()).split()]


def shortened(text, differs):
    i = 0
    while i < len(text):
        less = text[:i] + text[i + 1 :]
        if differs(less):
            text = less
        else:
            i += 1
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--texts", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peer", default="build/release/benchmarks/tokenizer_peer")
    options = parser.parse_args()
    try:
        import tokenizers
    except ImportError as fault:
        sys.exit(f"{fault.name} is missing: pip install tokenizers")
    program = os.path.join(ROOT, options.peer)
    if not os.path.exists(program):
        sys.exit(f"{options.peer} is missing: cmake --build --preset release --target tokenizer_peer")
    ours = [name for name in sorted(os.listdir(FOLDER)) if os.path.exists(os.path.join(FOLDER, name[:-5] + ".ids"))]
    bad = 0
    for path in options.files or ours:
        made = None
        if path in ours:
            made = os.path.join(ROOT, "build", "fuzz-" + path)
            os.makedirs(os.path.dirname(made), exist_ok=True)
            with open(made, "w", encoding="utf-8") as file:
                file.write(full(path))
        theirs = tokenizers.Tokenizer.from_file(made or path)
        peer = Peer(program, made or path)
        words = [theirs.decode([i], skip_special_tokens=False) for i in range(theirs.get_vocab_size())]
        words = [each for each in words if "\ufffd" not in each] or ["a"]
        added = [each.content for each in theirs.get_added_tokens_decoder().values()]
        random_ = random.Random(options.seed)

        def differs(text):
            # The package's own tables of normalization are older: marks of Unicode 14 stay unordered.
            if type(theirs.normalizer) is tokenizers.normalizers.NFC and (
                theirs.normalizer.normalize_str(text) != unicodedata.normalize("NFC", text)
            ):
                return False
            return peer.encode(text) != theirs.encode(text).ids

        for _ in range(options.texts):
            text = random_text(random_, words, added)
            if differs(text):
                text = shortened(text, differs)
                print(f"{path}: {text!r}\n  ours   {peer.encode(text)}\n  theirs {theirs.encode(text).ids}")
                bad += 1
                break
        else:
            print(f"{path}: {options.texts} texts have the same tokens", flush=True)
        peer.ask("quit")
        if made:
            os.remove(made)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What the tests of tokenizers are compared with: made by the packages tokenizers and tiktoken.

    pip install tokenizers tiktoken
    python3 tests/golden/tokenizer_vectors.py

Trains a byte-level BPE of 500 tokens on the texts below without cutting them into pieces, so that
merges cross every border a pre-tokenizer may draw, and writes to tests/golden/tokenizers:

    <name>.json       a tokenizer.json for each pre-tokenizer, all with that vocabulary
    texts.json        texts that are hard to cut
    <name>.ids        their tokens, a line for each text
    small.tiktoken    the same vocabulary as ranks; cl100k.ids has tiktoken's tokens
    trained_on.txt    a text, and in trained.txt the merges of 400 tokens trained on it

The vocabulary stands in model.json; a <name>.json has "@model" in its place. prepend, metaspace, always and bare
are tokenizers whose merges begin with characters, with the vocabulary of characters.json.
"""

import base64
import json
import os
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")

EITHER = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = EITHER + r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACE
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN3_5 = (
    EITHER
    + r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
    + SPACE
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def splits(*patterns):
    parts = [
        {"type": "Split", "pattern": {"Regex": each}, "behavior": "Isolated", "invert": False}
        for each in patterns
    ]
    return {"type": "Sequence", "pretokenizers": parts + [byte_level(False)]}


DIGITS = {"type": "Digits", "individual_digits": True}
PRETOKENIZERS = {
    "none": byte_level(False),
    "gpt2": byte_level(True),
    "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, byte_level(True)]},
    "llama3": splits(LLAMA3),
    "qwen2": splits(QWEN2),
    "qwen3_5": splits(QWEN3_5),
    "deepseek_v3": splits(*DEEPSEEK),
}
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
WITH_NFC = ["qwen2", "qwen3_5"]

TRAINED_ON = (
    "It's what we'll've said: don't, I'm, they're; IT'S. 'S 12 123 1234 12345 007\n"
    "  two  spaces,\t\ttabs\r\n\r\n\n and   lines \n \n  . .. ... ----- ___ ==== (a) [b] {c} \"q\"\n"
    "der Straße, naïve café, über, Ελληνικά, русский язык, हिन्दी भाषा, தமிழ், ไทย, العربية, עברית\n"
    "日本語のテキスト、カタカナ・ひらがな。中文测试,한국어 문장.  2024年1月 x²+y³=½ Ⅷ ①② €5 £6 ¥7\n"
    "int main(int argc, char** argv) { return argc > 1 ? 0 : -1; }  // a->b, c::d, #e, @f, $g\n"
    "👍🏽 👨‍👩‍👧 🇩🇪 ☺️ →←↑ ≤≥≠ «»„“”‘’…—–\u00a0\u3000\u2028\u200b\ufeff end\n"
)

TEXTS = [
    "",
    " ",
    "  ",
    "   a",
    "a   ",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    " \n  \n   x",
    "\t\tx\t",
    "\r\n\r\n",
    "a\r\nb\rc\nd",
    "a \r\n  b",
    "...\n\n\n...",
    " ...\r\n x",
    "a \u00a0 b",
    "\u3000\u3000x",
    "\u2028\u2029 y",
    "a\u0085b",
    "It's I'm we'll they've you're he'd can't",
    "IT'S I'M WE'LL THEY'VE YOU'RE HE'D CAN'T",
    "it'\u017f ''s 'x 's'S 'lL",
    "'sunny 'rest 'dream",
    "1 12 123 1234 12345 1234567890",
    "a1b22c333",
    "1  2   3",
    "a  1",
    "3.14 -1 +2 1,000 10%",
    "½ x² Ⅷ ①② ٣٤٥ १२३",
    "word_word __init__ a-b",
    "(a)[b]{c}<d>",
    "#include <a.h>\n\tx->y::z",
    "!abc !!abc !1",
    " ,a .b ;c",
    "café cafe\u0301 CAFE\u0301",
    "\u0301a \u0301",
    "A\u030a \u212b \u212a",
    "e\u0323\u0302 e\u0302\u0323 \u1ec7",
    "\u1100\u1161\u11a8 \uac00\u11a8 각",
    "\u0958 \u0915\u093c \u0b47\u0b3e",
    "हिन्दी भाषा क्षत्रिय",
    "தமிழ் மொழி",
    "ภาษาไทย ที่นี่",
    "العربيّة مُحَمَّد",
    "עִבְרִית",
    "日本語のテキスト、カタカナ・ー゛。",
    "中文123测试abc",
    "中 文  x",
    "한국어 문장",
    "ꙮ 𝔘𝔫𝔦 𐍈 𠀀",
    "👍🏽👨‍👩‍👧 🇩🇪☺️",
    " 👍 \u200d\u200b\ufeff",
    "a\u0000b\u0001c \u0007\u001b[0m",
    "\u00ad\u2060x \ue000y \U000f0000",
    "€5£6¥7 $8",
    "“quotes” ‘x’ — – …",
    "<|end|> <|end|>x <|END|>",
    "a<|end|>  b  <tag> c<tag>d",
    "word in words sword keyword word",
    "a  <l>  b <r>  c",
    "<|end|><|en<|end|>",
]

# Of characters: normalizer, pre-tokenizer, and whether decoding drops the first space. Llama 2 before and after
# its "legacy" flag, and Gemma.
MARK = "\u2581"
TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": MARK}, TO_MARK]}


def metaspace(scheme):
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": False}


CHARACTERS = {
    "prepend": (PREPEND, None, True),
    "metaspace": (None, metaspace("first"), True),
    "always": (None, metaspace("always"), True),
    "bare": (TO_MARK, None, False),
}

ADDED = [
    ("<|end|>", {"special": True}),
    ("<tag>", {"normalized": True}),
    ("word", {"single_word": True}),
    ("<l>", {"lstrip": True}),
    ("<r>", {"rstrip": True}),
    ("CAFE\u0301", {"normalized": True}),
]


def main():
    try:
        import tiktoken
        import tokenizers
    except ImportError as fault:
        sys.exit(f"{fault.name} is missing: pip install tokenizers tiktoken")
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, min_frequency=1, initial_alphabet=alphabet, max_token_length=6, show_progress=False
    )
    plain = [text for text in TEXTS if not any(content in text for content, _ in ADDED)]
    trained.train_from_iterator(TRAINED_ON.splitlines(keepends=True) + plain * 2, trainer)
    model = json.loads(trained.to_str())["model"]
    os.makedirs(FOLDER, exist_ok=True)

    def write(name, value, **options):
        with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=True, **options)
            file.write("\n")

    def write_ids(name, encode):
        with open(os.path.join(FOLDER, name + ".ids"), "w", encoding="ascii") as ids:
            for text in TEXTS:
                ids.write(" ".join(map(str, encode(text))) + "\n")

    write("model.json", model, separators=(",", ":"))
    write("texts.json", TEXTS, indent=0)
    added = []
    for i, (content, flags) in enumerate(ADDED):
        token = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
        added.append({"id": len(model["vocab"]) + i, "content": content, **token, **flags})
    end = len(model["vocab"])
    for name, pretokenizer in PRETOKENIZERS.items():
        file = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "NFC"} if name in WITH_NFC else None,
            "pre_tokenizer": pretokenizer,
            "post_processor": byte_level(False),
            "decoder": byte_level(True),
            "model": model,
        }
        if name == "llama3":
            file["post_processor"] = {
                "type": "Sequence",
                "processors": [
                    byte_level(False),
                    {
                        "type": "TemplateProcessing",
                        "single": [
                            {"SpecialToken": {"id": "<|end|>", "type_id": 0}},
                            {"Sequence": {"id": "A", "type_id": 0}},
                        ],
                        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                        "special_tokens": {
                            "<|end|>": {"id": "<|end|>", "ids": [end], "tokens": ["<|end|>"]}
                        },
                    },
                ],
            }
            file["model"] = {**model, "ignore_merges": True}
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
        write_ids(name, lambda text: tokenizer.encode(text).ids)
        file["model"] = "@ignore_merges" if name == "llama3" else "@model"
        write(name + ".json", file, separators=(",", ":"))

    def write_characters():
        trained = tokenizers.Tokenizer(tokenizers.models.BPE())
        trained.normalizer = tokenizers.normalizers.Replace(" ", MARK)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=240, min_frequency=1, limit_alphabet=120, max_token_length=6, show_progress=False
        )
        trained.train_from_iterator(TRAINED_ON.splitlines(keepends=True) + plain * 2, trainer)
        learned = json.loads(trained.to_str())["model"]
        fixed = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
        vocab = {text: i for i, text in enumerate(fixed + sorted(learned["vocab"], key=learned["vocab"].get))}
        model = {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": learned["merges"],
        }
        write("characters.json", model, separators=(",", ":"))
        flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized", "special"], False)
        added = [{"id": i, "content": text, **flags, "special": True} for i, text in enumerate(fixed[:3])]
        added.append({"id": len(vocab), "content": "<|end|>", **flags, "special": True})
        added.append({"id": len(vocab) + 1, "content": "<tag>", **flags, "normalized": True})
        for name, (normalizer, pretokenizer, strips) in CHARACTERS.items():
            to_space = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
            decoders = [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}]
            if strips:
                decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
            file = {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": added,
                "normalizer": normalizer,
                "pre_tokenizer": pretokenizer,
                "post_processor": {
                    "type": "TemplateProcessing",
                    "single": [
                        {"SpecialToken": {"id": "<s>", "type_id": 0}},
                        {"Sequence": {"id": "A", "type_id": 0}},
                    ],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
                },
                "decoder": {"type": "Sequence", "decoders": decoders},
                "model": model,
            }
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
            write_ids(name, lambda text: tokenizer.encode(text).ids)
            with open(os.path.join(FOLDER, name + ".decoded.json"), "w", encoding="utf-8") as decoded:
                ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
                json.dump([tokenizer.decode(each, skip_special_tokens=False) for each in ids], decoded, indent=0)
                decoded.write("\n")
            file["model"] = "@characters"
            write(name + ".json", file, separators=(",", ":"))

    write_characters()

    # GPT-2's table: bytes that Latin-1 shows stand for themselves, the others for U+0100 and on.
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    of_character = {chr(byte): byte for byte in shown}
    of_character.update((chr(0x100 + i), byte) for i, byte in enumerate(hidden))
    if set(of_character) != set(alphabet):
        sys.exit("the table of bytes is not the package's")

    def bytes_of(token):
        return bytes(of_character[each] for each in token)

    ranks = {bytes_of(token): rank for token, rank in model["vocab"].items()}
    with open(os.path.join(FOLDER, "small.tiktoken"), "w", encoding="ascii") as file:
        for token, rank in sorted(ranks.items(), key=lambda each: each[1]):
            file.write(f"{base64.b64encode(token).decode()} {rank}\n")
    encoding = tiktoken.Encoding("small", pat_str=CL100K, mergeable_ranks=ranks, special_tokens={})
    write_ids("cl100k", lambda text: encoding.encode(text, disallowed_special=()))

    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, min_frequency=0, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([TRAINED_ON], trainer)
    with open(os.path.join(FOLDER, "trained_on.txt"), "w", encoding="utf-8", newline="") as file:
        file.write(TRAINED_ON)
    with open(os.path.join(FOLDER, "trained.txt"), "w", encoding="utf-8") as file:
        for left, right in json.loads(trained.to_str())["model"]["merges"]:
            file.write(f"{left} {right}\n")


if __name__ == "__main__":
    main()

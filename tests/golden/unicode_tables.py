#!/usr/bin/env python3
"""Writes the headers unicode_class_table.hpp and unicode_composition_table.hpp.

    python3 tests/golden/unicode_tables.py FOLDER

FOLDER holds the files of the Unicode Character Database: /usr/share/unicode of Debian's package
unicode-data. Needs nothing but Python.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEADERS = os.path.join(ROOT, "include", "mtp", "io", "tokenizer")
CODE_POINTS = 0x110000
WIDTH = 100

# The numbers of character_class.
OTHER, LETTER, MARK, NUMBER, PUNCTUATION, SYMBOL, SPACE = range(7)
BY_CATEGORY = {"L": LETTER, "M": MARK, "N": NUMBER, "P": PUNCTUATION, "S": SYMBOL}
WORD = 8  # the bit behind them


def version_of(folder):
    with open(os.path.join(folder, "PropList.txt"), encoding="utf-8") as file:
        return re.match(r"# PropList-(\d+\.\d+)", file.readline()).group(1)


def ranges_of(path, prop):
    with open(path, encoding="utf-8") as file:
        for line in file:
            fields = [each.strip() for each in line.split("#")[0].split(";")]
            if len(fields) > 1 and fields[1] == prop:
                first, _, last = fields[0].partition("..")
                yield int(first, 16), int(last or first, 16)


def read_characters(folder):
    """Category, combining class and canonical decomposition of each code point."""
    category = ["Cn"] * CODE_POINTS
    combining, decomposition = {}, {}
    begun = None
    with open(os.path.join(folder, "UnicodeData.txt"), encoding="utf-8") as file:
        for line in file:
            fields = line.split(";")
            code = int(fields[0], 16)
            if fields[1].endswith(", First>"):
                begun = code
            for each in range(begun if fields[1].endswith(", Last>") else code, code + 1):
                category[each] = fields[2]
            if fields[3] != "0":
                combining[code] = int(fields[3])
            if fields[5] and not fields[5].startswith("<"):
                decomposition[code] = [int(each, 16) for each in fields[5].split()]
    return category, combining, decomposition


def runs(values):
    """(first code point, value) wherever the value changes."""
    before = None
    for code, value in enumerate(values):
        if value != before:
            yield code, value
            before = value


def array(kind, name, numbers):
    lines, line = [], " "
    for number in numbers:
        text = f" {number:#x},"
        if len(line) + len(text) > WIDTH:
            lines.append(line)
            line = " "
        line += text
    lines.append(line)
    return f"inline constexpr {kind} {name}[] = {{\n" + "\n".join(lines) + "\n};\n"


def header(purpose, body, version):
    return (
        f"// {purpose}, of Unicode {version}.\n"
        "// Written by tests/golden/unicode_tables.py.\n"
        "#pragma once\n\n#include <cstdint>\n\n"
        '#include "mtp/core/config.hpp"\n\n'
        "namespace mtp::inline MTP_ABI::io::detail {\n\n"
        f"// clang-format off\n{body}// clang-format on\n\n"
        "}  // namespace mtp::inline MTP_ABI::io::detail\n"
    )


def write(name, text):
    with open(os.path.join(HEADERS, name), "w", encoding="ascii") as file:
        file.write(text)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = sys.argv[1]
    version = version_of(folder)
    category, combining, decomposition = read_characters(folder)

    classes = [BY_CATEGORY.get(each[0], OTHER) for each in category]
    # \w of the Rust crate regex: Alphabetic, Mark, Nd, Pc, Join_Control.
    word = [each[0] == "M" or each in ("Nd", "Pc") for each in category]
    for first, last in ranges_of(os.path.join(folder, "DerivedCoreProperties.txt"), "Alphabetic"):
        word[first : last + 1] = [True] * (last + 1 - first)
    properties = os.path.join(folder, "PropList.txt")
    for first, last in ranges_of(properties, "Join_Control"):
        word[first : last + 1] = [True] * (last + 1 - first)
    for first, last in ranges_of(properties, "White_Space"):
        classes[first : last + 1] = [SPACE] * (last + 1 - first)
    values = [each | (WORD if is_word else 0) for each, is_word in zip(classes, word)]
    marks = [combining.get(code, 0) for code in range(CODE_POINTS)]
    write(
        "unicode_class_table.hpp",
        header(
            "Classes and canonical combining classes of all code points",
            "// First code point times 16, plus 8 for a character of words, plus its character_class;\n"
            "// the same up to the next.\n"
            + array("std::uint32_t", "class_runs", [c << 4 | v for c, v in runs(values)])
            + "\n// First code point times 256, plus the combining class; the same up to the next.\n"
            + array("std::uint32_t", "combining_runs", [c << 8 | v for c, v in runs(marks)]),
            version,
        ),
    )

    excluded = set()
    normalization = os.path.join(folder, "DerivedNormalizationProps.txt")
    for first, last in ranges_of(normalization, "Full_Composition_Exclusion"):
        excluded.update(range(first, last + 1))
    single = {c: d[0] for c, d in decomposition.items() if len(d) == 1}
    pairs = {c: d for c, d in decomposition.items() if len(d) == 2}
    write(
        "unicode_composition_table.hpp",
        header(
            "Canonical decompositions",
            "// A code point times 2^20, plus the only one that it decomposes to.\n"
            + array("std::uint64_t", "single_decompositions", [c << 20 | d for c, d in single.items()])
            + "\n// A code point times 2^40, plus the two that it decomposes to; bit 63 if these do not compose.\n"
            + array(
                "std::uint64_t",
                "pair_decompositions",
                [(c in excluded) << 63 | c << 40 | d[0] << 20 | d[1] for c, d in pairs.items()],
            ),
            version,
        ),
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# The program in README.md is examples/language_model.cpp, which is built and run as a test.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
readme=$MTP_SOURCE_DIR/README.md
program=$MTP_SOURCE_DIR/examples/language_model.cpp

blocks=$(awk '$0 == "```cpp"' "$readme" | wc -l)
if [[ $blocks != 1 ]]; then
  echo "expected one block of C++ in README.md, found $blocks" >&2
  exit 1
fi
if ! diff -u --label README.md --label examples/language_model.cpp \
  <(awk '/^```/ { inside = ($0 == "```cpp"); next } inside' "$readme") "$program"; then
  echo "the program in README.md is not examples/language_model.cpp" >&2
  exit 1
fi

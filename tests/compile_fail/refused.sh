#!/usr/bin/env bash
# Compiles the wrong half of a file of this folder. It must be refused, and the compiler's first
# error must be the sentence that the file's first comment expects.
#
#   refused.sh FILE COMPILER [OPTION...]
set -euo pipefail

file=$1
shift

fail() {
  printf '%s: %s\n' "$file" "$*" >&2
  exit 1
}

expected=$(awk '!/^\/\/ / { exit } { sub(/^\/\/ /, ""); printf "%s%s", (NR > 1 ? " " : ""), $0 }' "$file")
[[ $expected == "expects: "* ]] || fail "must begin with '// expects: ' and a sentence"
expected=${expected#expects: }
[[ $expected =~ ^[a-z][a-z_:/.]*(\(\))?:\ .*[^.]$ ]] ||
  fail "a message begins with the name of what refuses, and has no full stop: $expected"

output=$(mktemp)
trap 'rm -f "$output"' EXIT
if LC_ALL=C "$@" -DMTP_KO -fsyntax-only "$file" >"$output" 2>&1; then
  fail "the wrong half compiles"
fi

# What compilers put around a message of ours: a quote, a colon, the name of a warning.
first=$(grep -m 1 'error: ' "$output" || true)
before=${first%%"$expected"*}
behind=${first#*"$expected"}
if [[ $before == "$first" || ! $before =~ (error|failed|attribute|"'nodiscard'"):\ \'?$|\"$|'#error '$ ||
  ! $behind =~ ^[\"\'.]?(\ \[-W.*\])?$ ]]; then
  cat "$output" >&2
  fail "expected the first error to be: $expected"
fi

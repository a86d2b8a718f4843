#!/usr/bin/env bash
# The picture of the floors is what the headers say, and what draws it notices headers that break a rule.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
cd "$MTP_SOURCE_DIR"

scripts/draw_architecture --check

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/docs"
cp -r scripts include "$scratch"
cp -r docs/pictures "$scratch/docs"

# refused WHAT WORDS: the copy is refused with these words, and is as before then
refused() {
  local message
  if message=$("$scratch/scripts/draw_architecture" --check 2>&1); then
    echo "$1 was not noticed" >&2
    exit 1
  fi
  [[ $message == *"$2"* ]] || { echo "$1: expected '$2', got: $message" >&2 && exit 1; }
  rm -r "$scratch/include" "$scratch/docs/pictures"
  cp -r include "$scratch"
  cp -r docs/pictures "$scratch/docs"
}

echo '#include "mtp/train/dataset.hpp"' >>"$scratch/include/mtp/core/error.hpp"
refused "an include that goes up" "of floor 0 includes mtp/train/dataset.hpp of floor 4"

echo '#include "mtp/train/dataset.hpp"' >>"$scratch/include/mtp/decode/generate.hpp"
refused "an include that the picture does not show" "is not what the headers say"

sed -i 's/accept_drafts/take_drafts/' "$scratch/include/mtp/ops/sequence.hpp"
refused "a step that has another name" "has no accept_drafts"

sed -i -E '/ops\/(sequence|accept_typical|choose_tokens|best_tokens|reject_drafts|tree).hpp/d' "$scratch"/include/mtp/{decode,model}/*.hpp "$scratch"/include/mtp/model/{heads,layers}/*.hpp
refused "a step that nothing includes" "does not lead to mtp/ops/sequence.hpp"

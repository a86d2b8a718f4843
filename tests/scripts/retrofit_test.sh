#!/usr/bin/env bash
# scripts/retrofit with a small checkpoint of transformers and a tokenizer of a few letters: a killed run goes on
# where it stood, what it writes is a checkpoint that scripts/generate drafts with, and what is wrong is said.
set -euo pipefail

cd "${MTP_SOURCE_DIR:?}"
# shellcheck source-path=SCRIPTDIR source=letters_tokenizer.sh
source tests/scripts/letters_tokenizer.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GENERATE_CACHE=$scratch/cache CMAKE_BUILD_TYPE=None # neither optimization nor what a debugger reads: the fastest to compile
failures=0
failure() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

folder="$scratch/a checkpoint"
cp -r tests/io/pretrained/data/smollm2 "$folder"
letters_tokenizer >"$folder/tokenizer.json"
mkdir "$scratch/texts"
for page in mtp decoding numerics; do
  tr '[:upper:]' '[:lower:]' <"docs/$page.md" | tr -cs '[:lower:]' ' ' >"$scratch/texts/$page.txt"
done

# retrofit NAME ARGUMENT...: what it says in NAME.log
retrofit() {
  local name=$1
  shift
  scripts/retrofit --type f32 --positions 64 --depth 2 "$folder" "$@" >"$scratch/$name.log" 2>&1
}
settings=(--length 24 --held-out 10 --vocabulary 12 --steps 40 --every 20 --minutes 0 --compare 2 --compare-tokens 20)

retrofit first "$scratch/texts" --out "$scratch/out" "${settings[@]}" --tokens 9000 || failure "the first run: $(cat "$scratch/first.log")"
[[ $(grep -c "; identical" "$scratch/first.log") == 4 ]] || failure "not all texts were compared: $(cat "$scratch/first.log")"
grep -q "step *40," "$scratch/first.log" || failure "it did not train: $(cat "$scratch/first.log")"
grep -q '"num_nextn_predict_layers": 2' "$scratch/out/config.json" || failure "config.json has no head"

scripts/generate --type f32 --positions 64 "$scratch/out" "the cat sat" --max-tokens 20 --compare \
  >"$scratch/text" 2>"$scratch/generate.log" || failure "the new checkpoint: $(cat "$scratch/generate.log")"
grep -q "drafts accepted: .*" "$scratch/generate.log" || failure "nothing was drafted: $(cat "$scratch/generate.log")"
grep -q "speed-up .*, identical" "$scratch/generate.log" || failure "the texts differ"

# The hidden states of another head on the same text are the same, and are there.
retrofit again "$scratch/texts" --out "$scratch/again" --states "$scratch/out.states" "${settings[@]}" --tokens 9000 \
  --loss cross-entropy ||
  failure "the second run: $(cat "$scratch/again.log")"
grep -q "rows are there already" "$scratch/again.log" || failure "hidden states were computed again"

# refused NAME WORDS ARGUMENT...
refused() {
  local name=$1 words=$2
  shift 2
  if retrofit "$name" "$@"; then
    failure "$name was not refused"
  elif ! grep -qF -e "$words" "$scratch/$name.log"; then
    failure "$name: expected '$words', got $(cat "$scratch/$name.log")"
  fi
}
refused there "holds a checkpoint already" "$scratch/texts" --out "$scratch/out" "${settings[@]}"
refused foreign "is of another text" "$scratch/texts/mtp.txt" --out "$scratch/new" --states "$scratch/out.states" "${settings[@]}"
printf 'x' | dd of="$scratch/out.states" bs=1 seek=9000 conv=notrunc status=none
refused damaged "is damaged in block 0" "$scratch/texts" --out "$scratch/new" --states "$scratch/out.states" "${settings[@]}" --tokens 9000
refused short "expected a text of more than 10 sequences" "$scratch/texts" --out "$scratch/new" "${settings[@]}" --tokens 100
refused nothing "--out is required" "$scratch/texts"
((failures == 0))

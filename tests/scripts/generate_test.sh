#!/usr/bin/env bash
# scripts/generate with a small GGUF file and with the folder that it becomes: the program is compiled once, drafts or
# not change nothing, and what is wrong is said.
set -euo pipefail

cd "${MTP_SOURCE_DIR:?}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GENERATE_CACHE=$scratch/cache CMAKE_BUILD_TYPE=None # neither optimization nor what a debugger reads: the fastest to compile
failures=0
failure() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

cp tests/golden/gguf/tiny.gguf "$scratch/a model.gguf"
folder="$scratch/a checkpoint"

# write NAME ARGUMENT...: the text in NAME.out, figures in NAME.err
write() {
  local name=$1
  shift
  scripts/generate --type f32 --positions 64 "$@" >"$scratch/$name.out" 2>"$scratch/$name.err"
}
log() { cat "$scratch"/cache/*-f32-64/log; }

# ---- a GGUF file --------------------------------------------------------------------------------
# Its text is that of tests/golden/gguf/tiny.py.
write gguf "$scratch/a model.gguf" "the cat sat" --max-tokens 20 || failure "a GGUF file: $(cat "$scratch/gguf.err")"
log | grep -q "Building CXX" || failure "nothing was compiled"
[[ $(cat "$scratch/gguf.out") == yboooyyyyoftxfdxhrwf ]] || failure "the GGUF file wrote $(cat "$scratch/gguf.out")"
cp -r "$scratch"/cache/gguf-*-f32 "$folder"
touch "$scratch/cache/converted"
write gguf_again "$scratch/a model.gguf" "the cat sat" --max-tokens 20 || failure "a GGUF file again"
cmp -s "$scratch/gguf.out" "$scratch/gguf_again.out" || failure "the same GGUF file wrote another text"
[[ -z $(find "$scratch"/cache/gguf-* -newer "$scratch/cache/converted") ]] || failure "it was converted again"

# ---- a chat -------------------------------------------------------------------------------------
# Its template puts a message between <s> and </s>; those of a message itself would be letters, which have no tokens.
write chat "$scratch/a model.gguf" "the cat" --chat --max-tokens 20 || failure "a chat: $(cat "$scratch/chat.err")"
write special "$scratch/a model.gguf" "<s>the cat</s>" --special --max-tokens 20 || failure "special tokens"
cmp -s "$scratch/chat.out" "$scratch/special.out" || failure "the chat wrote $(cat "$scratch/chat.out")"
write system "$scratch/a model.gguf" "cat" --chat --system "the" --max-tokens 20 || failure "a chat with two messages"
write special "$scratch/a model.gguf" "<s>the</s><s>cat</s>" --special --max-tokens 20 || failure "special tokens"
cmp -s "$scratch/system.out" "$scratch/special.out" || failure "the longer chat wrote $(cat "$scratch/system.out")"

# ---- a folder -----------------------------------------------------------------------------------

write first "$folder" "the cat sat" --max-tokens 20 --compare ||
  failure "the first text: $(cat "$scratch/first.err")"
grep -q "speed-up .*, identical" "$scratch/first.err" || failure "nothing was compared: $(cat "$scratch/first.err")"
grep -qE '^[a-z ]*$' "$scratch/first.out" || failure "what is no token was written: $(cat "$scratch/first.out")"
[[ $(wc -c <"$scratch/first.out") -gt 5 ]] || failure "there is no text"

write second "$folder" "the cat sat" --max-tokens 20 --plain || failure "the second text"
log | grep -q "Building CXX" && failure "it was compiled again"
cmp -s "$scratch/first.out" "$scratch/second.out" || failure "the same command wrote another text"

# The parameters may stay in a file, which is made once.
write mapped "$folder" "the cat sat" --max-tokens 20 --mapped "$scratch/a model.mapped" || failure "a mapped model: $(cat "$scratch/mapped.err")"
grep -q "was written" "$scratch/mapped.err" || failure "the mapped file was not written"
cmp -s "$scratch/first.out" "$scratch/mapped.out" || failure "the mapped model wrote another text"
write mapped "$folder" "the cat sat" --max-tokens 20 --mapped "$scratch/a model.mapped" || failure "a mapped model again"
grep -q "was written" "$scratch/mapped.err" && failure "the mapped file was written again"
cmp -s "$scratch/first.out" "$scratch/mapped.out" || failure "the mapped model wrote another text the second time"
write fp8 "$folder" "the cat sat" --max-tokens 20 --fp8 || failure "a checkpoint without FP8 read with --fp8"
cmp -s "$scratch/first.out" "$scratch/fp8.out" || failure "--fp8 changed the text of a checkpoint without FP8"

# A folder's name is one of the caller's place.
(cd "$scratch" && "$MTP_SOURCE_DIR/scripts/generate" --type f32 --positions 64 "a checkpoint" "the cat sat" \
  --max-tokens 20 >relative.out 2>relative.err) || failure "a relative path: $(cat "$scratch/relative.err")"
cmp -s "$scratch/first.out" "$scratch/relative.out" || failure "a relative path gave another text"

write drawn "$folder" "the cat sat" --max-tokens 20 --temperature 1 --seed 3 || failure "a drawn text"
cmp -s "$scratch/drawn.out" "$scratch/first.out" && failure "temperature 1 drew the most likely tokens"
write stopped "$folder" "the cat sat" --max-tokens 20 --stop "$(head -c 3 "$scratch/first.out")" || failure "a stop"
[[ $(wc -c <"$scratch/stopped.out") == 1 ]] || failure "a stop string was shown"

# refused NAME WORDS ARGUMENT...
refused() {
  local name=$1 words=$2
  shift 2
  if write "$name" "$@"; then
    failure "$name was not refused"
  elif ! grep -qF -e "$words" "$scratch/$name.err"; then
    failure "$name: expected '$words', got $(cat "$scratch/$name.err")"
  fi
}
printf GGUF >"$scratch/cut.gguf"
refused cut "the file is too small" "$scratch/cut.gguf" "the"
refused none "has no config.json" "$scratch/nothing" "the"
refused depth "DEPTH: expected a checkpoint with one module" --depth 3 "$folder" "the"
refused byte "expected a token for each byte of the text" "$folder" "THE"
refused option "--max-tokens" "$folder" "the" --max-tokens many
refused probe "the checkpoint has no head" --probe "$folder" "the"
refused mark "expected a token for each byte of the text" "$folder" "the </s>" --chat
refused values "--values" "$folder" "the" --chat --values "{"
refused empty "the prompt is empty" "$folder" ""
rm "$folder/tokenizer_config.json"
refused template "has no chat template" "$folder" "the" --chat
rm "$folder/tokenizer.json"
refused tokenizer "tokenizer.json" "$folder" "the"
((failures == 0))

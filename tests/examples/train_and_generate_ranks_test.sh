#!/usr/bin/env bash
# The program train_and_generate on several ranks: checkpoint and text of one process with as many passes, errors that name
# the rank, and one message for all of a wrong use.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
program=${MTP_EXAMPLES_DIR:?the folder of the built examples}/train_and_generate
ranks=$MTP_SOURCE_DIR/scripts/ranks
command -v "${MPIEXEC:-mpirun}" >/dev/null || {
  echo "skipped: ${MPIEXEC:-mpirun} was not found"
  exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "FAILED: $*" >&2
  tail -n 20 "$scratch"/std* >&2
  exit 1
}

for i in $(seq 1 300); do
  echo "Line $i of a text in which line $i comes after line $((i - 1)), as it should."
done >"$scratch/text"
arguments=(--text "$scratch/text" --head independent --depth 1 --batch 1 --length 32 --save-every 3)
arguments+=(--new-tokens 16 --temperature 0)
# run LAUNCHER.. -- ARGUMENT...
run() {
  local launcher=()
  while [[ $1 != -- ]]; do launcher+=("$1") && shift; done
  shift
  timeout 120 "${launcher[@]}" "$program" "${arguments[@]}" "$@" >"$scratch/stdout" 2>"$scratch/stderr"
}
run -- --passes 4 --steps 8 --out "$scratch/one" || fail "one process failed"
cp "$scratch/stdout" "$scratch/one.out"
if ! run "$ranks" 4 -- --distributed --steps 8 --out "$scratch/four"; then
  ! grep -q "built without MPI" "$scratch/stderr" || { echo "skipped: built without MPI" && exit 77; }
  fail "four ranks failed"
fi
cmp "$scratch/one/checkpoint.safetensors" "$scratch/four/checkpoint.safetensors" || fail "four ranks: another checkpoint"
grep -q '4 ranks, ' "$scratch/stderr" || fail "nothing says how many ranks there were"
[[ $(grep -c '^{"head"' "$scratch/stdout") == 1 ]] || fail "not one rank alone prints the result"
for key in val_loss tokens_per_forward acceptance identical; do
  value="\"$key\":\(\[[^]]*\]\|[^,}]*\)"
  [[ $(grep -o "$value" "$scratch/one.out") == "$(grep -o "$value" "$scratch/stdout")" ]] || fail "$key differs"
done
# The reports have the same texts; only times, and what was asked for, differ.
diff "$scratch/one/report.html" "$scratch/four/report.html" | grep '^[<>]' |
  grep -vE '/s|[Ff]ast|ranks?\b|thread|passes|--out|<rect|<dd>|Speed|MiB|MB|GB' >"$scratch/stdout" &&
  fail "the reports differ"

run "$ranks" 3 -- --distributed --passes 4 --steps 10 --resume --out "$scratch/four" || fail "three ranks do not go on"
run -- --passes 4 --steps 10 --resume --out "$scratch/one" || fail "one process does not go on"
cmp "$scratch/one/checkpoint.safetensors" "$scratch/four/checkpoint.safetensors" || fail "three ranks: another checkpoint"

! run "$ranks" 2 -- --distributed --steps 8 --out "$scratch/four" || fail "a run is overwritten"
grep -q "^rank [01]: rank 0 of 2: '.*' holds a run already" "$scratch/stderr" || fail "no rank says who refused the folder"
! run "$ranks" 3 -- --distributed --passes 2 --out "$scratch/other" || fail "more ranks than passes are accepted"
grep -q '^rank [0-2]: trainer: expected at most as many ranks as a step has passes' "$scratch/stderr" ||
  fail "no rank says that there are too many"

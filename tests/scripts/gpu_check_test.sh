#!/usr/bin/env bash
# scripts/gpu_check without a GPU: it goes through the steps of both stages, keeps to its time, and leaves a record that
# can be read whenever it is killed.
set -euo pipefail

cd "${MTP_SOURCE_DIR:?}"
programs=${MTP_EXAMPLES_DIR:?}/..
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
failure() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# steps_in RECORD: how many steps it has; fails if it is not JSON
cat >"$scratch/steps.cmake" <<'END'
file(READ "${RECORD}" record)
string(JSON steps LENGTH "${record}" steps)
string(JSON machine LENGTH "${record}" machine)
string(JSON measured LENGTH "${record}" measured)
message("${steps}")
END
steps_in() { cmake "-DRECORD=$1" -P "$scratch/steps.cmake" 2>&1; }

# ---- both stages, to the end ----------------------------------------------------------------------
for stage in 1 2; do
  out="$scratch/stage $stage"
  begin=$SECONDS
  if ! GPU_CHECK_SECONDS=200 scripts/gpu_check --dry-run --stage "$stage" --programs "$programs" --out "$out" \
    >"$scratch/output" 2>&1; then
    tail -n 60 "$scratch/output" >&2
    failure "stage $stage"
  fi
  record=$(echo "$out"/gpu_check_none_*_stage"$stage".json)
  steps=$(steps_in "$record") || failure "stage $stage: the record is not JSON: $steps"
  [[ $steps -ge 15 ]] || failure "stage $stage has $steps steps"
  [[ $(find "$out" -type f | wc -l) -le 8 ]] || failure "stage $stage leaves more than 8 files"
  grep -q '^attention forward' "$out/table.txt" || failure "stage $stage has no table"
  echo "stage $stage: $steps steps in $((SECONDS - begin)) s"
done
grep -q '"step": "ops/linear", "verdict": "passed"' "$scratch/stage 1/steps.jsonl" ||
  failure "stage 1 did not run the tests of linear under emulation"

grep -q '"step": "distributed/nccl_alone", "verdict": "skipped", .*"last": "nccl_alone (CMake found no NCCL .* was not built"' \
  "$scratch/stage 1/steps.jsonl" || failure "stage 1 does not say that NCCL's test was not built"
mkdir "$scratch/built"
printf '#!/bin/sh\n' >"$scratch/built/nccl_alone"
chmod +x "$scratch/built/nccl_alone"
# shellcheck disable=SC2016  # for the other shell
[[ $(programs=$scratch/built dry_run=false bash -c 'source scripts/gpu/stages.sh
  step() { echo "$@"; }
  nccl_alone') == "distributed/nccl_alone 30 $scratch/built/nccl_alone" ]] || failure "NCCL's test is not run where it was built"

# ---- a deadline -----------------------------------------------------------------------------------
# The last ten seconds belong to the record, so nothing else has time.
status=0
GPU_CHECK_SECONDS=10 timeout 100 scripts/gpu_check --dry-run --stage 1 --programs "$programs" --out "$scratch/short" \
  >"$scratch/output" 2>&1 || status=$?
((status != 124)) || failure "it does not end at its deadline"
grep -q '"step": "ops/linear", .*"last": "no time was left for it"' "$scratch/short/steps.jsonl" ||
  failure "a step began when no time was left"

# ---- killed at any moment -------------------------------------------------------------------------
for number in {1..6}; do
  out=$scratch/killed$number
  signal=KILL
  ((number % 2)) || signal=TERM
  scripts/gpu_check --dry-run --stage 1 --programs "$programs" --out "$out" >/dev/null 2>&1 &
  process=$!
  moment=$((RANDOM % 60 + 5))
  sleep "$((moment / 10)).$((moment % 10))"
  kill "-$signal" "$process" 2>/dev/null || true
  wait "$process" 2>/dev/null || true
  record=$(echo "$out"/gpu_check_none_*_stage1.json)
  if [[ ! -e $record ]]; then
    [[ ! -s $out/steps.jsonl ]] || failure "$signal at $moment tenths: no record"
    continue
  fi
  steps=$(steps_in "$record") || failure "$signal at $moment tenths: the record is not JSON: $steps"
  ended=$(grep -c '}$' "$out/steps.jsonl" || true)
  # A step may have ended between its line and the record.
  ((steps == ended || (steps + 1 == ended && number % 2 == 1))) ||
    failure "$signal at $moment tenths: $ended steps ended, the record has $steps"
done

# ---- a line that was cut off ------------------------------------------------------------------------
(
  # shellcheck source=SCRIPTDIR/../../scripts/gpu/steps.sh
  source scripts/gpu/steps.sh
  printf '%s\n' '{"name": "whole \" one", "x": -1.5e+10, "y": null}' '{"name": "cut", "x": 1' '{"name": "no end' \
    >"$scratch/lines"
  [[ $(whole_lines "$scratch/lines") == '{"name": "whole \" one", "x": -1.5e+10, "y": null}' ]]
) || failure "a line that was cut off is taken for a whole one"

((failures == 0))

#!/usr/bin/env bash
# The program train_distributed as processes of MPI: the same parameters on any number of ranks, stages and copies; and
# what one rank cannot read, all of them say.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
program=${MTP_EXAMPLES_DIR:?the folder of the built examples}/train_distributed
cd "$MTP_SOURCE_DIR"
output=$(mktemp)
trap 'rm -f "$output"' EXIT

fail() {
  echo "FAILED: $*" >&2
  cat "$output" >&2
  exit 1
}
command -v "${MPIEXEC:-mpirun}" >/dev/null || {
  echo "skipped: ${MPIEXEC:-mpirun} was not found"
  exit 77
}

expected=
for arguments in "1" "2" "4" "2 --stages 2" "4 --stages 2"; do
  read -r ranks options <<<"$arguments"
  # shellcheck disable=SC2086  # words
  timeout 60 scripts/ranks "$ranks" "$program" ${options:-} docs/mtp.md >"$output" 2>&1 || {
    ! grep -q "built without MPI" "$output" || { echo "skipped: built without MPI" && exit 77; }
    fail "$arguments: status $?"
  }
  found=$(grep '^parameters ' "$output" | sort -u) || fail "$arguments: there is no checksum"
  [[ ${expected:=$found} == "$found" ]] || fail "$arguments: expected $expected, got $found"
  echo "$arguments: $found"
done

! timeout 60 scripts/ranks 2 "$program" /does/not/exist >"$output" 2>&1 || fail "a text that is not there is accepted"
grep -q '^rank [01]: dataset: expected a text' "$output" || fail "no rank says that there is no text"
! timeout 60 scripts/ranks 4 "$program" --stages 3 docs/mtp.md >"$output" 2>&1 || fail "a copy with a rank too many is accepted"
grep -q '^rank [0-3]: --stages: expected a divisor of the number of ranks, got 3' "$output" || fail "no rank says which copies are possible"

#!/usr/bin/env bash
# A rank that throws, runs out of memory, is killed, is stopped or computes for ever ends the run within the time limit,
# with a message that names it, and leaves no process behind.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
: "${MTP_TESTS_BUILD_DIR:?must name the folder of the built tests}"

program=$MTP_TESTS_BUILD_DIR/mpi_faults
if [[ ! -x $program ]]; then
  echo "skipped: there is no $program, because MPI was not found"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A name of its own, so that what stays behind can be told from other runs.
cp "$program" "$folder/mpi_faults"

fail() {
  echo "FAILED: $*" >&2
  cat "$folder/output" >&2
  exit 1
}

# fails HOW RANK STEP PATTERN: a run of three ranks ends by itself, with a line that matches
fails() {
  local status=0 begin=$SECONDS
  timeout --kill-after=5 20 "$MTP_SOURCE_DIR/scripts/ranks" 3 "$folder/mpi_faults" "$1" "$2" "$3" \
    >"$folder/output" 2>&1 </dev/null || status=$?
  [[ $status != 0 ]] || fail "$1 of rank $2: the run ended with status 0"
  # Not by the status: launchers of MPI return 137 when a rank is killed.
  ((SECONDS - begin < 20)) || fail "$1 of rank $2: the run did not end in 20 s"
  grep -qE -e "$4" "$folder/output" || fail "$1 of rank $2: no line matches \"$4\""
  local _
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    pgrep -f "^$folder/mpi_faults" >/dev/null || break
    sleep 0.2
  done
  ! pgrep -af "^$folder/mpi_faults" >>"$folder/output" || fail "$1 of rank $2: processes stay behind"
  echo "$1 of rank $2 at step $3: $((SECONDS - begin)) s"
}

missing='does not answer: it hangs, has died, or computes'
# Who is killed is named by the launcher of MPI. MPICH's names the process alone, and ends all ranks before they can.
killed() { echo "process rank $1 .*signal 9|rank $1 does not answer|PID [0-9]+ RUNNING AT"; }

fails throw 1 20 '^rank 1: out of memory, says the test$'
fails memory 2 10 '^rank 2: std::bad_alloc$'
fails kill 2 $((RANDOM % 200)) "$(killed 2)"
fails kill 0 $((RANDOM % 200)) "$(killed 0)"
fails stop 1 $((RANDOM % 50)) "^rank [02]: .* of rank [02] of 3.* waited 1000 ms.*; rank 1 $missing"
fails late 0 3 "^rank [12]: .* of rank [12] of 3.* waited 1000 ms.*; rank 0 $missing"

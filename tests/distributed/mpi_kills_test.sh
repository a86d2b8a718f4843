#!/usr/bin/env bash
# A rank of a training run is killed at a random moment (SIGKILL): the run ends with a line that names the rank and leaves
# no process behind, the last checkpoint is whole, and fewer ranks go on from it to the bits of an undisturbed run.
#
# KILLS=20 asks for more than three, and SEED=N for a series once more; scripts/soak_ranks kills does so.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
: "${MTP_EXAMPLES_DIR:?must name the folder of the built examples}"

kills=${KILLS:-3}
RANDOM=${SEED:=$((RANDOM % 32768))}
limit=30 # seconds for any run
ranks=3

program=$MTP_EXAMPLES_DIR/train_distributed
command -v "${MPIEXEC:-mpirun}" >/dev/null || {
  echo "skipped: ${MPIEXEC:-mpirun} was not found"
  exit 77
}
folder=$(mktemp -d)
# A name of its own, so that what stays behind can be told from other runs.
cp "$program" "$folder/train_distributed"
cp "$MTP_SOURCE_DIR/docs/mtp.md" "$folder/text"
mkdir "$folder/run"
checkpoint=$folder/run/run.safetensors
trap 'end' EXIT

processes() { pgrep -f "^$folder/train_distributed" || true; }
end() {
  local pid
  for pid in $(processes); do kill -9 "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
fail() {
  echo "FAILED: $* (SEED=$SEED)" >&2
  tail -n 40 "$folder/output" >&2
  exit 1
}
# train RANKS CHECKPOINT: what an undisturbed run is, and one that goes on
train() {
  timeout --kill-after=5 "$limit" "$MTP_SOURCE_DIR/scripts/ranks" "$1" "$folder/train_distributed" \
    "$folder/text" "$2" >"$folder/output" 2>&1 </dev/null
}
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
# process_of RANK: its number, once it is there
process_of() {
  local pid
  for pid in $(processes); do
    if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qxE "(OMPI_COMM_WORLD_RANK|PMI_RANK)=$1"; then
      echo "$pid"
      return
    fi
  done
  return 1
}
sleep_ms() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }
# is_running PID: not even as a zombie
is_running() { [[ -e /proc/$1 ]] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

echo "SEED=$SEED"
if ! train "$ranks" "$folder/undisturbed"; then
  ! grep -q "built without MPI" "$folder/output" || { echo "skipped: built without MPI" && exit 77; }
  fail "the undisturbed run failed"
fi
expected=$(grep '^parameters ' "$folder/output") || fail "the undisturbed run says no checksum"
begin=$(milliseconds)
train "$ranks" "$folder/again" || fail "the undisturbed run failed"
duration=$(($(milliseconds) - begin))
cmp "$folder/undisturbed" "$folder/again" || fail "two undisturbed runs differ"

done_kills=0
for ((try = 0; done_kills < kills; ++try)); do
  ((try < 5 * kills + 10)) || fail "most runs end before they are killed"
  rank=$((RANDOM % ranks)) wait=$((RANDOM * duration / 32768)) fewer=$((1 + RANDOM % (ranks - 1)))
  rm -rf "$folder/run"
  mkdir "$folder/run"
  "$MTP_SOURCE_DIR/scripts/ranks" "$ranks" "$folder/train_distributed" "$folder/text" "$checkpoint" \
    >"$folder/output" 2>&1 </dev/null &
  launcher=$!
  sleep_ms "$wait"
  victim=
  while is_running "$launcher" && ! victim=$(process_of "$rank"); do sleep 0.01; done
  if [[ -z $victim ]] || ! kill -9 "$victim" 2>/dev/null; then
    wait "$launcher" || fail "a run that was not killed failed"
    continue # it had ended
  fi
  begin=$SECONDS
  while is_running "$launcher"; do
    # Open MPI 4.1.4: one kill in a hundred, of a rank that is just connecting in MPI_Init, leaves the launcher waiting for
    # itself. By then it has ended all ranks and said which one was killed.
    if ((SECONDS - begin >= 3)) && [[ -z $(processes) ]] && grep -q 'PMIX ERROR: UNREACHABLE' "$folder/output"; then
      echo "rank $rank was killed after $wait ms: the launcher hangs behind the end of all ranks, as Open MPI 4.1.4 may"
      kill -9 "$launcher"
      break
    fi
    ((SECONDS - begin < limit)) || fail "rank $rank was killed after $wait ms: the run did not end in $limit s"
    sleep 0.05
  done
  status=0
  wait "$launcher" || status=$?
  if [[ $status == 0 ]] && grep -q '^parameters ' "$folder/output"; then
    continue # it had ended
  fi
  [[ $status != 0 ]] || fail "rank $rank was killed after $wait ms: the run ended with status 0"
  grep -qE "process rank $rank .*signal 9|rank $rank does not answer|PID $victim RUNNING AT" "$folder/output" ||
    fail "rank $rank was killed after $wait ms: no line names it"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [[ -n $(processes) ]] || break
    sleep 0.2
  done
  [[ -z $(processes) ]] || fail "rank $rank was killed after $wait ms: processes stay behind"
  at="before the first checkpoint"
  [[ ! -e $checkpoint ]] || at="with a checkpoint"
  # A checkpoint that is not whole would be refused; a run without one begins anew.
  train "$fewer" "$checkpoint" || fail "rank $rank was killed after $wait ms: $fewer ranks do not go on"
  [[ $(grep '^parameters ' "$folder/output") == "$expected" ]] ||
    fail "rank $rank was killed after $wait ms: $fewer ranks go on to other parameters than $expected"
  cmp "$checkpoint" "$folder/undisturbed" || fail "rank $rank was killed after $wait ms: the last checkpoint differs"
  left=$(find "$folder/run" -mindepth 1 ! -path "$checkpoint")
  [[ -z $left ]] || fail "rank $rank was killed after $wait ms: files stay behind: $left"
  done_kills=$((done_kills + 1))
  echo "rank $rank was killed after $wait of $duration ms, $at; $fewer went on to the same bits"
done

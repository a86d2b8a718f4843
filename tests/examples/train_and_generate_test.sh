#!/usr/bin/env bash
# The program train_and_generate from outside: what it prints and writes, what it refuses, and that
# runs which are killed, stopped or resumed end with the same checkpoint.
set -euo pipefail

program="${MTP_EXAMPLES_DIR:?the folder of the built examples}/train_and_generate"
if [[ ! -x $program ]]; then
  echo "skipped: there is no $program"
  exit 77
fi

head=independent
depth=1
steps=10

scratch=$(mktemp -d)
child=
trap '[[ -z $child ]] || kill -9 "$child" || true; rm -rf "$scratch"' EXIT

failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

text=$scratch/text.txt
for i in $(seq 1 300); do
  echo "Line $i of a text in which line $i comes after line $((i - 1)), as it should."
done >"$text"

run() { # run OUT ARGUMENT...: the program on the small text; stdout and stderr go to files
  local out=$1
  shift
  "$program" --text "$text" --head "$head" --depth "$depth" --steps "$steps" \
    --batch 2 --length 32 --out "$out" "$@" >"$scratch/stdout" 2>"$scratch/stderr"
}

expect_success() { # expect_success WHAT OUT ARGUMENT...
  local what=$1 status=0
  shift
  run "$@" || status=$?
  if ((status != 0)); then
    fail "$what: exit status $status"
    cat "$scratch/stderr" >&2
  fi
}

listing() { # every file of a folder with its checksum
  [[ ! -d $1 ]] || (cd "$1" && find . -type f -exec cksum {} + | sort -k 3)
}

refused_status=1
expect_refusal() { # expect_refusal WHAT PATTERN LINES OUT ARGUMENT...: and the folder is untouched
  local what=$1 pattern=$2 lines=$3 out=$4 status=0 before after
  before=$(listing "$out")
  run "${@:4}" || status=$?
  after=$(listing "$out")
  ((status == refused_status)) || fail "$what: exit status $status, expected $refused_status"
  head -n 1 "$scratch/stderr" | grep -q -e "$pattern" ||
    fail "$what: the first line does not say \"$pattern\": $(cat "$scratch/stderr")"
  (($(wc -l <"$scratch/stderr") <= lines)) ||
    fail "$what: more than $lines lines: $(cat "$scratch/stderr")"
  [[ ! -s $scratch/stdout ]] || fail "$what: something on stdout: $(cat "$scratch/stdout")"
  [[ $before == "$after" ]] || fail "$what: files of the output folder changed"
}

expect_same_checkpoint() { # expect_same_checkpoint WHAT OUT
  cmp "$2/checkpoint.safetensors" "$scratch/whole/checkpoint.safetensors" ||
    fail "$1: the final checkpoint is not that of an uninterrupted run"
}

expect_each_step_once() { # expect_each_step_once WHAT OUT
  [[ $(head -n 1 "$2/metrics.csv") == step,tokens,* ]] || fail "$1: metrics.csv has no header"
  [[ $(tail -n +2 "$2/metrics.csv" | cut -d , -f 1) == "$(seq 1 "$steps")" ]] ||
    fail "$1: metrics.csv does not have each step once: $(cut -d , -f 1 "$2/metrics.csv")"
  # All but the speed is a function of the settings.
  [[ $(cut -d , -f 1-5,7- "$2/metrics.csv") == \
    "$(cut -d , -f 1-5,7- "$scratch/whole/metrics.csv")" ]] ||
    fail "$1: metrics.csv differs from that of an uninterrupted run"
}

awaited=checkpoint.safetensors
interrupt() { # interrupt SIGNAL OUT ARGUMENT...: sends it once the file awaited is there; sets `status`
  local signal=$1 out=$2
  shift 2
  "$program" --text "$text" --head "$head" --depth "$depth" --steps "$steps" \
    --batch 2 --length 32 --save-every 1 --out "$out" "$@" >"$scratch/stdout" 2>"$scratch/stderr" &
  child=$!
  local tries=0
  while ! compgen -G "$out/$awaited" >"$scratch/ignored" && kill -0 "$child" 2>"$scratch/ignored" &&
    ((tries++ < 3000)); do
    sleep 0.01
  done
  kill "-$signal" "$child" || fail "$signal: the program ended before it was interrupted"
  status=0
  wait "$child" 2>"$scratch/ignored" || status=$?
  child=
  [[ -e $out/checkpoint.safetensors ]] || fail "$signal: there is no checkpoint"
  [[ ! -e $out/report.html ]] || fail "$signal: the run was not interrupted in the middle"
}

# ---- a whole run --------------------------------------------------------------------------------
expect_success "a whole run" "$scratch/whole" --threads 2 --new-tokens 24 \
  --prompt "Line 12 of" --prompt "as it "

last_line=$(tail -n 1 "$scratch/stdout")
keys=$(grep -o '"[a-z_]*":' <<<"$last_line" | tr -d '":' | tr '\n' ' ') || true
expected_keys="head depth params train_tokens_per_s val_loss plain_tokens_per_s \
speculative_tokens_per_s speedup speedup_range tokens_per_forward acceptance identical peak_rss_bytes "
[[ $keys == "$expected_keys" ]] || fail "keys of the JSON line: $keys"
number='[0-9][0-9.e+-]*'
for part in "^{\"head\":\"$head\",\"depth\":$depth,\"params\":[1-9][0-9]*," \
  "\"train_tokens_per_s\":$number," "\"val_loss\":\[$number,$number\]," \
  "\"plain_tokens_per_s\":$number," "\"speculative_tokens_per_s\":$number," \
  "\"speedup\":$number," "\"speedup_range\":\[$number,$number\]," "\"tokens_per_forward\":$number," "\"acceptance\":\[$number\]," \
  '"identical":true,' '"peak_rss_bytes":[1-9][0-9]*}$'; do
  grep -q "$part" <<<"$last_line" || fail "the JSON line has no $part: $last_line"
done
grep -q "identical  *yes" "$scratch/stdout" || fail "the table does not say that texts are identical"
grep -q "</html>" "$scratch/whole/report.html" || fail "report.html is not whole"
for part in "behind each of 2 prompts of the command line" '<th scope="row">seed</th><td>1<' "--prompt .*Line 12 of" \
  '<th scope="row">processor</th><td>..*' '<th scope="row">date</th><td>20[0-9][0-9]-[01][0-9]-[0-3][0-9]<'; do
  grep -q -e "$part" "$scratch/whole/report.html" || fail "the report has no $part"
done
[[ -s $scratch/whole/checkpoint.safetensors ]] || fail "there is no checkpoint"
expect_each_step_once "a whole run" "$scratch/whole"
[[ $(find "$scratch/whole" -type f | wc -l) == 4 ]] || fail "files: $(ls -A "$scratch/whole")"

# ---- runs that are interrupted ------------------------------------------------------------------
interrupt KILL "$scratch/killed" --threads 1
((status == 137)) || fail "kill -9: exit status $status"
# As a save leaves it that was killed: no process has this number.
: >"$scratch/killed/checkpoint.safetensors.mtp.tmp-4194305-0"
expect_success "a killed run, resumed" "$scratch/killed" --resume --threads 2 --new-tokens 1
expect_same_checkpoint "kill -9 and --resume" "$scratch/killed"
expect_each_step_once "kill -9 and --resume" "$scratch/killed"

# The latest checkpoint of a killed run is damaged: an earlier one goes on.
awaited='checkpoint.step-*.safetensors' interrupt KILL "$scratch/kept" --threads 1 --keep 2
# Just killed, both may be names of one file.
rm "$scratch/kept/checkpoint.safetensors"
printf 'damage' >"$scratch/kept/checkpoint.safetensors"
expect_success "a run with a damaged checkpoint, resumed" "$scratch/kept" --resume --threads 1 --keep 2 --new-tokens 1
grep -q "checkpoint.safetensors" "$scratch/stderr" || fail "--keep 2: stderr does not name what is damaged"
grep -q "resuming from .*checkpoint.step-" "$scratch/stderr" || fail "--keep 2: stderr does not name the earlier one"
expect_same_checkpoint "an earlier checkpoint and --resume" "$scratch/kept"
expect_each_step_once "an earlier checkpoint and --resume" "$scratch/kept"
[[ $(find "$scratch/kept" -type f | wc -l) == 5 ]] || fail "--keep 2: files: $(ls -A "$scratch/kept")"

interrupt INT "$scratch/stopped" --threads 1
((status == 130)) || fail "SIGINT: exit status $status"
grep -q "a second signal ends it at once" "$scratch/stderr" || fail "SIGINT: stderr does not tell of the second"
grep -q "stopped at step [1-9][0-9]* of $steps" "$scratch/stderr" ||
  fail "SIGINT: stderr does not say where it stopped: $(cat "$scratch/stderr")"
expect_success "a stopped run, resumed" "$scratch/stopped" --resume --threads 1 --new-tokens 1 \
  --prompt "Line"
expect_same_checkpoint "SIGINT and --resume" "$scratch/stopped"
expect_each_step_once "SIGINT and --resume" "$scratch/stopped"

[[ $(find "$scratch/killed" -type f | wc -l) == 4 ]] || fail "kill -9: files: $(ls -A "$scratch/killed")"

# Of an option that comes twice, the last one counts.
expect_success "a run with one thread" "$scratch/one" --threads 2 --threads 1 --new-tokens 1 --prompt "Line"
expect_same_checkpoint "one thread" "$scratch/one"

# The report of a resumed run is about all of it.
report_part() { # report_part PATTERN OUT: what the report has of it
  grep -o "$1" "$2/report.html" | sort
}
for out in killed stopped; do
  [[ $(report_part '<polyline class="[a-z]*"' "$scratch/$out") == \
    "$(report_part '<polyline class="[a-z]*"' "$scratch/whole")" ]] || fail "$out and resumed: curves are missing"
done

# A finished run has nothing left to train.
cp "$scratch/one/report.html" "$scratch/before.html"
expect_success "a finished run, resumed" "$scratch/one" --resume --new-tokens 1 --prompt "Line"
expect_same_checkpoint "a finished run, resumed" "$scratch/one"
expect_each_step_once "a finished run, resumed" "$scratch/one"
[[ $(report_part '<polyline[^>]*>' "$scratch/one") == "$(grep -o '<polyline[^>]*>' "$scratch/before.html" | sort)" ]] ||
  fail "a finished run, resumed: its curves have changed"
[[ $(report_part 'training speed</th><td>[^<]*' "$scratch/one") != *'>0 bytes/s' ]] ||
  fail "a finished run, resumed: it has lost its speed"

# --steps may grow: the schedule stays that of the first command.
expect_success "more steps" "$scratch/one" --resume --steps $((steps + 3)) --new-tokens 1 --prompt "Line"
[[ $(tail -n 1 "$scratch/one/metrics.csv" | cut -d , -f 1) == $((steps + 3)) ]] || fail "more steps: none were made"
expect_success "as many steps again" "$scratch/one" --resume --steps $((steps + 3)) --new-tokens 1 --prompt "Line"

# A folder that holds a run is given up only if that is said.
expect_success "--overwrite" "$scratch/one" --overwrite --new-tokens 1 --prompt "Line"
expect_same_checkpoint "--overwrite" "$scratch/one"
expect_each_step_once "--overwrite" "$scratch/one"

# ---- signals after training ---------------------------------------------------------------------
long_decoding() { # long_decoding OUT: writes, in the background, for longer than any test waits
  local prompts=() tries=0
  for i in $(seq 1 500); do prompts+=(--prompt "Line $i"); done
  "$program" --text "$text" --head "$head" --depth "$depth" --steps 1 --batch 2 --length 32 \
    --new-tokens 500 --out "$1" "${prompts[@]}" >"$scratch/ignored" 2>"$scratch/background" &
  child=$!
  while [[ ! -e $1/checkpoint.safetensors ]] && ((tries++ < 3000)); do sleep 0.01; done
  sleep 0.3
}
expect_ended() { # expect_ended WHAT SENTENCE: within ten seconds, interrupted
  local status=0
  local tries=0
  while kill -0 "$child" 2>"$scratch/killing" && ((tries++ < 1000)); do sleep 0.01; done
  kill -9 "$child" 2>"$scratch/killing" || true
  wait "$child" 2>"$scratch/killing" || status=$?
  child=
  ((status == 130)) || fail "$1: exit status $status"
  grep -q "$2" "$scratch/background" || fail "$1: stderr does not say \"$2\": $(cat "$scratch/background")"
}
long_decoding "$scratch/decoding"
# Who comes second is refused, and changes nothing.
expect_refusal "a folder in use" "in use by process $child;" 1 "$scratch/decoding" --overwrite
kill -TERM "$child"
expect_ended "SIGTERM while it decodes" "stopped at step 1 of 1, without a report; --resume continues"
rm -r "$scratch/decoding"
long_decoding "$scratch/decoding"
kill -INT "$child"
kill -INT "$child"
expect_ended "two signals" "ended at once\|stopped at step"

# ---- disks that are full ------------------------------------------------------------------------
status=0
(ulimit -f 1000 && run "$scratch/full" --new-tokens 1) || status=$?
((status == 1)) || fail "no room for a checkpoint: exit status $status"
grep -q "cannot write '$scratch/full/checkpoint.safetensors': File too large (errno 27)" "$scratch/stderr" ||
  fail "no room for a checkpoint: $(cat "$scratch/stderr")"
[[ $(ls -A "$scratch/full") == metrics.csv ]] || fail "no room for a checkpoint: $(ls -A "$scratch/full")"
status=0
"$program" --text "$text" --head "$head" --depth "$depth" --steps 1 --batch 2 --length 32 --new-tokens 1 \
  --prompt Line --out "$scratch/stdout_full" >/dev/full 2>"$scratch/stderr" || status=$?
((status == 1)) || fail "no room on stdout: exit status $status"
grep -q "No space left on device" "$scratch/stderr" || fail "no room on stdout: $(cat "$scratch/stderr")"
[[ -s $scratch/stdout_full/report.html ]] || fail "no room on stdout: there is no report"
"$program" --text "$text" --head "$head" --depth "$depth" --steps 1 --batch 2 --length 32 --new-tokens 1 \
  --prompt Line --out "$scratch/stderr_full" >"$scratch/stdout" 2>/dev/full || fail "no room on stderr: exit status $?"

# ---- what is said -------------------------------------------------------------------------------
expect_success "a rate that is too high, more threads than cores" "$scratch/exploded" --learning-rate 1 --threads 512 \
  --new-tokens 1 --prompt "Line"
grep -q "512 threads on [0-9]* core" "$scratch/stderr" || fail "nothing is said about 512 threads: $(cat "$scratch/stderr")"
grep -q "explodes\|not finite" "$scratch/stderr" || fail "nothing is said about a loss that explodes: $(cat "$scratch/stderr")"
grep -q "a lower --learning-rate may help" "$scratch/exploded/report.html" || fail "the report does not warn"
grep -q -e '--learning-rate 1 --threads 512' "$scratch/exploded/report.html" || fail "the report does not name the command"

mkdir "$scratch/folder"
cp "$text" "$scratch/folder/small.txt"
head -c 4300000 /dev/zero | tr '\0' a >"$scratch/folder/book.txt"
text=$scratch/folder
expect_success "a folder with a large file" "$scratch/large" --steps 1 --new-tokens 1 --prompt "Line"
grep -q "left out: $scratch/folder/book.txt: 4.3 MB" "$scratch/stderr" || fail "nothing is said about a large file"
rm "$scratch/folder/small.txt"
expect_refusal "only a large file" "holds no text files; left out: .*book.txt: 4.3 MB" 1 "$scratch/large" --overwrite
text=$scratch/text.txt

# ---- kinds side by side -------------------------------------------------------------------------
expect_success "a run beside another" "$scratch/beside" --compare "$scratch/whole" --new-tokens 4 --prompt "Line" \
  --temperature 0
for part in "Head kinds side by side" "independent, depth 1</th>.*<td>$steps</td>"; do
  grep -q "$part" "$scratch/beside/report.html" || fail "a run beside another: the report has no $part"
done
[[ $(grep -c "independent, depth 1</th>" "$scratch/beside/report.html") == 2 ]] || fail "a run beside another: rows"
grep -q ">Drawn<" "$scratch/whole/report.html" || fail "nothing was drawn"
if grep -q ">Drawn<" "$scratch/beside/report.html"; then fail "--temperature 0: something was drawn"; fi

# ---- what is refused ----------------------------------------------------------------------------
"$program" --help >"$scratch/stdout" || fail "--help: exit status $?"
for option in text backend head depth steps seed threads resume overwrite out batch length learning-rate lambda \
  save-every keep new-tokens temperature compare prompt; do
  grep -q -e "--$option\b" "$scratch/stdout" || fail "--help does not list --$option"
done

whole=$scratch/whole
refused_status=2
expect_refusal "the same command again" "holds a run already: --resume continues it, --overwrite" 1 "$whole"
expect_refusal "--resume and --overwrite" "exclude each other" 1 "$whole" --resume --overwrite
expect_refusal "fewer steps" "--steps may grow, but not shrink to 9" 1 "$whole" --resume --steps 9
expect_refusal "an empty prompt" "an empty prompt" 1 "$whole" --overwrite --prompt "Line" --prompt ""
expect_refusal "a long prompt" "a prompt of 512 bytes cannot be continued" 1 "$whole" --overwrite \
  --prompt "$(printf '%512s' x)"
expect_refusal "nothing to compare with" "there is no '$scratch/absent/result.json'" 1 "$whole" --overwrite \
  --compare "$scratch/absent"
expect_refusal "a run beside itself" "is the folder of this run itself" 1 "$whole" --overwrite --compare "$whole"
mkdir "$scratch/other"
sed 's/xxh64:[0-9a-f]*/xxh64:other/' "$whole/result.json" >"$scratch/other/result.json"
expect_refusal "a run on another text" "has learnt another text" 1 "$whole" --overwrite --compare "$scratch/other"
# The second line of these tells about --help.
expect_refusal "an unknown option" "--no-such-option" 2 "$whole" --no-such-option
expect_refusal "an unknown head" "--head: no_such_head" 2 "$whole" --head no_such_head
expect_refusal "an unknown backend" "--backend: abacus" 2 "$whole" --backend abacus
expect_refusal "a backend that is not compiled" "built without the backend cuda" 1 "$whole" --backend cuda
expect_refusal "a depth that is not compiled" "--depth: 2" 2 "$whole" --depth 2
expect_refusal "no steps" "--steps" 2 "$whole" --steps 0
expect_refusal "words for steps" "--steps" 2 "$whole" --steps many
expect_refusal "more threads than reasonable" "--threads" 2 "$whole" --threads 5000

refused_status=1
text=$scratch/none.txt
expect_refusal "a missing text" "$text does not exist" 1 "$whole" --overwrite
text=$scratch/empty.txt
: >"$text"
expect_refusal "an empty text" "$text is empty" 1 "$whole" --overwrite
text=$scratch/no_texts
mkdir "$text"
expect_refusal "a folder without texts" "$text holds no text" 1 "$whole" --overwrite
text=$scratch/short.txt
echo "This text is too short." >"$text"
expect_refusal "a text that is too short" "at least 2 windows of $((32 + 1 + depth)) tokens" 1 "$whole" --overwrite
text=$scratch/text.txt

expect_refusal "--resume with another seed" "run.data.seed differs" 1 "$whole" --resume --seed 2
expect_refusal "--resume with another learning rate" "run.learning_rate.*differs" 1 "$whole" \
  --resume --learning-rate 0.001
mkdir "$scratch/nothing"
refused_status=2
expect_refusal "--resume without a checkpoint" "No such file" 1 "$scratch/nothing" --resume
expect_refusal "--resume without a folder" "No such file" 1 "$scratch/absent" --resume
[[ ! -e $scratch/absent ]] || fail "--resume without a folder makes one"
refused_status=1

# A checkpoint with one wrong byte in the middle, and one that lost its end.
damaged=$scratch/one/checkpoint.safetensors
size=$(wc -c <"$damaged")
printf 'wrong' | dd of="$damaged" bs=1 seek=$((size / 2)) conv=notrunc status=none
expect_refusal "a damaged checkpoint" "checksum is wrong" 1 "$scratch/one" --resume
truncate -s $((size - 1)) "$damaged"
expect_refusal "a truncated checkpoint" "checkpoint.safetensors" 1 "$scratch/one" --resume

exit $((failures > 0))

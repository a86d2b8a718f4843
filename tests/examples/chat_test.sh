#!/usr/bin/env bash
# The program chat from outside: answers to piped lines, in colour and without, and what it refuses.
set -euo pipefail

folder="${MTP_EXAMPLES_DIR:?the folder of the built examples}"
for program in train_and_generate chat; do
  if [[ ! -x $folder/$program ]]; then
    echo "skipped: there is no $folder/$program"
    exit 77
  fi
done

scratch=$(mktemp -d)
child=
trap '[[ -z $child ]] || kill -9 "$child" || true; rm -rf "$scratch"' EXIT

failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# ---- two models that have learnt a little -------------------------------------------------------
for i in $(seq 1 100); do
  echo "Line $i of a text in which line $i comes after line $((i - 1)), as it should."
done >"$scratch/text.txt"
for head in sequential none; do
  "$folder/train_and_generate" --text "$scratch/text.txt" --head "$head" --threads 1 --steps 24 --batch 1 --length 64 \
    --new-tokens 1 --temperature 0 --prompt L --out "$scratch/$head" >"$scratch/log" 2>&1 ||
    fail "training: $(cat "$scratch/log")"
done

printf 'Line 1\n\nThe model\n' >"$scratch/lines"

chat() { # chat NAME ARGUMENT...: answers to the lines in NAME.out, figures in NAME.err
  local name=$1 status=0
  shift
  "$folder/chat" --threads 1 "$@" <"$scratch/lines" >"$scratch/$name.out" 2>"$scratch/$name.err" || status=$?
  ((status == 0)) || fail "$name: exit status $status: $(cat "$scratch/$name.err")"
}
equal() { cmp "$scratch/$1" "$scratch/$2" || fail "$3"; }
green=$'\x1b[32m'

# ---- answers ------------------------------------------------------------------------------------
chat drafts "$scratch/sequential" --max-tokens 60
chat plain "$scratch/sequential" --max-tokens 60 --plain
chat always "$scratch/sequential" --max-tokens 60 --color always
chat piped "$scratch/sequential" --max-tokens 60 --color auto
chat again "$scratch/sequential" --max-tokens 60 --threads 2
equal drafts.out plain.out "drafts change what is written"
equal drafts.out piped.out "colours in a file"
equal drafts.out again.out "the same seed gives another text"
grep -qF "$green" "$scratch/always.out" || fail "--color always: nothing is coloured"
sed $'s/\x1b\\[[0-9]*m//g' "$scratch/always.out" >"$scratch/stripped.out"
equal drafts.out stripped.out "--color always changes the text"
figures='^\[60 tokens, [1-4]\.[0-9][0-9] per pass, accepted [0-9]* [0-9]* [0-9]* %, [0-9]* tokens/s\]$'
[[ $(grep -c "$figures" "$scratch/drafts.err") == 3 ]] || fail "figures: $(cat "$scratch/drafts.err")"
figures='^\[60 tokens, 1\.00 per pass, [0-9]* tokens/s\]$'
[[ $(grep -c "$figures" "$scratch/plain.err") == 3 ]] || fail "figures of --plain: $(cat "$scratch/plain.err")"
chat other "$scratch/sequential" --max-tokens 60 --seed 2
if cmp -s "$scratch/drafts.out" "$scratch/other.out"; then fail "another seed gives the same text"; fi
chat none "$scratch/none" --max-tokens 300 --color always # and the conversation outgrows the context
[[ $(grep -c "\[300 tokens" "$scratch/none.err") == 3 ]] || fail "a long conversation: $(cat "$scratch/none.err")"
if grep -qF "$green" "$scratch/none.out"; then fail "colours without drafts"; fi

# A conversation goes on behind what was written: two short answers are one long one.
printf 'Line 1\n\n' >"$scratch/lines"
chat two "$scratch/sequential" --max-tokens 60 --temperature 0
printf 'Line 1\n' >"$scratch/lines"
chat one "$scratch/sequential" --max-tokens 120 --temperature 0
[[ $(tr -d '\n' <"$scratch/two.out") == "$(tr -d '\n' <"$scratch/one.out")" ]] || fail "an answer does not know the one before"

# At this temperature the noise alone writes, any bytes, and it is another for each answer.
noise=("$scratch/sequential" --max-tokens 60 --temperature 1e9)
printf '%0500d\n' 0 >"$scratch/lines"
chat noise "${noise[@]}"
printf '%0500d\n\n' 0 >"$scratch/lines"
chat more_noise "${noise[@]}"
cat "$scratch"/noise.out "$scratch/noise.out" >"$scratch/twice.out"
if cmp -s "$scratch/twice.out" "$scratch/more_noise.out"; then fail "two answers have the same noise"; fi
grep -qaF $'\xef\xbf\xbd' "$scratch/noise.out" || fail "bytes that are no characters are not replaced"
iconv -f UTF-8 -t UTF-8 "$scratch/noise.out" >"$scratch/ignored" || fail "what is written is not UTF-8"
printf 'Line 1\n\nThe model\n' >"$scratch/lines"

# ---- a stop string ------------------------------------------------------------------------------
# Text that the first answer has in its middle ends all answers that have it.
stop=$(head -c 30 "$scratch/drafts.out" | tail -c 4)
chat stopped "$scratch/sequential" --max-tokens 60 --stop "$stop"
if grep -qF -e "$stop" "$scratch/stopped.out"; then fail "the stop string is shown"; fi
if head -n 1 "$scratch/stopped.err" | grep -q "\[60 tokens"; then fail "the stop string does not end an answer"; fi
first=$(head -c 61 "$scratch/drafts.out")
[[ $(cat "$scratch/stopped.out") == "${first%%"$stop"*}"* ]] || fail "the text in front of the stop string is another"
chat held "$scratch/sequential" --max-tokens 60 --stop "$(tail -c 5 "$scratch/drafts.out" | head -c 4)~~"
equal drafts.out held.out "what may have been a stop string is missing at the end"

# ---- a terminal ---------------------------------------------------------------------------------
if command -v script >"$scratch/ignored"; then
  command="'$folder/chat' '$scratch/sequential' --max-tokens 60 --threads 1"
  timeout 60 script -qec "$command" /dev/null <"$scratch/lines" >"$scratch/terminal" || fail "on a terminal"
  grep -qF "$green" "$scratch/terminal" || fail "a terminal has no colours"
  NO_COLOR=1 timeout 60 script -qec "$command" /dev/null <"$scratch/lines" >"$scratch/terminal" || fail "NO_COLOR"
  grep -q "60 tokens" "$scratch/terminal" || fail "NO_COLOR: no answer: $(cat "$scratch/terminal")"
  if grep -qF "$green" "$scratch/terminal"; then fail "NO_COLOR has colours"; fi
  printf -v command "'%s' " "$folder/chat" "${noise[@]}" --color never
  timeout 60 script -qec "$command" /dev/null <"$scratch/lines" >"$scratch/terminal" || fail "noise on a terminal"
  # The terminal itself adds \r, and \b where it shows the end of the input.
  if tr -d '\n\t\r\b' <"$scratch/terminal" | LC_ALL=C grep -qa '[[:cntrl:]]'; then fail "control characters on a terminal"; fi
fi

# ---- Ctrl-C -------------------------------------------------------------------------------------
# Of four long answers the signal meets one. Between two it is ignored, as in whatever a script starts in the
# background; then again.
printf 'Line %d\n' 1 2 3 4 >"$scratch/four"
interrupted=0
for ((try = 0; try < 10 && interrupted == 0; ++try)); do
  : >"$scratch/four.out"
  "$folder/chat" "$scratch/none" --threads 1 --max-tokens 400 <"$scratch/four" >"$scratch/four.out" 2>"$scratch/four.err" &
  child=$!
  while [[ ! -s $scratch/four.out ]] && kill -0 "$child" 2>"$scratch/ignored"; do sleep 0.01; done
  kill -INT "$child" 2>"$scratch/ignored" || true
  status=0
  wait "$child" || status=$?
  child=
  ((status == 0)) || fail "SIGINT: exit status $status"
  [[ $(grep -c "tokens/s" "$scratch/four.err") == 4 ]] || fail "SIGINT: not all are answered: $(cat "$scratch/four.err")"
  interrupted=$(grep -c "interrupted" "$scratch/four.err") || true
done
if grep -q "400 tokens.*interrupted" "$scratch/four.err"; then fail "SIGINT does not end an answer"; fi
((interrupted == 1)) || fail "SIGINT: $interrupted answers are interrupted"

# ---- what is refused ----------------------------------------------------------------------------
refused() { # refused STATUS PATTERN ARGUMENT...
  local expected=$1 pattern=$2 status=0
  shift 2
  "$folder/chat" "$@" <"$scratch/lines" >"$scratch/refused.out" 2>"$scratch/refused.err" || status=$?
  ((status == expected)) || fail "chat $*: exit status $status, expected $expected"
  grep -q -e "$pattern" "$scratch/refused.err" || fail "chat $* does not say \"$pattern\": $(cat "$scratch/refused.err")"
  [[ ! -s $scratch/refused.out ]] || fail "chat $*: something on stdout"
}
refused 2 "there is no model in '$scratch/nothing'. scripts/demo trains" "$scratch/nothing"
refused 2 "there is no option '--wrong'" --wrong
refused 2 "max-tokens: expected 1 to 511, got 512" "$scratch/none" --max-tokens 512
refused 1 "stop_strings: expected strings of at least one byte" "$scratch/none" --stop ""
refused 1 "generate: expected top_p" "$scratch/none" --top-p 2
mkdir "$scratch/damaged"
head -c 1000 "$scratch/none/checkpoint.safetensors" >"$scratch/damaged/checkpoint.safetensors"
refused 1 "checkpoint.safetensors" "$scratch/damaged"
[[ $("$folder/chat" --help) == "chat [OPTION...]"* ]] || fail "--help"
if [[ -w /dev/full ]]; then
  status=0
  "$folder/chat" "$scratch/none" <"$scratch/lines" >/dev/full 2>"$scratch/refused.err" || status=$?
  ((status == 1)) || fail "a full disk: exit status $status"
  grep -q "standard output" "$scratch/refused.err" || fail "a full disk: $(cat "$scratch/refused.err")"
fi

((failures == 0))

# shellcheck shell=bash disable=SC2154  # who sources it sets what stands in small letters
# Steps of scripts/gpu_check: each ends at its own limit or at the deadline of all, and what it found is on disk as soon
# as it has ended. Sourced by scripts/gpu_check, which sets out, scratch, deadline, stage and the names of the machine.
#
#   steps.jsonl     a line of JSON for each step that has ended
#   measured.jsonl  a line for each benchmark, written by the benchmark itself
#   peers.jsonl     a line for each figure of a peer
#   log.txt         what the steps printed, the end of it where it is long
#   gpu_check_*.json  all of it: the record

longest_log=250000 # bytes of one step in log.txt
reserve=10         # seconds before the deadline that belong to the record

failed=()
running=() # process groups of the steps that have not ended

json_string() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$(tr -s '\000-\037' ' ' <<<"$text" | sed 's/ *$//')"
}

# The lines of a file that are whole objects of JSON without objects in them. One that was cut off is not.
whole_lines() {
  local string='"([^"\\]|\\.)*"' number='-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?' value pair
  value="($string|$number|null|true|false)"
  pair="$string: $value"
  grep -axE "\{$pair(, $pair)*\}" "$1" 2>/dev/null || true
}

# array_of FILE: its whole lines as an array
array_of() {
  whole_lines "$1" | sed '$!s/$/,/'
}

write_record() {
  {
    printf '{"device": %s, "driver": %s, "date": %s, "commit": %s,\n "stage": %s, "dry_run": %s, "seconds": %s,\n' \
      "$(json_string "$device")" "$(json_string "$driver")" "$(json_string "$date")" "$(json_string "$commit")" \
      "$stage" "$dry_run" "$SECONDS"
    printf ' "machine": [\n%s\n ],\n "steps": [\n%s\n ],\n "measured": [\n%s\n ],\n "peers": [\n%s\n ]}\n' \
      "$(array_of "$scratch/machine.jsonl")" "$(array_of "$out/steps.jsonl")" \
      "$(array_of "$out/measured.jsonl")" "$(array_of "$out/peers.jsonl")"
  } >"$record.new"
  mv "$record.new" "$record"
}

begin_record() {
  : >"$scratch/machine.jsonl"
  : >"$out/steps.jsonl"
  : >"$out/measured.jsonl"
  : >"$out/peers.jsonl"
  : >"$out/log.txt"
  write_record
}

# A program that was killed may have left half a line.
end_line() {
  [[ ! -s $1 || -z $(tail -c 1 "$1") ]] || echo >>"$1"
}

milliseconds() { date +%s%3N; }

# The seconds that a step with this limit of its own may take.
allowance() {
  local left=$((deadline - SECONDS - reserve))
  printf '%s\n' $((left < $1 ? left : $1))
}

# finish NAME STATUS BEGIN ALLOWANCE: puts on disk what a step found
finish() {
  local name=$1 status=$2 begin=$3 allowed=$4 log verdict took last
  log=$scratch/${name//\//_}.log
  took=$(($(milliseconds) - begin))
  case $status in
    0) verdict=passed ;;
    77) verdict=skipped ;;
    124 | 137) verdict="stopped after $allowed s" ;;
    *) verdict="failed with status $status" ;;
  esac
  last=$(grep -av '^ *$' "$log" 2>/dev/null | tail -n 1 | cut -c 1-300 || true)
  {
    printf '\n==== %s: %s\n' "$name" "$verdict"
    tail -c "$longest_log" "$log" 2>/dev/null || true
  } >>"$out/log.txt"
  end_line "$out/measured.jsonl"
  end_line "$out/peers.jsonl"
  printf '{"step": %s, "verdict": "%s", "status": %s, "seconds": %s.%03d, "last": %s}\n' \
    "$(json_string "$name")" "$verdict" "$status" $((took / 1000)) $((took % 1000)) "$(json_string "$last")" \
    >>"$out/steps.jsonl"
  say "$name: $verdict in $((took / 1000)).$((took % 1000 / 100)) s"
  case $status in
    0 | 77) ;;
    *) failed+=("$name") ;;
  esac
  write_record
}

# start NAME LIMIT COMMAND...: runs it beside what comes. Sets started; fails if no time is left.
start() {
  local name=$1 limit=$2 log
  shift 2
  log=$scratch/${name//\//_}.log
  limit=$(allowance "$limit")
  if ((limit < 1)); then
    echo "no time was left for it" >"$log"
    finish "$name" 77 "$(milliseconds)" 0
    return 1
  fi
  timeout --kill-after=3 "$limit" "$@" >"$log" 2>&1 </dev/null &
  started=$!
  name_of[started]=$name
  begins[started]=$(milliseconds)
  allowed_of[started]=$limit
  running+=("$started")
}

# collect PROCESS STATUS
collect() {
  local process=$1 status=$2 left=() each
  for each in "${running[@]}"; do
    [[ $each == "$process" ]] || left+=("$each")
  done
  running=("${left[@]+"${left[@]}"}")
  finish "${name_of[process]}" "$status" "${begins[process]}" "${allowed_of[process]}"
}
declare -a name_of begins allowed_of

# step NAME SECONDS COMMAND...: runs it for at most so long. Returns its status.
step() {
  local status=0
  start "$@" || return 0
  local process=$started
  wait "$process" || status=$?
  collect "$process" "$status"
  return "$status"
}

# one_of_the_running: waits until one of the steps that were started ends
one_of_the_running() {
  local process status=0
  wait -n -p process "${running[@]}" || status=$?
  collect "$process" "$status"
}

# On every end: nothing goes on, and the record has what there is.
stop_all() {
  local process
  for process in "${running[@]+"${running[@]}"}"; do
    kill -TERM "$process" 2>/dev/null || true
    {
      printf '\n==== %s: cut off\n' "${name_of[process]}"
      tail -c "$longest_log" "$scratch/${name_of[process]//\//_}.log" 2>/dev/null || true
    } >>"$out/log.txt"
  done
  running=()
}

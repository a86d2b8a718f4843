#!/usr/bin/env bash
# scripts/demo from outside: it goes on after an interruption, and gives up a finished run only if told.
set -euo pipefail

program="${MTP_EXAMPLES_DIR:?the folder of the built examples}/train_and_generate"
: "${MTP_SOURCE_DIR:?the root of the source tree}"
if [[ ! -x $program ]]; then
  echo "skipped: there is no $program"
  exit 77
fi

scratch=$(mktemp -d)
demo=
trap '[[ -z $demo ]] || kill -9 "$demo" "$(cat "$scratch/pid")" || true; rm -rf "$scratch"' EXIT

fail() {
  echo "FAILED: $*" >&2
  cat "$scratch/log" >&2
  exit 1
}

# The script in a tree of its own, with the program that is built already and nothing to install.
mkdir -p "$scratch"/{bin,scripts,build/release/examples}
cp "$MTP_SOURCE_DIR"/scripts/{demo,lib.sh} "$scratch/scripts"
for tool in bin/cmake scripts/setup; do
  printf '#!/bin/sh\n' >"$scratch/$tool"
  chmod +x "$scratch/$tool"
done
cat >"$scratch/build/release/examples/train_and_generate" <<END
#!/bin/sh
echo \$\$ >"$scratch/pid"
echo "\$*" >>"$scratch/commands"
exec "$program" "\$@"
END
chmod +x "$scratch/build/release/examples/train_and_generate"
export PATH=$scratch/bin:$PATH

for i in $(seq 1 300); do echo "Line $i of a text in which line $i comes after line $((i - 1))."; done \
  >"$scratch/text.txt"
arguments=(--text "$scratch/text.txt" --batch 1 --length 16 --steps 6 --save-every 1 --new-tokens 1 --prompt "Line")

run() { # run STATUS [ARGUMENT...]
  local expected=$1 status=0
  shift
  "$scratch/scripts/demo" "${arguments[@]}" "$@" >"$scratch/log" 2>&1 || status=$?
  ((status == expected)) || fail "demo $*: exit status $status, expected $expected"
}

# ---- interrupted in its first half --------------------------------------------------------------
"$scratch/scripts/demo" "${arguments[@]}" --steps 100000 >"$scratch/log" 2>&1 &
demo=$!
tries=0
while [[ ! -e $scratch/demo/parallel/checkpoint.safetensors ]] && ((tries++ < 3000)); do sleep 0.01; done
kill -INT "$(cat "$scratch/pid")" || fail "nothing to interrupt"
status=0
wait "$demo" || status=$?
demo=
((status == 130)) || fail "an interrupted demo: exit status $status"
[[ ! -e $scratch/demo/sequential ]] || fail "an interrupted demo began its second half"

# ---- the same with few steps, and on ------------------------------------------------------------
rm -r "$scratch/demo"
run 0 --head parallel
rm -r "$scratch/demo/sequential" "$scratch/demo/parallel/report.html" "$scratch/commands"
run 0 --resume
for head in parallel sequential; do
  [[ -s $scratch/demo/$head/report.html ]] || fail "--resume: no report of the $head half"
done
grep -q -- "--out demo/parallel .*--resume" "$scratch/commands" || fail "the first half was not resumed"

# ---- a finished demo ----------------------------------------------------------------------------
run 2
grep -q "holds a run already" "$scratch/log" || fail "a finished demo: nothing is said"
run 0 --overwrite

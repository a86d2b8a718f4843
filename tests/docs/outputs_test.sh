#!/usr/bin/env bash
# What pages show as the output of a program is what it prints. Above such a block stands
#   <!-- output of build/release/examples/NAME -->
# or, with a word behind it as in "NAME with AVX-512", it is what the program prints where that word is in its output.
# Words and signs must be the same. Numbers may differ by a hundredth, which is more than another
# processor's vectors make of them and less than a reader would notice; errors, which are written with
# an exponent, may be any. Programs of more than two seconds and such that print times have no mark.
set -euo pipefail

examples="${MTP_EXAMPLES_DIR:?the folder of the built examples}"
# shellcheck source-path=SCRIPTDIR source=pages.sh
source "$(dirname "$0")/pages.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# same_output SHOWN PRINTED
same_output() {
  awk '
    function is_number(word) { return word ~ /^-?[0-9]+(\.[0-9]+)?[,:%]?$/ }
    function is_error(word) { return word ~ /^[0-9](\.[0-9]+)?e-[0-9]+[,:]?$/ }
    function distance(a, b) { return a < b ? b - a : a - b }
    function size(a) { return a < 0 ? -a : a }
    NR == FNR { shown[FNR] = $0; lines = FNR; next }
    FNR > lines { printf "line %d is not shown: %s\n", FNR, $0; differs = 1; exit }
    {
      count = split(shown[FNR], words)
      same = count == NF
      for (i = 1; same && i <= NF; ++i) {
        if (words[i] == $i || (is_error(words[i]) && is_error($i))) continue
        same = is_number(words[i]) && is_number($i) && distance(words[i] + 0, $i + 0) <= 0.01 * size($i + 0)
      }
      if (!same) { printf "line %d is\n  %s\nand not\n  %s\n", FNR, $0, shown[FNR]; differs = 1; exit }
    }
    END {
      if (!differs && FNR < lines) { printf "line %d is not printed: %s\n", FNR + 1, shown[FNR + 1]; differs = 1 }
      exit differs
    }' "$1" "$2"
}

outputs=0
while IFS= read -r page; do
  extract "$page" "$scratch/blocks" || failures=$((failures + 1))
  while IFS=: read -r line program; do
    word=
    if [[ $program == *" with "* ]]; then
      word=${program#* with }
      program=${program%% with *}
    fi
    shown=$scratch/blocks/$((line + 1)).text
    if [[ ! -s $shown ]]; then
      failure "$page:$line" "no output stands behind this"
    elif [[ ! -x $examples/$program ]]; then
      echo "skipped: there is no $examples/$program"
      exit 77
    else
      outputs=$((outputs + 1))
      "$examples/$program" >"$scratch/printed" || failure "$page:$line" "$program fails"
      if [[ -n $word ]] && ! grep -qwF -e "$word" "$scratch/printed"; then
        echo "not compared: $program prints no '$word' here"
        continue
      fi
      same_output "$shown" "$scratch/printed" >"$scratch/difference" ||
        failure "$page:$line" "of what $program prints, $(<"$scratch/difference")"
    fi
  done < <(sed -nE 's|^<!-- output of build/release/examples/([^ ]+( with [^ ]+)?) -->$|\1|;T;=;p' "$page" | paste -d: - -)
done < <(pages)

((outputs > 0)) || failure "$MTP_SOURCE_DIR" "no page shows the output of a program"
finish

#!/usr/bin/env bash
# Blocks of code that are marked as excerpts are what stands in the files, line by line; and those
# files are built or run by this repository.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=pages.sh
source "$(dirname "$0")/pages.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# stands_in BLOCK FILE
stands_in() {
  awk '
    NR == FNR { block[NR] = $0; lines = NR; next }
    {
      at = 0
      # Places where the excerpt may have begun, each with the lines of it that are behind us.
      for (begin = FNR - lines + 1; begin <= FNR; ++begin) {
        if (begin == FNR) open[begin] = 1
        if ((begin in open) && block[FNR - begin + 1] != $0) delete open[begin]
      }
      if ((FNR - lines + 1) in open) { found = 1; exit }
      delete open[FNR - lines + 1]
    }
    END { exit !found }' "$1" "$2"
}

excerpts=0
while IFS= read -r page; do
  extract "$page" "$scratch/blocks" || failures=$((failures + 1))
  for mark in "$scratch"/blocks/*.excerpt; do
    [[ -e $mark ]] || continue
    file=$(<"$mark")
    line=$(basename "$mark" .excerpt)
    block=$(find "$scratch/blocks" -name "$line.*" ! -name '*.excerpt')
    excerpts=$((excerpts + 1))
    if [[ ! $file =~ ^(include|examples|benchmarks|tests|cmake|packaging)/ || ! -f $file ]]; then
      failure "$page:$line" "$file is no file that the build compiles or a test runs"
    elif [[ ! -s $block ]] || ! stands_in "$block" "$file"; then
      failure "$page:$line" "this is not what stands in $file"
    fi
  done
done < <(pages)

((excerpts > 0)) || failure "$MTP_SOURCE_DIR" "no page has an excerpt, not even README.md"
finish

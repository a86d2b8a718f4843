#!/usr/bin/env bash
# The tables about operations name what the headers have, and all of it: a row of docs/backends.md
# for every operation, a row for every size that models ask a backend for. Operations that other
# pages name exist.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=pages.sh
source "$(dirname "$0")/pages.sh"

# rows HEAD PAGE: the names in backticks that the rows of the table begin with whose head is HEAD
rows() {
  awk -v head="| $1 |" '
    index($0, head) == 1 { inside = 1; next }
    !/^\|/ { inside = 0 }
    inside && match($0, /^\| `[a-z_0-9]+` \|/) { print substr($0, 4, RLENGTH - 6) }' "$2" | LC_ALL=C sort -u
}

# same WHAT EXPECTED ACTUAL PAGE: two lists, a name a line
same() {
  local name
  [[ -n $2 && -n $3 ]] || failure "$4" "no $1 was found in the headers or in the table"
  while read -r name; do
    failure "$4" "the table lacks the $1 $name"
  done < <(LC_ALL=C comm -23 <(echo "$2") <(echo "$3"))
  while read -r name; do
    failure "$4" "the table has the $1 $name, which the headers do not have"
  done < <(LC_ALL=C comm -13 <(echo "$2") <(echo "$3"))
}

# calls MACRO: its first argument in every call
calls() {
  cat include/mtp/ops/*.hpp | grep -v '^#define' | tr '\n' ' ' |
    grep -oE "\<$1\( *[a-z_0-9]+" | sed 's/.*( *//' | LC_ALL=C sort -u
}

dispatched=$(calls MTP_DISPATCH)
declared=$(calls MTP_OPERATION)
same operation "$dispatched" "$(rows Operation docs/backends.md)" docs/backends.md
same operation "$dispatched" "$declared" include/mtp/ops

sizes=$(grep -rhoE 'ops(_of<Backend>)?::(template )?[a-z_]+_(workspace|storage)\>' \
  include/mtp/model include/mtp/loss include/mtp/train include/mtp/decode |
  sed -E 's/.*(::|template )//' | LC_ALL=C sort -u)
same size "$sizes" "$(rows Size docs/backends.md)" docs/backends.md

while IFS= read -r page; do
  # shellcheck disable=SC2016 # backticks of Markdown
  while read -r name; do
    grep -qx "$name" <<<"$dispatched" || grep -rqE "\<$name\(" include ||
      failure "$page" "there is no operation $name"
  done < <(grep -oE '`[a-z_]+_(forward|backward|backward_[a-z]+|cross_entropy)`' "$page" | tr -d '`' | sort -u)
done < <(pages)

finish

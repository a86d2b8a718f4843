#!/usr/bin/env bash
# In docs/consumption.md, a block of code behind the line <!-- FILE --> is that file, which other tests build.
set -euo pipefail

cd "${MTP_SOURCE_DIR:?must name the root of the source tree}"
page=docs/consumption.md

mapfile -t files < <(sed -nE 's/^<!-- (.*) -->$/\1/p' "$page")
((${#files[@]} >= 6)) || {
  echo "expected at least 6 blocks with a file in $page, found ${#files[@]}" >&2
  exit 1
}
for file in "${files[@]}"; do
  diff -u --label "$page" --label "$file" \
    <(awk -v mark="<!-- $file -->" '
        $0 == mark { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside' "$page") "$file"
done

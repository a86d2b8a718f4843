#!/usr/bin/env bash
# Links between the pages lead to files and headings that exist, every page and every picture is
# linked, and test cases that pages name are in the files that they name.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=pages.sh
source "$(dirname "$0")/pages.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

declare -A anchors=() # page#anchor
declare -A linked=()  # file -> a page that links it

# resolve PAGE TARGET: sets `path`, below the root and without dots
resolve() {
  path=$(realpath -ms --relative-to=. "$(dirname "$1")/$2")
}

mapfile -t pages < <(pages)
for page in "${pages[@]}"; do
  awk -f tests/docs/links.awk "$page" >"$scratch/found"
  while IFS=$'\t' read -r what line target name; do
    case $what in
      anchor) anchors[$page#$target]=1 ;;
      *) printf '%s\t%s\t%s\t%s\t%s\n' "$what" "$page" "$line" "$target" "$name" ;;
    esac
  done <"$scratch/found" >>"$scratch/links"
  # `anchors` survives: the loop above is no subshell.
done

# The text of a test file with its string literals joined.
joined() {
  awk '{ text = text $0 "\n" } END { gsub(/"[ \t]*\n[ \t]*"/, "", text); printf "%s", text }' "$1"
}

links=0
while IFS=$'\t' read -r what page line target name; do
  [[ $target != *://* && $target != mailto:* ]] || continue
  links=$((links + 1))
  if [[ $target == '#'* ]]; then
    path=$page
  else
    resolve "$page" "${target%%#*}"
  fi
  if [[ $path == ..* || ! -e $path ]]; then
    failure "$page:$line" "there is no $target"
    continue
  fi
  [[ $path == "$page" ]] || linked[$path]=$page
  if [[ $target == *'#'* && $path == *.md && -z ${anchors[$path#${target#*#}]:-} ]]; then
    failure "$page:$line" "$path has no heading #${target#*#}"
  fi
  if [[ $what == case ]]; then
    joined "$path" >"$scratch/joined"
    grep -qF -- "\"$name\"" "$scratch/joined" || failure "$page:$line" "$path has no case \"$name\""
  fi
done <"$scratch/links"

for file in "${pages[@]}" docs/pictures/*; do
  [[ $file == README.md || -n ${linked[$file]:-} ]] || failure "$file" "no page links to this"
done

((links > 0)) || failure "$MTP_SOURCE_DIR" "no page has a local link"
finish

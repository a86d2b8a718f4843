# shellcheck shell=bash
# Shared by the tests of this folder: the pages of documentation, and the blocks of code in them.

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
cd "$MTP_SOURCE_DIR" || exit

failures=0

# failure PLACE SENTENCE: says it and goes on; `finish` ends the test.
failure() {
  printf '%s: %s\n' "$1" "$2" >&2
  failures=$((failures + 1))
}

finish() {
  ((failures == 0)) || exit 1
}

# All pages, without what a build or the demo has left.
pages() {
  find . \( -name '.?*' -o -path './build*' -o -path ./demo \) -prune -o -name '*.md' -print | sed 's|^\./||' |
    LC_ALL=C sort
}

# extract PAGE FOLDER: each block as FOLDER/LINE.LANGUAGE, LINE being that of its fence. If it is
# marked as an excerpt,
#   <!-- path/to/file -->
#   a block
#   <!-- end of path/to/file -->
# then FOLDER/LINE.excerpt holds the file's path. Fails if the marks or the fences are wrong.
extract() {
  rm -rf "$2"
  mkdir -p "$2"
  awk -v folder="$2" -f "$MTP_SOURCE_DIR/tests/docs/blocks.awk" "$1"
}

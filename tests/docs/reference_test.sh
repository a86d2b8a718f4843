#!/usr/bin/env bash
# The reference builds without a warning, with the names that a reader looks for; and a public name
# without a comment is an error, wherever it stands.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
if ! command -v doxygen >/dev/null; then
  echo "doxygen was not found: the reference is not checked"
  exit 77
fi

fail() {
  echo "$1" >&2
  [[ ! -e $log ]] || tail -n 40 "$log" >&2
  exit 1
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log

mkdir "$folder/mtp"
tar -C "$MTP_SOURCE_DIR" -c --exclude=./build --exclude=./.git --exclude=./.deps --exclude=./demo . |
  tar -C "$folder/mtp" -x
cd "$folder/mtp"

cmake --workflow --preset docs >"$log" 2>&1 || fail "the preset docs failed"
if grep -E '(warning|error):' "$log"; then fail "the preset docs warned"; fi

# expect PAGE TEXT: the reference has the text on this page.
expect() {
  grep -qF -- "$2" "build/docs/html/$1" || fail "expected \"$2\" in build/docs/html/$1"
}
expect index.html "several tokens at once"
expect namespacemtp.html "linear_forward"
expect namespacemtp.html "linear_cross_entropy"
expect classmtp_1_1view.html "transpose"
expect classmtp_1_1generator.html "Stern et al."
expect structmtp_1_1sequential__head_1_1layout.html "visit"
expect structmtp_1_1model__config.html "num_key_value_heads"
expect structmtp_1_1cpu.html "language_model&lt;config, mtp::cpu&gt;"
expect classmtp_1_1cuda__context.html "synchronize"
expect namespacemtp_1_1io.html "save_checkpoint"
expect concepts.html "prediction_head"

cat >>include/mtp/core/arena.hpp <<'EOF'
namespace mtp::inline MTP_ABI {
void bare_function();
class bare_class {
  int number;
};
/// Has a comment, but its parts have none.
struct partly_bare {
  int bare_member;
  void bare_method();
};
enum class bare_choice { one };
/// With one, and here to see that it is no error.
template <scalar S>
requires(sizeof(S) > 2) constexpr void dressed() {}
}  // namespace mtp::inline MTP_ABI
EOF
if cmake --build --preset docs >"$log" 2>&1; then fail "names without comments were no error"; fi
for name in bare_function bare_class bare_member bare_method bare_choice; do
  grep -E 'error:.*is not documented' "$log" | grep -qw -- "$name" || fail "$name without a comment was no error"
done
if grep -w dressed "$log"; then fail "a name with a comment was an error"; fi

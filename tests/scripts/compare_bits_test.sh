#!/usr/bin/env bash
# scripts/compare_bits says what is equal and where two commits differ. With a compiler that makes programs
# of a few lines: what they write depends on one header of their tree.
set -euo pipefail

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"

type -P git >/dev/null || exit 77
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
repository=$scratch/repository
mkdir -p "$repository/tests/bits" "$repository/include"
cp -r "$MTP_SOURCE_DIR/scripts" "$repository"
[[ ! -d $MTP_SOURCE_DIR/.deps ]] || ln -s "$(realpath "$MTP_SOURCE_DIR/.deps")" "$repository/.deps"
cd "$repository"

cat >"$scratch/compiler" <<'END'
#!/usr/bin/env bash
set -euo pipefail
for word in "$@"; do
  [[ ${previous:-} != -o ]] || output=$word
  [[ $word != *.o ]] || object=$word
  [[ $word != -c ]] || compiles=yes
  [[ $word != *.cpp || -e $word ]]
  previous=$word
done
if [[ -n ${compiles:-} ]]; then
  cp include/value "$output"
  exit
fi
cat >"$output" <<PROGRAM
#!/usr/bin/env bash
mkdir -p "\$1/kind/f32"
cd "\$1/kind/f32"
printf 'step 1 norm 0x1p+0\nstep 2 norm %s\n' '$(<"$object")' >steps.txt
printf 'the same\n' >plain.txt
printf '\x10\0\0\0\0\0\0\0{"sum":"%s"}elements' '$(<"$object")' >checkpoint.safetensors
head -c 200000 /dev/zero >>checkpoint.safetensors # more than a pipe holds
PROGRAM
chmod +x "$output"
END
chmod +x "$scratch/compiler"
export CXX=$scratch/compiler CCACHE_DISABLE=1

git init --quiet
git config user.name test
git config user.email test@example.org
touch tests/bits/f32.cpp
for value in 0x1p-1 0x1p-2; do
  echo "$value" >include/value
  git add --all
  git commit --quiet --message "$value"
done

# expect STATUS WORDS ARGUMENT..: the script ends with this status and says these words
expect() {
  local status=0 said
  said=$(scripts/compare_bits "${@:3}" 2>&1) || status=$?
  if [[ $status != "$1" || $said != *"$2"* ]]; then
    printf 'compare_bits %s: expected status %s and "%s", got %s and\n%s\n' "${*:3}" "$1" "$2" "$status" "$said" >&2
    exit 1
  fi
}

expect 0 "-O1: equal: 3 files" --flags -O1 HEAD
expect 0 "-O3 -march=native: equal: 3 files" HEAD HEAD
expect 1 "line 2, step 2 .. word 4: before 0x1p-1, after 0x1p-2" --flags -O1 HEAD~1
expect 1 'header: > {"sum":"0x1p-2"}' --flags -O1 HEAD~1 HEAD
expect 1 "-O1: different: 2 of 3 files" --flags -O1 --only f32 HEAD~1
expect 2 "there is no commit nonsense" nonsense
expect 2 "does not build" --only f64 HEAD
expect 2 "usage" --jobs 0 HEAD
echo 0x1p-1 >include/value
expect 0 "equal" --flags -O1 HEAD~1 # the working tree
CXX=false expect 2 "does not build with -O2 before" HEAD
[[ $(git worktree list | wc -l) == 1 ]] || { echo "a worktree was left behind" >&2 && exit 1; }

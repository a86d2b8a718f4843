#!/usr/bin/env bash
# What pages tell their readers to type or to write into a CMakeLists.txt: programs, options, presets,
# CMake commands and targets exist; and CI runs the commands of README.md.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=pages.sh
source "$(dirname "$0")/pages.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Programs that are not the repository's.
known='^(apt|apt-get|c\+\+|cd|clang\+\+|cmake|cmp|conan|cp|ctest|cuobjdump|docker|doxygen|echo|export|g\+\+|git|gprof|less|ls|mkdir|mpirun|mv|ninja|nvcc|perf|pip|pkg-config|python3|rm|sbatch|srun|sudo|tar|time|unzip|vcpkg|xdg-open)$'

needs_gpu=scripts/gpu_check # the one command of README.md that CI cannot run

cmake --help-command-list >"$scratch/cmake_commands"
{
  cat .ci/run scripts/test # which .ci/run calls
  find tests -name '*.sh' ! -path 'tests/docs/*' -exec cat {} +
  cat tests/docs/reference_test.sh
} >"$scratch/run_in_ci"

# check_presets PLACE WORD...: a word behind --preset, or in --preset=NAME, is a preset
check_presets() {
  local place=$1 word expected=
  shift
  for word in "$@"; do
    if [[ $word == --preset=* ]]; then
      word=${word#--preset=}
      expected=yes
    fi
    if [[ -n $expected ]] && ! grep -qF "\"name\": \"$word\"" CMakePresets.json; then
      failure "$place" "there is no preset $word"
    fi
    expected=
    [[ $word != --preset ]] || expected=yes
  done
}

# sources_of PROGRAM: the files in which its options stand
sources_of() {
  case $1 in
    build/*/benchmarks/cuda/*_bench)
      [[ ! -f benchmarks/cuda/${1##*/}.cu ]] || printf '%s\n' "benchmarks/cuda/${1##*/}.cu" benchmarks/report scripts/gpu/stages.sh
      ;;
    build/*/benchmarks/*_bench) # with the options of Google Benchmark
      local folder=${1##*/}
      [[ ! -d benchmarks/${folder%_bench} ]] || printf '%s\n' benchmarks/report
      ;;
    build/*/examples/* | build/*/benchmarks/*)
      local below=${1#build/*/}
      find "${below%/*}" \( -path "$below/*" -o -path "$below.*" \) -type f 2>/dev/null || true
      ;;
    *) [[ ! -x $1 ]] || printf '%s\n' "$1" "$(dirname "$1")"/*.py ;;
  esac
}

# check_command PLACE COMMAND: one command of a shell
check_command() {
  local place=$1 words word program sources
  read -ra words <<<"$2"
  while [[ ${words[0]:-} =~ ^[A-Za-z_]+= || ${words[0]:-} == sudo ]]; do words=("${words[@]:1}"); done
  [[ ${#words[@]} != 0 ]] || return 0
  program=${words[0]#./}
  if [[ $program =~ ^(scripts/ranks|mpirun)$ ]]; then # another command stands behind the number of ranks
    local behind=2
    [[ ${words[1]:-} != -np ]] || behind=3
    if [[ ${words[behind - 1]:-} =~ ^[0-9]+$ ]]; then
      check_command "$place" "${words[*]:behind}"
      words=("${words[@]:0:behind}")
    fi
  fi
  if [[ $program == */* ]]; then
    mapfile -t sources < <(sources_of "$program")
    if [[ ${#sources[@]} == 0 ]]; then
      failure "$place" "$program is no program of this repository"
      return
    fi
    for word in "${words[@]:1}"; do
      [[ $word == --[a-z]* ]] || continue
      word=${word%%=*}
      grep -qsF -- "$word" "${sources[@]}" || # *.py may match nothing
        failure "$place" "$program does not know $word"
    done
  elif [[ ! $program =~ $known ]]; then
    failure "$place" "tests/docs/commands_test.sh does not know $program"
  fi
  case $program in
    cmake | ctest | scripts/test) check_presets "$place" "${words[@]}" ;;
  esac
  if [[ ${place%%:*} == README.md && $program != "$needs_gpu" ]]; then
    case $program in
      */*) word=$program ;;
      cmake) [[ "${words[*]}" == *"--workflow"* ]] && word="${words[*]}" || word=cmake ;;
      *) word=$program ;;
    esac
    grep -qF -- "$word" "$scratch/run_in_ci" || failure "$place" "neither .ci/run nor a test runs $word"
  fi
}

# check_shell PAGE LINE FILE
check_shell() {
  local text part number=$2
  bash -n "$3" 2>"$scratch/errors" || failure "$1:$2" "$(<"$scratch/errors")"
  while IFS= read -r text; do
    number=$((number + 1))
    while IFS= read -r part; do
      check_command "$1:$number" "$part"
    done < <(sed 's/ \(&&\|||\||\) /\n/g; s/; /\n/g' <<<"$text")
  done < <(sed 's/\(^\|[[:space:]]\)#.*//' "$3" | awk '
    # Lines that go on are joined, and leave empty ones behind, so that the others keep their number.
    { line = line $0 }
    /\\$/ { sub(/\\$/, " ", line); gap = gap "\n"; next }
    { printf "%s\n%s", line, gap; line = gap = "" }')
}

# check_mentioned PAGE: commands of this repository, and those with presets, within its lines
check_mentioned() {
  local number text
  # shellcheck disable=SC2016  # the backquotes are Markdown's
  while IFS=: read -r number text; do
    text=${text//\`/}
    check_command "$1:$number" "${text//\'/}"
  done < <(awk '/^```/ { inside = !inside } { print inside ? "" : $0 }' "$1" |
    grep -noE '`(\./)?(scripts/|\.ci/|cmake --|ctest -)[^`]*`')
}

# check_cmake PAGE LINE FILE
check_cmake() {
  local word
  # Behind return(), CMake reads a script and runs nothing of it.
  { echo 'return()' && cat "$3"; } >"$scratch/parsed.cmake"
  cmake -P "$scratch/parsed.cmake" >"$scratch/errors" 2>&1 || failure "$1:$2" "$(<"$scratch/errors")"
  while IFS= read -r word; do
    grep -qx -- "$word" "$scratch/cmake_commands" || grep -qF -- "function($word " cmake/{sweep,add_model}.cmake ||
      failure "$1:$2" "CMake has no command $word"
  done < <(sed 's/#.*//' "$3" | grep -oE '^ *[a-z_]+ *\(' | tr -d ' (' | tr '[:upper:]' '[:lower:]' |
    grep -vxE 'fetchcontent_(declare|makeavailable)' | sort -u)
  while IFS= read -r word; do
    grep -qF -- "add_library($word ALIAS" CMakeLists.txt || failure "$1:$2" "there is no target $word"
  done < <(sed 's/#.*//' "$3" | grep -oE 'mtp::[a-z_]+' | sort -u)
}

while IFS= read -r page; do
  check_mentioned "$page"
  extract "$page" "$scratch/blocks" || failures=$((failures + 1))
  for block in "$scratch"/blocks/*; do
    name=$(basename "$block")
    case $block in
      *.sh | *.bash | *.console) check_shell "$page" "${name%%.*}" "$block" ;;
      *.cmake) check_cmake "$page" "${name%%.*}" "$block" ;;
      *.cpp | *.text | *.excerpt | *.json | */\*) ;;
      *) failure "$page:${name%%.*}" "no test knows blocks of ${name#*.}" ;;
    esac
  done
done < <(pages)
finish

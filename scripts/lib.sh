# shellcheck shell=bash
# Shared by the scripts beside it. Sourcing it enters the root of the repository.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# shellcheck disable=SC2034  # used by those who source this file
jobs=$(nproc 2>/dev/null || echo 2)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# include_folder HEADER: the folder that has a dependency's header: what scripts/setup has fetched, what CMake is
# told of, or the system's
include_folder() {
  local folder
  for folder in .deps/usr/include .deps/usr/include/host \
    ${CMAKE_PREFIX_PATH:+"${CMAKE_PREFIX_PATH%%:*}/include"} /usr/local/include /usr/include; do
    [[ ! -e $folder/$1 ]] || { echo "$folder" && return; }
  done
  fail "$1 was not found; scripts/setup installs it"
}

# floor_of HEADER: $floor is the floor of a header, from its path below include/. The umbrella stands on the roof, and the
# other headers beside it (the version, forward declarations) on the ground.
# shellcheck disable=SC2034  # used by those who source this file
floor_of() {
  case $1 in
    mtp/core/*) floor=0 ;;
    mtp/ops/*) floor=1 ;;
    mtp/backend/*) floor=2 ;;
    mtp/model/* | mtp/loss/*) floor=3 ;;
    mtp/train/* | mtp/decode/* | mtp/io/* | mtp/distributed/*) floor=4 ;;
    mtp/tensor.hpp) floor=1 ;;
    mtp/mtp.hpp) floor=5 ;;
    mtp/*/*) floor=unknown ;;
    *) floor=0 ;;
  esac
}

# build_program LOG SOURCE FOLDER TARGET OPTION...: configures the project SOURCE in FOLDER and builds a program of it;
# if that fails, ends with the last lines of LOG
build_program() {
  local log=$1 source=$2 folder=$3 target=$4
  shift 4
  mkdir -p "$folder"
  if ! { cmake -S "$source" -B "$folder" -G Ninja "$@" && cmake --build "$folder" --target "$target"; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "the program $target was not built"
  fi
}

# convert_gguf CACHE FILE FOLDER OPTION...: makes a checkpoint from a GGUF file, whole or not at all, with a program
# that is compiled once in CACHE
convert_gguf() {
  local cache=$1 file=$2 folder=$3
  shift 3
  build_program "$cache/convert_gguf/log" examples/convert_gguf "$cache/convert_gguf" convert_gguf
  rm -rf "$folder" "$folder.part"
  if ! "$cache/convert_gguf/convert_gguf" "$file" "$folder.part" "$@"; then
    rm -rf "$folder.part"
    fail "$file was not converted"
  fi
  mv "$folder.part" "$folder"
}

# build_for EXAMPLE TARGET FOLDER SETTINGS OPTION...: builds a program of examples/EXAMPLE for the checkpoint in FOLDER,
# unless it was built with the same config.json and SETTINGS, a name for the OPTIONs of CMake. $program is its path.
build_for() {
  local example=$1 target=$2 folder=$3 settings=$4 key build
  shift 4
  [[ -e $folder/config.json ]] || fail "$folder has no config.json"
  scripts/setup >&2
  key=$(sha256sum "$folder/config.json" | head -c 16)
  build=${GENERATE_CACHE:-build/$example}/$key-$settings
  build_program "$build/log" "examples/$example" "$build" "$target" "-DCHECKPOINT=$folder" "$@"
  # shellcheck disable=SC2034  # used by those who source this file
  program=$(realpath "$build/$target")
}

# absolute FOLDER PATH: a path that was given in FOLDER
absolute() {
  if [[ $2 == /* ]]; then
    echo "$2"
  else
    echo "$1/$2"
  fi
}

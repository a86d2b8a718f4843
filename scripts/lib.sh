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

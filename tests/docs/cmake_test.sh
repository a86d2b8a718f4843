#!/usr/bin/env bash
# Blocks of CMake for a project that has a copy of the library in it configure, with a target `program`
# at hand. Blocks that look for an installed or downloaded library are left to the tests of consumption.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=pages.sh
source "$(dirname "$0")/pages.sh"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

configured=0
while IFS= read -r page; do
  extract "$page" "$scratch/blocks" || failures=$((failures + 1))
  for block in "$scratch"/blocks/*.cmake; do
    line=$(basename "$block" .cmake)
    if [[ ! -e $block || -e $scratch/blocks/$line.excerpt ]] ||
      sed 's/#.*//' "$block" | grep -qE '^ *(find_package|include|project|fetchcontent_.*) *\('; then
      continue
    fi
    rm -rf "$scratch/project"
    mkdir "$scratch/project"
    ln -s "$MTP_SOURCE_DIR" "$scratch/project/mtp"
    echo 'int main() {}' >"$scratch/project/program.cpp"
    {
      echo 'cmake_minimum_required(VERSION 3.25)'
      echo 'project(consumer LANGUAGES CXX)'
      echo 'add_executable(program program.cpp)'
      grep -q '^ *add_subdirectory(mtp)' "$block" || echo 'add_subdirectory(mtp)'
      # Without the CUDA Toolkit there is no mtp::cuda, as pages say.
      sed "s/mtp::cuda/\$<TARGET_NAME_IF_EXISTS:mtp::cuda>/" "$block"
    } >"$scratch/project/CMakeLists.txt"
    cmake -S "$scratch/project" -B "$scratch/project/build" -G Ninja >"$scratch/log" 2>&1 ||
      failure "$page:$line" "CMake does not configure this: $(<"$scratch/log")"
    configured=$((configured + 1))
  done
done < <(pages)

((configured > 0)) || failure "$MTP_SOURCE_DIR" "no page has a block of CMake to configure"
finish

#!/usr/bin/env bash
# The folder include by itself: its headers are the whole library. Here they are no system headers, so that warnings
# show; and the macros of some platforms, and flags that the library refuses, meet them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

cp -r "$MTP_SOURCE_DIR/include" include
eigen=$(eigen_headers)
compile=("${compiler[@]}" -std=c++20 -Iinclude -isystem "$eigen")

# ---- a program, without warnings also where functions are inlined into each other ----------------
quietly "${compile[@]}" -O1 -march=native "${warnings[@]}" -c "$consumer/main.cpp" -o main.o
quietly "$CXX" main.o -o program -pthread
[[ $(./program) == consumed ]] || fail "the program did not run to its end"
# g++ 12 warns about some concatenations of strings, and only at -O3.
quietly "${compile[@]}" -O3 -march=native "${warnings[@]}" -c "$consumer/main.cpp" -o main.o
quietly "${compile[@]}" -O3 "${warnings[@]}" -c "$consumer/find_package/checkpoint.cpp" -o checkpoint.o

# ---- macros min and max ------------------------------------------------------------------------
# On platforms that have them, the standard library and nlohmann's bear them. These here need not, so they come first;
# Eigen does bear them, but for <complex>.
{
  grep -rhoE '^#include <[^>]+>' include --include='*.hpp' | grep -vE '<(Eigen/.*|mpi\.h)>' | sort -u
  echo '#include <complex>'
  echo '#define min(a, b) ((a) < (b) ? (a) : (b))'
  echo '#define max(a, b) ((a) < (b) ? (b) : (a))'
  (cd include && find mtp -name '*.hpp' ! -path 'mtp/distributed/mpi*' | sort | sed 's/.*/#include "&"/')
} >macros.cpp
quietly "${compile[@]}" -fsyntax-only macros.cpp

# ---- -ffast-math is refused --------------------------------------------------------------------
sentence='mtp: -ffast-math and -ffinite-math-only are refused, because'
echo '#include "mtp/core/error.hpp"' >any.cpp
for program in "$CXX" g++ clang++; do
  command -v "$program" >/dev/null || continue
  quietly "$program" -std=c++20 -Iinclude -fsyntax-only any.cpp
  for flag in -ffast-math -ffinite-math-only -Ofast; do
    ! "$program" -std=c++20 -Iinclude "$flag" -fsyntax-only any.cpp 2>errors.txt ||
      fail "$program accepts $flag"
    grep -q -e "$sentence" errors.txt || fail "$program $flag: $(cat errors.txt)"
  done
done

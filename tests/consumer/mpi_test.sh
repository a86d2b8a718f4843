#!/usr/bin/env bash
# mtp::mpi where there is an MPI: a project that asks for it is built, and runs as several processes.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

[[ -n ${MPIEXEC:-} && $MPIEXEC != *NOTFOUND ]] || skip "MPI was not found"

install_library "$scratch/prefix"
export CMAKE_PREFIX_PATH=$scratch/prefix:${CMAKE_PREFIX_PATH:-}
cp "$consumer"/mpi/* .
quietly cmake -S . -B build "-DCMAKE_CXX_FLAGS=${warnings[*]}"
quietly cmake --build build
for ranks in 1 3; do
  said=$("$MTP_SOURCE_DIR/scripts/ranks" "$ranks" build/program)
  [[ $said == "$ranks ranks, sum $((ranks * (ranks - 1) / 2))" ]] || fail "$ranks ranks said: $said"
done

# A project that does not ask for it does without.
mkdir other
cat >other/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(other LANGUAGES CXX)
find_package(mtp REQUIRED)
if(TARGET mtp::mpi OR TARGET MPI::MPI_CXX)
  message(FATAL_ERROR "MPI was searched for")
endif()
END
quietly cmake -S other -B other/build

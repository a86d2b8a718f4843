#!/usr/bin/env bash
# find_package after an installation that was moved to another place: nothing but the prefix is used.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

install_library "$scratch/first"
mv first prefix
export CMAKE_PREFIX_PATH=$scratch/prefix:${CMAKE_PREFIX_PATH:-}

# ---- every header is there, and no other --------------------------------------------------------
headers() { (cd "$1" && find . -type f | sort); }
diff <(headers "$MTP_SOURCE_DIR/include") <(headers prefix/include) ||
  fail "what is installed is not what include/ holds"
! grep -rl -e "$MTP_SOURCE_DIR" -e "$scratch/first" prefix/share ||
  fail "these files name a folder of the machine that installed them"

# ---- a program, and a checkpoint ----------------------------------------------------------------
cp "$consumer"/find_package/* .
build_and_run "$@"
check_build_type
build/checkpoint || fail "the checkpoint was not read as it was written"

# ---- nothing leaks ------------------------------------------------------------------------------
quietly cmake -S "$consumer/leaks" -B leaks

# ---- what is not there, is refused --------------------------------------------------------------
refused() { # refused SENTENCE ARGUMENT-OF-FIND_PACKAGE...
  local sentence=$1
  shift
  mkdir -p refused
  cat >refused/CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.25)
project(refused LANGUAGES CXX)
find_package(mtp $* REQUIRED)
END
  ! cmake -S refused -B refused/build "${configuration[@]}" >output.txt 2>&1 ||
    fail "find_package accepted: $*"
  grep -q -e "$sentence" <<<"$(tr -s ' \n' ' ' <output.txt)" ||
    fail "find_package($*) does not say \"$sentence\": $(cat output.txt)"
}
configuration=()
refused 'requested version "99"' 99
refused 'mtp has the components io, cuda, mpi and nccl, and no imaginary' COMPONENTS imaginary
configuration=(-DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON)
refused 'the component io of mtp needs nlohmann_json, which was not found' COMPONENTS io
configuration=(-DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON)
refused 'the component mpi of mtp needs MPI, which was not found' COMPONENTS mpi
configuration=(-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON)
refused 'the component nccl of mtp needs the CUDA Toolkit and NCCL, which was not found' COMPONENTS nccl

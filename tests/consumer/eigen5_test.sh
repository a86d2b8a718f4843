#!/usr/bin/env bash
# The library with Eigen 5, where the CMake variable MTP_EIGEN5 names a prefix that holds one.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

[[ -n ${MTP_EIGEN5:-} ]] || skip "the CMake variable MTP_EIGEN5 names no prefix with Eigen 5"
export CMAKE_PREFIX_PATH=$MTP_EIGEN5:${CMAKE_PREFIX_PATH:-}
grep -qr 'EIGEN_MAJOR_VERSION 5' "$(eigen_headers)"/Eigen/{Version,src/Core/util/Macros.h} ||
  fail "the Eigen that CMake finds is not Eigen 5: $(eigen_headers)"

install_library "$scratch/prefix"
export CMAKE_PREFIX_PATH=$scratch/prefix:$CMAKE_PREFIX_PATH
cp "$consumer"/find_package/* .
build_and_run -DCMAKE_BUILD_TYPE=Release
build/checkpoint || fail "the checkpoint was not read as it was written"
nm --demangle build/program >symbols.txt
grep -q 'eigen_3_5_' symbols.txt || fail "the program was not compiled with Eigen 5"

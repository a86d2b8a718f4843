#!/usr/bin/env bash
# The version stands in config.hpp. Whatever must repeat it says the same.
set -euo pipefail

cd "${MTP_SOURCE_DIR:?must name the root of the source tree}"
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

number() { sed -nE "s/^#define MTP_VERSION_$1 ([0-9]+)$/\1/p" include/mtp/core/config.hpp; }
major=$(number MAJOR)
minor=$(number MINOR)
version=$major.$minor.$(number PATCH)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "config.hpp has no version, but \"$version\""

# Before 1.0, layouts may change with each minor version.
abi=$(sed -nE 's/^#define MTP_ABI (.*)$/\1/p' include/mtp/core/config.hpp)
expected=v$major
((major > 0)) || expected=v${major}_$minor
[[ $abi == "$expected" ]] || fail "MTP_ABI is $abi and should be $expected"

configured=$(sed -nE 's/^CMAKE_PROJECT_VERSION:[A-Z]*=(.*)$/\1/p' "${MTP_EXAMPLES_DIR:?}/../CMakeCache.txt")
[[ $configured == "$version" ]] || fail "CMake takes the version for \"$configured\", not $version"

packaged=$(sed -nE 's/^ *"version": "(.*)",?$/\1/p' packaging/vcpkg/ports/mtp/vcpkg.json)
[[ $packaged == "$version" ]] || fail "vcpkg.json says \"$packaged\", config.hpp $version"

for consumer in tests/consumer/{find_package,cuda}/CMakeLists.txt; do
  grep -q "find_package(mtp $major.$minor " "$consumer" || fail "$consumer asks for another version"
done

#!/usr/bin/env bash
# pkg-config after an installation that was moved to another place, without CMake.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

command -v pkg-config >/dev/null || skip "there is no pkg-config"
pkg-config --exists eigen3 || skip "pkg-config does not know Eigen"

install_library "$scratch/first"
mv first prefix
export PKG_CONFIG_PATH=$scratch/prefix/share/pkgconfig

[[ $(pkg-config --modversion mtp) == [0-9]*.[0-9]*.[0-9]* ]] || fail "mtp.pc has no version"
read -ra flags < <(pkg-config --cflags --libs mtp)
found=
for flag in "${flags[@]}"; do
  [[ ! -e ${flag#-I}/mtp/mtp.hpp ]] || found=$flag
  [[ $flag =~ ^(-I|-isystem|-pthread$|-lpthread$) ]] || fail "pkg-config brings $flag"
done
[[ -n $found ]] || fail "no -I for the moved prefix: ${flags[*]}"
if pkg-config --exists nlohmann_json; then
  pkg-config --exists mtp-io || fail "mtp-io.pc is not usable"
fi

quietly "${compiler[@]}" -std=c++20 "${warnings[@]}" -c "$consumer/main.cpp" -o main.o "${flags[@]}"
quietly "$CXX" main.o -o program "${flags[@]}"
[[ $(./program) == consumed ]] || fail "the program did not run to its end"

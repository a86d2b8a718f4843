#!/usr/bin/env bash
# add_subdirectory: the library as a folder of the consumer's project.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

copy_library mtp
cp "$consumer"/add_subdirectory/* .
build_and_run "$@"
check_build_type

# ---- nothing leaks: no variable, target, test, flag, and nothing to install ---------------------
mkdir leaks
cp "$consumer"/leaks/* leaks
ln -s ../mtp leaks/mtp
quietly cmake -S leaks -B leaks/build
[[ $(ctest --test-dir leaks/build -N | tail -n 1) == "Total Tests: 0" ]] || fail "there are tests"
quietly cmake --build leaks/build
grep -q "no work to do" output.txt || fail "something is built: $(cat output.txt)"
quietly cmake --install leaks/build --prefix installed
[[ ! -e installed ]] || fail "something is installed: $(find installed -type f)"

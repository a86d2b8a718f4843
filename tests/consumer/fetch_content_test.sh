#!/usr/bin/env bash
# FetchContent, of an archive beside the project.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

copy_library mtp
tar -czf mtp.tar.gz mtp
rm -r mtp
cp "$consumer"/fetch_content/* .
build_and_run "$@"

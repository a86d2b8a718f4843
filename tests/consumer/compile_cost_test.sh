#!/usr/bin/env bash
# Compile time and memory stay within the budget that scripts/compile_cost states.
set -euo pipefail

exec "${MTP_SOURCE_DIR:?must name the root of the source tree}/scripts/compile_cost" --check

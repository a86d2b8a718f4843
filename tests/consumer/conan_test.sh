#!/usr/bin/env bash
# The Conan recipe, where there is a Conan.
set -euo pipefail

exec "${MTP_SOURCE_DIR:?must name the root of the source tree}/packaging/conan/check"

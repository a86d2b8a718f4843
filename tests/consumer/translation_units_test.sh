#!/usr/bin/env bash
# The same model in several translation units: they link, also if one is compiled for other processors, and extern
# template leaves the model's code to one of them.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

eigen=$(eigen_headers)
compile=("${compiler[@]}" -std=c++20 "-I$MTP_SOURCE_DIR/include" -isystem "$eigen" "${warnings[@]}")
symbols() { nm --demangle --defined-only --format=posix "$1" | sed 's/ [A-Za-z] [0-9a-f ]*$//' | sort -u; }

# ---- one model, several units ------------------------------------------------------------------
other=()
[[ $(uname -m) != x86_64 ]] || other=(-mavx2 -mfma)
quietly "${compile[@]}" -DFUNCTION=first -c "$consumer/units/decode.cpp" -o first.o
quietly "${compile[@]}" -DFUNCTION=second -c "$consumer/units/decode.cpp" -o second.o
quietly "${compile[@]}" "${other[@]}" -DFUNCTION=wide -c "$consumer/units/decode.cpp" -o wide.o
quietly "${compile[@]}" "$consumer/units/main.cpp" first.o second.o wide.o -o program -pthread
./program || fail "the units do not run"

# A processor with all instructions, and Eigen told not to use its vectors.
[[ $(uname -m) != x86_64 ]] || quietly "${compile[@]}" -march=sapphirerapids -DEIGEN_DONT_VECTORIZE \
  -DFUNCTION=first -fsyntax-only "$consumer/units/decode.cpp"

# All that depends on vectors has another name in the unit with other vectors.
own='mtp::.*eigen_[0-9_]*_align_'
for unit in first wide; do
  symbols $unit.o | grep -e "$own" >$unit.txt || fail "$unit.o has no symbols of the CPU backend"
done
if [[ ${#other[@]} != 0 ]]; then
  shared=$(comm -12 first.txt wide.txt)
  [[ -z $shared ]] || fail "both units have these symbols: $shared"
  # What is not named after the backend must be free of it: no operation, no model, no thread pool.
  comm -12 <(symbols first.o) <(symbols wide.o) | grep -e '^mtp::\| mtp::' >both.txt || true
  ! grep -E 'cpu_|::ops|language_model|decoder|generator' both.txt ||
    fail "these are shared and should not be"
fi

# An object of the backend does not cross over.
cat >object.cpp <<'END'
#include "mtp/backend/cpu/context.hpp"
int use(mtp::cpu_context& context);
#ifdef USER
int main() {
  mtp::cpu_context context({.threads = 1});
  return use(context);
}
#else
int use(mtp::cpu_context& context) { return context.threads() - 1; }
#endif
END
quietly "${compile[@]}" -DUSER -c object.cpp -o user.o
quietly "${compile[@]}" -c object.cpp -o same.o
quietly "$CXX" user.o same.o -o same -pthread
if [[ ${#other[@]} != 0 ]]; then
  quietly "${compile[@]}" "${other[@]}" -c object.cpp -o other.o
  ! "$CXX" user.o other.o -o other -pthread 2>errors.txt || fail "an object went into the other unit"
  grep -q 'undefined reference.*use(' errors.txt || fail "$(cat errors.txt)"
fi

# ---- extern template ----------------------------------------------------------------------------
quietly "${compile[@]}" -c "$consumer/extern_template/model.cpp" -o model.o
quietly "${compile[@]}" -O2 -c "$consumer/extern_template/program.cpp" -o user.o
quietly "$CXX" user.o model.o -o extern_template -pthread
./extern_template || fail "the model of the other unit does not run"
operations='(linear|rms_norm|swiglu|embedding)_(forward|backward)|adamw_update|model_loss<.*::(with|add)'
[[ $(symbols model.o | grep -cE "$operations") -gt 5 ]] || fail "model.o does not have the model's code"
! symbols user.o | grep -E "$operations" || fail "user.o has code of the model"

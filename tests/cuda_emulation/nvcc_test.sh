#!/usr/bin/env bash
# The kernels of the emulation's tests are CUDA: nvcc compiles them for devices, without warnings.
set -euo pipefail

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [[ ! -x $nvcc ]]; then
  echo "nvcc was not found"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/kernels.cu" <<'END'
#include "cuda_emulation/kernels.cuh"

namespace mtp::test {
template __global__ void reduce_kernel<float>(const float*, int, float*, float*);
template __global__ void reduce_kernel<double>(const double*, int, double*, double*);
template __global__ void product_kernel<2>(
    const std::uint16_t*, const std::uint16_t*, float*, int, int, int);
template __global__ void other_functions_kernel<4>(const uint4*, uint4*, float*);
template __global__ void other_functions_kernel<8>(const uint4*, uint4*, float*);
template __global__ void other_functions_kernel<16>(const uint4*, uint4*, float*);
}  // namespace mtp::test
END

for architecture in sm_80 sm_90a; do
  "$nvcc" -std=c++20 "-arch=$architecture" -Werror all-warnings -Xcompiler -Wall,-Wextra \
    "-I$MTP_SOURCE_DIR/include" "-I$MTP_SOURCE_DIR/tests" -cubin -o "$folder/kernels.cubin" \
    "$folder/kernels.cu"
done

# A host compiler alone is told what is missing.
status=0
"$CXX" -std=c++20 "-I$MTP_SOURCE_DIR/include" "-I$(dirname "$nvcc")/../include" -fsyntax-only \
  -x c++ - <<<'#include <mtp/backend/cuda/device.cuh>' 2>"$folder/errors" || status=$?
if [[ $status == 0 ]] || ! grep -q 'compile this file as CUDA, with nvcc' "$folder/errors"; then
  cat "$folder/errors"
  echo "device.cuh should refuse a compiler that does not know CUDA"
  exit 1
fi

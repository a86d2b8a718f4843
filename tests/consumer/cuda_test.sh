#!/usr/bin/env bash
# mtp::cuda where there is a CUDA Toolkit: a project that asks for it can be configured.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
[[ -x $nvcc ]] || skip "nvcc was not found"
export CUDACXX=$nvcc

install_library "$scratch/prefix"
export CMAKE_PREFIX_PATH=$scratch/prefix:${CMAKE_PREFIX_PATH:-}
cp "$consumer"/cuda/* .
touch main.cu
quietly cmake -S . -B build -DCMAKE_CUDA_ARCHITECTURES=80 -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
grep -q -e '-std=c++20' build/compile_commands.json || fail "nvcc is not told which C++: $(cat build/compile_commands.json)"
grep -q -e "$scratch/prefix/include" build/compile_commands.json || fail "nvcc does not see the headers"
grep -q cublasLt build/build.ninja || fail "the program is not linked with cuBLASLt"

# ---- mtp::nccl, where there is a header and a library of that name ------------------------------
mkdir -p nccl/include nccl/lib project
touch nccl/include/nccl.h nccl/lib/libnccl.so project/main.cu
sed 's/COMPONENTS cuda/COMPONENTS nccl/; s/mtp::cuda/mtp::nccl/' CMakeLists.txt >project/CMakeLists.txt
export CMAKE_PREFIX_PATH=$scratch/nccl:$CMAKE_PREFIX_PATH
quietly cmake -S project -B nccl/build -DCMAKE_CUDA_ARCHITECTURES=80 -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
grep -q -e "$scratch/nccl/include" nccl/build/compile_commands.json || fail "nvcc does not see NCCL's header"
grep -q -e "$scratch/nccl/lib/libnccl.so" nccl/build/build.ninja || fail "the program is not linked with NCCL"

# shellcheck shell=bash disable=SC2154  # who sources it sets what stands in small letters
# What this machine has, looked for rather than assumed. Sourced by scripts/gpu_check.

# found NAME TEXT: notes it for the record
found() {
  printf '{"what": "%s", "is": %s}\n' "$1" "$(json_string "$2")" >>"$scratch/machine.jsonl"
}

# find_in_path NAME PLACE...: the first that can be run, also where PATH does not lead
find_in_path() {
  local place
  for place in "$@"; do
    if have "$place"; then
      command -v "$place"
      return
    fi
  done
}

first_line() { "$@" 2>/dev/null | grep -am 1 . || echo "does not answer"; }

# A Python with PyTorch that sees the GPU; the first that there is.
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 /opt/*/.venv/bin/python3 /opt/*/bin/python3 /usr/bin/python3; do
    if [[ -n $candidate ]] && have "$candidate" && "$candidate" -c 'import torch' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}

# The folder of cuBLASLt: programs that were built elsewhere are told by LD_LIBRARY_PATH.
find_cublaslt() {
  local folder
  for folder in /usr/local/cuda/lib64 /usr/local/cuda/targets/*/lib /usr/lib/x86_64-linux-gnu \
    /opt/*/.venv/lib/python3*/site-packages/nvidia/{cu13,cublas}/lib; do
    if [[ -e $folder/libcublasLt.so.13 ]]; then
      printf '%s\n' "$folder"
      return
    fi
  done
}

probe() {
  PATH=$PATH:/usr/local/cuda/bin
  export PATH
  nvcc=$(find_in_path "${CUDACXX:-nvcc}" /usr/local/cuda/bin/nvcc)
  sanitizer=$(find_in_path compute-sanitizer /usr/local/cuda/bin/compute-sanitizer)
  profiler=$(find_in_path ncu /usr/local/cuda/bin/ncu /opt/nvidia/nsight-compute/*/ncu)
  python=$(find_python)
  local products
  products=$(find_cublaslt)
  if [[ -n $products ]]; then
    export LD_LIBRARY_PATH=$products${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
  found processor "$(grep -m 1 'model name' /proc/cpuinfo | cut -d : -f 2), $jobs cores"
  found system "$(uname -sr), $(first_line ldd --version)"
  found g++ "$(first_line g++ --version)"
  found cmake "$(first_line cmake --version)"
  found nvcc "${nvcc:+$("$nvcc" --version | grep -a release)}"
  found cublasLt "${products:-not found}"
  found cublasLt_header "$(find /usr/local/cuda/include /usr/local/cuda/targets/*/include -maxdepth 1 \
    -name cublasLt.h 2>/dev/null | grep -m 1 . || echo not found)"
  found compute-sanitizer "${sanitizer:-not found}"
  found ncu "${profiler:+$(first_line "$profiler" --version)}"
  found python "${python:+$python, PyTorch $("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null)}"
  if ! $dry_run; then
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu \
      --format=csv
    found clocks "$(nvidia-smi --query-gpu=clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu \
      --format=csv,noheader)"
  fi
  cat "$scratch/machine.jsonl"
}

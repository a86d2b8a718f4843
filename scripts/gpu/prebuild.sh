# shellcheck shell=bash disable=SC2154  # who sources it sets what stands in small letters
# Building the programs of scripts/gpu_check, ahead or on the machine with the GPU. Sourced by it.

gpu_targets=(core_gpu_test cuda_gpu_test decode_gpu_test docs_gpu_test model_gpu_test ops_gpu_test train_and_generate)

# build_programs FOLDER [OPTIONS...]: for Hopper, file by file: a unity build would make a few files of all kernels. Warnings
# are no errors, because the host's compiler is not known.
build_programs() {
  local folder=$1 file targets=("${gpu_targets[@]}")
  shift
  for file in benchmarks/cuda/*_bench.cu; do
    targets+=("cuda_$(basename "$file" .cu)")
  done
  cmake --preset cuda -B "$folder" -DCMAKE_CUDA_ARCHITECTURES=90a-real -DCMAKE_UNITY_BUILD=OFF -DMTP_WERROR=OFF \
    -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON -DMTP_NATIVE=OFF "-DCMAKE_CUDA_FLAGS=-Xfatbin=-compress-all" "$@" || return
  # Where CMake found NCCL.
  ! cmake --build "$folder" --target help | grep -q '^nccl_alone:' || targets+=(nccl_alone)
  cmake --build "$folder" --parallel "$jobs" --target "${targets[@]}"
}

# pack_programs FOLDER DIR: what was built in FOLDER as DIR/programs.tar.gz, with the shared libraries that a machine with
# CUDA may lack
pack_programs() {
  local folder=$1 packed=$2 place file library
  place=$(mktemp -d)
  # shellcheck disable=SC2064  # the value of now
  trap "rm -rf '$place'" EXIT
  mkdir "$place/lib"
  for file in "$folder"/tests/gpu/{*_gpu_test,nccl_alone} "$folder"/benchmarks/cuda/*_bench "$folder"/examples/train_and_generate; do
    [[ -x $file ]] || continue
    cp "$file" "$place/"
    strip "$place/$(basename "$file")"
    # CUDA's own and those of the C library are there already.
    while IFS= read -r library; do
      cp -L "$library" "$place/lib/"
    done < <(ldd "$file" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' |
      grep -vE '/(libcublas|libcudart|libc\.|libm\.|libdl\.|librt\.|libpthread\.|ld-)' || true)
  done
  {
    git log -1 --format='commit %H'
    git status --porcelain --untracked-files=no
    nvcc --version | grep release
  } >"$place/built.txt"
  mkdir -p "$packed"
  tar -czf "$packed/programs.tar.gz" -C "$place" .
}

# build_ahead DIR
build_ahead() {
  local folder=$PWD/build/gpu-ahead
  have nvcc || PATH=$PATH:/usr/local/cuda/bin
  have nvcc || fail "nvcc was not found"
  # shellcheck disable=SC2016  # the loader's variable
  build_programs "$folder" -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON '-DCMAKE_INSTALL_RPATH=$ORIGIN/lib' \
    '-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc'
  pack_programs "$folder" "$1"
  say "$1/programs.tar.gz: $(du -h "$1/programs.tar.gz" | cut -f 1), built in $SECONDS s"
}

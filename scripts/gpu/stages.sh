# shellcheck shell=bash disable=SC2154  # who sources it sets what stands in small letters
# What scripts/gpu_check does in its two stages. Sourced by it, behind steps.sh and machine.sh.
#
# Programs are those that were built ahead, or those of this build folder. A dry run takes the same steps: tests of operations
# run their first case under the emulation, those of whole models and benchmarks list what they have, tools say what they are.

# program NAME: where it is
program() {
  local place
  for place in "$programs/$1" "$programs"/{tests/gpu,tests,benchmarks/cuda,examples}/"$1"; do
    if [[ -x $place && ! -d $place ]]; then
      printf '%s\n' "$place"
      return
    fi
  done
  return 1
}

missing() {
  printf '%s was not built\n' "$1"
  return 77
}
export -f missing

# tests NAME SECONDS: the cases of tests/NAME_test.cu, with all that is printed about failures
start_tests() {
  local name=$1 limit=$2 suffix=gpu_test options=() test
  if $dry_run; then
    suffix=emulated_test
    options=(--last=1)
    [[ $name != model/* ]] || options=(--list-test-cases)
    limit=60 # of a processor, not of a GPU
  fi
  if test=$(program "${name%%/*}_$suffix"); then
    start "$name" "$limit" "$test" "--source-file=*/tests/${name}_test.*" "${options[@]}"
  else
    start "$name" "$limit" bash -c "missing ${name%%/*}_$suffix"
  fi
}

run_tests() {
  if start_tests "$@"; then
    one_of_the_running
    failing_cases_alone "$1"
  fi
}

# The cases that failed in the tests NAME, once more, one by one, with a wait behind each launch.
failing_cases_alone() {
  local name=$1 log test case number=0
  $dry_run && return
  [[ " ${failed[*]} " == *" $name "* ]] || return 0
  log=$scratch/${name//\//_}.log
  test=$(program "${name%%/*}_gpu_test") || return 0
  while IFS= read -r case; do
    ((++number <= 3)) || break
    step "$name, alone $number" 15 env CUDA_LAUNCH_BLOCKING=1 "$test" "--source-file=*/tests/${name}_test.*" \
      "--test-case=${case//[,*]/?}" || true
  done < <(grep -a '^TEST CASE:' "$log" | sed 's/^TEST CASE: *//' | sort -u)
}

# All operations, four at a time; a hang costs its own limit only.
operation_tests() {
  local file name tests=() limit=20
  for file in tests/ops/*_test.cu; do
    name=${file#tests/}
    tests+=("${name%_test.cu}")
  done
  for name in "${tests[@]}"; do
    while ((${#running[@]} >= 4)); do
      one_of_the_running
    done
    start_tests "$name" "$limit" || true
  done
  while ((${#running[@]} > 0)); do
    one_of_the_running
  done
  for name in "${tests[@]}"; do
    failing_cases_alone "$name"
  done
}

# bench NAME SECONDS PROGRAM FILTER [OPTIONS...]
bench() {
  local name=$1 limit=$2 file=$3 filter=$4 executable
  shift 4
  if ! executable=$(program "$file"); then
    step "$name" "$limit" bash -c "missing $file" || true
  elif $dry_run; then
    step "$name" "$limit" "$executable" --benchmark_list_tests "--benchmark_filter=$filter" || true
  else
    step "$name" "$limit" "$executable" "--lines=$out/measured.jsonl" "--benchmark_filter=$filter" \
      --benchmark_min_time=0.05 "$@" || true
  fi
}

# NCCL itself with the one GPU, where CMake found it when the programs were built.
nccl_alone() {
  local test options=()
  ! $dry_run || options=(--list-test-cases)
  if test=$(program nccl_alone); then
    step distributed/nccl_alone 30 "$test" "${options[@]}" || true
  else
    step distributed/nccl_alone 5 bash -c 'missing "nccl_alone (CMake found no NCCL where the programs were built)"' || true
  fi
}

# Ceilings are measured once; other programs are told.
ceilings() {
  bench ceilings 30 ceilings_bench .
  local values
  values=$(awk -F '"' '/"name": "ceiling\/(copy|read|product)/ {
      value = $0
      sub(/.*(bytes|flops)_per_second": /, "", value)
      sub(/[,}].*/, "", value)
      printf "%s%s", separator, value
      separator = ","
    }' "$out/measured.jsonl")
  [[ $values != *,*,* ]] || export MTP_BENCH_CEILINGS=$values
}

stage_1() {
  local file
  for file in tests/{cuda,core,docs,decode}/*_test.cu; do
    file=${file#tests/}
    run_tests "${file%_test.cu}" 20
  done
  run_tests model/agreement 45
  nccl_alone
  operation_tests
  ceilings
  bench attention 25 attention_bench '^attention_(forward|backward)/4096/128/1/'
  bench linear_cross_entropy 25 linear_cross_entropy_bench '^linear_cross_entropy/8192/2048/131072/'
  bench few_rows 20 decode_bench '^row_product(_dependent_launch)?/[15]/(11264/2048|2048/5632|131072/2048)/' --benchmark_min_time=0.004
  bench rows 25 rows_bench '^(rms_norm_(forward|backward)/4096|swiglu_(forward|backward)/5632|adamw_update)/'
  bench train_step 40 train_step_bench '^train_step/(none/0|sequential/4)/'
  bench decode 45 decode_bench '^decode_cycle/(none/0|sequential/4)/.*/prompt:128/'
}

# Kernels whose next change hangs on what bounds them.
profile() { # profile NAME KERNEL PROGRAM FILTER
  local executable sections=()
  for section in SpeedOfLight LaunchStats Occupancy WarpStateStats MemoryWorkloadAnalysis SchedulerStats; do
    sections+=(--section "$section")
  done
  if [[ -z $profiler ]]; then
    step "profile_$1" 10 bash -c 'missing ncu' || true
  elif $dry_run; then
    step "profile_$1" 10 "$profiler" --version || true
  elif executable=$(program "$3"); then
    step "profile_$1" 40 "$profiler" --clock-control none --kernel-name "regex:$2" --launch-skip 2 --launch-count 1 \
      "${sections[@]}" "$executable" "--benchmark_filter=$4" --benchmark_min_time=0.001 || true
  fi
}

sanitize() { # sanitize TOOL
  local test
  if [[ -z $sanitizer ]]; then
    step "$1" 5 bash -c 'missing compute-sanitizer' || true
  elif $dry_run; then
    step "$1" 10 "$sanitizer" --version || true
  elif test=$(program ops_gpu_test); then
    step "$1" 45 "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 5 "$test" \
      '--source-file=*/tests/ops/*' '--test-case=*match*reference*bf16*' --last=6 || true
  fi
}

peer() { # peer NAME SECONDS
  if [[ -z $python ]]; then
    step "peer_$1" 5 bash -c 'missing PyTorch' || true
  elif $dry_run; then
    step "peer_$1" 60 "$python" benchmarks/peers/gpu_operations.py --help || true
  else
    step "peer_$1" "$2" "$python" benchmarks/peers/gpu_operations.py --only "$1" --seconds "$(($(allowance "$2") - 3))" \
      "$out/peers.jsonl" || true
  fi
}

demo() { # demo HEAD
  local executable
  if ! executable=$(program train_and_generate); then
    step "demo_$1" 5 bash -c 'missing train_and_generate' || true
  elif $dry_run; then
    step "demo_$1" 10 "$executable" --help || true
  else
    step "demo_$1" 90 "$executable" --backend cuda --head "$1" --steps 150 --batch 16 --length 512 --save-every 0 \
      --new-tokens 64 --text include docs --out "$scratch/demo_$1" || true
  fi
}

# failed_before: the tests that the newest record of stage 1 calls failed
failed_before() {
  local newest
  newest=$(find benchmarks/results -name 'gpu_check_*_stage1.json' 2>/dev/null | sort | tail -n 1)
  [[ -n $newest ]] || return 0
  sed -nE 's/^\{"step": "((cuda|core|docs|decode|model|ops)\/[a-z_]+)", "verdict": "(failed|stopped).*/\1/p' "$newest"
}

stage_2() {
  local name
  for name in $(failed_before); do
    run_tests "$name" 30
  done
  run_tests model/agreement 45
  ceilings
  profile attention_forward attention_forward attention_bench '^attention_forward/4096/128/1/'
  profile attention_backward attention_backward_key attention_bench '^attention_backward/4096/128/1/'
  profile row_product row_product_mma decode_bench '^row_product/5/11264/'
  profile rms_norm_backward rms_norm_backward rows_bench '^rms_norm_backward/4096/'
  profile cross_entropy cross_entropy linear_cross_entropy_bench '^linear_cross_entropy/8192/'
  peer attention 45
  bench attention 60 attention_bench .
  peer train_step 60
  bench train_step 60 train_step_bench .
  bench decode 60 decode_bench . --benchmark_min_time=0.004
  peer linear_cross_entropy 45
  bench linear_cross_entropy 45 linear_cross_entropy_bench .
  bench rows 45 rows_bench . --benchmark_min_time=0.01
  peer rms_norm,swiglu,adamw 60
  sanitize memcheck
  sanitize racecheck
  sanitize synccheck
  demo sequential
  demo parallel
}

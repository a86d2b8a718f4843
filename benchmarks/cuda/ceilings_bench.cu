// The rates that shares are shares of, as benchmarks: MTP_BENCH_CEILINGS hands them to the other
// programs. It is not read here.
#include "bench.cuh"

namespace mtp::bench {
namespace {

const ceilings& measured() {
  static const ceilings once = measure_ceilings();
  return once;
}

/// A rate in a counter; an iteration is one unit of 2^30.
void report(benchmark::State& state, const char* counter, double rate) {
  for (auto _ : state) {
    state.SetIterationTime(0x1p30 / rate);
  }
  state.counters[counter] = rate;
}

void copy_bench(benchmark::State& state) {
  report(state, "bytes_per_second", measured().copy_bytes);
}
void read_bench(benchmark::State& state) {
  report(state, "bytes_per_second", measured().read_bytes);
}
void product_bench(benchmark::State& state) {
  report(state, "flops_per_second", measured().product);
}

BENCHMARK(copy_bench)->Name("ceiling/copy")->Iterations(1)->UseManualTime();
BENCHMARK(read_bench)->Name("ceiling/read")->Iterations(1)->UseManualTime();
BENCHMARK(product_bench)->Name("ceiling/product")->Iterations(1)->UseManualTime();

}  // namespace
}  // namespace mtp::bench

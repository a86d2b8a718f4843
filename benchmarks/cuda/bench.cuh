// What the benchmarks of the CUDA backend share: time by events, rates beside what this GPU
// reaches, and checks before anything is timed.
#pragma once

#include <benchmark/benchmark.h>

#include "ceilings.cuh"
#include "checks.hpp"
#include "mtp/backend/cuda.cuh"
#include "mtp/core/error.hpp"
#include "operands.cuh"

namespace mtp::bench {

/// Function as a benchmark whose mtp::error is its result and does not end the program.
template <void (*Function)(benchmark::State&)>
void reported(benchmark::State& state) {
  try {
    Function(state);
  } catch (const error& problem) {
    state.SkipWithError(problem.what());
  }
}

/// Times body() by events: `calls` calls make one iteration, so that launches overlap with the work
/// before them.
template <class Body>
void measure(benchmark::State& state, const Body& body, int calls = 10) {
  stopwatch watch;
  body();
  for (auto _ : state) {
    state.SetIterationTime(watch.seconds([&] {
      for (int call = 0; call < calls; ++call) {
        body();
      }
    }) / calls);
  }
}

/// Times body() inside a graph that is launched again and again, as decoding launches its kernels:
/// `calls` calls make a graph and an iteration, so that neither the host nor the driver is part of
/// the time of small kernels. Operands that body() takes in turns are those of the graph.
template <class Body>
void measure_in_graph(benchmark::State& state,
                      const Body& body,
                      int calls,
                      cuda_context& context = bench::context()) {
  cuda_detail::recording graph;
  const auto replay = [&] {
    graph.replay(context, [&] {
      for (int call = 0; call < calls; ++call) {
        body();
      }
    });
  };
  replay();  // runs kernel by kernel, which loads them
  replay();  // records and launches
  stopwatch watch(context);
  for (auto _ : state) {
    state.SetIterationTime(watch.seconds(replay) / calls);
  }
}

/// For an operation that is bound by memory: bytes that it has to move, at least.
inline void report_bytes(benchmark::State& state, double bytes) {
  state.counters["bytes"] = bytes;
  state.counters["bytes_per_second"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share_of_copy"] = benchmark::Counter(
      bytes / known_ceilings().copy_bytes, benchmark::Counter::kIsIterationInvariantRate);
}
inline void report_read_bytes(benchmark::State& state, double bytes) {
  report_bytes(state, bytes);
  state.counters["share_of_read"] = benchmark::Counter(
      bytes / known_ceilings().read_bytes, benchmark::Counter::kIsIterationInvariantRate);
}

/// For an operation that is bound by the tensor cores.
inline void report_flops(benchmark::State& state, double flops) {
  state.counters["flops"] = flops;
  state.counters["flops_per_second"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share_of_product"] = benchmark::Counter(
      flops / known_ceilings().product, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace mtp::bench

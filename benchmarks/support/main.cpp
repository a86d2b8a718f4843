// Runs the benchmarks of one program and says on what: processor, compiler, and the peaks that
// shares refer to.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

#include "bench.hpp"

namespace {

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::string giga(double rate) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", rate / 1e9);
  return text;
}

/// The command, without where results go and what is said about them.
std::string command(int argc, char** argv) {
  std::string text = argv[0];
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (!argument.starts_with("--benchmark_out") && !argument.starts_with("--benchmark_context")) {
      text += " " + argument;
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  benchmark::AddCustomContext("command", command(argc, argv));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  benchmark::AddCustomContext("processor", processor());
  benchmark::AddCustomContext("compiler", MTP_BENCH_COMPILER);
  benchmark::AddCustomContext("eigen",
                              std::to_string(EIGEN_WORLD_VERSION) + "." +
                                  std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                  std::to_string(EIGEN_MINOR_VERSION));
  benchmark::AddCustomContext("instructions", Eigen::SimdInstructionSetsInUse());
  benchmark::AddCustomContext("threads", std::to_string(mtp::bench::context().threads()));
  const std::size_t beyond = mtp::bench::bytes_beyond_caches();
  const mtp::bench::bandwidth memory = mtp::bench::bandwidth_peak(static_cast<double>(beyond));
  benchmark::AddCustomContext("peak_gflops", giga(mtp::bench::multiply_add_peak()));
  benchmark::AddCustomContext("read_gbytes", giga(memory.read));
  benchmark::AddCustomContext("copy_gbytes", giga(memory.copy));
  benchmark::AddCustomContext("triad_gbytes", giga(memory.triad));
  benchmark::AddCustomContext("peak_memory_mbytes", std::to_string(beyond >> 20));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
} catch (const std::exception& fault) {
  std::fprintf(stderr, "%s\n", fault.what());
  return 1;
}

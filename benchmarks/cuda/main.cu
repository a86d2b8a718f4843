// Runs the benchmarks of one program. Says on which device, and ends with status 77 if there is
// none.
//
//   --lines=FILE  appends what each benchmark measured to FILE, see line_reporter.hpp
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "line_reporter.hpp"

int main(int argc, char** argv) {
  std::string lines;
  const auto takes_lines = [&](const char* argument) {
    const bool taken = std::strncmp(argument, "--lines=", 8) == 0;
    lines = taken ? argument + 8 : lines;
    return taken;
  };
  argc = static_cast<int>(std::remove_if(argv + 1, argv + argc, takes_lines) - argv);
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::fprintf(stderr, "skipped: there is no CUDA device\n");
    return 77;
  }
  cudaDeviceProp properties{};
  int driver = 0, runtime = 0;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess ||
      cudaDriverGetVersion(&driver) != cudaSuccess ||
      cudaRuntimeGetVersion(&runtime) != cudaSuccess) {
    std::fprintf(stderr, "the CUDA device does not answer\n");
    return 1;
  }
  const auto version = [](int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  };
  benchmark::AddCustomContext("device", properties.name);
  benchmark::AddCustomContext("cuda_driver", version(driver));
  benchmark::AddCustomContext("cuda_runtime", version(runtime));
  benchmark::AddCustomContext("multiprocessors", std::to_string(properties.multiProcessorCount));
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  if (lines.empty()) {
    benchmark::RunSpecifiedBenchmarks();
  } else {
    mtp::bench::line_reporter reporter(lines);
    if (!reporter.is_open()) {
      std::fprintf(stderr, "--lines: %s cannot be opened\n", lines.c_str());
      return 1;
    }
    benchmark::RunSpecifiedBenchmarks(&reporter);
  }
  benchmark::Shutdown();
  return 0;
}

// Runs the benchmarks of one program. Says on which device, and ends with status 77 if there is
// none. --benchmark_list_tests needs none.
//
//   --lines=FILE  appends what each benchmark measured to FILE, see line_reporter.hpp
#include <benchmark/benchmark.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "line_reporter.hpp"

namespace {

bool wants_a_list(int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc, [](const std::string& argument) {
    return argument == "--benchmark_list_tests" || argument == "--benchmark_list_tests=true";
  });
}

/// Takes --lines=FILE out of the arguments. Returns FILE, or nothing.
std::string take_lines(int& argc, char** argv) {
  const std::string option = "--lines=";
  std::string file;
  const auto is_option = [&](const std::string& argument) {
    const bool found = argument.rfind(option, 0) == 0;
    file = found ? argument.substr(option.size()) : file;
    return found;
  };
  argc = static_cast<int>(std::remove_if(argv + 1, argv + argc, is_option) - argv);
  return file;
}

int run(int argc, char** argv, const std::string& lines) {
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

}  // namespace

int main(int argc, char** argv) {
  const std::string lines = take_lines(argc, argv);
  if (wants_a_list(argc, argv)) {
    return run(argc, argv, "");
  }
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
  return run(argc, argv, lines);
}

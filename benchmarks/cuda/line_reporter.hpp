// Results that survive the end of a program, whenever it comes: each benchmark is a line of a file
// as soon as it has ended.
#pragma once

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

namespace mtp::bench {

/// Shows what is measured as Google Benchmark does, and appends an object of JSON for each
/// benchmark to a file:
///
///     {"name": "..", "seconds": 0.001, "iterations": 10, "flops_per_second": 1e12, ..}
///
/// with its counters by their names, or {"name": "..", "error": ".."}.
class line_reporter : public benchmark::ConsoleReporter {
 public:
  explicit line_reporter(const std::string& path) : file_(path, std::ios::app) {}

  /// Whether the file could be opened.
  bool is_open() const { return file_.is_open(); }

  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      file_ << line_of(run) << std::flush;
    }
  }

  static std::string line_of(const Run& run) {
    std::string line = "{\"name\": " + quoted(run.benchmark_name());
    if (const std::string error = error_of(run); !error.empty()) {
      return line + ", \"error\": " + quoted(error) + "}\n";
    }
    line +=
        ", \"seconds\": " + number(run.real_accumulated_time / static_cast<double>(run.iterations));
    line += ", \"iterations\": " + std::to_string(run.iterations);
    for (const auto& [name, counter] : run.counters) {
      line += ", " + quoted(name) + ": " + number(counter.value);
    }
    return line + "}\n";
  }

 private:
  /// Why it was not measured; Google Benchmark 1.8 has other names for it. Empty: it was.
  template <class Any>
  static std::string error_of(const Any& run) {
    if constexpr (requires { run.error_occurred; }) {
      return run.error_occurred ? "not measured: " + run.error_message : std::string();
    } else {
      return run.skipped ? "not measured: " + run.skip_message : std::string();
    }
  }

  /// JSON has no infinity and no NaN.
  static std::string number(double value) {
    if (!std::isfinite(value)) {
      return "null";
    }
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
  }

  static std::string quoted(const std::string& text) {
    std::string made = "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') {
        made += '\\';
      }
      made += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return made + '"';
  }

  std::ofstream file_;
};

}  // namespace mtp::bench

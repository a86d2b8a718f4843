// Reads what the benchmarks measured: the JSON of Google Benchmark and of peers/alternate.py.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace report {

using json = nlohmann::json;

/// The JSON of a file; nothing where there is no file. Throws on what is not JSON.
inline std::optional<json> read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  try {
    return json::parse(file);
  } catch (const json::exception& fault) {
    throw std::runtime_error(path.string() + ": " + fault.what());
  }
}

/// One benchmark of a program: its median, where it ran several times.
struct measured {
  std::string name;             ///< of the operation or the model
  std::vector<long> arguments;  ///< the numbers at the end of the benchmark's name
  json values;                  ///< its entry

  std::optional<double> value(const char* counter) const {
    const auto found = values.find(counter);
    if (found == values.end() || !found->is_number()) return std::nullopt;
    return found->get<double>();
  }
  /// Time of an iteration in microseconds.
  double microseconds() const {
    const std::string unit = values.at("time_unit");
    const double scale = unit == "ns" ? 1e-3 : unit == "us" ? 1 : unit == "ms" ? 1e3 : 1e6;
    return values.at("real_time").get<double>() * scale;
  }
};

struct program_results {
  json context;
  std::vector<measured> benchmarks;

  /// Those of this name, in the order of the program.
  std::vector<const measured*> of(std::string_view name) const {
    std::vector<const measured*> found;
    for (const measured& each : benchmarks) {
      if (each.name == name) found.push_back(&each);
    }
    return found;
  }
};

/// "linear_forward/4096/256/704/real_time" is linear_forward with three arguments.
inline measured take_apart(std::string name, json values) {
  measured made{{}, {}, std::move(values)};
  for (const std::string_view ending : {"/real_time", "/manual_time"}) {
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  }
  if (const std::size_t at = name.rfind("/iterations:"); at != std::string::npos) name.resize(at);
  for (std::size_t slash = name.rfind('/'); slash != std::string::npos; slash = name.rfind('/')) {
    const std::string last = name.substr(slash + 1);
    if (last.empty() || last.find_first_not_of("0123456789") != std::string::npos) break;
    made.arguments.insert(made.arguments.begin(), std::stol(last));
    name.resize(slash);
  }
  made.name = std::move(name);
  return made;
}

inline std::optional<program_results> read_program(const std::filesystem::path& path) {
  const auto file = read_json(path);
  if (!file) return std::nullopt;
  program_results results{file->at("context"), {}};
  for (const json& entry : file->at("benchmarks")) {
    const bool is_aggregate = entry.value("run_type", "") == "aggregate";
    if (entry.value("error_occurred", false) ||
        (is_aggregate && entry.value("aggregate_name", "") != "median") ||
        (!is_aggregate && entry.value("repetitions", 1) > 1)) {
      continue;
    }
    results.benchmarks.push_back(take_apart(entry.at("run_name"), entry));
  }
  return results;
}

}  // namespace report

// A run_result as result.json.
#pragma once

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "run_result.hpp"

namespace example {

/// Writes the file. Throws mtp::error if that fails; an older one is then still whole.
inline void write_result(const std::filesystem::path& path, const run_result& result);

/// Reads what write_result wrote. Throws mtp::error if there is no such file, or if it is another.
inline run_result read_result(const std::filesystem::path& path);

// ---- implementation -----------------------------------------------------------------------------
namespace detail {

inline nlohmann::ordered_json number_json(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

inline double number_of(const nlohmann::ordered_json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

inline nlohmann::ordered_json measured_json(const measured& value) {
  return {{"median", number_json(value.median)},
          {"lowest", number_json(value.lowest)},
          {"highest", number_json(value.highest)}};
}

inline measured measured_of(const nlohmann::ordered_json& value) {
  return {
      number_of(value.at("median")), number_of(value.at("lowest")), number_of(value.at("highest"))};
}

}  // namespace detail

inline void write_result(const std::filesystem::path& path, const run_result& result) {
  const nlohmann::ordered_json json{
      {"head", result.head},
      {"depth", result.depth},
      {"parameters", result.parameters},
      {"steps", result.steps},
      {"bytes_per_step", result.bytes_per_step},
      {"text_checksum", result.text_checksum},
      {"validation", detail::number_json(result.validation)},
      {"tokens_per_forward", detail::number_json(result.tokens_per_forward)},
      {"acceptance", result.acceptance},
      {"plain_tokens_per_s", detail::measured_json(result.plain_tokens_per_s)},
      {"speculative_tokens_per_s", detail::measured_json(result.speculative_tokens_per_s)},
      {"speedup", detail::measured_json(result.speedup)}};
  const std::string text = json.dump(2) + "\n";
  mtp::io::atomic_file file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

inline run_result read_result(const std::filesystem::path& path) {
  const mtp::io::input_file file(path);
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_exactly(0, std::as_writable_bytes(std::span(text)));
  run_result result;
  try {
    const auto json = nlohmann::ordered_json::parse(text);
    json.at("head").get_to(result.head);
    json.at("depth").get_to(result.depth);
    json.at("parameters").get_to(result.parameters);
    json.at("steps").get_to(result.steps);
    json.at("bytes_per_step").get_to(result.bytes_per_step);
    json.at("text_checksum").get_to(result.text_checksum);
    result.validation = detail::number_of(json.at("validation"));
    result.tokens_per_forward = detail::number_of(json.at("tokens_per_forward"));
    json.at("acceptance").get_to(result.acceptance);
    result.plain_tokens_per_s = detail::measured_of(json.at("plain_tokens_per_s"));
    result.speculative_tokens_per_s = detail::measured_of(json.at("speculative_tokens_per_s"));
    result.speedup = detail::measured_of(json.at("speedup"));
  } catch (const nlohmann::json::exception& problem) {
    mtp::fail("read_result: ", path.string(), " is no result of a run: ", problem.what());
  }
  return result;
}

}  // namespace example

// Models of other programs with their own results: what tests compare.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/pretrained/tensor_files.hpp"
#include "mtp/loss/model_loss.hpp"

namespace mtp::testing {

inline std::filesystem::path pretrained_data(const std::string& name) {
  return std::filesystem::path(MTP_TESTS_DIR) / "io/pretrained/data" / name;
}

/// A tensor of a file beside a checkpoint, whose elements are of that type.
template <class Element>
std::vector<Element> expected(const std::string& model,
                              const std::string& name,
                              const std::string& where = "expected.safetensors") {
  const io::safetensors_file file(pretrained_data(model) / where);
  const io::tensor_info* const info = file.find(name);
  REQUIRE(info != nullptr);
  REQUIRE(info->type == io::element_of<Element>());
  std::vector<Element> values(static_cast<std::size_t>(info->count()));
  file.read(*info, 0, info->count(), reinterpret_cast<std::byte*>(values.data()));
  return values;
}

/// The largest difference between a model's logits of depth `depth` and those that are expected, as
/// a part of the largest of these.  wanted [T - depth, V]
template <model_config Config, class S>
double logits_error(context<cpu>& context,
                    const language_model<Config, cpu, S>& model,
                    const std::string& name,
                    const std::vector<float>& wanted,
                    std::size_t depth) {
  std::vector<token_t> tokens = expected<token_t>(name, "tokens");  // [T]
  const auto length = static_cast<index_t>(tokens.size());
  REQUIRE(wanted.size() == (tokens.size() - depth) * static_cast<std::size_t>(Config.vocab_size));
  tokens.resize(tokens.size() + 1 + Config.prediction.depth, 0);  // targets, which do not matter
  double largest = 0, error = 0;
  model_loss<Config, cpu, S> loss(context, 1, length);
  loss.visit_logits(context, model, {tokens, {}, {}, 1, length}, [&](std::size_t k, auto logits) {
    for (std::size_t i = 0; k == depth && i < wanted.size(); ++i) {
      const auto want = static_cast<double>(wanted[i]);
      largest = (std::max)(largest, std::abs(want));
      const double apart = std::abs(static_cast<double>(logits.data()[i]) - want);
      error = apart <= error ? error : apart;  // NaN stays
    }
  });
  CHECK(largest > 0.1);
  return error / largest;
}

/// The same for the logits that transformers computed, of the trunk or of a module.
template <model_config Config, class S>
double logits_error(context<cpu>& context,
                    const language_model<Config, cpu, S>& model,
                    const std::string& name,
                    std::size_t depth = 0) {
  const char* const tensor = depth == 0 ? "logits" : "mtp_logits";
  return logits_error(context, model, name, expected<float>(name, tensor), depth);
}

/// A checkpoint that transformers wrote: its configuration, every one of its `tensors`, and its
/// logits, those of a module as well, to a part of the largest.
template <model_config Config>
void check_model(const std::string& name, index_t tensors, double tolerance) {
  CAPTURE(name);
  const auto read = io::read_config(pretrained_data(name));
  CHECK(read.config == Config);
  context<cpu> context;
  language_model<Config, cpu> model(context, seed{1});
  const auto report = io::load_pretrained(pretrained_data(name), model, *read.family);
  CHECK(report.tensors == tensors);
  CHECK(report.left_out.empty());
  CHECK(report.has_head());
  CHECK(logits_error(context, model, name) < tolerance);
  if constexpr (Config.prediction.depth > 0) {
    CHECK(logits_error(context, model, name, 1) < tolerance);
  }
}

}  // namespace mtp::testing

// One golden file against the model that it describes; see README.md.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mtp/io/safetensors.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"
#include "support/places.hpp"

namespace mtp::test {

/// Names of the golden files that a test of this executable compares with.
inline std::set<std::string>& covered_files() {
  static std::set<std::string> names;
  return names;
}

/// Names one below the other, for comparisons that say what is different.
inline std::string listing(const std::set<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += name + '\n';
  }
  return text;
}

/// The sizes that all golden files share. Beside the metadata, the longest sequence is ours.
constexpr model_config golden_config(head_kind head, int depth) {
  return {.vocab_size = 19,
          .hidden_size = 12,
          .num_hidden_layers = 2,
          .max_position_embeddings = 16,
          .attention = {.num_attention_heads = 2, .num_key_value_heads = 1, .head_dim = 6},
          .feed_forward = {.intermediate_size = 13},
          .prediction = {.kind = head, .depth = depth}};
}

/// The relative error that a golden comparison allows: of an element, plus a tenth of the largest
/// element of its tensor. The errors of an element come from sums of larger ones, so small elements
/// have no relative precision of their own. In double, most of the difference is rms_norm_eps,
/// which a configuration holds as a float.
template <class S>
inline constexpr double golden_tolerance = 1e-10;
template <>
inline constexpr double golden_tolerance<float> = 1e-5;

namespace detail {

inline std::vector<double> tensor_values(const io::safetensors_file& file,
                                         const std::string& name,
                                         const std::vector<index_t>& shape) {
  const io::tensor_info* const info = file.find(name);
  check(info != nullptr, "golden file: no tensor ", name);
  check(info->shape == shape, "golden file: unexpected shape of ", name);
  const auto read_as = [&](auto zero) {
    std::vector<decltype(zero)> all(static_cast<std::size_t>(info->count()));
    file.read(*info, 0, info->count(), reinterpret_cast<std::byte*>(all.data()));
    return std::vector<double>(all.begin(), all.end());
  };
  switch (info->type) {
    case io::element::f64:
      return read_as(double{});
    case io::element::f32:
      return read_as(float{});
    case io::element::i32:
      return read_as(std::int32_t{});
    default:
      fail("golden file: unexpected type of ", name);
  }
}

template <class Element>
std::vector<Element> tensor_as(const io::safetensors_file& file,
                               const std::string& name,
                               const std::vector<index_t>& shape) {
  std::vector<Element> converted;
  for (const double value : tensor_values(file, name, shape)) {
    converted.push_back(static_cast<Element>(value));
  }
  return converted;
}

/// What the metadata of a file would say of a configuration.
inline nlohmann::json described(const model_config& config) {
  const auto tap = [](norm_tap where, const char* norm) {
    return std::string(where == norm_tap::pre_norm ? "pre_" : "post_") + norm;
  };
  return {
      {"head", std::string(name_of(config.prediction.kind))},
      {"depth", config.prediction.depth},
      {"vocab_size", config.vocab_size},
      {"hidden_size", config.hidden_size},
      {"num_layers", config.num_hidden_layers},
      {"num_heads", config.attention.num_attention_heads},
      {"num_key_value_heads", config.num_key_value_heads()},
      {"head_dim", config.head_dim()},
      {"intermediate_size", config.feed_forward.intermediate_size},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"qkv_bias", config.attention.qkv_bias},
      {"qk_norm", config.attention.qk_norm},
      {"concat_order",
       config.prediction.concat == concat_order::hidden_first ? "hidden_first" : "embedding_first"},
      {"hidden_tap", tap(config.prediction.hidden_tap, "final_norm")},
      {"recycle_tap", tap(config.prediction.recycle_tap, "output_norm")},
      {"output_norm",
       config.prediction.output_norm == output_norm_kind::shared ? "shared" : "per_depth"},
  };
}

/// |actual - expected| <= tolerance (|expected| + max |expected| / 10), element by element.
template <class S>
comparison close(const std::vector<double>& actual, const std::vector<double>& expected) {
  double largest = 0;
  for (const double value : expected) {
    largest = std::max(largest, std::abs(value));
  }
  std::vector<double> bound;
  for (const double value : expected) {
    bound.push_back(golden_tolerance<S> * (std::abs(value) + largest / 10));
  }
  return within(actual, expected, bound);
}

}  // namespace detail

/// The golden file of a name, and the configuration that it must describe.
template <model_config Config>
class golden_case {
 public:
  static constexpr std::size_t depths = static_cast<std::size_t>(Config.prediction.depth) + 1;

  explicit golden_case(std::string name) : name_(std::move(name)) { covered_files().insert(name_); }

  /// The metadata of the file say the same as the configuration, and list nothing else that counts.
  void check_config() const {
    nlohmann::json config = metadata();
    // Only these two are floating-point: the file has the decimal number, we have its float.
    CHECK(static_cast<float>(config.at("rms_norm_eps").get<double>()) == Config.rms_norm_eps);
    CHECK(static_cast<float>(config.at("rope_theta").get<double>()) == Config.attention.rope_theta);
    CHECK(config.at("loss_weights").size() == depths);
    for (const char* other : {"rms_norm_eps",
                              "rope_theta",
                              "loss_weights",
                              "loss_normalization",
                              "detach_heads",
                              "batch",
                              "length"}) {
      CHECK(config.erase(other) == 1);
    }
    CHECK(config.dump() == detail::described(Config).dump());
  }

  /// The file has every parameter and every gradient of the model, and the model every one of the
  /// file.
  void check_names() const {
    const io::safetensors_file golden = file();
    std::set<std::string> expected{"tokens", "segments", "mask", "losses", "total"};
    for (std::size_t k = 0; k < depths; ++k) {
      expected.insert("logits." + std::to_string(k));
    }
    language_model<Config, cpu, float>::layout.visit(
        [&](const std::string& name, const parameter&) {
          expected.insert("param." + name);
          expected.insert("grad." + name);
        });
    std::set<std::string> found;
    for (const io::tensor_info& info : golden.tensors()) {
      found.insert(info.name);
    }
    CHECK(listing(found) == listing(expected));
  }

  /// Losses, logits and gradients are those of the file.
  template <class S>
  void check_values() const {
    const io::safetensors_file golden = file();
    const nlohmann::json config = metadata();
    const index_t B = config.at("batch").get<index_t>(), T = config.at("length").get<index_t>();
    const index_t V = Config.vocab_size, row = T + static_cast<index_t>(depths);
    CAPTURE(name_);

    subject<Config, S> tested(2, B, T);
    tested.layout.visit([&](const std::string& name, const parameter& p) {
      tested.set(p, detail::tensor_values(golden, "param." + name, shape_of(p)));
    });
    token_batch batch;
    batch.tokens = detail::tensor_as<token_t>(golden, "tokens", {B, row});
    batch.segments = detail::tensor_as<std::int32_t>(golden, "segments", {B, row});
    batch.mask = detail::tensor_as<std::uint8_t>(golden, "mask", {B, row});
    batch.batch = B;
    batch.length = T;
    const auto options = options_of(config);

    std::vector<S> gradients(static_cast<std::size_t>(tested.layout.storage), S{0});
    const auto report = tested.add_gradients(gradients, batch, options);
    check_report<S>(golden, report);
    check_report<S>(golden, tested.losses(batch, options));

    tested.layout.visit([&](const std::string& name, const parameter& p) {
      CAPTURE(name);
      CHECK(detail::close<S>(to_double(rows_of<S>(gradients, p)),
                             detail::tensor_values(golden, "grad." + name, shape_of(p))));
    });

    const auto logits = tested.logits(batch);
    constexpr bool shared =
        Config.prediction.kind == head_kind::shared_logit;  // one set for all depths
    REQUIRE(logits.size() == (shared ? 1 : depths));
    for (std::size_t k = 0; k < depths; ++k) {
      CAPTURE(k);
      CHECK(detail::close<S>(
          to_double(logits[shared ? 0 : k]),
          detail::tensor_values(golden, "logits." + std::to_string(k), {B, T, V})));
    }
  }

 private:
  io::safetensors_file file() const {
    return io::safetensors_file(golden_folder() / (name_ + ".safetensors"));
  }
  nlohmann::json metadata() const { return nlohmann::json::parse(file().metadata().at("config")); }

  static std::vector<index_t> shape_of(const parameter& p) {
    return p.is_vector() ? std::vector<index_t>{p.outputs}
                         : std::vector<index_t>{p.outputs, p.inputs};
  }

  static loss_options<Config.prediction.depth> options_of(const nlohmann::json& config) {
    loss_options<Config.prediction.depth> options;
    const auto normalization = config.at("loss_normalization").get<std::string>();
    check(normalization == "positions" || normalization == "valid_targets",
          "golden file: unknown normalization ",
          normalization);
    options.normalization = normalization == "positions" ? loss_normalization::positions
                                                         : loss_normalization::valid_targets;
    options.scope =
        config.at("detach_heads").get<bool>() ? gradient_scope::detached : gradient_scope::joint;
    options.weights = config.at("loss_weights").get<std::array<double, depths>>();
    return options;
  }

  template <class S>
  static void check_report(const io::safetensors_file& golden,
                           const loss_report<Config.prediction.depth>& report) {
    std::vector<double> losses;
    for (const depth_report& depth : report.depths) {
      losses.push_back(depth.loss);
    }
    CHECK(detail::close<S>(
        losses, detail::tensor_values(golden, "losses", {static_cast<index_t>(depths)})));
    CHECK(detail::close<S>({report.total}, detail::tensor_values(golden, "total", {1})));
  }

  std::string name_;
};

}  // namespace mtp::test

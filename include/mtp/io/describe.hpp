// A model's configuration as text, under the names of Hugging Face where they have one.
#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <map>
#include <string>

#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI::io {

/// The entries "config.<name>" of a checkpoint; equal configurations give equal entries, in every
/// locale.
inline std::map<std::string, std::string> describe(const model_config& config) {
  std::map<std::string, std::string> entries;
  const auto text_of = []<class Value>(const Value& value) -> std::string {
    if constexpr (std::same_as<Value, bool>) {
      return value ? "true" : "false";
    } else if constexpr (std::floating_point<Value>) {
      std::array<char, 32> digits;  // nine tell all values of float apart
      const auto end =
          std::to_chars(
              digits.data(), digits.data() + digits.size(), value, std::chars_format::general, 9)
              .ptr;
      return {digits.data(), end};
    } else if constexpr (std::integral<Value>) {
      return std::to_string(value);
    } else {
      return std::string(value);
    }
  };
  const auto add = [&](const char* name, const auto& value) {
    entries.emplace(std::string("config.") + name, text_of(value));
  };
  const auto tap = [](norm_tap at) { return at == norm_tap::pre_norm ? "pre_norm" : "post_norm"; };
  add("vocab_size", config.vocab_size);
  add("hidden_size", config.hidden_size);
  add("num_hidden_layers", config.num_layers);
  add("num_attention_heads", config.num_heads);
  add("num_key_value_heads", config.key_value_heads());
  add("head_dim", config.head_width());
  add("intermediate_size", config.intermediate_size);
  add("max_position_embeddings", config.max_positions);
  add("rms_norm_eps", config.rms_norm_eps);
  add("rope_theta", config.rope_theta);
  add("tie_word_embeddings", config.tie_word_embeddings);
  add("qkv_bias", config.qkv_bias);
  add("qk_norm", config.qk_norm);
  add("head", name_of(config.head));
  add("depth", config.depth);
  add("concat", config.concat == concat_order::hidden_first ? "hidden_first" : "embedding_first");
  add("hidden_tap", tap(config.hidden_tap));
  add("recycle_tap", tap(config.recycle_tap));
  add("output_norm", config.output_norm == output_norm_kind::per_depth ? "per_depth" : "shared");
  return entries;
}

}  // namespace mtp::inline MTP_ABI::io

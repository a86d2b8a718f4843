// The model in a GGUF file: its configuration, and the names of its tensors in Hugging Face's
// checkpoints.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/gguf/file.hpp"
#include "mtp/io/safetensors_format.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI::io {

/// A tensor of a GGUF file and what it becomes.
struct gguf_piece {
  std::string from;            ///< its name in the GGUF file
  std::string to;              ///< its name in the checkpoint
  std::vector<index_t> shape;  ///< in both
  index_t interleaved = 0;     ///< E if the halves of each head's rows alternate, else 0
};

/// What a GGUF file describes.
struct gguf_model {
  model_config config;             ///< without a head
  std::vector<gguf_piece> pieces;  ///< all tensors of the checkpoint
};

namespace detail {

/// An architecture: what its files have and the metadata do not say.
struct gguf_architecture {
  std::string_view name;
  bool interleaved = false;  // rows of q and k; converters permute them for Llama alone
  bool qkv_bias = false;
  bool qk_norm = false;
};
inline constexpr std::array<gguf_architecture, 3> gguf_architectures{
    {{"llama", true, false, false}, {"qwen2", false, true, false}, {"qwen3", false, false, true}}};

/// The entries of an architecture that are read below. Others are refused, because they could
/// change what the tensors mean.
inline constexpr std::array<std::string_view, 20> gguf_known_keys{
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",
    "rope.scale_linear",
    "expert_count",
    "expert_used_count"};

/// Reads the configuration of one file.
class gguf_model_reader {
 public:
  explicit gguf_model_reader(const gguf_file& file) : file_(file), all_(file.metadata()) {}

  gguf_model read() {
    const std::string name = all_.text("general.architecture").value_or("");
    const auto* const found = std::find_if(
        gguf_architectures.begin(), gguf_architectures.end(), [&](const gguf_architecture& each) {
          return each.name == name;
        });
    check(found != gguf_architectures.end(),
          all_.where(),
          "general.architecture: expected llama, qwen2 or qwen3, got '",
          name,
          "'");
    type_ = *found;
    check_keys();
    gguf_model model;
    model.config = read_config();
    model.pieces = pieces_of(model.config);
    check_tensors(model.pieces);
    return model;
  }

 private:
  std::string key(std::string_view name) const {
    return std::string(type_.name) + "." + std::string(name);
  }
  int needed(std::string_view name) const { return all_.needed_count(key(name)); }
  int count(std::string_view name, int otherwise) const {
    return all_.find(key(name)) == nullptr ? otherwise : needed(name);
  }
  void supports(bool holds, std::string_view name, std::string_view why) const {
    check(holds, all_.where(), key(name), ": this value is not supported: ", why);
  }
  float positive(std::string_view name, float otherwise) const {
    const auto value = static_cast<float>(all_.number(key(name)).value_or(otherwise));
    check(value > 0 && std::isfinite(value),
          all_.where(),
          key(name),
          ": expected a positive number, got ",
          value);
    return value;
  }

  void check_keys() const {
    const std::string prefix = key("");
    for (const auto& [name, value] : all_.values()) {
      if (!name.starts_with(prefix)) continue;
      const std::string_view rest = std::string_view(name).substr(prefix.size());
      check(
          std::find(gguf_known_keys.begin(), gguf_known_keys.end(), rest) != gguf_known_keys.end(),
          all_.where(),
          name.substr(0, 200),
          " is not supported: its meaning is unknown");
    }
    for (const char* const name : {"expert_count", "expert_used_count"}) {
      supports(all_.count(key(name)).value_or(0) == 0, name, "feed-forward layers are dense");
    }
  }

  model_config read_config() const {
    model_config to;
    const gguf_tensor* const table = file_.find("token_embd.weight");
    check(table != nullptr && table->shape.size() == 2,
          all_.where(),
          "expected a matrix token_embd.weight");
    to.vocab_size = count("vocab_size", static_cast<int>(table->shape[0]));
    to.hidden_size = needed("embedding_length");
    to.num_hidden_layers = needed("block_count");
    // Otherwise a list of names would be made that no file has.
    supports(to.num_hidden_layers <= static_cast<index_t>(file_.tensors().size()),
             "block_count",
             "the file has fewer tensors than blocks");
    to.max_position_embeddings = needed("context_length");
    to.rms_norm_eps = positive("attention.layer_norm_rms_epsilon", 0);
    to.feed_forward.intermediate_size = needed("feed_forward_length");
    to.tie_word_embeddings = file_.find("output.weight") == nullptr;
    attention_config& attention = to.attention;
    attention.num_attention_heads = needed("attention.head_count");
    attention.num_key_value_heads = count("attention.head_count_kv", attention.num_attention_heads);
    attention.head_dim =
        count("attention.key_length", to.hidden_size / attention.num_attention_heads);
    supports(count("attention.value_length", attention.head_dim) == attention.head_dim,
             "attention.value_length",
             "values are as wide as keys");
    supports(count("rope.dimension_count", attention.head_dim) == attention.head_dim,
             "rope.dimension_count",
             "whole heads are rotated");
    attention.qkv_bias = type_.qkv_bias;
    attention.qk_norm = type_.qk_norm;
    attention.rope_theta = positive("rope.freq_base", 10000);
    attention.rope_scaling = read_scaling(attention, to.max_position_embeddings);
    return to;
  }

  rope_scaling_config read_scaling(const attention_config& attention, int positions) const {
    rope_scaling_config to;
    const std::string type = all_.text(key("rope.scaling.type")).value_or("none");
    supports(type == "none" || type == "linear" || type == "yarn",
             "rope.scaling.type",
             "only none, linear and yarn are");
    const float factor = positive("rope.scaling.factor", positive("rope.scale_linear", 1));
    const bool has_frequencies = file_.find("rope_freqs.weight") != nullptr;
    supports(type == "none" || !has_frequencies,
             "rope.scaling.type",
             "the file has rope_freqs.weight as well");
    if (has_frequencies) return read_frequencies(attention);
    if (type == "none") {
      supports(factor == 1, "rope.scaling.factor", "there is no rope.scaling.type");
      return to;
    }
    to.factor = factor;
    supports(factor >= 1, "rope.scaling.factor", "it must be at least 1");
    to.kind = rope_scaling_kind::linear;
    if (type == "yarn") {
      to.kind = rope_scaling_kind::yarn;
      to.original_max_position_embeddings =
          count("rope.scaling.original_context_length", positions);
    }
    supports(positive("rope.scaling.attn_factor", 1) == 1,
             "rope.scaling.attn_factor",
             "yarn's own one is used");
    return to;
  }

  /// Files of Llama 3.1 and later hold what each frequency is divided by, in place of the
  /// parameters that the divisors come from. The largest is the factor; the others have been the
  /// same in all of these models, which the divisors must confirm.
  rope_scaling_config read_frequencies(const attention_config& attention) const {
    const gguf_tensor& tensor = *file_.find("rope_freqs.weight");
    const index_t E = attention.head_dim;
    check(tensor.count == E / 2,
          all_.where(),
          "rope_freqs.weight: expected ",
          E / 2,
          " elements, got ",
          tensor.count);
    std::vector<float> divisors(static_cast<std::size_t>(E / 2));
    file_.read(tensor, 0, E / 2, divisors.data());
    rope_scaling_config to{.kind = rope_scaling_kind::llama3,
                           .factor = *std::max_element(divisors.begin(), divisors.end()),
                           .original_max_position_embeddings = 8192};
    const auto theta = static_cast<double>(attention.rope_theta);
    bool is_llama3 = to.factor >= 1;
    for (index_t e = 0; e < E / 2; ++e) {
      const double expected = rope_frequency({}, theta, e, E) / rope_frequency(to, theta, e, E);
      const auto got = static_cast<double>(divisors[static_cast<std::size_t>(e)]);
      is_llama3 = is_llama3 && std::abs(got - expected) <= 1e-4 * expected;
    }
    check(is_llama3,
          all_.where(),
          "rope_freqs.weight: expected the divisors of Llama 3.1 for 8192 positions before, got "
          "others");
    return to;
  }

  std::vector<gguf_piece> pieces_of(const model_config& config) const {
    const index_t C = config.hidden_size, V = config.vocab_size;
    const index_t F = config.feed_forward.intermediate_size, E = config.attention.head_dim;
    const index_t H = config.attention.num_attention_heads;
    const index_t G = config.attention.num_key_value_heads;
    const index_t pairs = type_.interleaved ? E : 0;
    std::vector<gguf_piece> pieces{{"token_embd.weight", "model.embed_tokens.weight", {V, C}},
                                   {"output_norm.weight", "model.norm.weight", {C}}};
    if (!config.tie_word_embeddings) pieces.push_back({"output.weight", "lm_head.weight", {V, C}});
    std::vector<gguf_piece> block{
        {"attn_norm.weight", "input_layernorm.weight", {C}},
        {"attn_q.weight", "self_attn.q_proj.weight", {H * E, C}, pairs},
        {"attn_k.weight", "self_attn.k_proj.weight", {G * E, C}, pairs},
        {"attn_v.weight", "self_attn.v_proj.weight", {G * E, C}},
        {"attn_output.weight", "self_attn.o_proj.weight", {C, H * E}},
        {"ffn_norm.weight", "post_attention_layernorm.weight", {C}},
        {"ffn_gate.weight", "mlp.gate_proj.weight", {F, C}},
        {"ffn_up.weight", "mlp.up_proj.weight", {F, C}},
        {"ffn_down.weight", "mlp.down_proj.weight", {C, F}},
    };
    if (type_.qkv_bias) {
      block.push_back({"attn_q.bias", "self_attn.q_proj.bias", {H * E}});
      block.push_back({"attn_k.bias", "self_attn.k_proj.bias", {G * E}});
      block.push_back({"attn_v.bias", "self_attn.v_proj.bias", {G * E}});
    }
    if (type_.qk_norm) {
      block.push_back({"attn_q_norm.weight", "self_attn.q_norm.weight", {E}});
      block.push_back({"attn_k_norm.weight", "self_attn.k_norm.weight", {E}});
    }
    for (int l = 0; l < config.num_hidden_layers; ++l) {
      const std::string number = std::to_string(l) + ".";
      for (const gguf_piece& each : block) {
        pieces.push_back({"blk." + number + each.from,
                          "model.layers." + number + each.to,
                          each.shape,
                          each.interleaved});
      }
    }
    return pieces;
  }

  /// All that is missing, has another shape or is unknown, in one message.
  void check_tensors(const std::vector<gguf_piece>& pieces) const {
    std::string problems;
    std::set<std::string_view> known{"rope_freqs.weight"};
    for (const gguf_piece& each : pieces) {
      known.insert(each.from);
      const gguf_tensor* const found = file_.find(each.from);
      if (found == nullptr) {
        problems += "\n  missing: " + each.from;
      } else if (found->shape != each.shape) {
        problems += "\n  " + each.from + ": expected shape " + shape_text(each.shape) + ", got " +
                    shape_text(found->shape);
      }
    }
    for (const gguf_tensor& each : file_.tensors()) {
      if (!known.contains(each.name)) problems += "\n  unknown: " + each.name;
    }
    check(problems.empty(), all_.where(), "the tensors are not those of the metadata:", problems);
  }

  const gguf_file& file_;
  const gguf_metadata& all_;
  gguf_architecture type_;
};

}  // namespace detail

/// The model of a file whose architecture is llama, qwen2 or qwen3. Throws mtp::error that names
/// the entry of the metadata that is missing, has a wrong value, or means what this library lacks,
/// and lists all tensors that are missing, of another shape, or unknown.
inline gguf_model read_gguf_model(const gguf_file& file) {
  return detail::gguf_model_reader(file).read();
}

}  // namespace mtp::inline MTP_ABI::io

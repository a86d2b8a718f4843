// From a config.json to the configuration of a model and the names of its family.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "mtp/core/error.hpp"
#include "mtp/io/json_file.hpp"
#include "mtp/io/pretrained/config_object.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/read_layers.hpp"
#include "mtp/io/pretrained/trunk_types.hpp"
#include "mtp/model/config_fields.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI::io {

/// What a config.json says.
struct pretrained_config {
  std::string model_type;      ///< as the file has it, such as "qwen2"
  const family_names* family;  ///< names of the tensors
  std::string why;             ///< the fields that decided for the family
  model_config config;         ///< of trunk and head
  std::filesystem::path path;  ///< the file
};

namespace detail {

/// Throws if a window that is shorter than the sequences is in force in one of the layers.
inline void check_window(const config_object& from, const trunk_type& type, int positions) {
  if (type.window_switched && !from.flag("use_sliding_window", false)) return;
  const auto window = from.count("sliding_window");
  if (!window || *window >= positions) return;
  if (const auto* const layers = from.find("layer_types")) {
    const bool all_full =
        layers->is_array() && std::all_of(layers->begin(), layers->end(), [](const auto& layer) {
          return layer == "full_attention";
        });
    if (all_full) return;
  } else if (type.window_switched) {
    const int blocks = from.needed_count("num_hidden_layers");
    const auto* const first = from.find("max_window_layers");
    if (first != nullptr && first->is_number_unsigned() &&
        first->get<std::uint64_t>() >= static_cast<std::uint64_t>(blocks)) {
      return;
    }
  }
  from.supports(false, "sliding_window", "attention reaches all earlier tokens");
}

/// Throws for every field that gives the trunk a meaning that it does not have here.
inline void check_supported(const config_object& from, const trunk_type& type, int positions) {
  const std::string act = from.text("hidden_act", "silu");
  from.supports(act == "silu", "hidden_act", "only silu is");
  if (type.model_type != "qwen2" && type.model_type != "mimo" && !type.bias_by_field) {
    from.supports(
        !from.flag("attention_bias", false), "attention_bias", "the output projection has no bias");
  }
  from.supports(!from.flag("mlp_bias", false), "mlp_bias", "feed-forward layers have no bias");
  const auto lacks = [&](std::initializer_list<const char*> fields) {
    for (const char* field : fields) {
      from.supports(
          !from.has(field), field, "trunks of this model_type that are known do not have it");
    }
  };
  lacks({"dual_chunk_attention_config",
         "attn_logit_softcapping",
         "final_logit_softcapping",
         "attention_chunk_size",
         "no_rope_layers",
         "index_topk"});
  if (!type.latent) lacks({"q_lora_rank", "kv_lora_rank"});
  if (type.experts == expert_fields::none) {
    lacks({"num_experts", "num_local_experts", "n_routed_experts"});
  }
  check_window(from, type, positions);
  if (const auto quantized = from.object("quantization_config")) {
    const std::string method = quantized->text("quant_method", "");
    quantized->supports(method == "fp8", "quant_method", "only fp8 with scales of blocks is");
    const auto* const block = quantized->find("weight_block_size");
    quantized->supports(block != nullptr && *block == nlohmann::json::array({128, 128}),
                        "weight_block_size",
                        "only [128, 128] is");
  }
}

/// The share of each head that is rotated: partial_rotary_factor, inside of `inner` or beside it.
inline float read_partial_rotary(const config_object& from,
                                 const std::optional<config_object>& inner,
                                 const trunk_type& type) {
  constexpr const char* name = "partial_rotary_factor";
  const float outside = from.number(name).value_or(
      type.partial_rotary_factor > 0 ? type.partial_rotary_factor : 1.0f);
  const float factor = inner && inner->has(name) ? *inner->number(name) : outside;
  const config_object& place = inner && inner->has(name) ? *inner : from;
  check(!from.has(name) || factor == outside,
        from.where(),
        ": partial_rotary_factor differs from the one beside the scaling");
  place.supports(
      factor == 1 || type.partial_rotary_factor > 0, name, "the family rotates whole heads");
  place.supports(factor > 0 && factor <= 1, name, "it must be more than 0 and at most 1");
  return factor;
}

/// The rotation's base and scaling: rope_theta and rope_scaling, or both in rope_parameters.
inline void read_rope(const config_object& from,
                      const trunk_type& type,
                      attention_config& attention) {
  check(!from.has("rope_scaling") || !from.has("rope_parameters"),
        from.where(),
        ": has both rope_scaling and rope_parameters");
  const auto scaling =
      from.object(from.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
  const bool has_outer = from.has("rope_theta"), has_inner = scaling && scaling->has("rope_theta");
  const float outer = from.number("rope_theta").value_or(type.rope_theta);
  const float inner = has_inner ? scaling->number("rope_theta").value_or(outer) : outer;
  check(!has_outer || inner == outer,
        from.where(),
        ": rope_theta differs from the one in rope_parameters");
  attention.rope_theta = inner;
  check(inner > 0, from.where(), ": rope_theta must be positive");
  attention.partial_rotary_factor = read_partial_rotary(from, scaling, type);
  if (!scaling) return;

  const char* const name = scaling->has("rope_type") ? "rope_type" : "type";
  const std::string kind = scaling->text(name, "default");
  rope_scaling_config& to = attention.rope_scaling;
  if (kind == "default") return;
  const auto& names = value_names<rope_scaling_kind>::names;
  const auto* const found = std::find(names.begin() + 1, names.end(), kind);
  scaling->supports(found != names.end(), name, "only default, linear, llama3 and yarn are");
  to.kind = static_cast<rope_scaling_kind>(found - names.begin());

  const auto length = scaling->count("original_max_position_embeddings");
  const auto needed = [&](const char* field) {
    const auto value = scaling->number(field);
    check(value && *value > 0, scaling->where(), ": ", field, " must be there and positive");
    return *value;
  };
  if (to.kind != rope_scaling_kind::linear) {
    // Without it, transformers takes the longest sequence.
    to.original_max_position_embeddings =
        length.value_or(from.needed_count("max_position_embeddings"));
  }
  to.factor = needed("factor");
  scaling->supports(to.factor >= 1, "factor", "it must be at least 1");
  if (to.kind == rope_scaling_kind::llama3) {
    to.low_freq_factor = needed("low_freq_factor");
    to.high_freq_factor = needed("high_freq_factor");
    scaling->supports(to.high_freq_factor > to.low_freq_factor,
                      "high_freq_factor",
                      "it must be larger than low_freq_factor");
  } else if (to.kind == rope_scaling_kind::yarn) {
    to.beta_fast = scaling->has("beta_fast") ? needed("beta_fast") : 32.0f;
    to.beta_slow = scaling->has("beta_slow") ? needed("beta_slow") : 1.0f;
    scaling->supports(to.beta_fast >= to.beta_slow, "beta_fast", "it is less than beta_slow");
    scaling->supports(scaling->flag("truncate", true), "truncate", "bounds are whole numbers");
    const float scale = scaling->number("mscale").value_or(0.0f);
    const float all = scaling->number("mscale_all_dim").value_or(0.0f);
    if (type.latent) to.mscale_all_dim = all;
    if (scaling->has("attention_factor")) {
      to.attention_factor = needed("attention_factor");
    } else if (scale > 0 && all > 0) {
      const double longer = 0.1 * std::log(static_cast<double>(to.factor));
      to.attention_factor = static_cast<float>((longer * static_cast<double>(scale) + 1) /
                                               (longer * static_cast<double>(all) + 1));
    }
  }
}

/// Head and names: the trunk alone, or what one of the fields of a head says.
inline void read_head(const config_object& from, const trunk_type& type, pretrained_config& to) {
  prediction_config& head = to.config.prediction;
  const int modules = from.has("num_nextn_predict_layers")
                          ? from.count_or_zero("num_nextn_predict_layers")
                          : type.modules;
  const int medusa = from.count_or_zero("medusa_num_heads");
  const int future = from.count_or_zero("n_future_tokens");
  check((modules > 0) + (medusa > 0) + (future > 1) <= 1,
        from.where(),
        ": expected one of num_nextn_predict_layers, medusa_num_heads and n_future_tokens");
  to.family = type.own != nullptr ? type.own : &llama_names;
  to.why = "model_type is " + to.model_type;
  from.supports(medusa == 0 || type.own == nullptr, "medusa_num_heads", "the family has none");
  from.supports(future <= 1 || type.own == nullptr, "n_future_tokens", "the family has none");
  if (modules > 0) {
    const bool mimo = to.model_type == "mimo";
    const bool mimo_v2 = type.own == &mimo_v2_names;
    if (type.own == nullptr) to.family = mimo ? &mimo_names : &deepseek_names;
    to.why += (from.has("num_nextn_predict_layers") ? ", num_nextn_predict_layers is "
                                                    : ", without num_nextn_predict_layers it is ") +
              std::to_string(modules);
    head.kind = head_kind::sequential;
    head.depth = modules;
    head.concat = to.family->concat;
    head.chain = to.family->chain;
    if (mimo || mimo_v2) head.hidden_tap = norm_tap::pre_norm;
    if (mimo) head.recycle_tap = norm_tap::pre_norm;
  } else if (medusa > 0) {
    const int layers = from.count("medusa_num_layers").value_or(1);
    from.supports(layers == 1, "medusa_num_layers", "heads have one residual layer");
    to.family = &medusa_names;
    to.why += ", medusa_num_heads is " + std::to_string(medusa);
    head.kind = head_kind::independent;
    head.depth = medusa;
  } else if (future > 1) {
    to.family = &meta_names;
    to.why += ", n_future_tokens is " + std::to_string(future);
    head.kind = head_kind::parallel;
    head.depth = future - 1;
    head.output_norm = output_norm_kind::shared;
  }
}

}  // namespace detail

/// The configuration that an object describes; `path` of the result is empty. Throws mtp::error as
/// read_config does.
inline pretrained_config config_from(const config_object& from) {
  if (from.text("model_type", "") == "glm_ocr") {  // the part that reads pictures is not used
    const auto text = from.object("text_config");
    check(text.has_value(), from.where(), ": text_config is missing");
    pretrained_config read = config_from(*text);
    read.config.tie_word_embeddings |= from.flag("tie_word_embeddings", false);
    return read;
  }
  pretrained_config read{};
  read.model_type = from.text("model_type", "");
  const detail::trunk_type* const type = detail::find_trunk_type(read.model_type);
  from.supports(
      type != nullptr,
      "model_type",
      "the known ones are llama, mistral, qwen2, qwen3, mimo, mimo_v2, mimo_v2_flash, glm4, "
      "glm_ocr, deepseek_v3, glm4_moe, glm4_moe_lite, qwen3_moe and mixtral");
  if (type->own == &mimo_v2_names) detail::check_mimo_v2(from);

  model_config& to = read.config;
  to.vocab_size = from.needed_count("vocab_size");
  to.hidden_size = from.needed_count("hidden_size");
  to.num_hidden_layers = from.needed_count("num_hidden_layers");
  to.max_position_embeddings = from.needed_count("max_position_embeddings");
  to.rms_norm_eps = from.number(type->eps).value_or(1e-6f);
  from.supports(to.rms_norm_eps > 0, type->eps, "it must be positive");
  to.tie_word_embeddings = from.flag("tie_word_embeddings", false);
  to.feed_forward.intermediate_size = from.needed_count("intermediate_size");

  to.attention.num_attention_heads = from.needed_count("num_attention_heads");
  if (type->latent) {
    detail::read_latent_attention(from, to.attention);
    to = resolved(to);
  } else {
    detail::read_grouped_attention(from, *type, to);
  }
  to.attention.post_norm = to.feed_forward.post_norm = type->post_norms;
  detail::read_experts(from, *type, to);
  detail::check_supported(from, *type, to.max_position_embeddings);
  detail::read_rope(from, *type, to.attention);
  from.supports(type->latent || (to.rotary_dim() >= 2 && to.rotary_dim() % 2 == 0),
                "partial_rotary_factor",
                "heads are rotated in pairs");
  detail::read_head(from, *type, read);
  return read;
}

/// Reads a config.json of Llama (and SmolLM2), Mistral, Qwen2, Qwen3, MiMo, MiMo-V2 (where its
/// blocks are those of Llama), GLM-4 or GLM-OCR, whose language model it describes. `path`: the
/// file, or the folder that holds it. A head is read from num_nextn_predict_layers (DeepSeek's
/// names, or MiMo's), medusa_num_heads, or n_future_tokens (Meta's). Which hidden state a head
/// reads is not in any file; DeepSeek's has the default of prediction_config, MiMo's the residual
/// stream, and each module of MiMo-V2 that of the trunk, as docs/mtp.md explains.
///
/// Throws mtp::error that names the field for a model_type that is not known, for a field of a
/// wrong type, and for a field whose meaning the library lacks, such as a sliding window that is
/// shorter than the sequences.
inline pretrained_config read_config(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto file = std::filesystem::is_directory(path, ignored) ? path / "config.json" : path;
  const nlohmann::json all = read_json(file);
  pretrained_config read = config_from({all, "read_config: '" + file.string() + "'"});
  read.path = file;
  return read;
}

}  // namespace mtp::inline MTP_ABI::io

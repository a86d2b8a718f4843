// Writes a checkpoint with its new head.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <type_traits>

#include "generate/draft_tokens.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/json_file.hpp"
#include "mtp/io/pretrained/check_config.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/save.hpp"

namespace example {

/// The names of a head kind's tensors beside a trunk in Llama's names.
constexpr const mtp::io::family_names& family_of(const mtp::head_kind& kind) {
  return kind == mtp::head_kind::independent ? mtp::io::medusa_names
         : kind == mtp::head_kind::parallel  ? mtp::io::meta_names
                                             : mtp::io::deepseek_names;
}

/// The configuration of a checkpoint with a head, as its config.json will be read.
constexpr mtp::model_config with_head(mtp::model_config config,
                                      const mtp::head_kind& kind,
                                      int depth) {
  config.prediction = {.kind = kind, .depth = depth};
  if (kind == mtp::head_kind::parallel) {
    config.prediction.output_norm = mtp::output_norm_kind::shared;
  } else if (kind != mtp::head_kind::independent) {
    config.prediction.concat = mtp::concat_order::embedding_first;
  }
  return config;
}

/// Throws mtp::error if a head of this kind cannot be saved behind this trunk, or if the folder
/// holds a checkpoint: to be found out before hours of training.
template <mtp::model_config Config>
void check_saving(const std::filesystem::path& out) {
  static_cast<void>(mtp::io::config_json(Config, family_of(Config.prediction.kind), "bfloat16"));
  mtp::io::pretrained_detail::check_empty(out, "retrofit");
}

/// The parameters, the files of `from` that are neither weights nor their index, config.json with
/// the head's field, and the draft vocabulary, if there is one.
template <mtp::model_config Config, class Backend, mtp::scalar S>
void save(const std::filesystem::path& out,
          const std::filesystem::path& from,
          const mtp::language_model<Config, Backend, S>& model,
          std::span<const mtp::token_t> draft_tokens) {
  mtp::io::save_parameters(out, model, family_of(Config.prediction.kind));
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const std::string extension = entry.path().extension().string();
    const bool wanted = extension == ".json" || extension == ".model" || extension == ".txt" ||
                        extension == ".jinja" || name.starts_with("LICENSE");
    if (entry.is_regular_file() && wanted && !name.ends_with(".index.json") &&
        name != "config.json") {
      std::filesystem::copy_file(
          entry.path(), out / name, std::filesystem::copy_options::overwrite_existing);
    }
  }
  if (!draft_tokens.empty()) write_draft_tokens(out, draft_tokens);
  nlohmann::json json = mtp::io::read_json(from / "config.json");
  const nlohmann::json head =
      mtp::io::config_json(Config,
                           family_of(Config.prediction.kind),
                           std::is_same_v<S, mtp::bf16> ? "bfloat16" : "float32");
  json[json.contains("dtype") ? "dtype" : "torch_dtype"] = head["torch_dtype"];
  for (const char* const field :
       {"num_nextn_predict_layers", "medusa_num_heads", "medusa_num_layers", "n_future_tokens"}) {
    if (head.contains(field)) json[field] = head[field];
  }
  mtp::io::pretrained_detail::write_text(out / "config.json", json.dump(2) + "\n");
}

}  // namespace example

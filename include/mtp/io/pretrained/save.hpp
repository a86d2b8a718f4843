// Writes the parameters of a model as a checkpoint that other programs read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/pretrained/config_json.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/safetensors_writer.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::inline MTP_ABI::io {

namespace pretrained_detail {

/// The values of a model on the host, one parameter at a time.
template <class S, class Backend>
class host_parameters {
 public:
  explicit host_parameters(parameter_array<const S, Backend> values) : values_(values) {}

  /// to[i] (=) element first + i of a piece.
  void read(const file_piece& piece, index_t first, index_t count, S* to) {
    if (name_ != piece.name) {
      host_.resize(static_cast<std::size_t>(piece.place.storage));
      backend_traits<Backend>::copy_to_host(
          host_.data(), values_.data() + piece.place.offset, host_.size() * sizeof(S));
      name_ = piece.name;
    }
    parameter p = piece.place;
    p.offset = 0;
    const parameter_array<const S, Backend> array(host_.data(), static_cast<index_t>(host_.size()));
    for (index_t i = 0; i < count; ++i) {
      const index_t at = piece.element(first + i);
      to[i] = p.is_vector() ? array.vector(p)(at) : array.matrix(p)(at / p.inputs, at % p.inputs);
    }
  }

 private:
  parameter_array<const S, Backend> values_;
  std::string name_;     // of the parameter in host_
  std::vector<S> host_;  // its storage
};

/// Divides tensors, in their order, among files of at most `bytes` each; a larger tensor has a file
/// of its own.
inline std::vector<std::vector<tensor_source>> in_shards(std::vector<tensor_source> sources,
                                                         index_t bytes) {
  std::vector<std::vector<tensor_source>> shards(1);
  index_t used = 0;
  for (tensor_source& source : sources) {
    const index_t size = *io::detail::tensor_bytes(source.type, source.shape);
    if (used > 0 && size > bytes - used) {
      shards.emplace_back();
      used = 0;
    }
    used += size;
    shards.back().push_back(std::move(source));
  }
  return shards;
}

/// "model-00002-of-00003.safetensors", or the name of an only file.
inline std::string shard_name(std::size_t number, std::size_t count) {
  if (count == 1) return std::string(weights_file_name);
  const auto digits = [](std::size_t value) {
    const std::string text = std::to_string(value);
    return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
  };
  return "model-" + digits(number) + "-of-" + digits(count) + ".safetensors";
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  atomic_file file(path);
  buffered_writer writer(file);
  writer.write(text);
  writer.flush();
  file.commit();
}

/// Writes the files, then the index.
inline void write_shards(const std::filesystem::path& folder,
                         const std::vector<std::vector<tensor_source>>& shards) {
  nlohmann::json map = nlohmann::json::object();
  index_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i + 1, shards.size());
    for (const tensor_source& source : shards[i]) {
      map[source.name] = name;
      total += *io::detail::tensor_bytes(source.type, source.shape);
    }
    // Other programs refuse a file that does not name its framework.
    write_safetensors(folder / name, shards[i], {{"format", "pt"}});
  }
  if (shards.size() > 1) {
    const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    write_text(folder / index_file_name, index.dump(2) + "\n");
  }
}

/// Makes the folder if it is not there. Throws if it holds a checkpoint.
inline void check_empty(const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  check(!code, "save_parameters: cannot make '", folder.string(), "': ", code.message());
  const auto found = io::detail::safetensors_in(folder);
  const bool has_index = io::detail::is_there(folder / index_file_name);
  check(found.empty() && !has_index,
        "save_parameters: '",
        folder.string(),
        "' holds a checkpoint already: ",
        found.empty() ? std::string(index_file_name) : found.front().filename().string());
}

}  // namespace pretrained_detail

/// Options of save_parameters.
struct save_options {
  index_t shard_bytes = 5'000'000'000;  ///< of tensors in a file at most
};

/// Writes the parameters of a model to a folder in a family's names, in the model's element type:
/// model.safetensors, or several files and their index. Duplicates that the family's programs
/// expect are written as well. Throws mtp::error, before anything is written, if the family has no
/// name for one of the parameters, so that no head is lost, and if the folder holds a checkpoint;
/// and if writing fails. The index is written last.
template <model_config Config, class Backend, scalar S>
void save_parameters(const std::filesystem::path& folder,
                     const language_model<Config, Backend, S>& model,
                     const family_names& family,
                     const save_options& options = {}) {
  namespace detail = pretrained_detail;
  std::vector<std::string> unnamed;
  const auto pieces = file_pieces(family, Config, detail::parameters_of(model.layout), unnamed);
  std::string list;
  for (const auto& name : unnamed) list += "\n  " + name;
  check(unnamed.empty(),
        "save_parameters: the family ",
        family.name,
        " has no names for these parameters:",
        list);
  check(options.shard_bytes > 0, "save_parameters: shard_bytes must be positive");
  detail::check_empty(folder);

  const auto host = std::make_shared<detail::host_parameters<S, Backend>>(model.values());
  std::vector<tensor_source> sources;
  for (const file_piece& piece : pieces) {
    if (piece.use == piece_use::read_only) continue;
    sources.push_back({piece.file,
                       element_of<S>(),
                       piece.shape,
                       [host, piece](index_t first, index_t count, std::byte* to) {
                         std::vector<S> values(static_cast<std::size_t>(count));
                         host->read(piece, first, count, values.data());
                         std::memcpy(to, values.data(), values.size() * sizeof(S));
                       }});
  }
  detail::write_shards(folder, detail::in_shards(std::move(sources), options.shard_bytes));
}

/// Writes a checkpoint: the parameters, as save_parameters does, and config.json. `family` is one
/// of the library's own. Throws mtp::error, before anything is written, for a configuration that
/// the family's config.json cannot express.
template <model_config Config, class Backend, scalar S>
void save_pretrained(const std::filesystem::path& folder,
                     const language_model<Config, Backend, S>& model,
                     const family_names& family,
                     const save_options& options = {}) {
  constexpr element type = element_of<S>();
  const std::string_view name = type == element::f64   ? "float64"
                                : type == element::f32 ? "float32"
                                                       : "bfloat16";
  const nlohmann::json json = config_json(Config, family, name);
  save_parameters(folder, model, family, options);
  pretrained_detail::write_text(folder / "config.json", json.dump(2) + "\n");
}

}  // namespace mtp::inline MTP_ABI::io

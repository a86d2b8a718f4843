// Writes the parameters of a model as a checkpoint that other programs read.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/io/pretrained/config_json.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/write_tensors.hpp"
#include "mtp/io/safetensors_writer.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp::inline MTP_ABI::io {

namespace pretrained_detail {

/// The values of a model on the host, two parameters at a time: as many as a tensor has.
template <class S, class Backend>
class host_parameters {
 public:
  explicit host_parameters(parameter_array<const S, Backend> values) : values_(values) {}

  /// to[i] (=) element first + i of a piece.
  void read(const file_piece& piece, index_t first, index_t count, S* to) {
    const std::vector<S>& host = storage(piece);
    parameter p = piece.place;
    p.offset = 0;
    const parameter_array<const S, Backend> array(host.data(), static_cast<index_t>(host.size()));
    for (index_t i = 0; i < count; ++i) {
      const index_t at = piece.element(first + i);
      to[i] = p.is_vector() ? array.vector(p)(at) : array.matrix(p)(at / p.inputs, at % p.inputs);
    }
  }

 private:
  struct copy {
    std::string name;
    std::vector<S> storage;
  };

  const std::vector<S>& storage(const file_piece& piece) {
    if (copies_[0].name != piece.name) std::swap(copies_[0], copies_[1]);
    copy& kept = copies_[0];
    if (kept.name != piece.name) {
      kept.storage.resize(static_cast<std::size_t>(piece.place.storage));
      backend_traits<Backend>::copy_to_host(kept.storage.data(),
                                            values_.data() + piece.place.offset,
                                            kept.storage.size() * sizeof(S));
      kept.name = piece.name;
    }
    return kept.storage;
  }

  parameter_array<const S, Backend> values_;
  std::array<copy, 2> copies_;
};

/// A tensor that all of the pieces make up together.
template <class S, class Backend>
tensor_source source_of(std::shared_ptr<host_parameters<S, Backend>> host,
                        const std::vector<file_piece>& pieces) {
  const auto read = [host, pieces](index_t first, index_t count, std::byte* to) {
    std::vector<S> values(static_cast<std::size_t>(count));
    const index_t group = pieces.front().group_rows;
    if (group == 0) {
      host->read(pieces.front(), first, count, values.data());
    } else {
      for (index_t done = 0, part = 0; done < count; done += part) {
        const index_t width = pieces.front().file_columns();
        const index_t row = (first + done) / width, column = (first + done) % width;
        const auto own = std::find_if(pieces.rbegin(), pieces.rend(), [&](const file_piece& each) {
          return each.group_first <= row % group;
        });
        const index_t own_row = row / group * own->group_own + row % group - own->group_first;
        part = (std::min)(count - done, own->neighbours(own_row) * width - column);
        host->read(*own, own_row * width + column, part, values.data() + done);
      }
    }
    std::memcpy(to, values.data(), values.size() * sizeof(S));
  };
  return {pieces.front().file, element_of<S>(), pieces.front().shape, read};
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
  static_assert(is_whole<Config>,
                "save_parameters: ranks have parts of this model (tensor_parallel_size); "
                "gather_parameters in <mtp/model/divide.hpp> makes a whole one of them");
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
  detail::check_empty(folder, "save_parameters");

  const auto host = std::make_shared<detail::host_parameters<S, Backend>>(model.values());
  std::vector<tensor_source> sources;
  for (const file_piece& piece : pieces) {
    if (piece.use == piece_use::read_only || !piece.begins_tensor()) continue;
    std::vector<file_piece> parts{piece};
    std::copy_if(
        pieces.begin(), pieces.end(), std::back_inserter(parts), [&](const file_piece& other) {
          return !other.begins_tensor() && other.file == piece.file;
        });
    sources.push_back(detail::source_of(host, parts));
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
  pretrained_detail::write_json(folder / "config.json", json);
}

}  // namespace mtp::inline MTP_ABI::io

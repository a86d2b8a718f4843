// Names of parameters in checkpoints of other programs, as tables that both directions read.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mtp/core/scalar.hpp"
#include "mtp/model/prediction_config.hpp"
#include "mtp/ops/concat_order.hpp"

namespace mtp::inline MTP_ABI::io {

/// What a tensor of a file is of one of our parameters.
enum class tensor_part {
  whole,           ///< all of it
  queries,         ///< the rows of q of the fused projection, or of its bias
  keys,            ///< those of k
  values,          ///< those of v
  head,            ///< all of it, the rows of one head of queries or keys
  gate,            ///< the first half of the rows of the fused gate and up projection
  up,              ///< the second half
  projection,      ///< all of it; its halves of columns are in family_names::concat's order
  latent_queries,  ///< all of it, heads of latent attention: of each, the last rows are rotated
  latent_keys,     ///< all of it, one head of that kind
  keys_up,         ///< of each head of the file the first rows: the map from latents to keys
  values_up,       ///< of each head of the file the others: the map from latents to values
  expert,          ///< the rows of one expert
  expert_gate,     ///< the first half of an expert's rows
  expert_up,       ///< the second half
};

/// How a matrix stands in a file.
enum class matrix_order {
  outputs_by_inputs,  ///< [outputs, inputs], as PyTorch's Linear
  inputs_by_outputs,  ///< [inputs, outputs]: transposed
};

/// Which elements of a head are rotated together.
enum class rotary_pairs {
  half_split,   ///< e and e + E/2, as in Hugging Face's Llama and in this library
  interleaved,  ///< 2 e and 2 e + 1, as in Meta's Llama
};

/// A tensor of a file and the parameter that it belongs to. Names may have one "{}", a number, or
/// in the file one "{+}": that number plus the number of the trunk's blocks. The file's name may
/// have one "{e}" as well: a tensor for each expert.
struct name_rule {
  std::string_view file;                                 ///< of the tensor
  std::string_view parameter;                            ///< as language_model's visit has it
  tensor_part part = tensor_part::whole;                 ///< what of the parameter
  matrix_order order = matrix_order::outputs_by_inputs;  ///< of a matrix
};

/// Names that begin alike: where the blocks of a model stand.
struct block_rule {
  std::string_view file;                  ///< such as "model.layers.{}."
  std::string_view parameter;             ///< such as "layers.{}."
  std::span<const name_rule> block = {};  ///< inside of these, where it is not as in the others
};

/// What a duplicate repeats.
enum class copy_source {
  embedding,  ///< the embedding table
  output,     ///< the output matrix, which is the embedding table in models with tied embeddings
};

/// Whether a duplicate is written.
enum class copy_use {
  read_only,  ///< accepted where a file has it, not written
  written,    ///< the family's other programs expect it
};

/// A tensor that repeats another one. It may be missing in a file; if it is there, it must have the
/// same values.
struct copy_rule {
  std::string_view file;             ///< with "{}" or "{+}": one for each module of the head
  copy_source source;                ///< what it repeats
  copy_use use = copy_use::written;  ///< whether it is written
};

/// All names of a family. A program may have a table of its own.
struct family_names {
  std::string_view name;                                ///< in messages
  std::span<const name_rule> rules;                     ///< of single parameters
  std::span<const block_rule> blocks;                   ///< where blocks stand
  std::span<const name_rule> block;                     ///< inside of each block
  std::span<const copy_rule> copies = {};               ///< duplicates
  rotary_pairs pairs = rotary_pairs::half_split;        ///< of queries and keys
  concat_order concat = concat_order::embedding_first;  ///< of tensor_part::projection
  chain_input chain = chain_input::previous_output;     ///< what modules behind the first one read
  std::span<const std::string_view> ignored = {};  ///< ends of names of tables that follow from
                                                   ///< the configuration
};

namespace detail {

/// The number at "{}" of a pattern that `name` begins with, -1 for a pattern without one, and how
/// much of the name the pattern covers.
struct name_match {
  index_t number = -1;
  std::size_t length = 0;
};

inline std::optional<name_match> match_begin(std::string_view pattern, std::string_view name) {
  const std::size_t at = pattern.find("{}");
  if (!name.starts_with(pattern.substr(0, at))) return std::nullopt;
  if (at == std::string_view::npos) return name_match{-1, pattern.size()};
  std::size_t end = at;
  index_t number = 0;
  for (; end < name.size() && name[end] >= '0' && name[end] <= '9' && end < at + 9; ++end) {
    number = 10 * number + (name[end] - '0');
  }
  const std::string_view rest = pattern.substr(at + 2);
  if (end == at || !name.substr(end).starts_with(rest)) return std::nullopt;
  return name_match{number, end + rest.size()};
}

/// The same for a pattern that covers the whole name.
inline std::optional<name_match> match_whole(std::string_view pattern, std::string_view name) {
  const auto found = match_begin(pattern, name);
  return found && found->length == name.size() ? found : std::nullopt;
}

/// A pattern with its numbers: its own, that with the number of blocks added to it, an expert's.
inline std::string fill(std::string_view pattern,
                        index_t number,
                        index_t blocks,
                        index_t expert = 0) {
  for (const auto& [mark, value] : {std::pair<std::string_view, index_t>{"{}", number},
                                    std::pair<std::string_view, index_t>{"{+}", number + blocks},
                                    std::pair<std::string_view, index_t>{"{e}", expert}}) {
    if (const std::size_t at = pattern.find(mark); at != std::string_view::npos) {
      return std::string(pattern.substr(0, at)) + std::to_string(value) +
             std::string(pattern.substr(at + mark.size()));
    }
  }
  return std::string(pattern);
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI::io

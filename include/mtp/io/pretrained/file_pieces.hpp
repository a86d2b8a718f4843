// Where the parameters of a model stand in a checkpoint of a family.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/pretrained/names.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI::io {

/// A parameter and its name.
using named_parameter = std::pair<std::string, parameter>;

/// What a piece is to a checkpoint.
enum class piece_use {
  stored,     ///< the parameter itself
  copied,     ///< a duplicate that is written
  read_only,  ///< a duplicate that is only read
};

/// A tensor of a file as rows of a parameter, or those of its rows that belong to the parameter.
struct file_piece {
  std::string file;                   ///< name of the tensor
  std::string name;                   ///< name of the parameter
  parameter place;                    ///< the parameter
  index_t first_row = 0;              ///< of the parameter
  index_t rows = 0;                   ///< of the parameter
  index_t columns = 0;                ///< of the parameter; 1 for a vector
  std::vector<index_t> shape;         ///< of the tensor
  index_t group_rows = 0;             ///< 0: all rows of the tensor are the parameter's; else: of
  index_t group_first = 0;            ///< each group of as many, from this one on
  index_t group_own = 0;              ///< so many are
  bool transposed = false;            ///< the tensor is [columns, rows]
  index_t head_rows = 0;              ///< E if its rows are those of heads that are rotated, else 0
  index_t plain_rows = 0;             ///< of these, the ones in front that stay as they are
  index_t rotary_rows = 0;            ///< R: of the others, the first ones are rotated
  bool interleaved = false;           ///< pairs stand side by side, not R/2 apart
  bool halves_swapped = false;        ///< its halves of columns are the other way round
  piece_use use = piece_use::stored;  ///< what it is to the checkpoint

  /// Whether it is the first of the pieces of its tensor.
  bool begins_tensor() const { return group_first == 0; }
  /// Rows of the tensor that belong to it.
  index_t file_rows() const { return transposed ? columns : rows; }
  /// Elements of a row of the tensor.
  index_t file_columns() const { return transposed ? rows : columns; }

  /// Where its row `row` stands in the tensor.
  index_t tensor_row(index_t row) const {
    return group_rows == 0 ? row : row / group_own * group_rows + group_first + row % group_own;
  }
  /// How many of its rows from this one on are neighbours in the tensor.
  index_t neighbours(index_t row) const {
    return group_rows == 0 ? file_rows() - row : group_own - row % group_own;
  }
  /// The row of the parameter that is its row `row`, or its column if it is transposed.
  index_t parameter_row(index_t row) const {
    if (head_rows == 0) return first_row + row;
    return first_row + row / head_rows * head_rows + head_row(row % head_rows);
  }
  /// The row of a head of the parameter that is row `row` of a head of the tensor. Behind plain
  /// rows, the parameter has pairs half a head apart, those that are rotated in front; the tensor
  /// has all of these, then the others.
  index_t head_row(index_t row) const {
    if (row < plain_rows) return row;
    const index_t e = row - plain_rows;
    const index_t half = (head_rows - plain_rows) / 2, turned = rotary_rows / 2;
    if (e < rotary_rows) {
      const index_t pair = interleaved ? e / 2 : e % turned,
                    second = interleaved ? e % 2 : e / turned;
      return plain_rows + pair + second * half;
    }
    const index_t rest = e - rotary_rows, kept = half - turned;
    return plain_rows + turned + rest % kept + rest / kept * half;
  }
  /// The column of the parameter that is column `column` of the tensor, or its row if it is
  /// transposed.
  index_t parameter_column(index_t column) const {
    return halves_swapped ? (column + columns / 2) % columns : column;
  }

  /// The element of the parameter, in its row-major order, that is its element `at`.
  index_t element(index_t at) const {
    const index_t row = transposed ? at % rows : at / columns;
    const index_t column = transposed ? at / rows : at % columns;
    return parameter_row(row) * columns + parameter_column(column);
  }
};

namespace detail {

/// How many tensors of the file a rule names for one parameter.
inline index_t tensors_of(const name_rule& rule, const model_config& config) {
  return rule.file.find("{e}") == std::string_view::npos ? 1 : config.feed_forward.n_routed_experts;
}

/// First row and number of rows of a part, of expert number `expert` where it is one's.
inline std::pair<index_t, index_t> rows_of(tensor_part part,
                                           const parameter& p,
                                           const model_config& config,
                                           index_t expert) {
  const index_t E = config.head_dim(), H = config.attention.num_attention_heads;
  const index_t G = config.num_key_value_heads();
  switch (part) {
    case tensor_part::queries:
      return {0, H * E};
    case tensor_part::keys:
      return {H * E, G * E};
    case tensor_part::values:
      return {(H + G) * E, G * E};
    case tensor_part::gate:
      return {0, p.outputs / 2};
    case tensor_part::up:
      return {p.outputs / 2, p.outputs / 2};
    case tensor_part::expert:
    case tensor_part::expert_gate:
    case tensor_part::expert_up: {
      const index_t rows = p.outputs / config.feed_forward.n_routed_experts;
      if (part == tensor_part::expert) return {expert * rows, rows};
      return {expert * rows + (part == tensor_part::expert_up ? rows / 2 : 0), rows / 2};
    }
    default:
      return {0, p.outputs};
  }
}

/// Which rows of its tensor belong to a piece.
inline void set_groups(file_piece& piece, tensor_part part, const model_config& config) {
  if (part != tensor_part::keys_up && part != tensor_part::values_up) return;
  const attention_config& attention = config.attention;
  piece.group_rows = attention.qk_nope_head_dim + attention.v_head_dim;
  piece.group_first = part == tensor_part::keys_up ? 0 : attention.qk_nope_head_dim;
  piece.group_own =
      part == tensor_part::keys_up ? attention.qk_nope_head_dim : attention.v_head_dim;
  piece.shape.front() = attention.num_attention_heads * piece.group_rows;
}

/// Which rows of a piece are those of heads that are rotated.
inline void set_heads(file_piece& piece, tensor_part part, const model_config& config) {
  if (part == tensor_part::latent_queries || part == tensor_part::latent_keys) {
    const attention_config& attention = config.attention;
    piece.plain_rows =
        part == tensor_part::latent_queries ? attention.qk_nope_head_dim : attention.kv_lora_rank;
    piece.rotary_rows = attention.qk_rope_head_dim;
    if (piece.interleaved) piece.head_rows = piece.plain_rows + piece.rotary_rows;
    return;
  }
  const bool rotated =
      part == tensor_part::queries || part == tensor_part::keys || part == tensor_part::head;
  piece.rotary_rows = config.rotary_dim();
  // Pairs of whole heads that are half a head apart are where the parameter has them.
  if (rotated && (piece.interleaved || piece.rotary_rows < config.head_dim())) {
    piece.head_rows = config.head_dim();
  }
}

inline file_piece make_piece(const family_names& family,
                             const model_config& config,
                             const named_parameter& named,
                             const name_rule& rule,
                             std::string file,
                             index_t expert = 0) {
  const parameter& p = named.second;
  const auto [first, rows] = rows_of(rule.part, p, config, expert);
  file_piece piece;
  piece.file = std::move(file);
  piece.name = named.first;
  piece.place = p;
  piece.first_row = first;
  piece.rows = rows;
  piece.columns = p.is_vector() ? 1 : p.inputs;
  piece.transposed = !p.is_vector() && rule.order == matrix_order::inputs_by_outputs;
  if (p.is_vector()) {
    piece.shape = {rows};
  } else if (piece.transposed) {
    piece.shape = {p.inputs, rows};
  } else {
    piece.shape = {rows, p.inputs};
  }
  piece.interleaved = family.pairs == rotary_pairs::interleaved;
  set_heads(piece, rule.part, config);
  set_groups(piece, rule.part, config);
  piece.halves_swapped =
      rule.part == tensor_part::projection && family.concat != config.prediction.concat;
  return piece;
}

}  // namespace detail

/// The tensors of a checkpoint of a family: for each parameter all pieces that make it up, then the
/// duplicates. `unnamed` receives (=) the names of the parameters that the family has no names for.
inline std::vector<file_piece> file_pieces(const family_names& family,
                                           const model_config& config,
                                           const std::vector<named_parameter>& parameters,
                                           std::vector<std::string>& unnamed) {
  const index_t blocks = config.num_hidden_layers;
  std::vector<file_piece> pieces;
  unnamed.clear();
  for (const named_parameter& named : parameters) {
    const std::size_t before = pieces.size();
    for (const name_rule& rule : family.rules) {
      if (const auto found = detail::match_whole(rule.parameter, named.first)) {
        pieces.push_back(detail::make_piece(
            family, config, named, rule, detail::fill(rule.file, found->number, blocks)));
      }
    }
    for (const block_rule& place : family.blocks) {
      const auto found = detail::match_begin(place.parameter, named.first);
      for (const name_rule& rule : place.block.empty() ? family.block : place.block) {
        if (found && std::string_view(named.first).substr(found->length) == rule.parameter) {
          const std::string block = detail::fill(place.file, found->number, blocks);
          for (index_t e = 0; e < detail::tensors_of(rule, config); ++e) {
            pieces.push_back(detail::make_piece(
                family, config, named, rule, block + detail::fill(rule.file, 0, 0, e), e));
          }
        }
      }
    }
    if (pieces.size() == before) unnamed.push_back(named.first);
  }

  const auto place_of = [&](const std::string& name) {
    const auto found = std::find_if(parameters.begin(),
                                    parameters.end(),
                                    [&](const named_parameter& p) { return p.first == name; });
    check(found != parameters.end(), "file_pieces: the model has no parameter ", name);
    return *found;
  };
  for (const copy_rule& rule : family.copies) {
    const bool per_module = rule.file.find('{') != std::string_view::npos;
    const bool of_output = rule.source == copy_source::output && !config.tie_word_embeddings;
    if (!per_module && !config.tie_word_embeddings) continue;  // the output matrix itself
    const auto source = place_of(of_output ? "lm_head.weight" : "embed_tokens.weight");
    for (index_t m = 0; m < (per_module ? config.prediction.modules() : 1); ++m) {
      pieces.push_back(detail::make_piece(
          family, config, source, name_rule{}, detail::fill(rule.file, m, blocks)));
      pieces.back().use = rule.use == copy_use::written ? piece_use::copied : piece_use::read_only;
    }
  }
  return pieces;
}

}  // namespace mtp::inline MTP_ABI::io

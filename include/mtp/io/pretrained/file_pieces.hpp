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

/// A tensor of a file as rows of a parameter.
struct file_piece {
  std::string file;                   ///< name of the tensor
  std::string name;                   ///< name of the parameter
  parameter place;                    ///< the parameter
  index_t first_row = 0;              ///< of the parameter
  index_t rows = 0;                   ///< of the parameter
  index_t columns = 0;                ///< of the parameter; 1 for a vector
  std::vector<index_t> shape;         ///< of the tensor
  bool transposed = false;            ///< the tensor is [columns, rows]
  index_t head_rows = 0;              ///< E if its rows are those of heads that are rotated, else 0
  index_t rotary_rows = 0;            ///< R: of these, the first ones are rotated
  bool interleaved = false;           ///< pairs stand side by side, not R/2 apart
  bool halves_swapped = false;        ///< its halves of columns are the other way round
  piece_use use = piece_use::stored;  ///< what it is to the checkpoint

  /// Elements of the tensor.
  index_t count() const { return rows * columns; }

  /// Rows of the tensor, each of which follows the one before it in the file.
  index_t file_rows() const { return transposed ? columns : rows; }
  /// Elements of a row of the tensor.
  index_t file_columns() const { return transposed ? rows : columns; }

  /// The row of the parameter that is row `row` of the tensor, or its column if it is transposed.
  index_t parameter_row(index_t row) const {
    if (head_rows == 0) return first_row + row;
    return first_row + row / head_rows * head_rows + head_row(row % head_rows);
  }
  /// The row of a head of the parameter that is row `e` of a head of the tensor. The parameter has
  /// pairs E/2 apart, those that are rotated in front; the tensor has all of these, then the
  /// others.
  index_t head_row(index_t e) const {
    const index_t half = head_rows / 2, turned = rotary_rows / 2;
    if (e < rotary_rows) {
      const index_t pair = interleaved ? e / 2 : e % turned,
                    second = interleaved ? e % 2 : e / turned;
      return pair + second * half;
    }
    const index_t rest = e - rotary_rows, kept = half - turned;
    return turned + rest % kept + rest / kept * half;
  }
  /// The column of the parameter that is column `column` of the tensor, or its row if it is
  /// transposed.
  index_t parameter_column(index_t column) const {
    return halves_swapped ? (column + columns / 2) % columns : column;
  }

  /// The element of the parameter, in its row-major order, that is element `at` of the tensor.
  index_t element(index_t at) const {
    const index_t row = transposed ? at % rows : at / columns;
    const index_t column = transposed ? at / rows : at % columns;
    return parameter_row(row) * columns + parameter_column(column);
  }
};

namespace detail {

/// First row and number of rows of a part.
inline std::pair<index_t, index_t> rows_of(tensor_part part,
                                           const parameter& p,
                                           const model_config& config) {
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
    default:
      return {0, p.outputs};
  }
}

inline file_piece make_piece(const family_names& family,
                             const model_config& config,
                             const named_parameter& named,
                             const name_rule& rule,
                             std::string file) {
  const parameter& p = named.second;
  const auto [first, rows] = rows_of(rule.part, p, config);
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
  const bool rotated = rule.part == tensor_part::queries || rule.part == tensor_part::keys ||
                       rule.part == tensor_part::head;
  piece.interleaved = family.pairs == rotary_pairs::interleaved;
  piece.rotary_rows = config.rotary_dim();
  // Pairs of whole heads that are half a head apart are where the parameter has them.
  if (rotated && (piece.interleaved || piece.rotary_rows < config.head_dim())) {
    piece.head_rows = config.head_dim();
  }
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
      for (const name_rule& rule : family.block) {
        if (found && std::string_view(named.first).substr(found->length) == rule.parameter) {
          std::string file = detail::fill(place.file, found->number, blocks);
          pieces.push_back(detail::make_piece(family, config, named, rule, file.append(rule.file)));
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

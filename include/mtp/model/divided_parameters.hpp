// Which elements of a model's parameters a rank has, and copies between the whole and its parts.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI::detail {

/// The index of element i of a parameter, in row-major order, in an array of all parameters.
template <class Backend, scalar S>
constexpr index_t place_of(const parameter& p, index_t i) {
  return p.offset + (p.is_vector() ? i
                                   : backend_traits<Backend>::template weight_offset<S>(
                                         i / p.inputs, i % p.inputs, p.outputs, p.inputs));
}

/// The index in the whole parameter, in row-major order, of element i of the `part` that rank
/// `rank` of `ranks` has.
constexpr index_t index_in_whole(const parameter& part, index_t i, index_t rank, index_t ranks) {
  if (part.division == parameter_division::none) {
    return i;
  }
  const index_t C = part.is_vector() ? 1 : part.inputs, column = i % C;
  index_t row = i / C;
  if (part.division == parameter_division::columns) {
    return (row * ranks + rank) * C + column;
  }
  index_t begin = 0;  // of the piece, in the whole
  for (const index_t piece : part.pieces) {
    if (row < piece) {
      return (begin + rank * piece + row) * C + column;
    }
    row -= piece;
    begin += ranks * piece;
  }
  fail("parameter: the pieces of one that is divided by rows are not all of it");
}

/// The layout of the whole model of which ranks have parts.
template <class Model>
using whole_layout = model_layout<tensor_parallel(Model::config, 1),
                                  typename Model::backend_type,
                                  typename Model::scalar_type>;

/// Calls function(parameter of the whole model, the rank's part of it) for every parameter of a
/// model with a tensor_parallel_size, by ascending offset.
template <class Model, class Function>
void for_each_divided(const Function& function) {
  std::vector<parameter> parts;
  Model::layout.visit([&](const std::string&, const parameter& p) { parts.push_back(p); });
  std::size_t next = 0;
  whole_layout<Model>::make().visit(
      [&](const std::string&, const parameter& p) { function(p, parts[next++]); });
}

}  // namespace mtp::inline MTP_ABI::detail

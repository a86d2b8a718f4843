// What a pass over a few rows of one sequence carries from layer to layer.
#pragma once

#include "mtp/core/backend.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI {

/// One pass over M rows at consecutive positions of one sequence. What lies in front of them is in
/// the caches of the layers.
template <model_config Config, class Backend, scalar S>
struct row_pass {
  mtp::context<Backend>& context;                    ///< what operations run on
  parameter_array<const S, Backend> w;               ///< values of all parameters
  matrix_view<const accumulate_t<S>, Backend> rope;  ///< rotary table  [P, E]
  vector_view<const index_t, Backend> positions;     ///< in the sequence  [M]
};

}  // namespace mtp::inline MTP_ABI

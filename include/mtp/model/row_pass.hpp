// What a pass over a few rows of one sequence carries from layer to layer.
#pragma once

#include <algorithm>

#include "mtp/core/backend.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI {

/// How many rows a pass has at most, and how far decoding goes back: what memory and caches are
/// sized by.
template <model_config Config, class Backend>
struct row_limits {
  /// Rows of a verification: the latest token and D drafts.
  static constexpr index_t verification = Config.prediction.depth + 1;
  /// Rows of a step of the trunk: a piece of a prompt, or a verification.
  static constexpr index_t step =
      (std::max<index_t>)(backend_traits<Backend>::prefill_rows, verification);
  /// Rows of a pass of a drafter: a step, and what was set back before.
  static constexpr index_t draft = step + 2 * verification;
  /// Positions that verifying drafts takes back, from the longest length that was reached: those of
  /// the latest verification and of those that were submitted before the host had read it, and as
  /// many again for the rows of a drafter, which rest on tokens in front of them.
  static constexpr index_t taken_back =
      (std::min<index_t>)(Config.max_position_embeddings,
                          (backend_traits<Backend>::cycles_ahead + 2) * verification);
};

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

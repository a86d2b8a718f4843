// What a pass over a few rows of one or several sequences carries from layer to layer.
#pragma once

#include <algorithm>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/cache_view.hpp"
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
  /// Rows of a step of one sequence through the trunk: a piece of a prompt, or a verification.
  static constexpr index_t step =
      (std::max<index_t>)(backend_traits<Backend>::prefill_rows, verification);
  /// Rows of a step that have the bits that each has alone.
  static constexpr index_t invariant_step = [] {
    if constexpr (requires { backend_traits<Backend>::invariant_rows; }) {
      return (std::min)(step, index_t{backend_traits<Backend>::invariant_rows});
    } else {
      return step;
    }
  }();
  /// Rows of one sequence in a pass of a drafter: a step, and what was set back before.
  static constexpr index_t draft = step + 2 * verification;
  /// Latest rows of one sequence that a drafter keeps of what it is given: those that it may have
  /// to catch up with, which the host can tell it only where it knows how many there are.
  static constexpr index_t ring =
      backend_traits<Backend>::is_host_memory
          ? (std::max)(draft, (std::min<index_t>)(Config.max_position_embeddings, 8 * step))
          : draft;
  /// Rows of a pass of the trunk over the sequences of `slots` slots.
  static constexpr index_t trunk_rows(index_t slots) {
    return (std::max)(step, slots * verification);
  }
  /// Rows of a pass of a drafter over these: each drafted not long before, or is brought up to
  /// date alone.
  static constexpr index_t drafter_rows(index_t slots) {
    return (std::max)(draft, slots * 2 * verification);
  }
  /// Positions that verifying drafts takes back, from the longest length that was reached: those of
  /// the latest verification and of those that were submitted before the host had read it, and as
  /// many again for the rows of a drafter, which rest on tokens in front of them.
  static constexpr index_t taken_back =
      (std::min<index_t>)(Config.max_position_embeddings,
                          (backend_traits<Backend>::cycles_ahead + 2) * verification);
};

/// One pass over M rows: for each of its runs, rows at consecutive positions of one sequence. What
/// lies in front of them is in the caches of the layers, in the slot of the run.
template <model_config Config, class Backend, scalar S>
struct row_pass {
  mtp::context<Backend>& context;                    ///< what operations run on
  parameter_array<const S, Backend> w;               ///< values of all parameters
  matrix_view<const accumulate_t<S>, Backend> rope;  ///< rotary table  [P, E]
  vector_view<const index_t, Backend> positions;     ///< of rows in their sequences  [M]
  std::span<const row_run> runs;                     ///< M rows in all, a slot once at most
};

}  // namespace mtp::inline MTP_ABI

// The part of a configuration that says how tokens beyond the next one are predicted.
#pragma once

#include "mtp/model/head_kind.hpp"
#include "mtp/ops/concat_order.hpp"

namespace mtp::inline MTP_ABI {

/// Where a hidden state is taken: before or after the norm that stands in front of the output
/// matrix.
enum class norm_tap {
  pre_norm,   ///< the residual stream
  post_norm,  ///< what the output matrix reads
};

/// Whose norm stands between the stream of a depth and the output matrix.
enum class output_norm_kind {
  per_depth,  ///< each depth its own
  shared,     ///< the trunk's final norm for all
};

/// Everything that decides on the parameters of a head. Where papers, released weights and engines
/// differ, a field says which is meant; docs/mtp.md gives the evidence.
struct prediction_config {
  head_kind kind = head_kind::none;  ///< how further tokens are predicted
  int depth = 0;                     ///< D: how many tokens beyond the next one are predicted

  concat_order concat = concat_order::hidden_first;  ///< sequential, recurrent
  norm_tap hidden_tap =
      norm_tap::post_norm;  ///< state of the trunk that heads are given; parallel has none
  norm_tap recycle_tap =
      norm_tap::post_norm;  ///< what depth k + 1 is given of depth k: sequential, recurrent
  output_norm_kind output_norm = output_norm_kind::per_depth;  ///< sequential, recurrent, parallel

  /// Whether the head predicts tokens that the model can verify.
  constexpr bool drafts() const { return kind.drafts && depth > 0; }
  /// Parameter sets of the head: the modules of `sequential`, one for `recurrent`.
  constexpr int modules() const {
    switch (kind.parameters) {
      case head_parameters::none:
        return 0;
      case head_parameters::one:
        return depth > 0 ? 1 : 0;
      default:
        return depth;
    }
  }

  /// Field by field.
  friend constexpr bool operator==(const prediction_config&, const prediction_config&) = default;
};

}  // namespace mtp::inline MTP_ABI

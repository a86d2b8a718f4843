// Part of a configuration: how tokens beyond the next one are predicted.
#pragma once

#include "mtp/model/head_kind.hpp"
#include "mtp/ops/concat_order.hpp"

namespace mtp::inline MTP_ABI {

/// Whether a hidden state is taken before or after the norm in front of the output matrix.
enum class norm_tap {
  pre_norm,   ///< the residual stream
  post_norm,  ///< the input of the output matrix
};

/// The hidden states that modules behind the first one read.
enum class chain_input {
  previous_output,  ///< what the module in front of it gives
  target_hidden,    ///< the trunk's, as the first one does
};

/// The norm between the stream of a depth and the output matrix.
enum class output_norm_kind {
  per_depth,  ///< one for each depth
  shared,     ///< the trunk's final norm
};

/// The head: all that determines its parameters. Where papers, released weights and engines differ,
/// a field chooses; docs/mtp.md has the evidence.
struct prediction_config {
  head_kind kind = head_kind::none;  ///< how tokens beyond the next one are predicted
  int depth = 0;                     ///< D: how many of them are predicted

  concat_order concat = concat_order::hidden_first;  ///< sequential, recurrent
  norm_tap hidden_tap =
      norm_tap::post_norm;  ///< the trunk's hidden state that heads read; not for parallel
  norm_tap recycle_tap =
      norm_tap::post_norm;  ///< what depth k + 1 reads of depth k: sequential, recurrent
  chain_input chain = chain_input::previous_output;  ///< what depth k + 1 reads, and whether
                                                     ///< recycle_tap counts: sequential, recurrent
  output_norm_kind output_norm = output_norm_kind::per_depth;  ///< sequential, recurrent, parallel

  /// Whether the head predicts tokens for the model to verify.
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

  /// Compares all fields.
  friend constexpr bool operator==(const prediction_config&, const prediction_config&) = default;
};

}  // namespace mtp::inline MTP_ABI

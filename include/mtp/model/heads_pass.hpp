// A training pass of the head alone, on hidden states of a trunk that does not run.
#pragma once

#include <algorithm>

#include "mtp/core/view.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// The part of training_pass behind the trunk's blocks. It has no state; the caller provides all
/// memory.
template <model_config Config, class Backend, scalar S>
struct heads_pass {
  using trunk_type = trunk<Config, Backend, S>;      ///< the trunk that the head belongs to
  using head_type = head_of<Config, Backend, S>;     ///< the head
  using pass_type = model_pass<Config, Backend, S>;  ///< what a pass carries
  using matrix = matrix_view<S, Backend>;            ///< rows of activations

  /// The memory of a pass over N rows.
  struct memory {
    matrix stream;                                  ///< what the trunk gives the head  [N, C]
    matrix dstream;                                 ///< where heads may write its gradient  [N, C]
    vector_view<accumulate_t<S>, Backend> inv_rms;  ///< 1 / RMS of the stream  [N]
    typename head_type::activations head;           ///< what the head keeps

    /// Takes the memory from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr memory make(Arena& arena, index_t N) {
      constexpr index_t C = Config.hidden_size;
      const auto rows = [&] { return matrix(arena.template take<S>(N * C), {N, C}); };
      const auto stream = rows();
      const auto dstream = rows();
      const vector_view<accumulate_t<S>, Backend> inv_rms(arena.template take<accumulate_t<S>>(N),
                                                          dims<1>{N});
      const auto scratch = trunk_type::scratch::make(arena, N);
      return {stream, dstream, inv_rms, head_type::activations::make(arena, N, scratch)};
    }
  };

  /// The most bytes of workspace that operations need in a pass over N rows, with sequences of
  /// `length`, scoring excluded.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)(head_type::workspace(N, length, threads),
                      ops_of<Backend>::template row_workspace<S>(N, Config.hidden_size, threads));
  }

  /// Runs the head on m.stream and calls `score` as prediction_head says, also for the rows of
  /// depth 0. The pass has gradient_scope::heads_only, so only parameters of the head get
  /// gradients.
  template <class Score>
  static void run(const pass_type& pass, const memory& m, const Score& score) {
    constexpr auto& at = language_model<Config, Backend, S>::layout;
    if constexpr (trunk_type::ends_with_norm) {
      rms_norm_forward(pass.context,
                       head_type::next_token_rows(m.head, pass.rows()),
                       m.inv_rms,
                       m.stream,
                       pass.w.vector(at.trunk.norm),
                       Config.rms_norm_eps);
    }
    head_type::run(pass, at.head, at.trunk, m.head, m.stream, m.dstream, score);
  }
};

}  // namespace mtp::inline MTP_ABI

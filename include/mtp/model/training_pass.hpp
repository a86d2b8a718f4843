// A training pass of a whole model: trunk and head, forward and, if gradients are wanted, backward.
#pragma once

#include <algorithm>

#include "mtp/core/view.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/trunk.hpp"

namespace mtp::inline MTP_ABI {

/// The computation of a training pass, or of its end on the last stage of a pipeline. It has no
/// state; the caller provides all memory.
template <model_config Config, class Backend, scalar S>
struct training_pass {
  using trunk_type = trunk<Config, Backend, S>;      ///< the model's trunk
  using head_type = head_of<Config, Backend, S>;     ///< its head
  using pass_type = model_pass<Config, Backend, S>;  ///< what a pass carries
  using matrix = matrix_view<S, Backend>;            ///< rows of activations

  /// The memory of a pass over N rows.
  struct memory {
    typename trunk_type::activations trunk;  ///< what the trunk keeps
    typename trunk_type::scratch scratch;    ///< what its backward pass works in
    matrix dstream;                          ///< gradient of the trunk's stream  [N, C]
    typename head_type::activations head;    ///< what the head keeps

    /// Takes the memory from an arena, or counts it with an arena_plan. `part` is what is run of
    /// the trunk, the norm among it.
    template <class Arena>
    static constexpr memory make(Arena& arena,
                                 index_t N,
                                 const typename trunk_type::part& part = {}) {
      constexpr index_t C = Config.hidden_size;
      const auto trunk = trunk_type::activations::make(arena, N, part);
      const auto scratch = trunk_type::scratch::make(arena, N);
      const matrix dstream(arena.template take<S>(N * C), {N, C});
      return {trunk, scratch, dstream, head_type::activations::make(arena, N, scratch)};
    }
  };

  /// The most bytes of workspace that operations need in a pass over N rows, with sequences of
  /// `length`, scoring excluded.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)(trunk_type::workspace(N, length, threads),
                      head_type::workspace(N, length, threads));
  }

  /// Runs trunk and head and calls `score` as prediction_head says. If the pass wants gradients, it
  /// also runs the backward passes. `at` says where parameters are in the arrays of the pass. If
  /// the trunk's part has no embedding, m.trunk.input() is given, and its gradient is left in
  /// m.dstream.
  template <class Layout, class Score>
  static void run(const pass_type& pass, const Layout& at, const memory& m, const Score& score) {
    const index_t N = pass.rows();
    matrix normed(nullptr, {0, 0}), dnormed(nullptr, {0, 0});  // [N, C], where the trunk has a norm
    if constexpr (trunk_type::ends_with_norm) {
      normed = head_type::next_token_rows(m.head, N);
      dnormed = m.head.dhidden.slice(0, 0, N);
    }
    trunk_type::forward(pass, at.trunk, m.trunk, normed);
    const bool written =
        head_type::run(pass, at.head, at.trunk, m.head, m.trunk.output(), m.dstream, score);
    if (!pass.wants_gradients()) {
      return;
    }
    if (pass.trains_trunk()) {
      pass.finished(trunk_type::shared_end(at.trunk));
      trunk_type::backward(pass, at.trunk, m.trunk, m.scratch, m.dstream, written, dnormed);
    }
    pass.finished(0);
  }
};

}  // namespace mtp::inline MTP_ABI

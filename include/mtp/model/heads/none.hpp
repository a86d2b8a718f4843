// No head: next token only.
#pragma once

#include <cstddef>

#include "mtp/model/trunk.hpp"

namespace mtp::inline MTP_ABI {

/// The ordinary language model, and the example to read first: what every head has to have.
template <model_config Config, class Backend, scalar S>
struct none_head {
  using matrix = matrix_view<S, Backend>;            ///< rows of activations
  using pass_type = model_pass<Config, Backend, S>;  ///< what a pass carries
  using trunk_type = trunk<Config, Backend, S>;      ///< what it is given its rows by
  static constexpr bool reads_embedding = false;     ///< see prediction_head

  /// No parameters.
  struct layout {
    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor&) {
      return {};
    }
    /// visitor(name, parameter) for each of them.
    template <class Visitor>
    void visit(Visitor&&) const {}
  };

  /// Memory for training.
  struct activations {
    matrix hidden;   ///< what the output matrix reads  [N, C]
    matrix dhidden;  ///< its gradient  [N, C]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan. The scratch
    /// is the trunk's own, free for use while the head runs.
    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const typename trunk_type::scratch&) {
      const index_t C = Config.hidden_size;
      const matrix hidden(arena.template take<S>(N * C), {N, C});
      return {hidden, matrix(arena.template take<S>(N * C), {N, C})};
    }
  };

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`: it has none.
  static constexpr index_t workspace(index_t, index_t, index_t) { return 0; }

  /// Where the caller puts the norm of the trunk's stream before run.  [N, C]
  static matrix next_token_rows(const activations& a, index_t N) { return a.hidden.slice(0, 0, N); }

  /// Scores depth 0: score(0, rows of hidden, rows for their gradient, output matrix).
  template <class Score>
  static bool run(const pass_type&,
                  const layout&,
                  const typename trunk_type::layout& trunk,
                  const activations& a,
                  matrix,
                  matrix,
                  Score&& score) {
    score(0, a.hidden, a.dhidden, trunk.output);
    return false;
  }

  /// Drafts nothing.
  class drafter {
   public:
    /// Takes nothing.
    template <class Arena>
    static constexpr drafter make(Arena&, index_t) {
      return {};
    }
    /// Bytes of workspace that a draft wants at most.
    static constexpr index_t workspace(index_t, index_t) { return 0; }
    /// Nothing to forget.
    void reset(index_t) {}
    /// Nothing to set back.
    void rewind(index_t, index_t) {}
    /// Needs nothing in front of `position`.
    index_t keep(index_t, index_t position) { return position; }
    /// Nothing to copy.
    void copy_slot(context<Backend>&, index_t, index_t) {}
  };
};

/// The head of head_kind::none.
template <>
struct head_traits<head_kind::none> {
  /// Depth 0 is all there is.
  static double default_weight(std::size_t, std::size_t) { return 0; }

  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using head = none_head<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI

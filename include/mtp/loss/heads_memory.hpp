// The memory that the loss of a head alone takes.
#pragma once

#include <cstddef>

#include "mtp/core/view.hpp"
#include "mtp/loss/distillation.hpp"
#include "mtp/model/heads_pass.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::inline MTP_ABI::detail {

/// All memory of a pass over N positions. Rows of depth k stand at (k - 1) N. R is the size of the
/// draft vocabulary.
template <model_config Config, class Backend, real S>
struct heads_memory {
  using passes = heads_pass<Config, Backend, S>;
  using matrix = matrix_view<S, Backend>;
  template <class Element>
  using vector = vector_view<Element, Backend>;

  view<token_t, dims<2>, Backend> tokens;  // row k holds t[i + k]  [D + 1, N]
  vector<token_t> targets;                 // in the draft vocabulary  [D N]
  vector<S> weights;                       // [D N]
  vector<S> losses;                        // [D N]
  vector<S> overlaps;                      // [D N]
  vector<token_t> predicted;               // in the draft vocabulary  [D N]
  typename passes::memory pass;            // of the head
  matrix trunk;                     // the trunk's logits, then probabilities  [N, R], or none
  matrix draft;                     // logits of a depth  [N, R], or none
  vector<S> entropy;                // of the trunk, negative  [N], or none
  distillation<Backend, S> distil;  // room for its rows

  /// Takes the memory from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr heads_memory make(Arena& arena, index_t N, index_t R, bool distils) {
    const index_t D = Config.prediction.depth, all = D * N, kept = distils ? N : 0;
    const auto list = [&]<class Element>(Element, index_t count) {
      return vector<Element>(arena.template take<Element>(count), dims<1>{count});
    };
    const view<token_t, dims<2>, Backend> tokens(arena.template take<token_t>(all + N), {D + 1, N});
    const auto targets = list(token_t{}, all);
    const auto weights = list(S{}, all);
    const auto losses = list(S{}, all);
    const auto overlaps = list(S{}, all);
    const auto predicted = list(token_t{}, all);
    const auto pass = passes::memory::make(arena, N);
    const matrix trunk(arena.template take<S>(kept * R), {kept, R});
    const matrix draft(arena.template take<S>(kept * R), {kept, R});
    const auto entropy = list(S{}, kept);
    return {tokens,
            targets,
            weights,
            losses,
            overlaps,
            predicted,
            pass,
            trunk,
            draft,
            entropy,
            distillation<Backend, S>::make(arena, kept, R)};
  }
};

}  // namespace mtp::inline MTP_ABI::detail

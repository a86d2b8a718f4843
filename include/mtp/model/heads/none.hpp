// No head: next token only.
#pragma once

#include "mtp/model/trunk.hpp"

namespace mtp::inline MTP_ABI {

/// The ordinary language model, and the example to read first: what every head has to have.
template <model_config Config, class Backend, scalar S>
struct none_head {
  using matrix = matrix_view<S, Backend>;
  using pass_type = model_pass<Config, Backend, S>;

  struct layout {
    template <class Cursor>
    static constexpr layout make(Cursor&) {
      return {};
    }
    template <class Visitor>
    void visit(Visitor&&) const {}
  };

  struct activations {
    matrix hidden;   // [N, C]: what the output matrix reads
    matrix dhidden;  // [N, C]

    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const block_gradients<Config, Backend, S>&) {
      const index_t C = Config.hidden_size;
      const matrix hidden(arena.template take<S>(N * C), {N, C});
      return {hidden, matrix(arena.template take<S>(N * C), {N, C})};
    }
  };

  static matrix next_token_rows(const activations& a, index_t N) { return a.hidden.slice(0, 0, N); }

  template <class Score>
  static bool run(const pass_type&,
                  const layout&,
                  const trunk_layout<Config>& trunk,
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
    template <class Arena>
    static constexpr drafter make(Arena&, index_t) {
      return {};
    }
    void reset() {}
    void rewind(index_t) {}
  };
};

}  // namespace mtp::inline MTP_ABI

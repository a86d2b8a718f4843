// Linear heads, a kind that the library does not have. Depth k reads x + A_k x, where x [C] is what
// the output matrix reads for the next token and A_k [C, C] is all that the depth adds; the output
// matrix is shared. The cheapest heads of Gloeckle et al. (arXiv 2404.19737, table S4).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "mtp/model/heads/head.hpp"

inline constexpr mtp::head_kind linear_heads{.name = "linear"};

template <mtp::model_config Config, class Backend, mtp::scalar S>
struct linear_head {
  static_assert(Config.prediction.hidden_tap == mtp::norm_tap::post_norm,
                "linear_head: hidden_tap must be post_norm, because x is the normed state");
  static constexpr std::size_t D = static_cast<std::size_t>(Config.prediction.depth);
  using index_t = mtp::index_t;
  static constexpr index_t C = Config.hidden_size, V = Config.vocab_size;
  using matrix = mtp::matrix_view<S, Backend>;
  using pass_type = mtp::model_pass<Config, Backend, S>;
  using trunk_type = mtp::trunk<Config, Backend, S>;

  struct layout {
    std::array<mtp::parameter, D>
        map;  // [C, C] each; zero, so that a depth begins as the next token

    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      for (auto& map : at.map) map = cursor.matrix(C, C, mtp::parameter_role::zero);
      return at;
    }
    template <class Visitor>
    void visit(Visitor&& visitor) const {
      for (std::size_t k = 0; k < D; ++k) visitor("mtp." + std::to_string(k) + ".weight", map[k]);
    }
  };

  struct activations {
    matrix hidden;   // [(D + 1) N, C]: what the output matrix reads, depth by depth
    matrix dhidden;  // [(D + 1) N, C]

    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const typename trunk_type::scratch&) {
      const index_t rows = (Config.prediction.depth + 1) * N;
      const matrix hidden(arena.template take<S>(rows * C), {rows, C});
      return {hidden, matrix(arena.template take<S>(rows * C), {rows, C})};
    }
  };

  /// Of the context, for products of N rows.
  static constexpr index_t workspace(index_t N, index_t, index_t threads) {
    return mtp::ops_of<Backend>::template linear_workspace<S>(N, C, C, threads);
  }

  static matrix next_token_rows(const activations& a, index_t N) { return a.hidden.slice(0, 0, N); }

  template <class Score>
  static bool run(const pass_type& pass,
                  const layout& at,
                  const typename trunk_type::layout& trunk,
                  const activations& a,
                  matrix,
                  matrix,
                  Score&& score) {
    const auto rows = [N = pass.rows()](const matrix& all, std::size_t k, std::size_t depths = 1) {
      return all.slice(0, static_cast<index_t>(k) * N, static_cast<index_t>(depths) * N);
    };
    const matrix x = rows(a.hidden, 0), dx = rows(a.dhidden, 0);  // [N, C] both
    for (std::size_t k = 1; k <= D; ++k) {
      linear_add_forward(pass.context, rows(a.hidden, k), x, pass.w.matrix(at.map[k - 1]), x);
    }
    // The output matrix learns from depth 0 alone where the scope keeps the others from the trunk.
    score(0, x, dx, trunk.output);
    score(1, rows(a.hidden, 1, D), rows(a.dhidden, 1, D), trunk.output);
    for (std::size_t k = 1; pass.wants_gradients() && k <= D; ++k) {
      const matrix dy = rows(a.dhidden, k);  // [N, C]
      linear_backward_weight(pass.context, pass.g.matrix(at.map[k - 1]), dy, x);
      if (pass.heads_reach_trunk()) {
        add(pass.context, dx, dx, dy);
        linear_add_backward_input(pass.context, dx, dy, pass.w.matrix(at.map[k - 1]), dx);
      }
    }
    return false;  // all that the trunk gets went through dhidden
  }

  /// Drafts from the last row that the trunk has seen, and remembers nothing else.
  class drafter {
   public:
    using ring_type = mtp::row_ring<S, Backend>;
    using tasks_type = std::span<const mtp::draft_task<Backend>>;

    template <class Arena>
    static constexpr drafter make(Arena& arena, index_t slots) {
      const index_t drafts = slots * Config.prediction.depth;
      const auto rows = [&](index_t n) { return matrix(arena.template take<S>(n * C), {n, C}); };
      drafter made;
      made.ring_ = ring_type::make(arena, slots, mtp::row_limits<Config, Backend>::draft, C);
      made.row_ = rows(1);
      made.mapped_ = rows(drafts);
      made.logits_ = {arena.template take<mtp::accumulate_t<S>>(drafts * V), {drafts, V}};
      made.predicted_ = {arena.template take<mtp::token_t>(drafts), mtp::dims<1>{drafts}};
      made.position_ = {arena.template take<index_t>(1), mtp::dims<1>{1}};
      return made;
    }
    static constexpr index_t workspace(index_t slots, index_t threads) {
      return (std::max)(
          mtp::ops_of<Backend>::template linear_forward_workspace<S>(1, C, C, threads),
          mtp::logits_workspace<Config, Backend, S>(slots * Config.prediction.depth, threads));
    }
    void reset(index_t) {}
    void rewind(index_t, index_t) {}
    index_t keep(index_t, index_t position) { return position; }
    void copy_slot(mtp::context<Backend>&, index_t, index_t) {}
    const ring_type& ring() const { return ring_; }  // the model puts its rows here

    template <class Model>
    void advance(mtp::context<Backend>&,
                 const Model&,
                 const mtp::sequence_view<Backend>&,
                 index_t,
                 index_t,
                 index_t) {}

    template <class Model>
    void draft(mtp::context<Backend>& context, const Model& model, tasks_type tasks) {
      index_t drafts = 0;
      for (const mtp::draft_task<Backend>& task : tasks) {
        select_rows(context, position_, predicted_.slice(0, 0, 1), task.sequence, -2, 0);
        load_rows(context, row_, ring_.at(task.sequence.slot), position_);
        for (index_t k = 0; k < task.depth; ++k) {
          const auto w =
              model.values().matrix(model.head_layout().map[static_cast<std::size_t>(k)]);
          linear_add_forward(context, mapped_.slice(0, drafts++, 1), row_, w, row_);
        }
      }
      draft_tokens(
          context,
          model,
          model.trunk_layout().output,
          mapped_.slice(0, 0, drafts),
          logits_.slice(0, 0, drafts),
          predicted_.slice(0, 0, drafts),
          tasks,
          [](const auto& task) { return task.depth; },
          0);
    }

   private:
    ring_type ring_;
    matrix row_{nullptr, {0, 0}};                                                  // [1, C]
    matrix mapped_{nullptr, {0, 0}};                                               // [slots D, C]
    mtp::matrix_view<mtp::accumulate_t<S>, Backend> logits_{nullptr, {0, 0}};      // [slots D, V]
    mtp::vector_view<mtp::token_t, Backend> predicted_{nullptr, mtp::dims<1>{0}};  // [slots D]
    mtp::vector_view<index_t, Backend> position_{nullptr, mtp::dims<1>{0}};        // [1]
  };
};

template <>
struct mtp::head_traits<linear_heads> {
  /// As for Medusa's heads, which these resemble.
  static double default_weight(std::size_t k, std::size_t) {
    return std::pow(0.8, static_cast<double>(k));
  }

  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using head = linear_head<Config, Backend, S>;
};

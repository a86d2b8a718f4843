// Medusa's heads: per depth a residual block and an output matrix of its own (arXiv 2401.10774,
// section 2.1.1; blockwise parallel decoding, arXiv 1811.03115).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>

#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_pass.hpp"
#include "mtp/model/row_ring.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::inline MTP_ABI {

/// logits of depth k = W_k (x + silu(A_k x + b_k)), x the trunk's hidden state. A and b start as
/// zero, so that a new head starts as a plain output matrix.
template <model_config Config, class Backend, scalar S>
struct independent_head {
  /// Depth of the configuration.
  static constexpr std::size_t D = static_cast<std::size_t>(Config.prediction.depth);
  using matrix = matrix_view<S, Backend>;            ///< rows of activations
  using pass_type = model_pass<Config, Backend, S>;  ///< what a pass carries
  using trunk_type = trunk<Config, Backend, S>;      ///< what it is given its rows by
  static constexpr bool reads_embedding = false;     ///< see prediction_head
  /// Whether x is the residual stream rather than its norm.
  static constexpr bool taps_before_norm = Config.prediction.hidden_tap == norm_tap::pre_norm;

  /// Parameters of one depth.
  struct depth_layout {
    parameter residual;  ///< A_k  [C, C]
    parameter bias;      ///< b_k  [C]
    parameter output;    ///< W_k  [V, C]
  };
  /// Parameters of the head, under names of our own.
  struct layout {
    std::array<depth_layout, D> depth;  ///< depth k at k - 1

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      const index_t C = Config.hidden_size;
      layout at;
      for (auto& depth : at.depth) {
        depth.residual = cursor.matrix(C, C, parameter_role::zero);
        depth.bias = cursor.vector(C, parameter_role::bias);
        depth.output = cursor.matrix(vocabulary<Config>::rows, C).by_rows(vocabulary<Config>::rows);
      }
      return at;
    }
    /// visitor(name, parameter) for each of them.
    template <class Visitor>
    void visit(Visitor&& visitor) const {
      for (std::size_t k = 0; k < D; ++k) {
        const std::string prefix = "mtp." + std::to_string(k) + ".";
        visitor(prefix + "residual.weight", depth[k].residual);
        visitor(prefix + "residual.bias", depth[k].bias);
        visitor(prefix + "lm_head.weight", depth[k].output);
      }
    }
  };

  // ---- Training ----

  /// Memory for one depth at a time, besides the rows of the next-token head.
  struct activations {
    matrix hidden;   ///< of the next-token head  [N, C]
    matrix dhidden;  ///< its gradient  [N, C]
    matrix inner;    ///< A_k x + b_k, then its gradient  [N, C]
    matrix outer;    ///< x + silu(inner)  [N, C]
    matrix douter;   ///< its gradient, then that of x  [N, C]
    matrix carry;    ///< sum over depths of the gradients of x  [N, C]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const typename trunk_type::scratch&) {
      const index_t C = Config.hidden_size;
      const auto rows = [&] { return matrix(arena.template take<S>(N * C), {N, C}); };
      const auto hidden = rows();
      const auto dhidden = rows();
      const auto inner = rows();
      const auto outer = rows();
      const auto douter = rows();
      return {hidden, dhidden, inner, outer, douter, rows()};
    }
  };

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t, index_t threads) {
    constexpr index_t C = Config.hidden_size;
    return (std::max)(ops_of<Backend>::template linear_workspace<S>(N, C, C, threads),
                      ops_of<Backend>::template row_workspace<S>(N, C, threads));
  }

  /// Where the caller puts the norm of the trunk's stream before run.  [N, C]
  static matrix next_token_rows(const activations& a, index_t N) { return a.hidden.slice(0, 0, N); }

  /// stream [N, C]: the trunk's residual stream. score(k, rows of depth k, rows for their gradient,
  /// output matrix) scores one depth at a time; with gradients, a.dhidden and dstream receive (=)
  /// what reaches the trunk. Returns whether dstream was written.
  template <class Score>
  static bool run(const pass_type& pass,
                  const layout& at,
                  const typename trunk_type::layout& trunk,
                  const activations& a,
                  matrix stream,
                  matrix dstream,
                  Score&& score) {
    auto& context = pass.context;
    score(0, a.hidden, a.dhidden, trunk.output);
    const matrix x = trunk_type::tapped(stream, a.hidden);
    for (std::size_t k = 1; k <= D; ++k) {
      const depth_layout& p = at.depth[k - 1];
      linear_bias_forward(context, a.inner, x, pass.w.matrix(p.residual), pass.w.vector(p.bias));
      silu_residual_forward(context, a.outer, x, a.inner);
      score(k, a.outer, a.douter, p.output);
      if (!pass.wants_gradients()) {
        continue;
      }
      silu_residual_backward(context, a.inner, a.douter, a.inner);
      linear_backward_weight(context, pass.g.matrix(p.residual), a.inner, x);
      linear_backward_bias(context, pass.g.vector(p.bias), a.inner);
      if (pass.heads_reach_trunk()) {
        linear_add_backward_input(context, a.douter, a.inner, pass.w.matrix(p.residual), a.douter);
        if (k == 1) {
          copy(context, a.carry, a.douter);
        } else {
          add(context, a.carry, a.carry, a.douter);
        }
      }
    }
    if (!pass.wants_gradients() || !pass.heads_reach_trunk()) {
      return false;
    }
    if constexpr (taps_before_norm) {
      copy(context, dstream, a.carry);
    } else {
      add(context, a.dhidden, a.dhidden, a.carry);
    }
    return taps_before_norm;
  }

  // ---- Drafting ----

  /// Drafts the next tokens of sequences, up to D of each, from the trunk's last row of each; there
  /// is nothing to remember but that row.
  class drafter {
   public:
    using ring_type = row_ring<S, Backend>;                   ///< the latest rows of a stream
    using tasks_type = std::span<const draft_task<Backend>>;  ///< what is to be drafted
    static constexpr bool takes_trees = true;                 ///< what drafts stand behind is
                                                              ///< nothing that it looks at

    /// Takes the memory for the sequences of `slots` slots from an arena, or counts it with an
    /// arena_plan.
    template <class Arena>
    static constexpr drafter make(Arena& arena, index_t slots) {
      constexpr index_t C = Config.hidden_size, V = Config.vocab_size;
      const auto rows = [&] { return matrix(arena.template take<S>(slots * C), {slots, C}); };
      drafter made;
      made.ring_ = ring_type::make(arena, slots, row_limits<Config, Backend>::draft, C);
      made.row_ = rows();
      made.inner_ = rows();
      made.outer_ = rows();
      made.logits_ = {arena.template take<accumulate_t<S>>(slots * V), {slots, V}};
      made.position_ = {arena.template take<index_t>(slots), dims<1>{slots}};
      made.token_ = {arena.template take<token_t>(slots), dims<1>{slots}};
      return made;
    }

    /// Bytes of workspace that a draft wants at most.
    static constexpr index_t workspace(index_t slots, index_t threads) {
      constexpr index_t C = Config.hidden_size;
      return (std::max)(
          {ops_of<Backend>::template linear_forward_workspace<S>(slots, C, C, threads),
           ops_of<Backend>::template row_workspace<S>(slots, C, threads),
           logits_workspace<Config, Backend, S>(slots, threads)});
    }
    /// Nothing to forget.
    void reset(index_t) {}
    /// Nothing to set back.
    void rewind(index_t, index_t) {}

    /// A new sequence in a slot that begins as the last one did: needs nothing in front of
    /// `position`.
    index_t keep(index_t, index_t position) { return position; }
    /// Nothing to copy.
    void copy_slot(context<Backend>&, index_t, index_t) {}

    /// Where the trunk's rows are kept.
    const ring_type& ring() const { return ring_; }

    /// Nothing to bring up to date.
    template <class Model>
    void advance(
        context<Backend>&, const Model&, const sequence_view<Backend>&, index_t, index_t, index_t) {
    }

    /// Drafts for the tokens behind the confirmed ones, all of a sequence from the same row. Tasks
    /// are of different sequences, in the order of falling depth.
    template <class Model>
    void draft(context<Backend>& context, const Model& model, tasks_type tasks) {
      pass_rows list;
      for (const draft_task<Backend>& task : tasks) {
        list.add(task.sequence.slot, {-2, 1});
      }
      for (std::size_t i = 0; i < tasks.size(); ++i) {
        select_rows(context,
                    list.part(i, position_),
                    list.part(i, token_),
                    tasks[i].sequence,
                    list.range(i).offset,
                    0);
      }
      ring_.load(context, list, row_.slice(0, 0, list.rows()), position_.slice(0, 0, list.rows()));
      for (std::size_t k = 1; k <= D; ++k) {
        const auto depth = static_cast<index_t>(k);
        const tasks_type deep = tasks_of_depth(tasks, depth);
        if (deep.empty()) {
          return;
        }
        const auto part = [&](const auto& all) {
          return all.slice(0, 0, static_cast<index_t>(deep.size()));
        };
        const depth_layout& p = model.head_layout().depth[k - 1];
        linear_bias_forward(context,
                            part(inner_),
                            part(row_),
                            model.values().matrix(p.residual),
                            model.values().vector(p.bias));
        silu_residual_forward(context, part(outer_), part(row_), part(inner_));
        draft_tokens(
            context,
            model,
            p.output,
            part(outer_),
            part(logits_),
            part(token_),
            deep,
            [](const auto&) { return index_t{1}; },
            depth - 1);
      }
    }

   private:
    ring_type ring_;
    matrix row_{nullptr, {0, 0}};                                    // [slots, C]
    matrix inner_{nullptr, {0, 0}};                                  // [slots, C]
    matrix outer_{nullptr, {0, 0}};                                  // [slots, C]
    matrix_view<accumulate_t<S>, Backend> logits_{nullptr, {0, 0}};  // [slots, V]
    vector_view<index_t, Backend> position_{nullptr, dims<1>{0}};    // [slots]
    vector_view<token_t, Backend> token_{nullptr, dims<1>{0}};       // [slots]
  };
};

/// The head of head_kind::independent.
template <>
struct head_traits<head_kind::independent> {
  /// 0.8^k, as Medusa has it.
  static double default_weight(std::size_t k, std::size_t) {
    return std::pow(0.8, static_cast<double>(k));
  }

  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using head = independent_head<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI

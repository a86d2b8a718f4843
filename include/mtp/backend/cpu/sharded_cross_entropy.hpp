// Output matrices divided among ranks, on the CPU. Contracts: ops/sharded_cross_entropy.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "mtp/backend/cpu/linear.hpp"
#include "mtp/backend/cpu/linear_cross_entropy.hpp"
#include "mtp/backend/cpu/sum_over_ranks.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/ops/linear.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// What a rank knows of a row from its own logits.
template <real A>
struct row_part {
  A maximum;
  token_t argmax;       // among all tokens; -1: all of the rank's logits are NaN
  std::int32_t finite;  // whether all of them are

  /// Takes in the logits of a rank with higher tokens.
  void merge(const row_part& other) {
    if (other.argmax >= 0 && (argmax < 0 || other.maximum > maximum)) {
      maximum = other.maximum;
      argmax = other.argmax;
    }
    finite &= other.finite;
  }
};

/// A block of `count` elements of each rank, in the workspace.
template <class Element>
class rank_blocks {
 public:
  rank_blocks(cpu_context& context, index_t most)
      : ranks_(*context.ranks()),
        memory_(context.workspace().template take<Element>(ranks_.size() * most)) {}

  /// That of rank `rank`, of blocks of `count`.
  Element* of(index_t rank, index_t count) const { return memory_ + rank * count; }
  /// That of this rank.
  Element* own(index_t count) const { return of(ranks_.rank(), count); }
  /// Every rank gets the blocks of all.
  void gather(index_t count) const {
    const auto bytes = count * static_cast<index_t>(sizeof(Element));
    ranks_.all_gather(reinterpret_cast<std::byte*>(memory_), ranks_.size() * bytes, bytes);
  }

 private:
  tensor_group& ranks_;
  Element* memory_;
};

struct cpu_sharded_cross_entropy_ops {
  using targets_view = matrix_view<const token_t, cpu>;
  using whole = cpu_linear_cross_entropy_ops;

  template <scalar Y, scalar S>
  static void sharded_linear_forward(cpu_context& context,
                                     matrix_view<Y, cpu> y,
                                     matrix_view<const S, cpu> x,
                                     weight_view<const S, cpu> w) {
    const index_t N = x.extent(0), V = w.outputs, R = context.ranks()->size();
    const arena::scope scope(context.workspace());
    const rank_blocks<Y> logits(context, N * V);
    mtp::linear_forward(context, matrix_view<Y, cpu>(logits.own(N * V), {N, V}), x, w);
    logits.gather(N * V);
    context.parallel_ranges(N, task_rows(R * V), [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        for (index_t r = 0; r < R; ++r) {
          std::copy_n(logits.of(r, N * V) + n * V, V, &y(n, r * V));
        }
      }
    });
  }

  template <factor S>
  static void sharded_cross_entropy(cpu_context& context,
                                    matrix_view<accumulate_t<S>, cpu> losses,
                                    vector_view<token_t, cpu> predicted,
                                    matrix_view<S, cpu> dhidden,
                                    weight_view<accumulate_t<S>, cpu> dw,
                                    matrix_view<const S, cpu> hidden,
                                    weight_view<const S, cpu> w,
                                    targets_view targets,
                                    matrix_view<const accumulate_t<S>, cpu> weights) {
    {
      const arena::scope scope(context.workspace());
      const scoring<accumulate_t<S>> score(
          context, losses, predicted, targets, &weights, w.outputs);
      whole::with_gradients(context, dhidden, dw, hidden, w, score);
    }
    cpu_sum_over_ranks_ops::sum_over_ranks(
        context, vector_view<S, cpu>(dhidden.data(), dims<1>{dhidden.count()}));
  }

  template <factor S>
  static void sharded_cross_entropy_forward(cpu_context& context,
                                            matrix_view<accumulate_t<S>, cpu> losses,
                                            vector_view<token_t, cpu> predicted,
                                            matrix_view<const S, cpu> hidden,
                                            weight_view<const S, cpu> w,
                                            targets_view targets) {
    const arena::scope scope(context.workspace());
    const scoring<accumulate_t<S>> score(context, losses, predicted, targets, nullptr, w.outputs);
    whole::for_each_chunk(
        context, hidden, w, false, score, [](index_t, index_t, matrix_view<const S, cpu>) {});
  }

  template <class... Views>
  requires some_widened<Views...>
  static void sharded_cross_entropy(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { sharded_cross_entropy(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void sharded_cross_entropy_forward(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { sharded_cross_entropy_forward(context, each...); }, views...);
  }

  /// The most bytes of workspace that sharded_linear_forward needs: `rows` rows, `part` tokens of
  /// each of `ranks` ranks.
  template <scalar S>
  static constexpr index_t sharded_linear_workspace(
      index_t rows, index_t part, index_t width, index_t threads, index_t ranks) {
    return arena_bytes(ranks * rows * part, sizeof(accumulate_t<S>)) +
           cpu_linear_ops::linear_forward_workspace<S>(rows, part, width, threads);
  }

  /// The most bytes that sharded_cross_entropy needs for `rows` rows of `targets` targets each.
  template <scalar S>
  static constexpr index_t sharded_cross_entropy_workspace(
      index_t rows, index_t part, index_t width, index_t targets, index_t threads, index_t ranks) {
    using A = accumulate_t<S>;
    const index_t chunk = linear_cross_entropy_chunk(rows, part);
    return arena_bytes(ranks * chunk, sizeof(row_part<A>)) +
           arena_bytes(ranks * chunk * (1 + targets), sizeof(A)) +
           whole::linear_cross_entropy_workspace<S>(rows, part, width, threads) +
           cpu_sum_over_ranks_ops::sum_over_ranks_workspace<A>(rows * width, ranks);
  }

 private:
  /// Scores chunks of rows of which each rank has the logits of its tokens.
  template <real A>
  class scoring {
   public:
    scoring(cpu_context& context,
            matrix_view<A, cpu> losses,
            vector_view<token_t, cpu> predicted,
            targets_view targets,
            const matrix_view<const A, cpu>* weights,
            index_t part)
        : context_(context),
          losses_(losses),
          predicted_(predicted),
          targets_(targets),
          weights_(weights),
          J_(targets.extent(1)),
          V_(part),
          first_token_(context.ranks()->rank() * part),
          parts_(context, linear_cross_entropy_chunk(losses.extent(0), part)),
          terms_(context, linear_cross_entropy_chunk(losses.extent(0), part) * (1 + J_)) {}

    template <class Finish>
    void operator()(matrix_view<A, cpu> logits,
                    index_t first,
                    index_t rows,
                    const Finish& finish) const {
      const auto each_row = [&](const auto& function) {
        context_.parallel_ranges(rows, task_rows(2 * V_), [&](index_t begin, index_t end, int) {
          for (index_t r = begin; r < end; ++r) function(r);
        });
      };
      each_row([&](index_t r) {
        const auto own = inspect_row(&logits(r, 0), V_);
        const auto token = static_cast<token_t>(first_token_ + own.argmax);
        parts_.own(rows)[r] = {own.maximum, own.argmax < 0 ? -1 : token, own.finite ? 1 : 0};
      });
      parts_.gather(rows);
      each_row([&](index_t r) { reduce_row(&logits(r, 0), r, first + r, rows); });
      terms_.gather(rows * (1 + J_));
      each_row([&](index_t r) {
        finish_row(&logits(r, 0), r, first + r, rows);
        if (weights_ != nullptr) {
          finish(r);
        }
      });
    }

   private:
    /// Merges what the ranks know of row r of the chunk into the first rank's place. Logits become
    /// exponentials; the rank's terms are their sum and the logits of its targets.
    void reduce_row(A* logits, index_t r, index_t row, index_t rows) const {
      row_part<A>& all = parts_.of(0, rows)[r];
      for (index_t rank = 1; rank < context_.ranks()->size(); ++rank) {
        all.merge(parts_.of(rank, rows)[r]);
      }
      predicted_(row) = all.argmax;
      A* const terms = terms_.own(rows * (1 + J_)) + r * (1 + J_);
      std::fill_n(terms, 1 + J_, A{0});
      if (all.finite == 0) return;
      for (index_t j = 0; j < J_; ++j) {
        const index_t v = targets_(row, j) - first_token_;
        if (targets_(row, j) >= 0 && v >= 0 && v < V_) {
          terms[1 + j] = logits[v];
        }
      }
      terms[0] = exponentiate_row(logits, V_, all.maximum);
    }

    /// Losses and, with weights, gradients of row r of the chunk.
    void finish_row(A* logits, index_t r, index_t row, index_t rows) const {
      const row_part<A>& all = parts_.of(0, rows)[r];
      const target_weights<A> weight(row, targets_, weights_);
      if (all.finite == 0) {  // no number is right, so loss and gradients are NaN
        constexpr A nan = std::numeric_limits<A>::quiet_NaN();
        for (index_t j = 0; j < J_; ++j) {
          losses_(row, j) = targets_(row, j) >= 0 ? nan : A{0};
        }
        std::fill_n(logits, V_, weight.any ? nan : A{0});
        return;
      }
      const auto summed = [&](index_t term) {
        A sum{0};
        for (index_t rank = 0; rank < context_.ranks()->size(); ++rank) {
          sum += terms_.of(rank, rows * (1 + J_))[r * (1 + J_) + term];
        }
        return sum;
      };
      const A sum = summed(0);
      const A log_sum = std::log(sum);
      for (index_t j = 0; j < J_; ++j) {  // one rank has the logit, the others have zeros
        losses_(row, j) = targets_(row, j) >= 0
                              ? mtp::detail::cross_entropy_of(summed(1 + j), all.maximum, log_sum)
                              : A{0};
      }
      if (weights_ != nullptr) {
        differentiate_row(logits, first_token_, V_, weight.total / sum, row, targets_, *weights_);
      }
    }

    cpu_context& context_;
    matrix_view<A, cpu> losses_;
    vector_view<token_t, cpu> predicted_;
    targets_view targets_;
    const matrix_view<const A, cpu>* weights_;
    index_t J_, V_, first_token_;
    rank_blocks<row_part<A>> parts_;
    rank_blocks<A> terms_;
  };
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

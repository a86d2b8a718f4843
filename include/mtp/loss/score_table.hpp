// The table that a pass is scored with: tokens, targets and weights in; losses and predictions out.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/model_pass.hpp"

namespace mtp::inline MTP_ABI {

/// The table of a pass over N positions: first the inputs, then the results. It has the same bytes
/// on the host (host_memory) and on the backend (`Where`), so inputs and results are one copy each.
template <model_config Config, class Where, class Sum>
struct score_table {
  /// D + 1.
  static constexpr std::size_t depths = static_cast<std::size_t>(Config.prediction.depth) + 1;
  /// Whether a row of logits is scored against the targets of all depths.
  static constexpr bool one_row_has_all_targets = Config.prediction.kind.one_row_has_all_targets;
  /// Whether there are layers whose experts have a balance.
  static constexpr bool has_experts =
      Config.feed_forward.kind == feed_forward_kind::mixture_of_experts;
  using options_type = loss_options<Config.prediction.depth>;  ///< weights and divisor
  using counts_type = target_counts<Config.prediction.depth>;  ///< targets of each depth
  using report_type = loss_report<Config.prediction.depth>;    ///< the result

  view<token_t, dims<2>, Where> tokens;   ///< row k holds t[i + k]  [D + 1, N]
  matrix_view<token_t, Where> targets;    ///< [(D + 1) N, 1], or [N, D + 1]: all of a row
  matrix_view<Sum, Where> weights;        ///< as targets
  matrix_view<Sum, Where> losses;         ///< as targets
  vector_view<token_t, Where> predicted;  ///< [(D + 1) N], or [N]
  vector_view<double, Where> balance;     ///< model_pass::balance, with experts  [N], else [0]

  /// Takes the memory from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr score_table make(Arena& arena, index_t N) {
    const index_t D1 = static_cast<index_t>(depths), all = D1 * N;
    const dims<2> shape = one_row_has_all_targets ? dims<2>{N, D1} : dims<2>{all, 1};
    const view<token_t, dims<2>, Where> tokens(arena.template take<token_t>(all), {D1, N});
    const matrix_view<token_t, Where> targets(arena.template take<token_t>(all), shape);
    const matrix_view<Sum, Where> weights(arena.template take<Sum>(all), shape);
    const matrix_view<Sum, Where> losses(arena.template take<Sum>(all), shape);
    const vector_view<token_t, Where> predicted(arena.template take<token_t>(shape[0]),
                                                dims<1>{shape[0]});
    const index_t balanced = has_experts ? N : 0;
    const vector_view<double, Where> balance(arena.template take<double>(balanced),
                                             dims<1>{balanced});
    return {tokens, targets, weights, losses, predicted, balance};
  }

  /// Bytes of the table.
  static constexpr index_t bytes(index_t N) {
    return bytes_taken([N](arena_plan& plan) { return make(plan, N); });
  }
  /// Bytes of the inputs.
  static constexpr index_t given_bytes(index_t N) {
    const index_t all = static_cast<index_t>(depths) * N;
    return 2 * arena_bytes(all, sizeof(token_t)) + arena_bytes(all, sizeof(Sum));
  }

  // ---- On the host

  /// Writes the tokens of a batch.
  void fill_tokens(const batch_view& batch) const {
    const index_t T = batch.length, row = T + static_cast<index_t>(depths);
    for (std::size_t k = 0; k < depths; ++k) {
      for (index_t b = 0; b < batch.batch; ++b) {
        const auto from = batch.tokens.subspan(static_cast<std::size_t>(b * row) + k,
                                               static_cast<std::size_t>(T));
        std::copy(from.begin(), from.end(), &tokens(static_cast<index_t>(k), b * T));
      }
    }
  }

  /// Writes the targets of a batch and the weights of their losses. The target of depth k at
  /// position i is t[i + 1 + k], unless it is masked or belongs to another document than t[i].
  void fill_targets(const batch_view& batch,
                    const options_type& options,
                    const counts_type& divided_by) const {
    const index_t T = batch.length, N = batch.batch * T, row = T + static_cast<index_t>(depths);
    for (std::size_t k = 0; k < depths; ++k) {
      for (index_t n = 0; n < N; ++n) {
        const auto here = static_cast<std::size_t>(n / T * row + n % T);
        const std::size_t there = here + 1 + k;
        const auto [r, j] = place(k, n, N);
        targets(r, j) = is_target(batch, here, there) ? batch.tokens[there] : token_t{-1};
      }
      // Depths that share their logits have only the trunk to train.
      const bool trains =
          k == 0 || !one_row_has_all_targets || options.scope == gradient_scope::joint;
      const auto weight =
          trains ? static_cast<Sum>(options.weight(k) / divisor(divided_by[k], N, options))
                 : Sum{0};
      for (index_t n = 0; n < N; ++n) {
        const auto [r, j] = place(k, n, N);
        weights(r, j) = weight;
      }
    }
  }

  /// Means, sums and counts of a pass over N positions.
  report_type summarize(index_t N,
                        const options_type& options,
                        const counts_type& valid,
                        const counts_type& divided_by) const {
    report_type report;
    for (std::size_t k = 0; k < depths; ++k) {
      depth_report& depth = report.depths[k];
      depth.targets = valid[k];
      double sum = 0;
      for (index_t n = 0; n < N; ++n) {
        const auto [r, j] = place(k, n, N);
        sum += static_cast<double>(losses(r, j));
        const token_t target = targets(r, j);
        depth.agreed += target >= 0 && predicted(r) == target ? 1 : 0;
      }
      depth.loss = sum / divisor(divided_by[k], N, options);
      depth.count_agreement();
      report.total += options.weight(k) * depth.loss;
    }
    for (index_t n = 0; n < balance.extent(0); ++n) {
      report.balance += balance(n);
    }
    return report;
  }

 private:
  /// The index of target k of row n: in the depth's own rows, or in the row that all depths share.
  static std::array<index_t, 2> place(std::size_t k, index_t n, index_t N) {
    if constexpr (one_row_has_all_targets) {
      return {n, static_cast<index_t>(k)};
    } else {
      return {static_cast<index_t>(k) * N + n, 0};
    }
  }

  static double divisor(index_t valid, index_t N, const options_type& options) {
    return static_cast<double>(
        options.normalization == loss_normalization::positions ? N : (std::max<index_t>)(valid, 1));
  }
};

}  // namespace mtp::inline MTP_ABI

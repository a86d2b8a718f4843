// The likeliest tokens of rows of logits on the CPU. Contract: ops/best_tokens.hpp.
//
// A thread works on whole rows. The best so far are a heap in the row of the result, the least of
// them on top, which the next token must beat: a row costs V comparisons, and a logarithm of n for
// each token that enters.
#pragma once

#include <algorithm>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/log_softmax.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_best_tokens_ops {
  template <scalar S>
  static void best_tokens(cpu_context& context,
                          matrix_view<token_t, cpu> tokens,
                          matrix_view<double, cpu> log_probabilities,
                          matrix_view<const S, cpu> logits) {
    const index_t V = logits.extent(1), n = tokens.extent(1);
    if (n == 0) {
      return;
    }
    context.parallel_ranges(logits.extent(0), 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const S* const row = logits.data() + m * logits.stride(0);
        token_t* const best = tokens.data() + m * tokens.stride(0);
        const index_t found = select(best, n, row, V);
        const log_softmax<S> logarithm(row, V);
        for (index_t j = 0; j < n; ++j) {
          if (j >= found) {
            best[j] = -1;
          }
          log_probabilities(m, j) =
              j < found ? logarithm(best[j]) : std::numeric_limits<double>::quiet_NaN();
        }
      }
    });
  }

  /// Bytes of workspace that best_tokens wants at most for logits [rows, V].
  template <scalar S>
  static constexpr index_t best_tokens_workspace(index_t, index_t, index_t) {
    return 0;
  }

 private:
  /// best [n] = the best tokens of the row, the best first; returns how many there are.
  template <scalar S>
  static index_t select(token_t* best, index_t n, const S* row, index_t V) {
    using A = accumulate_t<S>;
    const auto is_better = [row](token_t a, token_t b) {
      const A of_a = static_cast<A>(row[a]), of_b = static_cast<A>(row[b]);
      return of_a > of_b || (of_a == of_b && a < b);
    };
    index_t found = 0;
    for (index_t v = 0; v < V; ++v) {
      const auto token = static_cast<token_t>(v);
      const A logit = static_cast<A>(row[v]);
      if (logit != logit || (found == n && !is_better(token, best[0]))) {
        continue;
      }
      if (found == n) {
        std::pop_heap(best, best + found, is_better);
      } else {
        ++found;
      }
      best[found - 1] = token;
      std::push_heap(best, best + found, is_better);
    }
    std::sort_heap(best, best + found, is_better);
    return found;
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

// Typical drafts on the CPU. Contracts: ops/accept_typical.hpp.
//
// A thread works on whole rows; the longest path is found afterwards.
#pragma once

#include <cstdint>

#include "mtp/backend/cpu/choose_tokens.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/accept_typical.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_accept_typical_ops {
  template <scalar S>
  static void accept_typical(cpu_context& context,
                             vector_view<token_t, cpu> predicted,
                             matrix_view<const S, cpu> logits,
                             const sequence_view<cpu>& sequence,
                             const typical_acceptance& acceptance) {
    using A = accumulate_t<S>;
    const index_t M = logits.extent(0), V = logits.extent(1);
    const arena::scope scope(context.workspace());
    A* const x = context.workspace().template take<A>(M * V);                     // [M, V]
    auto* const marks = context.workspace().template take<std::uint64_t>(M * V);  // [M, V]
    index_t* const accepted = context.workspace().template take<index_t>(M);      // [M]
    index_t* const length = context.workspace().template take<index_t>(M);        // [M]
    detail::sampling_numbers rule(sequence.rule.integers.data(),
                                  sequence.rule.reals.data(),
                                  sequence.rule.stop_tokens.extent(0));
    rule.temperature = acceptance.temperature;
    const index_t* const parents = sequence.tree.parents.data();
    const index_t base = sequence.state(sequence_count) - 1;
    const auto token_of = [&](index_t c) {
      return base + c < sequence.tokens.extent(0) ? sequence.tokens(base + c) : token_t{-1};
    };
    context.parallel_ranges(M, 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const index_t ahead = parents == nullptr ? m : detail::depth_in_tree(parents, m);
        std::uint64_t* const weights = marks + m * V;
        choice_of_row<A> row(x + m * V, weights, V);
        row.adjust(logits.data() + m * logits.stride(0), sequence, rule, base + 1 + ahead, m);
        const std::uint64_t sum = row.weigh(rule);
        std::uint64_t surprises = 0;
        for (index_t v = 0; v < V; ++v) {
          surprises += detail::typical_odds::surprise(weights[v]);
        }
        const detail::typical_odds odds(acceptance, sum, surprises);
        for (index_t c = m + 1; c < M; ++c) {
          if (detail::row_before(parents, c) == m) {
            const token_t token = token_of(c);
            const bool exists = token >= 0 && token < V;
            accepted[c] = exists && (token == predicted(m) || odds.accepts(weights[token])) ? 1 : 0;
          }
        }
      }
    });
    detail::predict_longest(
        predicted.data(), parents, sequence.tokens.data() + base, accepted, length, M);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

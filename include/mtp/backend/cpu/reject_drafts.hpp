// Drafts drawn from a head's distribution and verified by rejection, on the CPU. Contracts:
// ops/reject_drafts.hpp.
//
// A thread works on whole rows. Weights are found as choose_tokens finds them; a token is drawn by
// adding up the row twice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mtp/backend/cpu/choose_tokens.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/position_bits.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/reject_drafts.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// The first token up to which more than bits / 2^64 of the sum of weights lies; -1 for a sum of 0.
template <class Weight>
token_t token_at_share(index_t V, std::uint64_t bits, const Weight& weight) {
  detail::weight_product sum = 0;
  for (index_t v = 0; v < V; ++v) {
    sum += weight(v);
  }
  detail::weight_product rest = detail::share_of(bits, sum);
  for (index_t v = 0; v < V; ++v) {
    const detail::weight_product own = weight(v);
    if (rest < own) {
      return static_cast<token_t>(v);
    }
    rest -= own;
  }
  return -1;
}

struct cpu_reject_drafts_ops {
  template <scalar S>
  static void draw_drafts(cpu_context& context,
                          vector_view<token_t, cpu> drafts,
                          matrix_view<index_t, cpu> weights,
                          matrix_view<const S, cpu> logits,
                          const sequence_view<cpu>& sequence,
                          index_t offset) {
    weigh_rows<S>(
        context,
        logits,
        sequence,
        offset,
        [&](index_t m, const std::uint64_t* own, std::uint64_t, const position_bits& bits) {
          const index_t V = logits.extent(1);
          std::copy_n(own, V, weights.data() + m * weights.stride(0));
          drafts(m) =
              token_at_share(V, bits(position_bits::draft), [&](index_t v) { return own[v]; });
        });
  }

  template <scalar S>
  static void reject_drafts(cpu_context& context,
                            vector_view<token_t, cpu> predicted,
                            matrix_view<const S, cpu> logits,
                            matrix_view<const index_t, cpu> weights,
                            const sequence_view<cpu>& sequence) {
    weigh_rows<S>(
        context,
        logits,
        sequence,
        0,
        [&](index_t m, const std::uint64_t* model, std::uint64_t sum, const position_bits& bits) {
          const index_t V = logits.extent(1), at = sequence.state(sequence_count) + m;
          const index_t* const head =
              m < weights.extent(0) ? weights.data() + m * weights.stride(0) : nullptr;
          const auto head_of = [&](index_t v) {
            return head != nullptr ? static_cast<std::uint64_t>(head[v]) : 0;
          };
          detail::drafted_token draft{-1, 0, 0};
          if (head != nullptr && at < sequence.tokens.extent(0) && sequence.tokens(at) >= 0 &&
              sequence.tokens(at) < V) {
            draft = {sequence.tokens(at), head_of(sequence.tokens(at)), 0};
            for (index_t v = 0; v < V; ++v) {
              draft.sum += head_of(v);
            }
          }
          const detail::draft_odds odds{sum, draft.head_sum()};
          const auto weight_of = [&](index_t v) { return draft.head_weight(v, head_of(v)); };
          predicted(m) = draft.token >= 0 && odds.accepts(bits(position_bits::accept),
                                                          model[draft.token],
                                                          weight_of(draft.token))
                             ? draft.token
                             : token_at_share(V, bits(position_bits::residual), [&](index_t v) {
                                 return odds.residual(model[v], weight_of(v));
                               });
        });
  }

 private:
  /// take(m, weights [V], their sum, bits of the position) for each row.
  template <scalar S, class Take>
  static void weigh_rows(cpu_context& context,
                         matrix_view<const S, cpu> logits,
                         const sequence_view<cpu>& sequence,
                         index_t offset,
                         const Take& take) {
    using A = accumulate_t<S>;
    const index_t M = logits.extent(0), V = logits.extent(1);
    const arena::scope scope(context.workspace());
    A* const x = context.workspace().template take<A>(M * V);                     // [M, V]
    auto* const marks = context.workspace().template take<std::uint64_t>(M * V);  // [M, V]
    const detail::sampling_numbers rule(sequence.rule.integers.data(),
                                        sequence.rule.reals.data(),
                                        sequence.rule.stop_tokens.extent(0));
    context.parallel_ranges(M, 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const index_t position = sequence.state(sequence_count) + offset + m;
        choice_of_row<A> row(x + m * V, marks + m * V, V);
        row.adjust(logits.data() + m * logits.stride(0), sequence, rule, position);
        const std::uint64_t sum = row.weigh(rule);
        take(m, marks + m * V, sum, position_bits(rule.noise_seed, rule.sequence, position));
      }
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

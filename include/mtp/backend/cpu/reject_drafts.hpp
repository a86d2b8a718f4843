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
                          index_t offset,
                          draft_unit unit) {
    const arena::scope scope(context.workspace());
    weigh_rows<S>(
        context,
        logits,
        sequence,
        offset,
        unit,
        take_weights(context, logits),
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
                            const sequence_view<cpu>& sequence,
                            draft_unit unit) {
    if (unit == draft_unit::block) {
      verify_block<S>(context, predicted, logits, weights, sequence);
      return;
    }
    const arena::scope scope(context.workspace());
    const drafts_of_head head{weights, sequence};
    weigh_rows<S>(
        context,
        logits,
        sequence,
        0,
        unit,
        take_weights(context, logits),
        [&](index_t m, const std::uint64_t* model, std::uint64_t sum, const position_bits& bits) {
          const detail::drafted_token draft = head.draft(m, head.sum(m));
          const detail::draft_odds odds{sum, draft.head_sum()};
          const auto weight_of = [&](index_t v) { return draft.head_weight(v, head.weight(m, v)); };
          predicted(m) =
              draft.token >= 0 &&
                      odds.accepts(
                          bits(position_bits::accept), model[draft.token], weight_of(draft.token))
                  ? draft.token
                  : token_at_share(logits.extent(1), bits(position_bits::residual), [&](index_t v) {
                      return odds.residual(model[v], weight_of(v));
                    });
        });
  }

 private:
  /// What a head drafted for a sequence, and from which weights.
  struct drafts_of_head {
    matrix_view<const index_t, cpu> weights;  // [n, V]
    const sequence_view<cpu>& sequence;

    std::uint64_t weight(index_t m, index_t v) const {
      return m < weights.extent(0) ? static_cast<std::uint64_t>(weights(m, v)) : 0;
    }
    std::uint64_t sum(index_t m) const {
      std::uint64_t all = 0;
      for (index_t v = 0; m < weights.extent(0) && v < weights.extent(1); ++v) {
        all += weight(m, v);
      }
      return all;
    }
    detail::drafted_token draft(index_t m, std::uint64_t sum) const {
      const index_t at = sequence.state(sequence_count) + m;
      if (m < weights.extent(0) && at < sequence.tokens.extent(0) && sequence.tokens(at) >= 0 &&
          sequence.tokens(at) < weights.extent(1)) {
        return {sequence.tokens(at), weight(m, sequence.tokens(at)), sum};
      }
      return {-1, 0, 0};
    }
  };

  /// Rows are weighed and added up side by side; which drafts are accepted is decided in between.
  template <scalar S>
  static void verify_block(cpu_context& context,
                           vector_view<token_t, cpu> predicted,
                           matrix_view<const S, cpu> logits,
                           matrix_view<const index_t, cpu> weights,
                           const sequence_view<cpu>& sequence) {
    using odds = detail::block_odds;
    const index_t M = logits.extent(0), V = logits.extent(1);
    const arena::scope scope(context.workspace());
    auto* const model = take_weights(context, logits);                            // [M, V]
    auto* const sums = context.workspace().template take<std::uint64_t>(M);       // [M]
    auto* const head_sums = context.workspace().template take<std::uint64_t>(M);  // [M]
    auto* const z = context.workspace().template take<std::uint64_t>(M);          // [M]
    auto* const r = context.workspace().template take<double>(M);                 // [M]
    const drafts_of_head head{weights, sequence};
    weigh_rows<S>(context,
                  logits,
                  sequence,
                  0,
                  draft_unit::block,
                  model,
                  [&](index_t m, const std::uint64_t*, std::uint64_t sum, const position_bits&) {
                    sums[m] = sum;
                    head_sums[m] = head.sum(m);
                  });
    const auto draft_at = [&](index_t m) { return head.draft(m, head_sums[m]); };
    const auto p = [&](index_t m, index_t v) { return odds::share(model[m * V + v], sums[m]); };
    const auto q = [&](index_t m, const detail::drafted_token& draft, index_t v) {
      return odds::share(draft.head_weight(v, head.weight(m, v)), draft.head_sum());
    };
    index_t n = 0;  // drafts that there are
    r[0] = 1;
    for (auto draft = draft_at(0); n < M - 1 && draft.token >= 0; draft = draft_at(n)) {
      r[n + 1] = odds::next(r[n], p(n, draft.token), q(n, draft, draft.token));
      ++n;
    }
    const auto residual = [&](index_t m, const detail::drafted_token& draft, index_t v) {
      return odds::residual(r[m], p(m, v), q(m, draft, v));
    };
    context.parallel_ranges(n, 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const auto draft = draft_at(m);
        z[m] = 0;
        for (index_t v = 0; v < V; ++v) {
          z[m] += residual(m, draft, v);
        }
      }
    });
    const detail::sampling_numbers rule(sequence.rule.integers.data(),
                                        sequence.rule.reals.data(),
                                        sequence.rule.stop_tokens.extent(0));
    const auto bits_of = [&](index_t m, position_bits::purpose what) {
      const index_t count = sequence.state(sequence_count);
      return position_bits(rule.noise_seed, rule.sequence, count + m, count)(what);
    };
    index_t accepted = n;
    while (accepted > 0 &&
           !odds::accepts(bits_of(accepted - 1, position_bits::accept),
                          accepted == n ? r[n] : odds::keeps(r[accepted], z[accepted]))) {
      --accepted;
    }
    context.parallel_ranges(M, 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const auto draft = draft_at(m);
        const bool has_residual = m == accepted && m < n && z[m] > 0;
        predicted(m) = m < accepted
                           ? draft.token
                           : token_at_share(V, bits_of(m, position_bits::residual), [&](index_t v) {
                               return has_residual ? residual(m, draft, v) : model[m * V + v];
                             });
      }
    });
  }

  template <scalar S>
  static std::uint64_t* take_weights(cpu_context& context, matrix_view<const S, cpu> logits) {
    return context.workspace().template take<std::uint64_t>(logits.extent(0) * logits.extent(1));
  }

  /// marks = the weights of each row; take(m, weights [V], their sum, bits of the position).
  template <scalar S, class Take>
  static void weigh_rows(cpu_context& context,
                         matrix_view<const S, cpu> logits,
                         const sequence_view<cpu>& sequence,
                         index_t offset,
                         draft_unit unit,
                         std::uint64_t* marks,  // [M, V]
                         const Take& take) {
    using A = accumulate_t<S>;
    const index_t M = logits.extent(0), V = logits.extent(1);
    const arena::scope scope(context.workspace());
    A* const x = context.workspace().template take<A>(M * V);  // [M, V]
    const detail::sampling_numbers rule(sequence.rule.integers.data(),
                                        sequence.rule.reals.data(),
                                        sequence.rule.stop_tokens.extent(0));
    context.parallel_ranges(M, 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const index_t count = sequence.state(sequence_count), position = count + offset + m;
        choice_of_row<A> row(x + m * V, marks + m * V, V);
        row.adjust(logits.data() + m * logits.stride(0), sequence, rule, position);
        const std::uint64_t sum = row.weigh(rule);
        take(
            m,
            marks + m * V,
            sum,
            position_bits(rule.noise_seed, rule.sequence, position, detail::round_of(unit, count)));
      }
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

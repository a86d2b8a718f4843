// Tokens drawn from logits on the CPU. Contracts: ops/choose_tokens.hpp.
//
// A thread processes whole rows. The tokens to keep are selected by the digits of the logits, the
// highest first, without sorting: one pass over a row for each eight bits.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/log_softmax.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/gumbel_noise.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/choose_tokens.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// The state of one row of choose_tokens.
template <real A>
class choice_of_row {
 public:
  choice_of_row(A* x, std::uint64_t* marks, index_t V) : x_(x), marks_(marks), V_(V) {}

  /// x = the row with bias and penalties, without excluded stop tokens. Where the sequence has a
  /// tree, `tree_row` is the row of it that the logits are of.
  template <scalar S>
  void adjust(const S* logits,
              const sequence_view<cpu>& sequence,
              const detail::sampling_numbers& rule,
              index_t position,
              index_t tree_row = 0) {
    const auto& bias = sequence.rule.bias;
    for (index_t v = 0; v < V_; ++v) {
      x_[v] = static_cast<A>(logits[v]);
    }
    for (index_t v = 0; rule.has_bias && v < V_; ++v) {
      x_[v] = bias(v) == -infinity
                  ? nan
                  : static_cast<A>(static_cast<double>(x_[v]) + static_cast<double>(bias(v)));
    }
    for (index_t i = 0; rule.forbids_stop(position) && i < rule.stop_count; ++i) {
      const token_t token = sequence.rule.stop_tokens(i);
      if (token >= 0 && token < V_) {
        x_[token] = nan;
      }
    }
    if (rule.penalizes()) {
      std::fill_n(marks_, V_, std::uint64_t{0});
      const auto mark = [&](token_t token, std::uint64_t occurs) {
        if (token >= 0 && token < V_) {
          marks_[token] += occurs;
        }
      };
      const bool in_tree = sequence.tree.exists();
      const index_t before = in_tree ? sequence.state(sequence_count) : position;
      const index_t end = (std::min)(before, sequence.tokens.extent(0));
      for (index_t i = 0; i < end; ++i) {
        mark(sequence.tokens(i),
             i < rule.prompt_length ? detail::occurs_in_prompt : detail::occurs_behind_prompt);
      }
      for (index_t r = tree_row; in_tree && r > 0; r = sequence.tree.parents(r)) {
        if (before - 1 + r < sequence.tokens.extent(0)) {
          mark(sequence.tokens(before - 1 + r), detail::occurs_behind_prompt);
        }
      }
      for (index_t v = 0; v < V_; ++v) {
        x_[v] = marks_[v] != 0 ? detail::penalized(x_[v], rule, marks_[v]) : x_[v];
      }
    }
  }

  /// The lowest index of the largest x; -1 if none is a number.
  token_t largest() const {
    token_t at = -1;
    for (index_t v = 0; v < V_; ++v) {
      if (x_[v] > (at < 0 ? -infinity : x_[at]) || (at < 0 && x_[v] == -infinity)) {
        at = static_cast<token_t>(v);
      }
    }
    return at;
  }

  /// Keeps what the rule keeps, where the largest x is a number.
  void keep_by_rule(const detail::sampling_numbers& rule, A largest) {
    if (rule.top_k > 0 && rule.top_k < V_) {
      keep(static_cast<std::uint64_t>(rule.top_k), [](index_t) { return std::uint64_t{1}; });
    }
    if (rule.top_p < 1) {
      std::uint64_t sum = 0;
      for (index_t v = 0; v < V_; ++v) {
        marks_[v] = is_kept(v) ? weight(rule, largest, v) : 0;
        sum += marks_[v];
      }
      keep(detail::share_of_weights(rule.top_p, sum), [&](index_t v) { return marks_[v]; });
    }
    least_ =
        rule.min_p > 0 ? detail::share_of_weights(rule.min_p, detail::probability_weight(0)) : 0;
  }

  /// The token that is drawn from what is kept.
  token_t draw(const detail::sampling_numbers& rule, A largest, const gumbel_noise& noise) const {
    detail::drawn_token best;
    for (index_t v = 0; v < V_; ++v) {
      if (is_kept(v) && (least_ == 0 || weight(rule, largest, v) >= least_)) {
        best.meet(detail::scaled_logit(x_[v], largest, rule.temperature), noise, v);
      }
    }
    return best.at;
  }

  /// marks = the weights of what the rule keeps, 0 for the others. Returns their sum.
  std::uint64_t weigh(const detail::sampling_numbers& rule) {
    const token_t first = largest();
    if (first < 0 || rule.temperature == 0) {
      std::fill_n(marks_, V_, std::uint64_t{0});
      return first < 0 ? 0 : marks_[first] = detail::probability_weight(0);
    }
    keep_by_rule(rule, x_[first]);
    std::uint64_t sum = 0;
    for (index_t v = 0; v < V_; ++v) {
      const std::uint64_t own = is_kept(v) ? weight(rule, x_[first], v) : 0;
      marks_[v] = own >= least_ ? own : 0;
      sum += marks_[v];
    }
    return sum;
  }

 private:
  using bits_type = decltype(detail::ordered_bits(A{}));
  static constexpr A infinity = std::numeric_limits<A>::infinity();
  static constexpr A nan = std::numeric_limits<A>::quiet_NaN();

  std::uint64_t weight(const detail::sampling_numbers& rule, A largest, index_t v) const {
    return detail::probability_weight(detail::scaled_logit(x_[v], largest, rule.temperature));
  }

  /// Whether a number is at least that of the last token that is kept.
  bool is_kept(index_t v) const {
    const bits_type bits = detail::ordered_bits(x_[v]);
    return x_[v] == x_[v] && (bits > last_ || (bits == last_ && v <= last_at_));
  }

  /// Of the kept tokens, in falling order of x, keeps the fewest whose sizes add up to at least
  /// `wanted`, or all. Equal x have equal sizes.
  template <class Size>
  void keep(std::uint64_t wanted, const Size& size) {
    bits_type prefix = 0, mask = 0;
    for (int shift = std::numeric_limits<bits_type>::digits - 8; shift >= 0; shift -= 8) {
      std::array<std::uint64_t, 256> sizes{};
      for (index_t v = 0; v < V_; ++v) {
        const bits_type bits = detail::ordered_bits(x_[v]);
        if ((bits & mask) == prefix && is_kept(v)) {
          sizes[static_cast<std::size_t>(bits >> shift & 255)] += size(v);
        }
      }
      int digit = 255;
      for (; digit > 0 && sizes[static_cast<std::size_t>(digit)] < wanted; --digit) {
        wanted -= sizes[static_cast<std::size_t>(digit)];
      }
      prefix |= static_cast<bits_type>(digit) << shift;
      mask |= bits_type{255} << shift;
    }
    index_t at = last_at_;
    for (index_t v = 0; v < V_ && wanted > 0; ++v) {
      if (detail::ordered_bits(x_[v]) == prefix && is_kept(v)) {
        wanted -= (std::min)(wanted, size(v));
        at = v;
      }
    }
    last_ = prefix;
    last_at_ = at;
  }

  A* x_;                  // [V]
  std::uint64_t* marks_;  // [V]: marks of occurrences, then weights
  index_t V_;
  std::uint64_t least_ = 0;  // weight that is kept
  bits_type last_ = 0;       // of the last token that is kept
  index_t last_at_ = (std::numeric_limits<index_t>::max)();
};

struct cpu_choose_tokens_ops {
  template <scalar S>
  static void choose_tokens(cpu_context& context,
                            vector_view<token_t, cpu> chosen,
                            matrix_view<const S, cpu> logits,
                            const sequence_view<cpu>& sequence,
                            index_t offset) {
    using A = accumulate_t<S>;
    const index_t M = logits.extent(0), V = logits.extent(1);
    const arena::scope scope(context.workspace());
    A* const x = context.workspace().template take<A>(M * V);
    auto* const marks = context.workspace().template take<std::uint64_t>(M * V);
    const detail::sampling_numbers rule(sequence.rule.integers.data(),
                                        sequence.rule.reals.data(),
                                        sequence.rule.stop_tokens.extent(0));
    context.parallel_ranges(M, 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const index_t ahead = sequence.tree.exists()
                                  ? detail::depth_in_tree(sequence.tree.parents.data(), offset + m)
                                  : offset + m;
        const index_t position = sequence.state(sequence_count) + ahead;
        choice_of_row<A> row(x + m * V, marks + m * V, V);
        row.adjust(logits.data() + m * logits.stride(0), sequence, rule, position, offset + m);
        const token_t largest = row.largest();
        if (largest < 0 || rule.temperature == 0) {
          chosen(m) = largest;
          continue;
        }
        row.keep_by_rule(rule, x[m * V + largest]);
        chosen(m) = row.draw(
            rule, x[m * V + largest], gumbel_noise(rule.noise_seed, rule.sequence, position));
      }
    });
  }

  template <scalar S>
  static void token_log_probabilities(cpu_context& context,
                                      vector_view<double, cpu> log_probabilities,
                                      matrix_view<const S, cpu> logits,
                                      vector_view<const token_t, cpu> tokens) {
    const index_t V = logits.extent(1);
    context.parallel_ranges(logits.extent(0), 1, [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        const bool exists = tokens(m) >= 0 && tokens(m) < V;
        log_probabilities(m) =
            exists ? log_softmax<S>(logits.data() + m * logits.stride(0), V)(tokens(m))
                   : std::numeric_limits<double>::quiet_NaN();
      }
    });
  }

  /// The most bytes of workspace that these, draw_drafts, reject_drafts and accept_typical need for
  /// logits [rows, V].
  template <scalar S>
  static constexpr index_t choose_tokens_workspace(index_t rows, index_t vocabulary, index_t) {
    return arena_bytes(rows * vocabulary, sizeof(accumulate_t<S>)) +
           arena_bytes(rows * vocabulary, sizeof(std::uint64_t)) +
           4 * arena_bytes(rows, sizeof(std::uint64_t));
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

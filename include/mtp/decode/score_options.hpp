// What scoring is asked for and what it gives.
#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

/// Hidden states of consecutive positions of a sequence, in the backend's memory.
template <class S, class Backend>
struct hidden_piece {
  index_t sequence = 0;                  ///< which one, counted from 0
  index_t first = 0;                     ///< position of row 0
  matrix_view<const S, Backend> normed;  ///< what the output matrix reads  [M, C]
  matrix_view<const S, Backend> stream;  ///< residual stream behind the last block  [M, C]
};

/// How to score.
template <class S, class Backend>
struct score_options {
  /// Positions from one window to the next, for sequences longer than max_position_embeddings; 0:
  /// such a sequence is an error. See scorer.
  index_t stride = 0;
  /// Hidden states of every position of every sequence, once and in order; they live until it
  /// returns.
  std::function<void(const hidden_piece<S, Backend>&)> on_hidden{};
};

/// What the tokens t[0] .. t[T - 1] of a sequence were given. Entry i belongs to token i; token 0
/// has nothing in front of it and does not count: its entries are NaN and -1.
struct scored_sequence {
  std::vector<double> log_probabilities;  ///< log p(t[i] | t[0] .. t[i - 1]), in nats  [T]
  std::vector<token_t> likeliest;         ///< the likeliest token in place of t[i]  [T]
  std::vector<token_t> best_tokens;       ///< the n likeliest, as the operation has them  [T, n]
  std::vector<double> best_log_probabilities;  ///< their logarithms, in nats  [T, n]
  index_t counted = 0;                         ///< tokens that count: T - 1
  double sum = 0;  ///< of the log-probabilities of the tokens that count, in nats

  /// exp(-sum / counted); NaN where no token counts.
  double perplexity() const { return std::exp(-sum / static_cast<double>(counted)); }
};

/// The perplexity of several sequences together: exp(-(sum of all) / (counted of all)).
inline double perplexity(std::span<const scored_sequence> sequences) {
  scored_sequence all;
  for (const scored_sequence& each : sequences) {
    all.sum += each.sum;
    all.counted += each.counted;
  }
  return all.perplexity();
}

namespace detail {

/// Throws mtp::error unless the sequences can be scored with the options, by a model with a
/// vocabulary of V tokens and P positions.
template <class S, class Backend>
void check_scoring(std::span<const std::span<const token_t>> sequences,
                   const score_options<S, Backend>& options,
                   index_t V,
                   index_t P) {
  check(options.stride >= 0 && options.stride < P,
        "score: expected a stride in [0, ",
        P,
        "), so that windows of ",
        P,
        " tokens overlap, got ",
        options.stride);
  for (std::size_t n = 0; n < sequences.size(); ++n) {
    const auto tokens = sequences[n];
    check(!tokens.empty(), "score: sequence ", n, " is empty");
    check(tokens.size() > 1 || options.on_hidden,
          "score: expected at least 2 tokens, got 1 as sequence ",
          n,
          ": what has nothing in front of it has no probability");
    check(options.stride > 0 || static_cast<index_t>(tokens.size()) <= P,
          "score: sequence ",
          n,
          " of ",
          tokens.size(),
          " tokens exceeds max_position_embeddings ",
          P,
          "; a stride scores it in windows");
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      check(tokens[i] >= 0 && tokens[i] < V,
            "score: token ",
            tokens[i],
            " at position ",
            i,
            " of sequence ",
            n,
            " does not lie in [0, ",
            V,
            ")");
    }
  }
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI

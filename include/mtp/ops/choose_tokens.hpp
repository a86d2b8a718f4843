// Chooses the token at a position of a sequence from logits, by the sequence's sampling rule.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mtp/core/gumbel_noise.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The most columns of logits that choose_tokens takes: sums of that many weights fit into 64 bits.
inline constexpr index_t most_choices = index_t{1} << 22;

/// The number that an occurrence of a token before a row adds to the token's mark: the lower half
/// counts occurrences after the prompt.
inline constexpr std::uint64_t occurs_in_prompt = std::uint64_t{1} << 32;
inline constexpr std::uint64_t occurs_behind_prompt = occurs_in_prompt + 1;

/// x of choose_tokens after the penalties, for a token whose mark is not 0.
template <real A>
MTP_HOST_DEVICE A penalized(A x, const sampling_numbers& rule, std::uint64_t mark) {
  const auto count = static_cast<std::uint32_t>(mark);
  double value = static_cast<double>(x);
  value = value < 0 ? value * rule.repetition : value / rule.repetition;
  value = std::fma(-rule.frequency, static_cast<double>(count), value);
  return static_cast<A>(value - (count > 0 ? rule.presence : 0.0));
}

/// (x - largest) / temperature; 0 for the largest, which may be infinite.
template <real A>
MTP_HOST_DEVICE double scaled_logit(A x, A largest, double temperature) {
  return x == largest ? 0.0 : (static_cast<double>(x) - static_cast<double>(largest)) / temperature;
}

/// w of choose_tokens, in units of 2^-40. Sums of whole numbers have the same bits in any order.
MTP_HOST_DEVICE inline std::uint64_t probability_weight(double scaled) {
  return static_cast<std::uint64_t>(std::exp(scaled) * 0x1p40 + 0.5);
}

/// The least whole number, at least 1, that is a given share of a sum of weights.
MTP_HOST_DEVICE inline std::uint64_t share_of_weights(double share, std::uint64_t sum) {
  const auto least = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(sum)));
  return least < 1 ? 1 : (least > sum ? sum : least);
}

/// Maps numbers to unsigned integers of the same order, with -0 as 0.
MTP_HOST_DEVICE inline std::uint32_t ordered_bits(float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x + 0.0f);
  return bits >> 31 != 0 ? ~bits : bits | std::uint32_t{1} << 31;
}
MTP_HOST_DEVICE inline std::uint64_t ordered_bits(double x) {
  const auto bits = __builtin_bit_cast(std::uint64_t, x + 0.0);
  return bits >> 63 != 0 ? ~bits : bits | std::uint64_t{1} << 63;
}

/// The best token so far; index -1: none.
struct drawn_token {
  double score = 0;
  token_t at = -1;

  /// `scaled` is a token's (x - largest) / temperature.
  MTP_HOST_DEVICE void meet(double scaled, const gumbel_noise& noise, index_t token) {
    const std::uint64_t k = noise.bits(token);
    if (at >= 0 && scaled + gumbel_noise::bound(k) < score) {
      return;
    }
    const double own = scaled + gumbel_noise::of(k);
    if (at < 0 || own > score || (own == score && token < at)) {
      score = own;
      at = static_cast<token_t>(token);
    }
  }
};

/// A token for each row of logits, which the rule of a sequence chooses.
template <class S, class Shape, class Backend>
void check_ruled_rows(const char* function,
                      const char* name,
                      const vector_view<token_t, Backend>& tokens,
                      const view<S, Shape, Backend>& logits,
                      const sequence_view<Backend>& sequence) {
  const auto& rule = sequence.rule;
  const index_t V = logits.extent(1);
  check_sequence(function, sequence);
  check(rule.exists(), function, ": the sequence has no rule");
  check_shape(function, name, tokens, dims<1>{logits.extent(0)});
  check_rows(function, name, tokens);
  check_rows(function, "logits", logits);
  check(
      V <= most_choices, function, ": expected rows of at most ", most_choices, " logits, got ", V);
  check_shape(function, "integers", rule.integers, dims<1>{sampling_integers});
  check_shape(function, "reals", rule.reals, dims<1>{sampling_reals});
  check_shape(function, "bias", rule.bias, dims<1>{V});
  check_rows(function, "integers", rule.integers);
  check_rows(function, "reals", rule.reals);
  check_rows(function, "bias", rule.bias);
  check_rows(function, "stop_tokens", rule.stop_tokens);
}

}  // namespace detail

/// Chooses chosen[m], the token at position p = count + offset + m of the sequence, from logits[m]:
///
///     x[v]      = logits[m, v] + bias[v]; excluded for stop tokens while p - prompt_length <
///                 min_new_tokens, and where the bias is -inf
///     x[v]      = x[v] < 0 ? x[v] repetition_penalty : x[v] / repetition_penalty   if v occurs
///                 before p, in the prompt or after it
///     x[v]     -= frequency_penalty n[v] + presence_penalty (n[v] > 0)   n: how often v occurs
///                 between the prompt and p
///     z[v]      = (x[v] - max x) / temperature
///     kept      = the top_k tokens of largest x; of these the fewest, in falling order, whose
///                 weights w[v] = exp(z[v]) add up to at least the share top_p of the weights of
///                 all top_k; of these all with w[v] >= min_p
///     chosen[m] = argmax over kept v of z[v] + g[v],  g = gumbel_noise(seed, sequence, p)
///
/// The result is v with probability w[v] / (sum of w over kept). With temperature 0 it is the
/// argmax of x. Ties of x, and of sums with noise, go to the lowest token. The tokens before p are
/// those in the sequence's memory, confirmed or drafts. Where the sequence has a tree, row m is row
/// offset + m of it: p = count + its depth, and the drafts before p are those that lead to the row,
/// itself included.
///
/// chosen [M], logits [M, V], V at most 2^22; the rule is the sequence's. x is computed in f64,
/// each step rounded once, and kept in accumulate_t; w is rounded to a multiple of 2^-40. A row's
/// token depends on the row, the sequence and the rule only, not on M. NaN is never chosen, and
/// -inf only if there is nothing else; the result is -1 if nothing is left. Backends agree as far
/// as their exponentials and logarithms do. Throws mtp::error on wrong shapes, and where the
/// sequence has no rule. Names and order of the steps are Hugging Face's (temperature, top_k,
/// top_p, min_p, repetition_penalty) and OpenAI's (frequency_penalty, presence_penalty).
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void choose_tokens(context<Backend>& context,
                   out_tokens<Backend> chosen,
                   view<S, Shape, Backend> logits,
                   std::type_identity_t<sequence_view<Backend>> sequence,
                   index_t offset) {
  const char* const name = "choose_tokens";
  detail::check_ruled_rows(name, "chosen", chosen, logits, sequence);
  check(!sequence.tree.exists() ||
            (offset >= 0 && offset + logits.extent(0) <= sequence.tree.parents.extent(0)),
        name,
        ": expected rows of a tree of ",
        sequence.tree.parents.extent(0),
        ", got ",
        logits.extent(0),
        " from row ",
        offset,
        " on");
  MTP_DISPATCH(
      choose_tokens, context, chosen, detail::in_matrix_of<S, Backend>(logits), sequence, offset);
}

/// log_probabilities[m] = log softmax(logits[m])[tokens[m]]
///
/// in nats and f64; NaN where the token does not lie in [0, V). logits [M, V]; tokens,
/// log_probabilities [M]. A row's bits do not depend on M. A row with a NaN or +inf gives NaN.
/// Throws mtp::error on wrong shapes.
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void token_log_probabilities(context<Backend>& context,
                             out_vector<double, Backend> log_probabilities,
                             view<S, Shape, Backend> logits,
                             in_tokens<Backend> tokens) {
  const char* const name = "token_log_probabilities";
  const dims<1> rows{logits.extent(0)};
  detail::check_shape(name, "log_probabilities", log_probabilities, rows);
  detail::check_shape(name, "tokens", tokens, rows);
  detail::check_rows(name, "log_probabilities", log_probabilities);
  detail::check_rows(name, "logits", logits);
  detail::check_rows(name, "tokens", tokens);
  MTP_DISPATCH(token_log_probabilities,
               context,
               log_probabilities,
               detail::in_matrix_of<S, Backend>(logits),
               tokens);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(choose_tokens,
              as_dynamic_operand,
              "expected (context, chosen [M], logits [M, V], sequence, offset), of one backend, "
              "logits of f64, f32 or bf16")
MTP_OPERATION(token_log_probabilities,
              as_dynamic_operand,
              "expected (context, log_probabilities [M] f64, logits [M, V], tokens [M]), views of "
              "one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI

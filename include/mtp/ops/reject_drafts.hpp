// Drafts that are drawn from a head's distribution, and their verification by rejection sampling.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mtp/core/position_bits.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// What reject_drafts decides about.
enum class draft_unit {
  token,  ///< each draft by itself, behind accepted ones
  block,  ///< all drafts of a sequence at once: never fewer are accepted on average
};

namespace detail {

/// Bits are rounds of a block's own: which drafts it keeps depends on the bits of those that it
/// does not keep, and these positions come again.
MTP_HOST_DEVICE constexpr index_t round_of(draft_unit unit, index_t count) {
  return unit == draft_unit::block ? count : 0;
}

/// Products of two weights or sums of weights, and sums of such: below 2^124 for most_choices
/// columns.
__extension__ typedef unsigned __int128 weight_product;

/// floor(bits / 2^64 x), exact.
MTP_HOST_DEVICE inline weight_product share_of(std::uint64_t bits, weight_product x) {
  const auto low = static_cast<std::uint64_t>(x), high = static_cast<std::uint64_t>(x >> 64);
  return static_cast<weight_product>(bits) * high + (static_cast<weight_product>(bits) * low >> 64);
}

/// The two distributions that decide about a draft, p = model / model_sum and q = head / head_sum,
/// in whole numbers. Without a draft, every weight of the head is 0 and head_sum 1.
struct draft_odds {
  std::uint64_t model_sum, head_sum;

  /// u < p / q with u = bits / 2^64, for a token of these weights: exact.
  MTP_HOST_DEVICE bool accepts(std::uint64_t bits, std::uint64_t model, std::uint64_t head) const {
    return share_of(bits, static_cast<weight_product>(head) * model_sum) <
           static_cast<weight_product>(model) * head_sum;
  }
  /// max(p - q, 0) of a token, in units of 1 / (model_sum head_sum).
  MTP_HOST_DEVICE weight_product residual(std::uint64_t model, std::uint64_t head) const {
    const auto of_model = static_cast<weight_product>(model) * head_sum;
    const auto of_head = static_cast<weight_product>(head) * model_sum;
    return of_model > of_head ? of_model - of_head : 0;
  }
};

/// A draft and what its head's distribution is, where its weights may say nothing: a head without a
/// number drafts the same token every time, so its distribution is that token.
struct drafted_token {
  token_t token;           // -1: none
  std::uint64_t own, sum;  // its weight, and the sum of all

  MTP_HOST_DEVICE bool is_drawn() const { return token >= 0 && own > 0; }
  MTP_HOST_DEVICE std::uint64_t head_sum() const { return is_drawn() ? sum : 1; }
  /// The head's weight of token v, which is `weight` in memory.
  MTP_HOST_DEVICE std::uint64_t head_weight(index_t v, std::uint64_t weight) const {
    return is_drawn() ? weight : (v == token ? 1 : 0);
  }
};

/// Drafts that are verified as a block: reject_drafts has the formulas.
struct block_odds {
  /// w / sum; 0 where nothing is left.
  MTP_HOST_DEVICE static double share(std::uint64_t weight, std::uint64_t sum) {
    return sum > 0 ? static_cast<double>(weight) / static_cast<double>(sum) : 0;
  }
  /// r behind a draft.
  MTP_HOST_DEVICE static double next(double r, double p, double q) {
    const double ratio = r * p / q;
    return ratio < 1 ? ratio : 1;
  }
  /// max(r p - q, 0) in units of 2^-60, so that sums are the same in any order.
  MTP_HOST_DEVICE static std::uint64_t residual(double r, double p, double q) {
    const double rest = std::fma(r, p, -q);
    return rest > 0 ? static_cast<std::uint64_t>(rest * 0x1p60) : 0;
  }
  /// h of a place behind which there are more drafts, z the sum of residuals.
  MTP_HOST_DEVICE static double keeps(double r, std::uint64_t z) {
    const double all = static_cast<double>(z) * 0x1p-60;
    return r == 1 ? 1 : all / (all + (1 - r));
  }
  /// u < h with u = bits / 2^64, to 53 bits.
  MTP_HOST_DEVICE static bool accepts(std::uint64_t bits, double h) {
    return static_cast<double>(bits >> 11) * 0x1p-53 < h;
  }
};

}  // namespace detail

/// weights[m] = the whole numbers w of choose_tokens at position p = count + offset + m, from
///              logits[m]: those of tokens that are not kept are 0
/// drafts[m]  = v with probability weights[m, v] / (sum of weights[m])
///
/// by inversion: the first token up to which more than u of the sum lies, u = position_bits(seed,
/// sequence, p)(draft) / 2^64, for drafts that are verified as a block in round `count`.
/// Probabilities are exact but for that resolution: each is off by less than 2^-64. With
/// temperature 0 the only weight is that of the largest x. drafts[m] is -1, and all weights are 0,
/// where nothing is left.
///
/// drafts [M], weights [M, V], logits [M, V], V at most 2^22; the rule is the sequence's. Throws
/// mtp::error as choose_tokens, and on other shapes of weights.
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void draw_drafts(context<Backend>& context,
                 out_tokens<Backend> drafts,
                 out_matrix<index_t, Backend> weights,
                 view<S, Shape, Backend> logits,
                 std::type_identity_t<sequence_view<Backend>> sequence,
                 index_t offset,
                 draft_unit unit) {
  const char* const name = "draw_drafts";
  detail::check_ruled_rows(name, "drafts", drafts, logits, sequence);
  detail::check_shape(name, "weights", weights, dims<2>{logits.extent(0), logits.extent(1)});
  detail::check_rows(name, "weights", weights);
  MTP_DISPATCH(draw_drafts,
               context,
               drafts,
               weights,
               detail::in_matrix_of<S, Backend>(logits),
               sequence,
               offset,
               unit);
}

/// Verifies the drafts d[m] = tokens[count + m], m < n, by rejection sampling: with p[m] the
/// distribution that choose_tokens gives position count + m from logits[m], and q[m] = weights[m] /
/// sum that draw_drafts drew d[m] from,
///
///     predicted[m] = d[m]                                         if u[m] < p[m, d[m]] / q[m,
///     d[m]]
///                  = v with probability r[v] / (sum of r), r = max(p[m] - q[m], 0)       otherwise
///     predicted[n] = v with probability p[n, v]
///
/// so that accept_drafts, which keeps drafts up to the first predicted[m] != d[m], leaves tokens
/// whose distribution is that of drawing each from p in turn (Leviathan, Kalman and Matias 2023,
/// arXiv 2211.17192, algorithm 1 and appendix A.1; Chen et al. 2023, arXiv 2302.01318, theorem 1).
///
/// u[m] = position_bits(accept) / 2^64, and tokens are drawn by inversion with
/// position_bits(residual), both of position count + m: independent of those that drew the drafts.
/// Weights are whole numbers, and ratios are compared and residuals added up without rounding; what
/// is not exact is the resolution of u, below 2^-64. p rounds exp to 2^-40, which choose_tokens
/// does not where it draws. A draft of weight 0 is taken for the only token that its head drafts,
/// which is true where no logit of the head is a number. -1 where nothing is left of p.
///
/// Nothing that is told of row m depends on what stands behind it, unless drafts are verified as a
/// block (Sun et al. 2024, arXiv 2403.10444, algorithm 2). Then, with
///
///     r[0] = 1,  r[m + 1] = min(r[m] p[m, d[m]] / q[m, d[m]], 1)
///     z[m] = sum over v of max(r[m] p[m, v] - q[m, v], 0)
///     h[m] = z[m] / (z[m] + 1 - r[m]) for 0 < m < n, 1 where r[m] = 1,  h[n] = r[n]
///     a    = the largest m with u[m - 1] < h[m], 0 if there is none
///
/// predicted[m] is d[m] for m < a, drawn from max(r[a] p[a] - q[a], 0) for m = a < n, and drawn
/// from p[m] for m = n and all other m > a, where it counts only behind a token that happens to be
/// the draft. Bits are of round `count`. r, z and h are computed in f64; residuals are rounded down
/// to multiples of 2^-60.
///
/// predicted [n + 1], logits [n + 1, V], weights [n, V], n >= 0. Throws mtp::error as
/// choose_tokens, and on other shapes.
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void reject_drafts(context<Backend>& context,
                   out_tokens<Backend> predicted,
                   view<S, Shape, Backend> logits,
                   in_matrix<index_t, Backend> weights,
                   std::type_identity_t<sequence_view<Backend>> sequence,
                   draft_unit unit) {
  const char* const name = "reject_drafts";
  check(logits.extent(0) >= 1, name, ": expected at least one row of logits");
  detail::check_ruled_rows(name, "predicted", predicted, logits, sequence);
  detail::check_shape(name, "weights", weights, dims<2>{logits.extent(0) - 1, logits.extent(1)});
  detail::check_rows(name, "weights", weights);
  MTP_DISPATCH(reject_drafts,
               context,
               predicted,
               detail::in_matrix_of<S, Backend>(logits),
               weights,
               sequence,
               unit);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(draw_drafts,
              as_dynamic_operand,
              "expected (context, drafts [M], weights [M, V], logits [M, V], sequence, offset, "
              "unit), of one backend, logits of f64, f32 or bf16")
MTP_OPERATION(reject_drafts,
              as_dynamic_operand,
              "expected (context, predicted [n + 1], logits [n + 1, V], weights [n, V], sequence, "
              "unit), of one backend, logits of f64, f32 or bf16")
/// @endcond

}  // namespace mtp::inline MTP_ABI

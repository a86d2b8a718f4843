// Drafts that are typical of the model, accepted although the model would write another token.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mtp/core/draft_tree.hpp"
#include "mtp/core/error.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// Changes the text: drafts are written that plain decoding would not have written, if the model
/// finds them probable enough, so that more of them are accepted. A draft of probability p is
/// typical if
///
///     p > min(epsilon, delta exp(-H)),   H = -sum over v of p[v] log p[v]
///
/// at its position: where the model is in doubt, less probability suffices (Cai et al. 2024,
/// Medusa, arXiv 2401.10774, section 2.3.1). What is written follows no distribution of the model.
/// With delta below 1 the most likely token is typical everywhere.
struct typical_acceptance {
  double epsilon = 0.09;   ///< probability that always suffices, in (0, 1]; 1: none does
  double delta = 0.3;      ///< share of exp(-H) that suffices, above 0
  double temperature = 1;  ///< of the distribution p, above 0

  /// Equal numbers.
  friend constexpr bool operator==(const typical_acceptance&, const typical_acceptance&) = default;
};

namespace detail {

/// Throws mtp::error for numbers outside their ranges.
inline void check_typical(const char* function, const typical_acceptance& acceptance) {
  check(acceptance.epsilon > 0 && acceptance.epsilon <= 1,
        function,
        ": expected a typical_acceptance::epsilon in (0, 1], got ",
        acceptance.epsilon);
  check(std::isfinite(acceptance.delta) && acceptance.delta > 0,
        function,
        ": expected a typical_acceptance::delta above 0 and finite, got ",
        acceptance.delta);
  check(std::isfinite(acceptance.temperature) && acceptance.temperature > 0,
        function,
        ": expected a typical_acceptance::temperature above 0 and finite, got ",
        acceptance.temperature);
}

/// What decides about the drafts behind a row, from whole numbers, whose sums are the same in any
/// order.
struct typical_odds {
  double sum, threshold;

  /// Of weights w in units of 2^-40 and their `surprise`, summed over the row.
  MTP_HOST_DEVICE typical_odds(const typical_acceptance& acceptance,
                               std::uint64_t weights,
                               std::uint64_t surprises)
      : sum(static_cast<double>(weights)) {
    const double s = sum * 0x1p-40;
    const double entropy = std::log(s) + static_cast<double>(surprises) * 0x1p-40 / s;
    const double share = acceptance.delta * std::exp(-entropy);
    threshold = share < acceptance.epsilon ? share : acceptance.epsilon;
  }

  /// -w log w of one weight, rounded to units of 2^-40.
  MTP_HOST_DEVICE static std::uint64_t surprise(std::uint64_t weight) {
    const double w = static_cast<double>(weight) * 0x1p-40;
    return weight == 0 ? 0 : static_cast<std::uint64_t>(-w * std::log(w) * 0x1p40 + 0.5);
  }
  MTP_HOST_DEVICE bool accepts(std::uint64_t weight) const {
    return static_cast<double>(weight) / sum > threshold;
  }
};

/// The row that row c > 0 of a tree or, where `parents` is null, of a chain stands behind.
MTP_HOST_DEVICE inline index_t row_before(const index_t* parents, index_t c) {
  return parents == nullptr ? c - 1 : parents[c];
}

/// predicted of accept_typical, from which rows are accepted behind their parents. `length` [M] is
/// used up; tokens: of the rows.
MTP_HOST_DEVICE inline void predict_longest(token_t* predicted,
                                            const index_t* parents,
                                            const token_t* tokens,
                                            const index_t* accepted,
                                            index_t* length,
                                            index_t M) {
  for (index_t c = 0; c < M; ++c) {
    length[c] = 0;
  }
  for (index_t c = M - 1; c > 0; --c) {  // a row has a higher number than its parent
    const index_t front = row_before(parents, c);
    if (accepted[c] != 0 && length[c] + 1 >= length[front]) {
      length[front] = length[c] + 1;
      predicted[front] = tokens[c];
    }
  }
}

}  // namespace detail

/// Accepts typical drafts in place of what was chosen. For the M rows of a chain of drafts, or of
/// the sequence's tree, with predicted[m] the token that was chosen behind row m and p[m] the
/// distribution that choose_tokens draws from at that position with acceptance.temperature in place
/// of the rule's,
///
///     accepted(c)  = the token of row c is typical of p[m], or predicted[m];  m the row before c
///     length(c)    = the most accepted rows that follow each other behind row c
///     predicted[m] = token of the accepted row behind m with the largest length, the first of
///                    these; as it was where none is accepted
///
/// so that accept_drafts and accept_tree keep the longest accepted path. See typical_acceptance for
/// what is typical. Row c is at place count - 1 + c of the sequence's tokens.
///
/// predicted [M] (= or left), logits [M, V]; the rule is the sequence's. Where no draft is accepted
/// that was not predicted, nothing changes: so with epsilon 1 and delta V or more. What is told of
/// a row depends on no row but those behind it. Weights of p and the terms of H are rounded to
/// multiples of 2^-40. Throws mtp::error as choose_tokens, for a tree of other than M rows, and for
/// numbers outside their ranges.
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void accept_typical(context<Backend>& context,
                    out_tokens<Backend> predicted,
                    view<S, Shape, Backend> logits,
                    std::type_identity_t<sequence_view<Backend>> sequence,
                    const typical_acceptance& acceptance) {
  const char* const name = "accept_typical";
  check(logits.extent(0) >= 1, name, ": expected at least one row of logits");
  detail::check_ruled_rows(name, "predicted", predicted, logits, sequence);
  detail::check_typical(name, acceptance);
  check(!sequence.tree.exists() || sequence.tree.parents.extent(0) == logits.extent(0),
        name,
        ": expected logits of all ",
        sequence.tree.parents.extent(0),
        " rows of the tree, got ",
        logits.extent(0));
  MTP_DISPATCH(accept_typical,
               context,
               predicted,
               detail::in_matrix_of<S, Backend>(logits),
               sequence,
               acceptance);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(accept_typical,
              as_dynamic_operand,
              "expected (context, predicted [M], logits [M, V], sequence, acceptance), of one "
              "backend, logits of f64, f32 or bf16")
/// @endcond

}  // namespace mtp::inline MTP_ABI

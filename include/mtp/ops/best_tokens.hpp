// The n likeliest tokens of each row of logits, with the logarithms of their probabilities.
#pragma once

#include <type_traits>

#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// tokens[m, j]            = the token of the j-th largest logit of row m, j = 0 .. n - 1
/// log_probabilities[m, j] = log softmax(logits[m])[tokens[m, j]]
///
/// in nats and f64, with the bits that token_log_probabilities gives for that token. Of equal
/// logits, the token of the lower number comes first. A NaN is no number and never among them; an
/// infinity is. Where a row has no j-th number, because j >= V or because of NaN, the token is -1
/// and the logarithm NaN. logits [M, V]; tokens, log_probabilities [M, n], with n = 0, 1, ..; they
/// may not overlap. A row's results do not depend on M. Throws mtp::error on wrong shapes.
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void best_tokens(context<Backend>& context,
                 out_matrix<token_t, Backend> tokens,
                 out_matrix<double, Backend> log_probabilities,
                 view<S, Shape, Backend> logits) {
  const char* const name = "best_tokens";
  const index_t V = logits.extent(1);
  check(tokens.extent(0) == logits.extent(0),
        name,
        ": expected tokens of ",
        logits.extent(0),
        " rows, got ",
        tokens.extent(0));
  detail::check_shape(name, "log_probabilities", log_probabilities, tokens.shape());
  detail::check_rows(name, "tokens", tokens);
  detail::check_rows(name, "log_probabilities", log_probabilities);
  detail::check_rows(name, "logits", logits);
  check(V <= detail::most_choices,
        name,
        ": expected rows of at most ",
        detail::most_choices,
        " logits, got ",
        V);
  MTP_DISPATCH(
      best_tokens, context, tokens, log_probabilities, detail::in_matrix_of<S, Backend>(logits));
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(best_tokens,
              as_dynamic_operand,
              "expected (context, tokens [M, n], log_probabilities [M, n] f64, logits [M, V]), "
              "views of one backend, logits of f64, f32 or bf16")
/// @endcond

}  // namespace mtp::inline MTP_ABI

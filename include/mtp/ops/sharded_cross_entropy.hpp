// Output matrices whose rows are divided among the ranks that compute one model together: logits,
// and softmax with cross entropy.
#pragma once

#include <type_traits>

#include "mtp/core/tensor_group.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/sharded_embedding.hpp"

namespace mtp::inline MTP_ABI {

/// Logits of all tokens on all ranks: with W_r the part of rank r of the R ranks that the context
/// has joined, rows [r V / R, (r + 1) V / R) of W,
///
///     y[n, r V / R + v] = sum over c of x[n, c] W_r[v, c]          y [N, V], x [N, C], W_r [V / R,
///     C]
///
/// y may hold accumulate_t of the elements. x is the same on all ranks. Each element has the bits
/// of linear_forward. Each rank sends (R - 1) N V / R elements. Throws mtp::error on wrong shapes,
/// unless the context has joined ranks, and as their engine does.
template <scalar Y, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::result_of<Y, S>> sharded_linear_forward(
    context<Backend>& context,
    matrix_view<Y, Backend> y,
    view<S, Shape, Backend> rows,
    in_weight<std::remove_const_t<S>, Backend> w) {
  static_assert(detail::result_of<Y, S>,
                "sharded_linear_forward: y must hold elements of x or their accumulator type");
  constexpr const char* function = "sharded_linear_forward";
  const detail::in_matrix_of<S, Backend> x(rows);
  detail::check_weight(function, "w", w, w.outputs, x.extent(1));
  detail::check_shape(
      function, "y", y, {x.extent(0), detail::whole_of(function, context, w).outputs});
  detail::check_rows(function, "x", x);
  detail::check_rows(function, "y", y);
  MTP_DISPATCH(sharded_linear_forward, context, y, x, w);
}

/// linear_cross_entropy with an output matrix that the R ranks of the context have in parts: rank r
/// has rows [r V / R, (r + 1) V / R) of W, and gets the gradient of these. hidden, targets and
/// weights are the same on all ranks, and so are the results but dw:
///
///     hidden, dhidden [R', C]; w, dw [V / R, C]; targets, weights, losses [R', J]; predicted [R']
///
/// The largest logit of a row, the sum of exp(logit - largest), and dhidden are combined from the
/// ranks' own in the order of ranks, in accumulate_t; logits are not sent. The rows of dhidden have
/// no gaps. Everything else is as linear_cross_entropy says. Throws as it does, and as
/// sum_over_ranks does.
template <class L, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<L, S>> sharded_cross_entropy(
    context<Backend>& context,
    matrix_view<L, Backend> losses,
    out_tokens<Backend> predicted,
    out_matrix<std::remove_const_t<S>, Backend> dhidden,
    out_weight<L, Backend> dw,
    view<S, Shape, Backend> hidden_rows,
    in_weight<std::remove_const_t<S>, Backend> w,
    std::type_identity_t<matrix_view<const token_t, Backend>> targets,
    in_matrix<L, Backend> weights) {
  static_assert(detail::sums_of<L, S>,
                "sharded_cross_entropy: losses must hold elements of the accumulator type of "
                "hidden");
  constexpr const char* function = "sharded_cross_entropy";
  const detail::in_matrix_of<S, Backend> hidden(hidden_rows);
  detail::check_cross_entropy(
      function, losses, predicted, hidden, detail::whole_of(function, context, w), targets);
  detail::check_shape(function, "weights", weights, targets.shape());
  detail::check_shape(function, "dhidden", dhidden, hidden.shape());
  detail::check_weight(function, "dw", dw, w.outputs, w.inputs);
  check(dhidden.extent(0) <= 1 || dhidden.stride(0) == dhidden.extent(1),
        "sharded_cross_entropy: expected rows of dhidden without gaps, one every ",
        dhidden.extent(1),
        " elements, got one every ",
        dhidden.stride(0));
  MTP_DISPATCH(
      sharded_cross_entropy, context, losses, predicted, dhidden, dw, hidden, w, targets, weights);
}

/// Losses and predictions of sharded_cross_entropy, without gradients. Throws as it does.
template <class L, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<L, S>> sharded_cross_entropy_forward(
    context<Backend>& context,
    matrix_view<L, Backend> losses,
    out_tokens<Backend> predicted,
    view<S, Shape, Backend> hidden_rows,
    in_weight<std::remove_const_t<S>, Backend> w,
    std::type_identity_t<matrix_view<const token_t, Backend>> targets) {
  static_assert(detail::sums_of<L, S>,
                "sharded_cross_entropy_forward: losses must hold elements of the accumulator type "
                "of hidden");
  constexpr const char* function = "sharded_cross_entropy_forward";
  const detail::in_matrix_of<S, Backend> hidden(hidden_rows);
  detail::check_cross_entropy(
      function, losses, predicted, hidden, detail::whole_of(function, context, w), targets);
  MTP_DISPATCH(sharded_cross_entropy_forward, context, losses, predicted, hidden, w, targets);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    sharded_linear_forward,
    as_dynamic_operand,
    "expected (context, y [N, V], x [N, C], w [V / R, C]), of one backend, y writable and "
    "of the element type of x or its accumulator type")
MTP_OPERATION(
    sharded_cross_entropy,
    as_dynamic_operand,
    "expected the arguments of linear_cross_entropy, of one backend, with parts of w and dw")
MTP_OPERATION(sharded_cross_entropy_forward,
              as_dynamic_operand,
              "expected the arguments of linear_cross_entropy_forward, of one backend, with a part "
              "of w")
/// @endcond

}  // namespace mtp::inline MTP_ABI

// Output matrix, softmax and cross entropy in one operation, which never stores all logits.
#pragma once

#include <type_traits>

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

template <class Losses, class Predicted, class Hidden, class Weight, class Targets>
void check_cross_entropy(const char* function,
                         const Losses& losses,
                         const Predicted& predicted,
                         const Hidden& hidden,
                         const Weight& w,
                         const Targets& targets) {
  check_rows(function, "hidden", hidden);
  check(w.inputs == hidden.extent(1) && w.outputs > 0,
        function,
        ": expected w of shape [V, ",
        hidden.extent(1),
        "], got [",
        w.outputs,
        ", ",
        w.inputs,
        "]");
  check_shape(function, "losses", losses, targets.shape());
  check(targets.extent(0) == hidden.extent(0),
        function,
        ": expected targets of ",
        hidden.extent(0),
        " rows, got ",
        targets.extent(0));
  check_rows(function, "predicted", predicted);
  check(predicted.extent(0) == hidden.extent(0),
        function,
        ": expected room for ",
        hidden.extent(0),
        " predictions, got ",
        predicted.extent(0));
  if constexpr (backend_traits<typename Hidden::backend_type>::is_host_memory) {
    for (index_t r = 0; r < targets.extent(0); ++r) {
      for (index_t j = 0; j < targets.extent(1); ++j) {
        check(targets(r, j) < w.outputs,
              function,
              ": target ",
              targets(r, j),
              " at row ",
              r,
              " does not lie in [0, ",
              w.outputs,
              ")");
      }
    }
  }
}

}  // namespace detail

namespace detail {

/// -log softmax of a logit, from the largest logit of its row and the logarithm of the sum of
/// exp(logit - largest). If the largest is large, largest + log_sum would lose the digits of the
/// loss; a difference of two logits is as exact as they are.
template <real A>
MTP_HOST_DEVICE A cross_entropy_of(A logit, A largest, A log_sum) {
  constexpr A large = 64;  // below it, the sum costs 4e-6 nats of a loss in f32 at most
  return largest > -large && largest < large ? largest + log_sum - logit
                                             : log_sum - (logit - largest);
}

}  // namespace detail

/// With logits z[r, v] = sum over c of hidden[r, c] W[v, c], for every row r and each of its J
/// targets:
///
///     losses[r, j]  = log(sum over v of exp z[r, v]) - z[r, targets[r, j]]
///     predicted[r]  = the lowest v of the largest logit, -1 if all are NaN
///
/// and, for the loss  sum over r, j of weights[r, j] losses[r, j]:
///
///     dhidden[r, c] = its gradient by hidden (=)
///     dW[v, c]     += its gradient by W
///
/// Losses are in nats, and 0 where the target is < 0. hidden, dhidden [R, C]; W, dW [V, C];
/// targets, weights, losses [R, J]; predicted [R]. dW, weights and losses hold accumulate_t of
/// hidden's elements. Gradients of bf16 logits may be rounded to bf16 before they are multiplied.
/// Rows are processed in chunks: only the logits of one chunk exist at a time.
/// dhidden may be hidden. If dw has no data, dW is not computed. Rows whose weights are all zero
/// have losses but add nothing to gradients. If a logit is not finite, -inf included, losses and
/// gradients of its row are NaN. Throws mtp::error on wrong shapes and on targets >= V; if targets
/// are on a device, such a target is ignored, and synchronize throws.
template <class L, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<L, S>> linear_cross_entropy(
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
                "linear_cross_entropy: losses must hold elements of the accumulator type "
                "of hidden");
  const detail::in_matrix_of<S, Backend> hidden(hidden_rows);
  detail::check_cross_entropy("linear_cross_entropy", losses, predicted, hidden, w, targets);
  detail::check_shape("linear_cross_entropy", "weights", weights, targets.shape());
  detail::check_shape("linear_cross_entropy", "dhidden", dhidden, hidden.shape());
  detail::check_weight("linear_cross_entropy", "dw", dw, w.outputs, w.inputs);
  detail::check_rows("linear_cross_entropy", "dhidden", dhidden);
  MTP_DISPATCH(
      linear_cross_entropy, context, losses, predicted, dhidden, dw, hidden, w, targets, weights);
}

/// Losses and predictions of linear_cross_entropy, without gradients. Throws as it does.
template <class L, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<L, S>> linear_cross_entropy_forward(
    context<Backend>& context,
    matrix_view<L, Backend> losses,
    out_tokens<Backend> predicted,
    view<S, Shape, Backend> hidden_rows,
    in_weight<std::remove_const_t<S>, Backend> w,
    std::type_identity_t<matrix_view<const token_t, Backend>> targets) {
  static_assert(detail::sums_of<L, S>,
                "linear_cross_entropy_forward: losses must hold elements of the accumulator "
                "type of hidden");
  const detail::in_matrix_of<S, Backend> hidden(hidden_rows);
  detail::check_cross_entropy(
      "linear_cross_entropy_forward", losses, predicted, hidden, w, targets);
  MTP_DISPATCH(linear_cross_entropy_forward, context, losses, predicted, hidden, w, targets);
}

/// predicted[m] = the lowest v of the largest logits[m, v]; NaN never wins; -1 if all are NaN.
/// logits [M, V], predicted [M]. Throws mtp::error on wrong shapes.
template <detail::scalar_or_const S, detail::matrix_shape Shape, class Backend>
void predict(context<Backend>& context,
             out_tokens<Backend> predicted,
             view<S, Shape, Backend> logits) {
  check(predicted.extent(0) == logits.extent(0),
        "predict: expected room for ",
        logits.extent(0),
        " tokens, got ",
        predicted.extent(0));
  detail::check_rows("predict", "logits", logits);
  detail::check_rows("predict", "predicted", predicted);
  MTP_DISPATCH(predict, context, predicted, detail::in_matrix_of<S, Backend>(logits));
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    linear_cross_entropy,
    as_dynamic_operand,
    "expected (context, losses, predicted, dhidden, dw, hidden, w, targets, weights), of one "
    "backend, losses, dw and weights of the accumulator type of hidden")
MTP_OPERATION(
    linear_cross_entropy_forward,
    as_dynamic_operand,
    "expected (context, losses, predicted, hidden, w, targets), of one backend, losses of the "
    "accumulator type of hidden")
MTP_OPERATION(predict,
              as_dynamic_operand,
              "expected (context, predicted [M], logits [M, V]), views of one backend, of token_t "
              "and of f64, f32 or bf16")
/// @endcond

}  // namespace mtp::inline MTP_ABI

// The output matrix, softmax and cross entropy as one operation that never stores all logits.
#pragma once

#include <span>

#include "mtp/ops/detail.hpp"

namespace mtp {

/// With logits z[r, v] = sum over c of hidden[r, c] W[v, c], for every row r and each of its J
/// targets:
///   losses[r, j]  = log(sum over v of exp z[r, v]) - z[r, targets[r, j]]     nats; 0 where the
///   target is < 0 predicted[r]  = the lowest v of the largest logit, -1 if all are NaN
/// and, for the loss  sum over r, j of weights[r, j] losses[r, j]:
///   dhidden[r, c] = its gradient by hidden (=)
///   dW[v, c]     += its gradient by W
///
/// hidden, dhidden [R, C]; W, dW [V, C]; targets, weights, losses [R, J]; predicted [R]. Rows are
/// worked on in chunks, so that the logits of a chunk exist at a time and no more. dhidden may be
/// hidden; dw without data: its gradient is not wanted. Rows with only weights of zero take part in
/// losses but not in gradients. Throws mtp::error on wrong shapes and on targets >= V.
template <class S, class Backend>
void linear_cross_entropy(context<Backend>& context,
                          matrix_view<S, Backend> losses,
                          std::span<token_t> predicted,
                          out_matrix<S, Backend> dhidden,
                          out_weight<S, Backend> dw,
                          in_matrix<S, Backend> hidden,
                          in_weight<S, Backend> w,
                          std::type_identity_t<matrix_view<const token_t, Backend>> targets,
                          in_matrix<S, Backend> weights) {
  detail::check_cross_entropy("linear_cross_entropy", losses, predicted, hidden, w, targets);
  detail::check_shape("linear_cross_entropy", "weights", weights, targets.shape());
  detail::check_shape("linear_cross_entropy", "dhidden", dhidden, hidden.shape());
  detail::check_weight("linear_cross_entropy", "dw", dw, w.outputs, w.inputs);
  detail::check_rows("linear_cross_entropy", "dhidden", dhidden);
  ops_of<Backend>::linear_cross_entropy(
      context, losses, predicted, dhidden, dw, hidden, w, targets, weights);
}

/// The losses and predictions of linear_cross_entropy without gradients.
template <class S, class Backend>
void linear_cross_entropy_forward(
    context<Backend>& context,
    matrix_view<S, Backend> losses,
    std::span<token_t> predicted,
    in_matrix<S, Backend> hidden,
    in_weight<S, Backend> w,
    std::type_identity_t<matrix_view<const token_t, Backend>> targets) {
  detail::check_cross_entropy(
      "linear_cross_entropy_forward", losses, predicted, hidden, w, targets);
  ops_of<Backend>::linear_cross_entropy_forward(context, losses, predicted, hidden, w, targets);
}

/// predicted[m] = the lowest v of the largest logits[m, v]; NaN never wins; -1 if all are NaN.
/// logits [M, V]
template <class S, class Backend>
void predict(context<Backend>& context,
             std::span<token_t> predicted,
             matrix_view<S, Backend> logits) {
  check(static_cast<index_t>(predicted.size()) == logits.extent(0),
        "predict: expected room for ",
        logits.extent(0),
        " tokens, got ",
        predicted.size());
  detail::check_rows("predict", "logits", logits);
  ops_of<Backend>::predict(context, predicted, in_matrix<std::remove_const_t<S>, Backend>(logits));
}

}  // namespace mtp

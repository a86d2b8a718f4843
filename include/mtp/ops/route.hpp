// The router of a mixture of experts: which experts a row goes to, and with which weights.
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/routing_rule.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Added to the sum of a row's weights before they are divided by it, as in DeepSeek-V3's code: a
/// row whose scores are all zero has weights of zero.
inline constexpr double smallest_sum_of_weights = 1e-20;

/// The first of the largest among `count` numbers; NaN is none. -1 where there is none.
template <class Number>
MTP_HOST_DEVICE constexpr index_t largest_number(const Number* values, index_t count) {
  index_t best = -1;
  for (index_t i = 0; i < count; ++i) {
    if (best < 0 ? values[i] == values[i] : values[i] > values[best]) {
      best = i;
    }
  }
  return best;
}

inline void check_routing(const char* function, index_t E, index_t k, const routing_rule& rule) {
  check(rule.n_group > 0 && E > 0 && E % rule.n_group == 0,
        function,
        ": expected experts that n_group divides, got ",
        E,
        " experts in ",
        rule.n_group,
        " groups");
  check(rule.topk_group > 0 && rule.topk_group <= rule.n_group,
        function,
        ": expected topk_group from 1 to n_group, ",
        rule.n_group,
        ", got ",
        rule.topk_group);
  check(k > 0 && k <= E / rule.n_group * rule.topk_group,
        function,
        ": expected from 1 to ",
        E / rule.n_group * rule.topk_group,
        " experts for a row, as many as the chosen groups have, got ",
        k);
}

}  // namespace detail

/// The k experts of each row, the best first, and their weights (DeepSeek-V3, arXiv 2412.19437,
/// equations 12 to 16; with softmax DeepSeekMoE, arXiv 2401.06066, Mixtral, arXiv 2401.04088).
///
///     scores[n]  = sigmoid(logits[n])  or  softmax(logits[n])
///     choice[e]  = scores[n, e] + bias[e]
///     group g    = the sum of the 2 best choices of its E / n_group experts, or of its only one
///     experts[n] = the k best choices of the topk_group best groups; of equals, the lower number
///     weights[n, j] = routed_scaling_factor s_j / (s_0 + .. + s_(k-1) + 1e-20),
///                     s_j = scores[n, experts[n, j]]
///
/// or routed_scaling_factor s_j without norm_topk_prob. The bias takes part in the choice alone,
/// and may have no data; experts outside the chosen groups are not chosen whatever the bias is.
/// Mixtral and Qwen3 divide by the sum without 1e-20, which no sum of softmax can tell. Where a
/// choice or the sum for a group is NaN, the experts of the row are 0 .. k - 1, and their weights
/// NaN.
///
/// experts, weights [N, k], scores, logits [N, E], bias [E]; all but the bias in index_t and
/// accumulate_t of its elements. A row's bits depend on its logits and the bias alone. Throws
/// mtp::error on wrong shapes and rules.
template <detail::scalar_or_const S, detail::vector_shape Shape, class Backend>
void route(context<Backend>& context,
           matrix_view<index_t, Backend> experts,
           out_sums<S, Backend> weights,
           out_sums<S, Backend> scores,
           in_sums<S, Backend> logits,
           view<S, Shape, Backend> bias,
           const routing_rule& rule) {
  const char* const name = "route";
  const index_t E = logits.extent(1);
  const vector_view<const std::remove_const_t<S>, Backend> added(bias);
  detail::check_routing(name, E, experts.extent(1), rule);
  detail::check_shape(name, "experts", experts, {logits.extent(0), experts.extent(1)});
  detail::check_shape(name, "weights", weights, experts.shape());
  detail::check_shape(name, "scores", scores, logits.shape());
  if (added.data() != nullptr) {
    detail::check_shape(name, "bias", added, dims<1>{E});
  }
  detail::check_rows(name, "experts", experts);
  detail::check_rows(name, "weights", weights);
  detail::check_rows(name, "scores", scores);
  detail::check_rows(name, "logits", logits);
  detail::check_rows(name, "bias", added);
  MTP_DISPATCH(route, context, experts, weights, scores, logits, added, rule);
}

/// The value and the gradient by scores of what keeps the experts of each sequence balanced
/// (DeepSeek-V3, equations 17 to 20):
///
///     loss  = weight sum over sequences and e of f_e P_e
///     f_e   = E / (k T) how many of the sequence's pairs are of expert e,    no gradient
///     P_e   = the mean over its rows of p_e,  p_e = s_e / (sum over i of s_i + 1e-20)
///     values[n]    += weight (sum over i of f_i p_i) / T,    so that the loss is the sum over rows
///     dscores[n, e] = weight (f_e - sum over i of f_i p_i) / T / (sum over i of s_i + 1e-20)
///
/// dscores (=), scores [N, E], values [N] f64 (+=) or without data, and experts [N, k] of route; N
/// = B T, row b T + i is position i of sequence b. Throws mtp::error on wrong shapes and unless T
/// divides N.
template <scalar S, class Backend>
void sequence_balance_backward(context<Backend>& context,
                               matrix_view<S, Backend> dscores,
                               std::type_identity_t<vector_view<double, Backend>> values,
                               in_matrix<S, Backend> scores,
                               std::type_identity_t<matrix_view<const index_t, Backend>> experts,
                               index_t T,
                               double weight) {
  const char* const name = "sequence_balance_backward";
  detail::check_shape(name, "dscores", dscores, scores.shape());
  detail::check_shape(name, "experts", experts, {scores.extent(0), experts.extent(1)});
  if (values.data() != nullptr) {
    detail::check_shape(name, "values", values, dims<1>{scores.extent(0)});
  }
  detail::check_rows(name, "dscores", dscores);
  detail::check_rows(name, "values", values);
  detail::check_rows(name, "scores", scores);
  detail::check_rows(name, "experts", experts);
  check(T > 0 && scores.extent(0) % T == 0,
        name,
        ": expected rows of whole sequences of ",
        T,
        " positions, got ",
        scores.extent(0));
  MTP_DISPATCH(sequence_balance_backward, context, dscores, values, scores, experts, T, weight);
}

/// dlogits (=) of dweights and dscores, through normalisation and score; the choice has no
/// gradient.
///
///     ds_j  = routed_scaling_factor (dw_j - sum over i of dw_i s_i / D) / D,  D = s_0 + .. + 1e-20
///     sigmoid: dlogits[e] = ds_e s_e (1 - s_e)
///     softmax: dlogits[e] = s_e (ds_e - sum over i of ds_i s_i)
///
/// ds_j = routed_scaling_factor dw_j without norm_topk_prob; ds is 0 for experts that a row does
/// not go to. To ds is added dscores [N, E], unless it has no data. dlogits, scores [N, E],
/// dweights, experts [N, k]: experts and scores as route wrote them. dlogits may be of a storage
/// type. Throws mtp::error on wrong shapes and rules.
template <scalar S, class Backend>
void route_backward(context<Backend>& context,
                    matrix_view<S, Backend> dlogits,
                    in_sums<S, Backend> dweights,
                    std::type_identity_t<matrix_view<const index_t, Backend>> experts,
                    in_sums<S, Backend> scores,
                    in_sums<S, Backend> dscores,
                    const routing_rule& rule) {
  const char* const name = "route_backward";
  detail::check_routing(name, scores.extent(1), experts.extent(1), rule);
  detail::check_shape(name, "dlogits", dlogits, scores.shape());
  detail::check_shape(name, "experts", experts, {scores.extent(0), experts.extent(1)});
  detail::check_shape(name, "dweights", dweights, experts.shape());
  if (dscores.data() != nullptr) {
    detail::check_shape(name, "dscores", dscores, scores.shape());
  }
  detail::check_rows(name, "dscores", dscores);
  detail::check_rows(name, "dlogits", dlogits);
  detail::check_rows(name, "dweights", dweights);
  detail::check_rows(name, "experts", experts);
  detail::check_rows(name, "scores", scores);
  MTP_DISPATCH(route_backward, context, dlogits, dweights, experts, scores, dscores, rule);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(route,
              as_dynamic_operand,
              "expected (context, experts [N, k] index_t, weights [N, k], scores [N, E], logits "
              "[N, E], bias [E], rule), of one backend, all but experts and bias of the bias's "
              "accumulator type")
MTP_OPERATION(route_backward,
              as_dynamic_operand,
              "expected (context, dlogits [N, E], dweights [N, k], experts [N, k] index_t, scores "
              "[N, E], dscores [N, E], rule), of one backend, dweights, scores and dscores of "
              "dlogits' accumulator type")
MTP_OPERATION(
    sequence_balance_backward,
    as_dynamic_operand,
    "expected (context, dscores [N, E], values [N] f64, scores [N, E], experts [N, k] index_t, "
    "T, weight), of one backend, dscores and values writable")
/// @endcond

}  // namespace mtp::inline MTP_ABI

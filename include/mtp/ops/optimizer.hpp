// One step of AdamW, and what a step needs to know of all gradients together.
#pragma once

#include "mtp/ops/detail.hpp"

namespace mtp {

/// Sum of squares of all elements of x [P], kept in double, in an order that depends on P alone:
/// not on threads. NaN or infinity among the elements shows in the result.
template <class S, class Shape, class Backend>
[[nodiscard]] double sum_of_squares(context<Backend>& context, view<S, Shape, Backend> x) {
  using element = std::remove_const_t<S>;
  detail::check_rows("sum_of_squares", "x", x);
  return ops_of<Backend>::sum_of_squares(context, in_vector<element, Backend>(x));
}

/// What adamw_update needs besides the arrays.
struct adamw_coefficients {
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  double weight_decay;
  double gradient_scale;  ///< every gradient is multiplied by it first: clipping
  double correction1;     ///< 1 - beta1^step
  double correction2;     ///< 1 - beta2^step
};

/// With g = gradient_scale * gradient[p] (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm
/// 2):
///   first[p]  = beta1 first[p]  + (1 - beta1) g
///   second[p] = beta2 second[p] + (1 - beta2) g^2
///   value[p] -= learning_rate (weight_decay value[p] + (first[p] / correction1) / (sqrt(second[p]
///   / correction2) + epsilon))
/// All [P], contiguous.
template <class S, class Shape, class Backend>
void adamw_update(context<Backend>& context,
                  view<S, Shape, Backend> value,
                  out_vector<S, Backend> first,
                  out_vector<S, Backend> second,
                  in_vector<S, Backend> gradient,
                  const adamw_coefficients& coefficients) {
  const out_vector<S, Backend> values(value);
  detail::check_shape("adamw_update", "first", first, values.shape());
  detail::check_shape("adamw_update", "second", second, values.shape());
  detail::check_shape("adamw_update", "gradient", gradient, values.shape());
  detail::check_rows("adamw_update", "value", values);
  detail::check_rows("adamw_update", "first", first);
  detail::check_rows("adamw_update", "second", second);
  detail::check_rows("adamw_update", "gradient", gradient);
  ops_of<Backend>::adamw_update(context, values, first, second, gradient, coefficients);
}

}  // namespace mtp

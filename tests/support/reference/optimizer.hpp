// Reference of ops/optimizer.hpp.
#pragma once

#include <cmath>

#include "mtp/ops/optimizer.hpp"
#include "support/reference/array.hpp"

namespace mtp::test::reference {

struct adamw_state {
  double value, first, second;
};

/// One step for one element: Loshchilov and Hutter 2019, algorithm 2.
inline adamw_state adamw(adamw_state state, double gradient, const adamw_coefficients& c) {
  const double g = c.gradient_scale * gradient;
  state.first = c.beta1 * state.first + (1 - c.beta1) * g;
  state.second = c.beta2 * state.second + (1 - c.beta2) * g * g;
  const double corrected_first = state.first / c.correction1;
  const double corrected_second = state.second / c.correction2;
  state.value -= c.learning_rate * (c.weight_decay * state.value +
                                    corrected_first / (std::sqrt(corrected_second) + c.epsilon));
  return state;
}

inline double sum_of_squares(const array<1>& x) {
  long double sum = 0;
  for (const double element : x.elements) {
    sum += static_cast<long double>(element) * static_cast<long double>(element);
  }
  return static_cast<double>(sum);
}

}  // namespace mtp::test::reference

// Functions of one element against the C library in double. Who includes this says for which cases:
// see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/ops/functions.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/reference/elementwise.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::functions {

// Contiguous, with gaps, transposed, empty.
inline const layout layouts[] = {{{3, 7}, {7, 1}},
                                 {{4, 33}, {40, 1}},
                                 {{5, 4}, {1, 5}},
                                 {{0, 5}, {5, 1}},
                                 {{1, 1}, {1, 1}},
                                 {{2, 17001}, {17001, 1}}};

/// Calls body(name, function on operands, the same in double, low, high) for each function, with a
/// range that it is defined on.
template <class Body>
void each_function(const Body& body) {
#define MTP_FUNCTION(name, formula, low, high)                                      \
  body(                                                                             \
      #name,                                                                        \
      [](auto& context, auto&&... operands) { return name(context, operands...); }, \
      [](double x, double) { return formula; },                                     \
      low,                                                                          \
      high)
  MTP_FUNCTION(abs, x < 0 ? -x : x, -3, 3);
  MTP_FUNCTION(exp, std::exp(x), -20, 20);
  MTP_FUNCTION(expm1, std::expm1(x), -1, 1);
  MTP_FUNCTION(log, std::log(x), 0.001, 50);
  MTP_FUNCTION(log1p, std::log1p(x), -0.5, 1);
  MTP_FUNCTION(sqrt, std::sqrt(x), 0, 50);
  MTP_FUNCTION(square, x * x, -3, 3);
  MTP_FUNCTION(reciprocal, 1 / x, 0.01, 4);
  MTP_FUNCTION(negate, -x, -3, 3);
  MTP_FUNCTION(sin, std::sin(x), -3, 3);
  MTP_FUNCTION(cos, std::cos(x), -1.5, 1.5);
  MTP_FUNCTION(tanh, std::tanh(x), -4, 4);
  MTP_FUNCTION(sigmoid, 1 / (1 + std::exp(-x)), -10, 10);
  MTP_FUNCTION(relu, x > 0 ? x : 0, -3, 3);
  MTP_FUNCTION(erf, std::erf(x), -3, 3);
#undef MTP_FUNCTION
}

/// At most `ulps` units in the last place of the arithmetic type off, then rounded.
template <class S>
std::vector<double> few_ulps(const std::vector<double>& expected, double ulps) {
  std::vector<double> bound;
  for (const double value : expected) {
    const double error = 2 * ulps * unit_roundoff<accumulate_t<S>> * std::abs(value);
    bound.push_back(stored_bound<S>(value, error + smallest_number<accumulate_t<S>>));
  }
  return bound;
}

TEST_CASE_TEMPLATE_DEFINE("each function matches the C library's in double, in any layout",
                          Case,
                          function_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    CAPTURE(shape);
    each_function([&](const std::string& name,
                      const auto& function,
                      const auto& in_double,
                      double low,
                      double high) {
      CAPTURE(name);
      // Numbers that S holds may leave the range by a rounding: it has room for that.
      const guarded<S, 2, B> x(
          shape, each.strides, uniform(shape.count(), 41, low, high));  // [N, C]
      guarded<S, 2, B> y(shape);                                        // [N, C]
      function(context, y.view(), x.view());
      const auto inputs = values(x.view());
      const auto expected = reference::elementwise(in_double, inputs, inputs);
      CHECK(within(y.view(), expected, few_ulps<S>(expected, 4)));
      CHECK(y.intact());
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("a function in place and one in a new tensor give the same bits",
                          Case,
                          function_forms) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  const dims<2> shape(5, 19);
  each_function(
      [&](const std::string& name, const auto& function, const auto&, double low, double high) {
        CAPTURE(name);
        const auto inputs = uniform(shape.count(), 42, low, high);
        guarded<S, 2, B> x(shape, inputs), y(shape);  // [5, 19]
        function(context, y.view(), x.view());
        const tensor<S, dims<2>, B> made = function(context, x.view());  // [5, 19]
        function(context, x.view(), x.view());
        CHECK(same_bits(made.to_host(), elements(y.view())));
        CHECK(same_bits(x.view(), y.view()));
        CHECK(x.intact());
      });
}

TEST_CASE_TEMPLATE_DEFINE("functions give NaN and infinity where mathematics does",
                          Case,
                          function_limits) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  constexpr double inf = std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const auto one = [&](const auto& function, double input) {
    guarded<float, 1, B> x(dims<1>(1), std::vector<double>{input});  // [1]
    function(context, x.view(), x.view());
    return static_cast<double>(x.view()(0));
  };
  const auto log_of = [](auto& c, auto y, auto x) { log(c, y, x); };
  const auto sqrt_of = [](auto& c, auto y, auto x) { sqrt(c, y, x); };
  const auto exp_of = [](auto& c, auto y, auto x) { exp(c, y, x); };
  const auto relu_of = [](auto& c, auto y, auto x) { relu(c, y, x); };
  const auto sigmoid_of = [](auto& c, auto y, auto x) { sigmoid(c, y, x); };
  CHECK(std::isnan(one(log_of, -1)));
  CHECK(one(log_of, 0) == -inf);
  CHECK(std::isnan(one(sqrt_of, -1)));
  CHECK(one(exp_of, 1000) == inf);
  CHECK(one(exp_of, -inf) == 0);
  CHECK(one(sigmoid_of, -200) == 0);
  CHECK(one(sigmoid_of, 200) == 1);
  CHECK(one(relu_of, inf) == inf);
  CHECK(std::isnan(one(relu_of, nan)));
  CHECK(std::isnan(one(exp_of, nan)));
}

TEST_CASE_TEMPLATE_DEFINE("functions take tensors, and refuse other shapes by their own name",
                          Case,
                          function_operands) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const tensor<float, extents<2, 2>, B> x({}, {0, 1, 4, 9});  // [2, 2]
  tensor<float, dims<2>, B> y(dims<2>(2, 2));                 // [2, 2]
  tensor<float, dims<2>, B> other(dims<2>(1, 4));             // [1, 4]
  sqrt(context, y, x);
  CHECK(y.to_host() == std::vector<float>{0, 1, 2, 3});
  const tensor<float, extents<2, 2>, B> root = sqrt(context, x);  // [2, 2]
  CHECK(root.to_host() == y.to_host());
  CHECK_THROWS_WITH_AS(
      sqrt(context, other, x), "sqrt: expected x of shape [1, 4], got [2, 2]", error);
  CHECK(other.to_host() == std::vector<float>(4));
}

TEST_CASE_TEMPLATE_APPLY(function_values, cases);
TEST_CASE_TEMPLATE_APPLY(function_forms, cases);
TEST_CASE_TEMPLATE_APPLY(function_limits, one_case);
TEST_CASE_TEMPLATE_APPLY(function_operands, one_case);

}  // namespace mtp::test::functions

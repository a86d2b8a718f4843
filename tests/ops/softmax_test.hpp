// Softmax and its gradient against the reference. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/ops/softmax.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/reference/softmax.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::softmax {

inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Rows around a vector, a pack, a block of a sum, and what a block of threads keeps; contiguous,
// with gaps, transposed.
inline const layout layouts[] = {{{1, 1}, {1, 1}},
                                 {{3, 7}, {7, 1}},
                                 {{4, 16}, {19, 1}},
                                 {{5, 17}, {1, 5}},
                                 {{2, 33}, {99, 3}},
                                 {{0, 4}, {4, 1}},
                                 {{4, 0}, {1, 1}},
                                 {{9, 64}, {80, 1}},
                                 {{2, 1030}, {1030, 1}},
                                 {{3, 2048}, {2048, 1}},
                                 {{700, 31}, {31, 1}},
                                 {{1, 32776}, {32776, 1}},
                                 {{2, 33001}, {33001, 1}}};

// Relative error of exp(x - m) / sum: the difference is rounded (an error of up to |x - m| u in the
// exponent), exp itself is off by 8 u at most, the sum of positive terms by what its terms are and
// its roundings (80 and one for each 1024 elements), then the division. With bf16, the exponent is
// rounded again where it becomes one of 2, by a factor that is rounded itself. Below the smallest
// normal number results become zero.
template <class S>
std::vector<double> softmax_bound(const std::vector<double>& y, index_t C, double spread) {
  using real_type = accumulate_t<S>;
  const double exponent = (std::is_same_v<S, bf16> ? 3 : 1) * spread;
  const double relative =
      gamma(2 * (exponent + 8) + 80 + 1 + static_cast<double>(C) / 1024, unit_roundoff<real_type>);
  std::vector<double> bound;
  for (const double value : y) {
    bound.push_back(
        stored_bound<S>(value, relative * value + 2 * std::numeric_limits<real_type>::min()));
  }
  return bound;
}

TEST_CASE_TEMPLATE_DEFINE("softmax_forward matches the reference in any layout, also in place",
                          Case,
                          forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2, B> x(shape, strides, uniform(shape.count(), 2, -10, 10));  // [N, C]
    guarded<S, 2, B> y(shape);                                                     // [N, C]
    softmax_forward(context, y.view(), x.view());
    const auto expected = reference::softmax(values(x.view()), shape[1]);
    CHECK(within(y.view(), expected, softmax_bound<S>(expected, shape[1], 20)));
    CHECK(y.intact());
    guarded<S, 2, B> in_place(shape, strides, values(x.view()));  // [N, C]
    softmax_forward(context, in_place.view(), in_place.view());
    CHECK(same_bits(in_place.view(), y.view()));
    CHECK(in_place.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("softmax_forward does not overflow, and -inf becomes exactly zero",
                          Case,
                          overflow) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const dims<2> shape(3, 3);
  const guarded<S, 2, B> x(
      shape, std::vector<double>{30000, 30000, -30000, 0, -inf, 0, -inf, -inf, 7});  // [3, 3]
  guarded<S, 2, B> y(shape);                                                         // [3, 3]
  softmax_forward(context, y.view(), x.view());
  CHECK(within(y.view(), {0.5, 0.5, 0, 0.5, 0, 0.5, 0, 0, 1}, 0.0));
}

TEST_CASE_TEMPLATE_DEFINE("softmax_forward gives zero for terms that are no normal numbers",
                          Case,
                          small_terms) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double edge = std::log(std::numeric_limits<accumulate_t<S>>::min());
  const guarded<S, 2, B> x(dims<2>(1, 3), std::vector<double>{0, edge - 2, edge + 2});  // [1, 3]
  guarded<S, 2, B> y(dims<2>(1, 3));                                                    // [1, 3]
  softmax_forward(context, y.view(), x.view());
  CHECK(static_cast<double>(y.view()(0, 1)) == 0);
  CHECK(static_cast<double>(y.view()(0, 2)) > 0);
}

TEST_CASE_TEMPLATE_DEFINE(
    "a row with NaN or +inf, or with nothing but -inf, becomes NaN, and no other row",
    Case,
    nan_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t C : {2, 5, 40, 3000}) {
    const dims<2> shape(5, C);
    auto numbers = uniform(shape.count(), 3);
    numbers[static_cast<std::size_t>(0 * C)] = not_a_number;
    numbers[static_cast<std::size_t>(2 * C - 1)] = not_a_number;
    numbers[static_cast<std::size_t>(3 * C - 1)] = inf;
    std::fill_n(numbers.begin() + 3 * C, C, -inf);
    const guarded<S, 2, B> x(shape, numbers);  // [5, C]
    guarded<S, 2, B> y(shape);                 // [5, C]
    softmax_forward(context, y.view(), x.view());
    for (index_t c = 0; c < C; ++c) {
      for (index_t row = 0; row < 4; ++row) {
        CHECK(std::isnan(static_cast<float>(y.view()(row, c))));
      }
      CHECK(std::isfinite(static_cast<float>(y.view()(4, c))));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "the bits of a row of softmax do not depend on the rows beside it, on strides or on who "
    "computes it",
    Case,
    invariance) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t N = 203;
  for (const index_t C : {45, 64}) {
    const auto numbers = uniform(N * C, 4, -3, 3);
    const guarded<S, 2, B> x(dims<2>(N, C), {2 * C, 2}, numbers);  // [N, C] stride (2C, 2)
    const guarded<S, 2, B> side_by_side(dims<2>(N, C), numbers);   // [N, C]
    const guarded<S, 2, B> g(dims<2>(N, C), uniform(N * C, 5));    // [N, C]
    auto one = testing<B>::make_context();
    guarded<S, 2, B> y(dims<2>(N, C)), dx(dims<2>(N, C));  // [N, C]
    for (index_t n = 0; n < N; ++n) {
      softmax_forward(one, y.view().slice(0, n, 1), x.view().slice(0, n, 1));
      softmax_backward(
          one, dx.view().slice(0, n, 1), g.view().slice(0, n, 1), y.view().slice(0, n, 1));
    }
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      guarded<S, 2, B> all(dims<2>(N, C), {1, N}), gradient(dims<2>(N, C));  // all stride (1, N)
      guarded<S, 2, B> again(dims<2>(N, C)), again_gradient(dims<2>(N, C));  // [N, C]
      softmax_forward(context, all.view(), x.view());
      softmax_backward(context, gradient.view(), g.view(), all.view());
      softmax_forward(context, again.view(), side_by_side.view());
      softmax_backward(context, again_gradient.view(), g.view(), again.view());
      CHECK(same_bits(all.view(), y.view()));
      CHECK(same_bits(gradient.view(), dx.view()));
      CHECK(same_bits(again.view(), y.view()));
      CHECK(same_bits(again_gradient.view(), dx.view()));
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("softmax_backward matches the reference in any layout, also in place",
                          Case,
                          backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const index_t C = shape[1];
    const guarded<S, 2, B> y(shape, reference::softmax(normal(shape.count(), 6), C));  // [N, C]
    const guarded<S, 2, B> dy(shape, strides, normal(shape.count(), 7));               // [N, C]
    guarded<S, 2, B> dx(shape, strides);                                               // [N, C]
    softmax_backward(context, dx.view(), dy.view(), y.view());
    const auto p = values(y.view()), g = values(dy.view());
    // The reference's formula with 1 for the sum of y, which after rounding y is not quite 1.
    std::vector<double> expected, bound;
    double dot = 0, magnitude = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const auto width = static_cast<std::size_t>(C);
      if (i % width == 0) {
        dot = magnitude = 0;
        for (std::size_t j = i; j < i + width; ++j) {
          dot += p[j] * g[j];
          magnitude += std::abs(p[j] * g[j]);
        }
      }
      const double u = unit_roundoff<accumulate_t<S>>;
      const double error =
          p[i] * (dot_bound(C, u, magnitude) + gamma(3, u) * (std::abs(g[i]) + magnitude));
      expected.push_back(p[i] * (g[i] - dot));
      bound.push_back(stored_bound<S>(expected.back(), error));
    }
    CHECK(within(dx.view(), expected, bound));
    CHECK(dx.intact());
    guarded<S, 2, B> over_dy(shape, g), over_y(shape, p);  // [N, C]
    softmax_backward(context, over_dy.view(), over_dy.view(), y.view());
    softmax_backward(context, over_y.view(), dy.view(), over_y.view());
    CHECK(same_bits(over_dy.view(), dx.view()));
    CHECK(same_bits(over_y.view(), dx.view()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("softmax_backward is the gradient of softmax_forward", Case, gradients) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const index_t C : {1, 5, 13}) {
    const dims<2> shape(3, C);
    const auto start = normal(shape.count(), 8), weights = normal(shape.count(), 9);
    const auto loss_of = [&](const std::vector<double>& y) {
      double loss = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        loss += weights[i] * y[i];
      }
      return loss;
    };
    const guarded<double, 2, B> x(shape, start), dy(shape, weights);  // [3, C]
    guarded<double, 2, B> y(shape), dx(shape);                        // [3, C]
    softmax_forward(context, y.view(), x.view());
    softmax_backward(context, dx.view(), dy.view(), y.view());
    const auto reference_loss = [&](std::span<const double> at) {
      return loss_of(reference::softmax(at, C));
    };
    const auto own_loss = [&](std::span<const double> at) {
      const guarded<double, 2, B> point(shape,
                                        std::vector<double>(at.begin(), at.end()));  // [3, C]
      guarded<double, 2, B> result(shape);                                           // [3, C]
      softmax_forward(context, result.view(), point.view());
      return loss_of(values(result.view()));
    };
    CHECK(gradient_matches(reference_loss, start, values(dx.view())));
    CHECK(gradient_matches(own_loss, start, values(dx.view())));
    CHECK(gradient_matches(reference_loss,
                           start,
                           reference::softmax_gradient(weights, reference::softmax(start, C), C)));
  }
}

TEST_CASE_TEMPLATE_DEFINE("softmax operations reject wrong shapes and leave the output alone",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(64);
  guarded<float, 2, B> y(dims<2>(2, 3));                             // [2, 3]
  const guarded<float, 2, B> x(dims<2>(2, 3), uniform(6, 10));       // [2, 3]
  const guarded<float, 2, B> turned(dims<2>(3, 2), uniform(6, 11));  // [3, 2]
  CHECK_THROWS_WITH_AS(softmax_forward(context, y.view(), turned.view()),
                       "softmax_forward: expected x of shape [2, 3], got [3, 2]",
                       error);
  CHECK_THROWS_AS(softmax_backward(context, y.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(softmax_backward(context, y.view(), x.view(), turned.view()), error);
  CHECK(y.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(overflow, cases);
TEST_CASE_TEMPLATE_APPLY(small_terms, cases);
TEST_CASE_TEMPLATE_APPLY(nan_rows, cases);
TEST_CASE_TEMPLATE_APPLY(invariance, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::softmax

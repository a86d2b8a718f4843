#include "mtp/ops/softmax.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/reference/softmax.hpp"
#include "support/tolerance.hpp"

using namespace mtp;
using test::guarded;
using test::layout;
using test::same_bits;
using test::stored_bound;
using test::unit_roundoff;
using test::values;
using test::within;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Rows around a vector and a block of a sum; contiguous, with gaps, transposed.
const std::vector<layout>& layouts() {
  static const std::vector<layout> all{{{1, 1}, {1, 1}},
                                       {{3, 7}, {7, 1}},
                                       {{4, 16}, {19, 1}},
                                       {{5, 17}, {1, 5}},
                                       {{2, 33}, {99, 3}},
                                       {{0, 4}, {4, 1}},
                                       {{4, 0}, {1, 1}},
                                       {{2, 1030}, {1030, 1}},
                                       {{700, 31}, {31, 1}}};
  return all;
}

// Relative error of exp(x - m) / sum: the difference is rounded (an error of up to |x - m| u in the
// exponent), exp itself is off by 8 u at most, the sum of positive terms by what its terms are and
// its roundings, then the division. Below the smallest normal number results become zero.
template <class S>
std::vector<double> softmax_bound(const std::vector<double>& y, index_t C, double spread) {
  using real_type = accumulate_t<S>;
  const double relative = test::gamma(2 * (spread + 8) + 80 + 1 + static_cast<double>(C) / 1024,
                                      unit_roundoff<real_type>);
  std::vector<double> bound;
  for (const double value : y) {
    bound.push_back(
        stored_bound<S>(value, relative * value + 2 * std::numeric_limits<real_type>::min()));
  }
  return bound;
}

template <class Real>
Real exponential_of(Real value) {
  Real result[static_cast<std::size_t>(cpu_detail::lanes<Real>)];
  cpu_detail::store<Real>(result,
                          cpu_detail::exponential<Real>(cpu_detail::broadcast<Real>(value)));
  return result[0];
}

}  // namespace

TEST_CASE_TEMPLATE("exponential is accurate, ends near zero and keeps NaN", S, float, double) {
  for (const double x : test::uniform(1000, 1, -80, 80)) {
    const S rounded = static_cast<S>(x);
    const double expected = std::exp(static_cast<double>(rounded));
    REQUIRE(within({static_cast<double>(exponential_of(rounded))},
                   {expected},
                   8 * unit_roundoff<S> * expected));
  }
  CHECK(exponential_of(S{0}) == 1);
  CHECK(std::isnan(exponential_of(std::numeric_limits<S>::quiet_NaN())));
  CHECK(exponential_of(-std::numeric_limits<S>::infinity()) < 2 * std::numeric_limits<S>::min());
  CHECK(exponential_of(std::numeric_limits<S>::lowest()) < 2 * std::numeric_limits<S>::min());
}

TEST_CASE_TEMPLATE("softmax_forward matches the reference in any layout", S, double, float, bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 20});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2> x(shape, strides, test::uniform(shape.count(), 2, -10, 10));  // [N, C]
    guarded<S, 2> y(shape);                                                           // [N, C]
    softmax_forward(context, y.view(), x.view());
    const auto expected = reference::softmax(values(x.view()), shape[1]);
    CHECK(within(y.view(), expected, softmax_bound<S>(expected, shape[1], 20)));
    CHECK(y.intact());
    guarded<S, 2> in_place(shape, strides, values(x.view()));  // [N, C]
    softmax_forward(context, in_place.view(), in_place.view());
    CHECK(same_bits(in_place.view(), y.view()));
    CHECK(in_place.intact());
  }
}

TEST_CASE_TEMPLATE(
    "softmax_forward does not overflow, and -inf becomes exactly zero", S, double, float, bf16) {
  cpu_context context({.threads = 1, .workspace_bytes = 1 << 16});
  const dims<2> shape(3, 3);
  const guarded<S, 2> x(shape,
                        std::vector<double>{30000,
                                            30000,
                                            -30000,  //
                                            0,
                                            -inf,
                                            0,  //
                                            -inf,
                                            -inf,
                                            7});  // [3, 3]
  guarded<S, 2> y(shape);                         // [3, 3]
  softmax_forward(context, y.view(), x.view());
  CHECK(within(y.view(), {0.5, 0.5, 0, 0.5, 0, 0.5, 0, 0, 1}, 0.0));
}

TEST_CASE_TEMPLATE(
    "a row with NaN or +inf, or with nothing but -inf, becomes NaN, and no other row",
    S,
    double,
    float,
    bf16) {
  cpu_context context({.threads = 1, .workspace_bytes = 1 << 16});
  for (const index_t C : {2, 5, 40}) {
    const dims<2> shape(5, C);
    auto numbers = test::uniform(shape.count(), 3);
    numbers[static_cast<std::size_t>(0 * C)] = not_a_number;
    numbers[static_cast<std::size_t>(2 * C - 1)] = not_a_number;
    numbers[static_cast<std::size_t>(3 * C - 1)] = inf;
    std::fill_n(numbers.begin() + 3 * C, C, -inf);
    const guarded<S, 2> x(shape, numbers);  // [5, C]
    guarded<S, 2> y(shape);                 // [5, C]
    softmax_forward(context, y.view(), x.view());
    for (index_t c = 0; c < C; ++c) {
      for (index_t row = 0; row < 4; ++row) {
        CHECK(std::isnan(static_cast<float>(y.view()(row, c))));
      }
      CHECK(std::isfinite(static_cast<float>(y.view()(4, c))));
    }
  }
}

TEST_CASE(
    "the bits of a row of softmax do not depend on the rows beside it, on strides or on threads") {
  const index_t N = 203, C = 45;
  const auto numbers = test::uniform(N * C, 4, -3, 3);
  const guarded<float, 2> x(dims<2>(N, C), {2 * C, 2}, numbers);      // [N, C] stride (2C, 2)
  const guarded<float, 2> g(dims<2>(N, C), test::uniform(N * C, 5));  // [N, C]
  cpu_context one({.threads = 1, .workspace_bytes = 1 << 20});
  guarded<float, 2> y(dims<2>(N, C)), dx(dims<2>(N, C));  // [N, C]
  for (index_t n = 0; n < N; ++n) {
    softmax_forward(one, y.view().slice(0, n, 1), x.view().slice(0, n, 1));
    softmax_backward(
        one, dx.view().slice(0, n, 1), g.view().slice(0, n, 1), y.view().slice(0, n, 1));
  }
  for (int threads = 1; threads <= 4; ++threads) {
    cpu_context several({.threads = threads, .workspace_bytes = 1 << 20});
    guarded<float, 2> all(dims<2>(N, C), {1, N}),
        gradient(dims<2>(N, C));  // [N, C], all stride (1, N)
    softmax_forward(several, all.view(), x.view());
    softmax_backward(several, gradient.view(), g.view(), all.view());
    CHECK(same_bits(all.view(), y.view()));
    CHECK(same_bits(gradient.view(), dx.view()));
  }
}

TEST_CASE_TEMPLATE(
    "softmax_backward matches the reference in any layout, also in place", S, double, float, bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 20});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const index_t C = shape[1];
    const guarded<S, 2> y(shape, reference::softmax(test::normal(shape.count(), 6), C));  // [N, C]
    const guarded<S, 2> dy(shape, strides, test::normal(shape.count(), 7));               // [N, C]
    guarded<S, 2> dx(shape, strides);                                                     // [N, C]
    softmax_backward(context, dx.view(), dy.view(), y.view());
    const auto p = values(y.view()), g = values(dy.view());
    // The reference's formula with 1 for the sum of y, which after rounding y is not quite 1.
    std::vector<double> expected, bound;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const std::size_t row = i - i % static_cast<std::size_t>(C);
      double dot = 0, magnitude = 0;
      for (std::size_t j = row; j < row + static_cast<std::size_t>(C); ++j) {
        dot += p[j] * g[j];
        magnitude += std::abs(p[j] * g[j]);
      }
      const double u = unit_roundoff<accumulate_t<S>>;
      const double error = p[i] * (test::dot_bound(C, u, magnitude) +
                                   test::gamma(3, u) * (std::abs(g[i]) + magnitude));
      expected.push_back(p[i] * (g[i] - dot));
      bound.push_back(stored_bound<S>(expected.back(), error));
    }
    CHECK(within(dx.view(), expected, bound));
    CHECK(dx.intact());
    guarded<S, 2> over_dy(shape, g), over_y(shape, p);  // [N, C]
    softmax_backward(context, over_dy.view(), over_dy.view(), y.view());
    softmax_backward(context, over_y.view(), dy.view(), over_y.view());
    CHECK(same_bits(over_dy.view(), dx.view()));
    CHECK(same_bits(over_y.view(), dx.view()));
  }
}

TEST_CASE("softmax_backward is the gradient of softmax_forward") {
  cpu_context context({.threads = 1, .workspace_bytes = 1 << 20});
  for (const index_t C : {1, 5, 13}) {
    const dims<2> shape(3, C);
    const auto start = test::normal(shape.count(), 8), weights = test::normal(shape.count(), 9);
    const auto loss_of = [&](const std::vector<double>& y) {
      double loss = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        loss += weights[i] * y[i];
      }
      return loss;
    };
    const guarded<double, 2> x(shape, start), dy(shape, weights);  // [3, C]
    guarded<double, 2> y(shape), dx(shape);                        // [3, C]
    softmax_forward(context, y.view(), x.view());
    softmax_backward(context, dx.view(), dy.view(), y.view());
    const auto reference_loss = [&](std::span<const double> at) {
      return loss_of(reference::softmax(at, C));
    };
    const auto own_loss = [&](std::span<const double> at) {
      const guarded<double, 2> point(shape, std::vector<double>(at.begin(), at.end()));  // [3, C]
      guarded<double, 2> result(shape);                                                  // [3, C]
      softmax_forward(context, result.view(), point.view());
      return loss_of(values(result.view()));
    };
    CHECK(test::gradient_matches(reference_loss, start, values(dx.view())));
    CHECK(test::gradient_matches(own_loss, start, values(dx.view())));
    CHECK(test::gradient_matches(
        reference_loss,
        start,
        reference::softmax_gradient(weights, reference::softmax(start, C), C)));
  }
}

TEST_CASE("wrong shapes and too little workspace throw and leave the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 64});
  guarded<float, 2> y(dims<2>(2, 3));                                   // [2, 3]
  const guarded<float, 2> x(dims<2>(2, 3), test::uniform(6, 10));       // [2, 3]
  const guarded<float, 2> turned(dims<2>(3, 2), test::uniform(6, 11));  // [3, 2]
  CHECK_THROWS_WITH_AS(softmax_forward(context, y.view(), turned.view()),
                       "softmax_forward: expected x of shape [2, 3], got [3, 2]",
                       error);
  CHECK_THROWS_AS(softmax_backward(context, y.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(softmax_backward(context, y.view(), x.view(), turned.view()), error);
  CHECK(y.untouched());
  guarded<float, 2> wide(dims<2>(1, 1000), test::uniform(1000, 12));  // [1, 1000]
  CHECK_THROWS_AS(softmax_forward(context, wide.view(), wide.view()), error);
  CHECK(wide.untouched());
  CHECK(context.workspace().used() == 0);
}

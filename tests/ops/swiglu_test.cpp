// Gated activations and their gradients against the reference.
#include "mtp/ops/swiglu.hpp"

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
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/swiglu.hpp"
#include "support/tolerance.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;

struct gate_sizes {
  index_t N, F;
};

const gate_sizes sizes[] = {{1, 1},
                            {2, 3},
                            {3, 7},
                            {5, 8},
                            {4, 9},
                            {3, 15},
                            {2, 16},
                            {3, 17},
                            {2, 31},
                            {3, 32},
                            {13, 33},
                            {2, 257},
                            {0, 4},
                            {50, 101}};

template <class S>
guarded<S, 2> random_rows(index_t N, index_t C, std::uint64_t stream, double deviation = 3) {
  return {dims<2>{N, C}, strides(C + 3, 1), normal(N * C, stream, deviation)};
}

/// The sigmoid is the inverse of 1 + exp: exp within four roundings, then three more. Where it
/// is below the smallest normal number, so is its error.
template <class S>
double sigmoid_error(double g) {
  return gamma(8, unit_roundoff<S>) * reference::sigmoid(g) +
         static_cast<double>(std::numeric_limits<S>::min());
}
template <class S>
double silu_error(double g) {
  return std::abs(g) * sigmoid_error<S>(g) +
         gamma(1, unit_roundoff<S>) * std::abs(reference::silu(g));
}
/// s (1 + g (1 - s)): the errors of s, of 1 - s (not small even where 1 - s is), and three
/// roundings.
template <class S>
double silu_slope_error(double g) {
  const double s = reference::sigmoid(g), ds = sigmoid_error<S>(g), u = unit_roundoff<S>;
  const double factor = 1 + std::abs(g) * (1 - s);
  return ds * factor + s * std::abs(g) * (ds + u) + gamma(3, u) * s * factor;
}

TEST_CASE_TEMPLATE("swiglu_forward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const gate_sizes& s : sizes) {
    const index_t N = s.N, F = s.F;
    for (const double deviation : {3.0, 200.0}) {
      CAPTURE(N);
      CAPTURE(F);
      CAPTURE(deviation);
      auto gate_up = random_rows<S>(N, 2 * F, 1, deviation);
      guarded<S, 2> y(dims<2>{N, F}, strides(F + 2, 1));
      swiglu_forward(context, y.view(), gate_up.view());
      const array<2> x = array_of(gate_up.view());
      const array<2> expected = reference::swiglu_forward(x);
      array<2> bound(expected.sizes);
      for (index_t n = 0; n < N; ++n) {
        for (index_t f = 0; f < F; ++f) {
          bound(n, f) =
              stored_bound<S>(expected(n, f), silu_error<S>(x(n, f)) * std::abs(x(n, F + f)));
        }
      }
      CHECK(within(y.view(), expected.elements, bound.elements));
      CHECK(y.intact());
      CHECK(gate_up.untouched());
    }
  }
}

TEST_CASE_TEMPLATE("swiglu_backward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const gate_sizes& s : sizes) {
    const index_t N = s.N, F = s.F;
    for (const double deviation : {3.0, 200.0}) {
      CAPTURE(N);
      CAPTURE(F);
      CAPTURE(deviation);
      auto gate_up = random_rows<S>(N, 2 * F, 1, deviation);
      auto dy = random_rows<S>(N, F, 2);
      guarded<S, 2> d_gate_up(dims<2>{N, 2 * F}, strides(2 * F + 3, 1));
      swiglu_backward(context, d_gate_up.view(), dy.view(), gate_up.view());
      const array<2> x = array_of(gate_up.view()), d = array_of(dy.view());
      const array<2> expected = reference::swiglu_backward(d, x);
      array<2> bound(expected.sizes);
      for (index_t n = 0; n < N; ++n) {
        for (index_t f = 0; f < F; ++f) {
          const double g = x(n, f), du = std::abs(d(n, f) * x(n, F + f));
          bound(n, f) = du * silu_slope_error<S>(g) +
                        gamma(2, unit_roundoff<S>) * du *
                            (std::abs(reference::silu_slope(g)) + silu_slope_error<S>(g)) +
                        smallest_number<S>;
          bound(n, F + f) =
              stored_bound<S>(expected(n, F + f), std::abs(d(n, f)) * silu_error<S>(g));
        }
      }
      CHECK(within(d_gate_up.view(), expected.elements, bound.elements));
      CHECK(d_gate_up.intact());

      swiglu_backward(context, gate_up.view(), dy.view(), gate_up.view());
      CHECK(same_bits(gate_up.view(), d_gate_up.view()));
      CHECK(gate_up.intact());
    }
  }
}

TEST_CASE_TEMPLATE("silu_residual operations match the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const gate_sizes& s : sizes) {
    const index_t N = s.N, C = s.F;
    CAPTURE(N);
    CAPTURE(C);
    auto x = random_rows<S>(N, C, 1), u = random_rows<S>(N, C, 2), dy = random_rows<S>(N, C, 3);
    const array<2> xs = array_of(x.view()), us = array_of(u.view()), dys = array_of(dy.view());
    guarded<S, 2> y(dims<2>{N, C}, strides(C + 3, 1)), du(dims<2>{N, C}, strides(C + 3, 1));
    silu_residual_forward(context, y.view(), x.view(), u.view());
    silu_residual_backward(context, du.view(), dy.view(), u.view());
    const array<2> sum = reference::silu_residual_forward(xs, us);
    const array<2> slopes = reference::silu_residual_backward(dys, us);
    std::vector<double> sum_bound, slope_bound;
    for (std::size_t i = 0; i < sum.elements.size(); ++i) {
      const double at = us.elements[i];
      sum_bound.push_back(stored_bound<S>(sum.elements[i], silu_error<S>(at)));
      slope_bound.push_back(
          stored_bound<S>(slopes.elements[i], std::abs(dys.elements[i]) * silu_slope_error<S>(at)));
    }
    CHECK(within(y.view(), sum.elements, sum_bound));
    CHECK(within(du.view(), slopes.elements, slope_bound));
    CHECK(y.intact());
    CHECK(du.intact());

    silu_residual_forward(context, x.view(), x.view(), u.view());
    CHECK(same_bits(x.view(), y.view()));
    CHECK(x.intact());
    silu_residual_backward(context, u.view(), dy.view(), u.view());
    CHECK(same_bits(u.view(), du.view()));
    CHECK(u.intact());
  }
}

TEST_CASE("gradients of gated activations match differences of the forward operations") {
  cpu_context context({.threads = 2});
  for (const gate_sizes& s : {gate_sizes{3, 5}, gate_sizes{9, 67}}) {
    const index_t N = s.N, F = s.F;
    auto gate_up = random_rows<double>(N, 2 * F, 1, 1), dy = random_rows<double>(N, F, 2, 1);
    const array<2> dys = array_of(dy.view());
    guarded<double, 2> y(dims<2>{N, F}), d_gate_up(dims<2>{N, 2 * F});
    swiglu_backward(context, d_gate_up.view(), dy.view(), gate_up.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 2> moved(dims<2>{N, 2 * F}, std::vector<double>(at.begin(), at.end()));
          swiglu_forward(context, y.view(), moved.view());
          return reference::inner(dys, array_of(y.view()));
        },
        values(gate_up.view()),
        values(d_gate_up.view())));

    auto x = random_rows<double>(N, F, 3, 1), u = random_rows<double>(N, F, 4, 1);
    guarded<double, 2> du(dims<2>{N, F});
    silu_residual_backward(context, du.view(), dy.view(), u.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 2> moved(dims<2>{N, F}, std::vector<double>(at.begin(), at.end()));
          silu_residual_forward(context, y.view(), x.view(), moved.view());
          return reference::inner(dys, array_of(y.view()));
        },
        values(u.view()),
        values(du.view())));
  }
}

TEST_CASE_TEMPLATE(
    "gated activations give a row the same bits among any number of rows and threads",
    S,
    float,
    double) {
  cpu_context one({.threads = 1});
  const index_t N = 200, F = 333;
  auto gate_up = random_rows<S>(N, 2 * F, 1), dy = random_rows<S>(N, F, 2);
  const auto run = [&](cpu_context& context, index_t first, index_t M) {
    const auto gates = gate_up.view().slice(0, first, M);
    const auto up = gates.slice(1, F, F), gradient = dy.view().slice(0, first, M);
    guarded<S, 2> y(dims<2>{M, F}), d_gate_up(dims<2>{M, 2 * F}), sum(dims<2>{M, F});
    guarded<S, 2> du(dims<2>{M, F});
    swiglu_forward(context, y.view(), gates);
    swiglu_backward(context, d_gate_up.view(), gradient, gates);
    silu_residual_forward(context, sum.view(), up, gradient);
    silu_residual_backward(context, du.view(), up, gradient);
    std::vector<S> all;
    for (index_t m = 0; m < M; ++m) {
      for (const auto row : {y.view().select(0, m),
                             d_gate_up.view().select(0, m),
                             sum.view().select(0, m),
                             du.view().select(0, m)}) {
        all = join(std::move(all), elements(row));
      }
    }
    return all;
  };
  std::vector<S> alone;
  for (index_t m = 0; m < N; ++m) {
    alone = join(std::move(alone), run(one, m, 1));
  }
  for (int threads = 1; threads <= 4; ++threads) {
    cpu_context context({.threads = threads});
    CHECK(same_bits(run(context, 0, N), alone));
    for (index_t M = 1; M <= 17; ++M) {
      CAPTURE(M);
      CHECK(
          same_bits(run(context, 0, M), std::vector<S>(alone.begin(), alone.begin() + M * 5 * F)));
    }
  }
}

TEST_CASE_TEMPLATE("gated activations show NaN where it stands and nowhere else",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 1});
  const index_t F = 37;
  for (const index_t at : {index_t{0}, index_t{36}}) {
    auto gate_up = random_rows<S>(1, 2 * F, 1), x = random_rows<S>(1, F, 2);
    gate_up.view()(0, at) = std::numeric_limits<S>::quiet_NaN();
    const auto gate = gate_up.view().slice(1, 0, F);
    guarded<S, 2> y(dims<2>{1, F}), d_gate_up(dims<2>{1, 2 * F}), sum(dims<2>{1, F});
    guarded<S, 2> du(dims<2>{1, F});
    swiglu_forward(context, y.view(), gate_up.view());
    swiglu_backward(context, d_gate_up.view(), x.view(), gate_up.view());
    silu_residual_forward(context, sum.view(), x.view(), gate);
    silu_residual_backward(context, du.view(), x.view(), gate);
    for (index_t f = 0; f < F; ++f) {
      for (const S value : {y.view()(0, f),
                            d_gate_up.view()(0, f),
                            d_gate_up.view()(0, F + f),
                            sum.view()(0, f),
                            du.view()(0, f)}) {
        CHECK(std::isnan(static_cast<double>(value)) == (f == at));
      }
    }
  }
}

TEST_CASE("gated activations reject wrong shapes and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  guarded<S, 2> gate_up(dims<2>{4, 6}, uniform(24, 1)), odd(dims<2>{4, 7}, uniform(28, 1));
  guarded<S, 2> dy(dims<2>{4, 3}, uniform(12, 2)), longer(dims<2>{5, 3}, uniform(15, 2));
  guarded<S, 2> y(dims<2>{4, 3}), d_gate_up(dims<2>{4, 6}), spread(dims<2>{4, 3}, strides(6, 2));
  guarded<S, 2> spread_gates(dims<2>{4, 6}, strides(12, 2));
  CHECK(rejects("swiglu_forward", [&] { swiglu_forward(context, y.view(), odd.view()); }));
  CHECK(rejects("swiglu_forward", [&] { swiglu_forward(context, longer.view(), gate_up.view()); }));
  CHECK(rejects("swiglu_forward", [&] { swiglu_forward(context, spread.view(), gate_up.view()); }));
  CHECK(rejects("swiglu_forward", [&] { swiglu_forward(context, y.view(), spread_gates.view()); }));
  const auto backward = [&](auto d_gate_up_, auto dy_, auto gate_up_) {
    return rejects("swiglu_backward", [&] { swiglu_backward(context, d_gate_up_, dy_, gate_up_); });
  };
  CHECK(backward(d_gate_up.view(), dy.view(), odd.view()));
  CHECK(backward(odd.view(), dy.view(), gate_up.view()));
  CHECK(backward(d_gate_up.view(), longer.view(), gate_up.view()));
  CHECK(backward(d_gate_up.view(), spread.view(), gate_up.view()));
  CHECK(backward(spread_gates.view(), dy.view(), gate_up.view()));
  CHECK(backward(d_gate_up.view(), dy.view(), spread_gates.view()));
  const auto residual = [&](auto a, auto b, auto c) {
    CHECK(rejects("silu_residual_forward", [&] { silu_residual_forward(context, a, b, c); }));
    CHECK(rejects("silu_residual_backward", [&] { silu_residual_backward(context, a, b, c); }));
  };
  residual(y.view(), longer.view(), dy.view());
  residual(y.view(), dy.view(), longer.view());
  residual(spread.view(), dy.view(), dy.view());
  residual(y.view(), spread.view(), dy.view());
  residual(y.view(), dy.view(), spread.view());
  CHECK(y.untouched());
  CHECK(d_gate_up.untouched());
  CHECK(spread.untouched());
  CHECK(spread_gates.untouched());
  CHECK(odd.untouched());
  CHECK(longer.untouched());
  CHECK(gate_up.untouched());
}

}  // namespace

// Gated activations and their gradients against the reference. Who includes this says for which
// cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/ops/swiglu.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/swiglu.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::swiglu {

using reference::array;
using reference::array_of;

struct gate_sizes {
  index_t N, F, gap;  // gap: elements between rows
};

// Around the widths of vectors and packs; rows in packs and not, wider than a block takes at once.
inline const gate_sizes sizes[] = {{1, 1, 3},
                                   {2, 3, 3},
                                   {3, 7, 3},
                                   {5, 8, 3},
                                   {4, 9, 3},
                                   {3, 15, 3},
                                   {2, 16, 16},
                                   {3, 17, 3},
                                   {2, 31, 3},
                                   {3, 32, 0},
                                   {13, 33, 3},
                                   {5, 72, 8},
                                   {2, 257, 3},
                                   {0, 4, 3},
                                   {50, 101, 3},
                                   {2, 4104, 8},
                                   {2, 4099, 1}};

template <class S, class B>
guarded<S, 2, B> random_rows(
    index_t N, index_t C, index_t gap, std::uint64_t stream, double deviation = 3) {
  return {dims<2>{N, C}, strides(C + gap, 1), normal(N * C, stream, deviation)};
}

/// The sigmoid is the inverse of 1 + exp: exp within four roundings, then three more. With bf16, a
/// device takes its own power of 2, within four roundings as well but with an exponent that is
/// rounded, by a factor that is: |g| roundings and a quarter; and its own division, within four.
/// Where the sigmoid is below the smallest normal number, so is its error.
template <class S>
double sigmoid_error(double g) {
  using A = accumulate_t<S>;
  const double roundings = 8 + (std::is_same_v<S, bf16> ? 2 * std::abs(g) + 4 : 0);
  return gamma(roundings, unit_roundoff<A>) * reference::sigmoid(g) +
         static_cast<double>(std::numeric_limits<A>::min());
}
template <class S>
double silu_error(double g) {
  return std::abs(g) * sigmoid_error<S>(g) +
         gamma(1, unit_roundoff<accumulate_t<S>>) * std::abs(reference::silu(g));
}
/// s (1 + g (1 - s)): the errors of s, of 1 - s (not small even where 1 - s is), and three
/// roundings.
template <class S>
double silu_slope_error(double g) {
  const double s = reference::sigmoid(g), ds = sigmoid_error<S>(g);
  const double u = unit_roundoff<accumulate_t<S>>;
  const double factor = 1 + std::abs(g) * (1 - s);
  return ds * factor + s * std::abs(g) * (ds + u) + gamma(3, u) * s * factor;
}

/// The error of d_gate = dy u silu'(g) for `du` = dy u: that of the slope, and two products. Stored
/// as bf16 it is rounded once more.
template <class S>
double gate_bound(double du, double g) {
  const double slope = reference::silu_slope(g), slope_error = silu_slope_error<S>(g);
  const double error = std::abs(du) * slope_error + gamma(2, unit_roundoff<accumulate_t<S>>) *
                                                        std::abs(du) *
                                                        (std::abs(slope) + slope_error);
  return std::is_same_v<S, bf16> ? stored_bound<S>(du * slope, error) : error + smallest_number<S>;
}

TEST_CASE_TEMPLATE_DEFINE("swiglu_forward matches the reference", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const gate_sizes& s : sizes) {
    const index_t N = s.N, F = s.F;
    for (const double deviation : {3.0, 200.0}) {
      CAPTURE(N);
      CAPTURE(F);
      CAPTURE(deviation);
      auto gate_up = random_rows<S, B>(N, 2 * F, s.gap, 1, deviation);
      guarded<S, 2, B> y(dims<2>{N, F}, strides(F + s.gap, 1));
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

TEST_CASE_TEMPLATE_DEFINE("swiglu_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const gate_sizes& s : sizes) {
    const index_t N = s.N, F = s.F;
    for (const double deviation : {3.0, 200.0}) {
      CAPTURE(N);
      CAPTURE(F);
      CAPTURE(deviation);
      auto gate_up = random_rows<S, B>(N, 2 * F, s.gap, 1, deviation);
      auto dy = random_rows<S, B>(N, F, s.gap, 2);
      guarded<S, 2, B> d_gate_up(dims<2>{N, 2 * F}, strides(2 * F + s.gap, 1));
      swiglu_backward(context, d_gate_up.view(), dy.view(), gate_up.view());
      const array<2> x = array_of(gate_up.view()), d = array_of(dy.view());
      const array<2> expected = reference::swiglu_backward(d, x);
      array<2> bound(expected.sizes);
      for (index_t n = 0; n < N; ++n) {
        for (index_t f = 0; f < F; ++f) {
          const double g = x(n, f);
          bound(n, f) = gate_bound<S>(d(n, f) * x(n, F + f), g);
          bound(n, F + f) =
              stored_bound<S>(expected(n, F + f), std::abs(d(n, f)) * silu_error<S>(g));
        }
      }
      CHECK(within(d_gate_up.view(), expected.elements, bound.elements));
      CHECK(d_gate_up.intact());
      CHECK(gate_up.untouched());
      CHECK(dy.untouched());

      swiglu_backward(context, gate_up.view(), dy.view(), gate_up.view());
      CHECK(same_bits(gate_up.view(), d_gate_up.view()));
      CHECK(gate_up.intact());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("silu_residual operations match the reference", Case, residual_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const gate_sizes& s : sizes) {
    const index_t N = s.N, C = s.F;
    CAPTURE(N);
    CAPTURE(C);
    auto x = random_rows<S, B>(N, C, s.gap, 1), u = random_rows<S, B>(N, C, s.gap, 2);
    auto dy = random_rows<S, B>(N, C, s.gap, 3);
    const array<2> xs = array_of(x.view()), us = array_of(u.view()), dys = array_of(dy.view());
    guarded<S, 2, B> y(dims<2>{N, C}, strides(C + s.gap, 1));
    guarded<S, 2, B> du(dims<2>{N, C}, strides(C + s.gap, 1));
    silu_residual_forward(context, y.view(), x.view(), u.view());
    silu_residual_backward(context, du.view(), dy.view(), u.view());
    const array<2> sum = reference::silu_residual_forward(xs, us);
    const array<2> slopes = reference::silu_residual_backward(dys, us);
    std::vector<double> sum_bound, slope_bound;
    for (std::size_t i = 0; i < sum.elements.size(); ++i) {
      const double at = us.elements[i];
      // The reference rounds its own sum as well.
      const double sum_error = silu_error<S>(at) + 0x1p-53 * std::abs(sum.elements[i]);
      sum_bound.push_back(stored_bound<S>(sum.elements[i], sum_error));
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

// Where exp(-g) is near the end of the range of f32 and beyond it.
TEST_CASE_TEMPLATE_DEFINE("gated activations are right for large numbers", Case, large_numbers) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  std::vector<double> gates;
  for (const double g : {20.0,
                         60.0,
                         80.0,
                         86.0,
                         87.0,
                         87.5,
                         88.0,
                         88.5,
                         89.0,
                         100.0,
                         103.5,
                         104.0,
                         127.0,
                         128.0,
                         700.0,
                         750.0,
                         10000.0}) {
    gates.push_back(g);
    gates.push_back(-g);
  }
  const auto F = static_cast<index_t>(gates.size());
  guarded<S, 2, B> gate_up(dims<2>{2, F}, join(gates, gates));  // [2, F] with row 1 as u
  guarded<S, 2, B> dy(dims<2>{1, F}, std::vector<double>(gates.size(), 1.5));
  const auto g = gate_up.view().slice(0, 0, 1);
  const auto both = view<S, dims<2>, B>(gate_up.view().data(), {1, 2 * F});
  guarded<S, 2, B> y(dims<2>{1, F}), du(dims<2>{1, F}), d_gate_up(dims<2>{1, 2 * F});
  swiglu_forward(context, y.view(), both);
  swiglu_backward(context, d_gate_up.view(), dy.view(), both);
  silu_residual_backward(context, du.view(), dy.view(), g);
  const array<2> at = array_of(g);
  for (index_t f = 0; f < F; ++f) {
    const double x = at(0, f), silu = reference::silu(x), slope = reference::silu_slope(x);
    CAPTURE(x);
    CHECK(within({static_cast<double>(y.view()(0, f))},
                 {silu * x},
                 stored_bound<S>(silu * x, silu_error<S>(x) * std::abs(x))));
    CHECK(within({static_cast<double>(d_gate_up.view()(0, f))},
                 {1.5 * x * slope},
                 gate_bound<S>(1.5 * x, x)));
    CHECK(within({static_cast<double>(d_gate_up.view()(0, F + f))},
                 {1.5 * silu},
                 stored_bound<S>(1.5 * silu, 1.5 * silu_error<S>(x))));
    CHECK(within({static_cast<double>(du.view()(0, f))},
                 {1.5 * slope},
                 stored_bound<S>(1.5 * slope, 1.5 * silu_slope_error<S>(x))));
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "gradients of gated activations match differences of the forward operations", Case, gradients) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const gate_sizes& s : {gate_sizes{3, 5, 3}, gate_sizes{9, 67, 3}}) {
    const index_t N = s.N, F = s.F;
    auto gate_up = random_rows<double, B>(N, 2 * F, s.gap, 1, 1);
    auto dy = random_rows<double, B>(N, F, s.gap, 2, 1);
    const array<2> dys = array_of(dy.view());
    guarded<double, 2, B> y(dims<2>{N, F}), d_gate_up(dims<2>{N, 2 * F});
    swiglu_backward(context, d_gate_up.view(), dy.view(), gate_up.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 2, B> moved(dims<2>{N, 2 * F}, std::vector<double>(at.begin(), at.end()));
          swiglu_forward(context, y.view(), moved.view());
          return reference::inner(dys, array_of(y.view()));
        },
        values(gate_up.view()),
        values(d_gate_up.view())));

    auto x = random_rows<double, B>(N, F, s.gap, 3, 1);
    auto u = random_rows<double, B>(N, F, s.gap, 4, 1);
    guarded<double, 2, B> du(dims<2>{N, F});
    silu_residual_backward(context, du.view(), dy.view(), u.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 2, B> moved(dims<2>{N, F}, std::vector<double>(at.begin(), at.end()));
          silu_residual_forward(context, y.view(), x.view(), moved.view());
          return reference::inner(dys, array_of(y.view()));
        },
        values(u.view()),
        values(du.view())));
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "gated activations give a row the same bits among any number of rows, however it is computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto one = testing<B>::make_context();
  const index_t N = 200, F = 333;
  auto gate_up = random_rows<S, B>(N, 2 * F, 3, 1), dy = random_rows<S, B>(N, F, 3, 2);
  const auto run = [&](auto& context, index_t first, index_t M) {
    const auto gates = gate_up.view().slice(0, first, M);
    const auto up = gates.slice(1, F, F), gradient = dy.view().slice(0, first, M);
    guarded<S, 2, B> y(dims<2>{M, F}), d_gate_up(dims<2>{M, 2 * F}), sum(dims<2>{M, F});
    guarded<S, 2, B> du(dims<2>{M, F});
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
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    CHECK(same_bits(run(context, 0, N), alone));
    for (index_t M = 1; M <= 17; ++M) {
      CAPTURE(M);
      CHECK(
          same_bits(run(context, 0, M), std::vector<S>(alone.begin(), alone.begin() + M * 5 * F)));
    }
  });
}

TEST_CASE_TEMPLATE_DEFINE("gated activations show NaN where it stands and nowhere else",
                          Case,
                          not_a_number) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t F = 37;
  for (const index_t at : {index_t{0}, index_t{36}}) {
    auto gate_up = random_rows<S, B>(1, 2 * F, 3, 1), x = random_rows<S, B>(1, F, 3, 2);
    gate_up.view()(0, at) = unwritten<S>();
    const auto gate = gate_up.view().slice(1, 0, F);
    guarded<S, 2, B> y(dims<2>{1, F}), d_gate_up(dims<2>{1, 2 * F}), sum(dims<2>{1, F});
    guarded<S, 2, B> du(dims<2>{1, F});
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

TEST_CASE_TEMPLATE_DEFINE("gated activations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded<S, 2, B> gate_up(dims<2>{4, 6}, uniform(24, 1)), odd(dims<2>{4, 7}, uniform(28, 1));
  guarded<S, 2, B> dy(dims<2>{4, 3}, uniform(12, 2)), longer(dims<2>{5, 3}, uniform(15, 2));
  guarded<S, 2, B> y(dims<2>{4, 3}), d_gate_up(dims<2>{4, 6}), spread(dims<2>{4, 3}, strides(6, 2));
  guarded<S, 2, B> spread_gates(dims<2>{4, 6}, strides(12, 2));
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

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(residual_values, cases);
TEST_CASE_TEMPLATE_APPLY(large_numbers, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, one_case);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(not_a_number, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::swiglu

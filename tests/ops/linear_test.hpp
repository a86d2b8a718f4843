// Linear maps and their gradients against the reference. Who includes this says for which cases:
// see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mtp/ops/linear.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/linear.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::linear {

using reference::array;
using reference::array_of;
using reference::magnitude;

struct linear_sizes {
  index_t M, N, K;
};

// Around the widths of vectors, packs and panels, the rows of a tile, the steps that warps share,
// the blocks of rows and of inner size, and rows of A so far apart that the CPU copies them.
inline const linear_sizes sizes[] = {
    {1, 1, 1},     {2, 3, 5},     {3, 15, 7},    {3, 16, 8},     {4, 17, 9},    {1, 31, 16},
    {5, 32, 17},   {6, 33, 31},   {7, 64, 33},   {11, 65, 2},    {12, 127, 37}, {13, 129, 64},
    {12, 15, 257}, {5, 100, 600}, {97, 41, 13},  {130, 70, 259}, {385, 17, 9},  {0, 5, 3},
    {3, 4, 0},     {25, 1, 1},    {3, 20, 1},    {40, 20, 1},    {16, 33, 72},  {17, 33, 72},
    {8, 40, 264},  {9, 40, 520},  {2, 24, 1032}, {25, 270, 512}, {20, 4, 0}};

/// Rows that lie side by side, apart, and exactly a panel of the CPU's weights apart.
template <class S>
std::vector<index_t> row_strides(index_t width) {
  return {width, width + 5, round_up(width, 128 / static_cast<index_t>(sizeof(accumulate_t<S>)))};
}

template <class S, class B>
guarded<S, 2, B> random_rows(index_t rows, index_t columns, index_t stride, std::uint64_t stream) {
  return {dims<2>{rows, columns}, {stride, 1}, uniform(rows * columns, stream)};
}

template <class S, class B>
guarded_weight<S, B> random_weight(index_t N, index_t K, std::uint64_t stream) {
  return {N, K, uniform(N * K, stream)};
}

/// Rounding errors of init + a sum of k products, stored as Y, where `sum` is made of magnitudes.
/// Matrix instructions for bf16 cut off where others round to nearest: twice the error for each.
template <class S, class Y = S, int Rank>
std::vector<double> bounds(index_t k, const array<Rank>& sum, const array<Rank>& value) {
  return result_bounds<Y>(std::is_same_v<S, bf16> ? 2 * (k + 1) : k + 1, sum, value);
}

/// Calls body(M, N, K, stride of x, stride of y) for all sizes and strides, or some of them.
template <class Case, class Body>
void for_all_sizes(const Body& body) {
  using S = typename Case::scalar;
  for (const linear_sizes& s : sizes) {
    const index_t M = s.M, N = s.N, K = s.K;
    for (const std::size_t i :
         some_of<typename Case::backend>(std::array<std::size_t, 3>{1, 0, 2})) {
      const index_t x_stride = row_strides<S>(K)[i], y_stride = row_strides<S>(N)[i];
      CAPTURE(M);
      CAPTURE(N);
      CAPTURE(K);
      CAPTURE(y_stride);
      body(M, N, K, x_stride, y_stride);
    }
  }
}

/// y = x w^T for M rows of K inputs, alone, with a bias and with a residual.
template <class S, class B>
void check_forward(
    context<B>& context, index_t M, index_t N, index_t K, index_t x_stride, index_t y_stride) {
  using A = accumulate_t<S>;
  auto x = random_rows<S, B>(M, K, x_stride, 1);
  auto w = random_weight<S, B>(N, K, 2);
  guarded<S, 1, B> bias(dims<1>{N}, uniform(N, 3));
  auto residual = random_rows<S, B>(M, N, y_stride, 4);
  const array<2> xs = array_of(x.view()), ws = w.rows();
  const array<2> product = reference::linear_forward(xs, ws);
  const array<2> absolute = reference::linear_forward(magnitude(xs), magnitude(ws));

  guarded<S, 2, B> y(dims<2>{M, N}, strides(y_stride, 1));
  linear_forward(context, y.view(), x.view(), w.view());
  CHECK(within(y.view(), product.elements, bounds<S>(K, absolute, product)));
  CHECK(y.intact());

  guarded<A, 2, B> wide(dims<2>{M, N}, strides(y_stride, 1));
  linear_forward(context, wide.view(), x.view(), w.view());
  CHECK(within(wide.view(), product.elements, bounds<S, A>(K, absolute, product)));
  CHECK(wide.intact());

  guarded<S, 2, B> biased(dims<2>{M, N}, strides(y_stride, 1));
  linear_bias_forward(context, biased.view(), x.view(), w.view(), bias.view());
  const array<1> biases = array_of(bias.view());
  const array<2> with_bias = reference::add_bias(product, biases);
  CHECK(within(biased.view(),
               with_bias.elements,
               bounds<S>(K, reference::add_bias(absolute, magnitude(biases)), with_bias)));
  CHECK(biased.intact());

  guarded<S, 2, B> added(dims<2>{M, N}, strides(y_stride, 1));
  const array<2> residuals = array_of(residual.view());
  linear_add_forward(context, added.view(), x.view(), w.view(), residual.view());
  CHECK(within(added.view(),
               (product + residuals).elements,
               bounds<S>(K, absolute + magnitude(residuals), product + residuals)));
  CHECK(added.intact());

  linear_add_forward(context, residual.view(), x.view(), w.view(), residual.view());
  CHECK(same_bits(residual.view(), added.view()));
  CHECK(residual.intact());
  CHECK(x.untouched());
  CHECK(w.untouched());
  CHECK(bias.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("linear forward operations match the reference", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for_all_sizes<Case>([&](index_t M, index_t N, index_t K, index_t x_stride, index_t y_stride) {
    check_forward<S, B>(context, M, N, K, x_stride, y_stride);
  });
  CHECK(workspace_is_idle(context));
}

/// dx, with and without a residual, dw and dbias.
template <class S, class B>
void check_backward(
    context<B>& context, index_t M, index_t N, index_t K, index_t x_stride, index_t y_stride) {
  using A = accumulate_t<S>;
  auto x = random_rows<S, B>(M, K, x_stride, 1);
  auto w = random_weight<S, B>(N, K, 2);
  auto dy = random_rows<S, B>(M, N, y_stride, 3);
  auto residual = random_rows<S, B>(M, K, x_stride, 4);
  const array<2> xs = array_of(x.view()), ws = w.rows(), dys = array_of(dy.view());

  guarded<S, 2, B> dx(dims<2>{M, K}, strides(x_stride, 1));
  linear_backward_input(context, dx.view(), dy.view(), w.view());
  const array<2> product = reference::linear_backward_input(dys, ws);
  const array<2> absolute = reference::linear_backward_input(magnitude(dys), magnitude(ws));
  CHECK(within(dx.view(), product.elements, bounds<S>(N, absolute, product)));
  CHECK(dx.intact());

  guarded<S, 2, B> added(dims<2>{M, K}, strides(x_stride, 1));
  const array<2> residuals = array_of(residual.view());
  linear_add_backward_input(context, added.view(), dy.view(), w.view(), residual.view());
  CHECK(within(added.view(),
               (product + residuals).elements,
               bounds<S>(N, absolute + magnitude(residuals), product + residuals)));
  CHECK(added.intact());
  linear_add_backward_input(context, residual.view(), dy.view(), w.view(), residual.view());
  CHECK(same_bits(residual.view(), added.view()));
  CHECK(residual.intact());

  auto dw = random_weight<A, B>(N, K, 5);
  const array<2> before = dw.rows();
  linear_backward_weight(context, dw.view(), dy.view(), x.view());
  const array<2> sum = before + reference::linear_backward_weight(dys, xs);
  CHECK(within(dw.rows().elements,
               sum.elements,
               bounds<S, A>(M,
                            magnitude(before) +
                                reference::linear_backward_weight(magnitude(dys), magnitude(xs)),
                            sum)));
  CHECK(dw.padding_is_zero());
  CHECK(dw.intact());

  guarded<A, 1, B> dbias(dims<1>{N}, uniform(N, 6));
  const array<1> bias_before = array_of(dbias.view());
  linear_backward_bias(context, dbias.view(), dy.view());
  const array<1> bias_sum = bias_before + reference::linear_backward_bias(dys);
  CHECK(within(
      dbias.view(),
      bias_sum.elements,
      result_bounds<A>(M + 1,
                       magnitude(bias_before) + reference::linear_backward_bias(magnitude(dys)),
                       bias_sum)));
  CHECK(dbias.intact());
  CHECK(x.untouched());
  CHECK(dy.untouched());
  CHECK(w.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("linear gradients match the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for_all_sizes<Case>([&](index_t M, index_t N, index_t K, index_t x_stride, index_t y_stride) {
    check_backward<S, B>(context, M, N, K, x_stride, y_stride);
  });
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_DEFINE("linear_backward_weight leaves padding zero when x or dy is not a number",
                          Case,
                          padding) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  auto x = random_rows<S, B>(5, 3, 3, 1);
  auto dy = random_rows<S, B>(5, 7, 7, 2);
  x.view()(2, 1) = stored<S>(std::numeric_limits<double>::infinity());
  dy.view()(3, 6) = unwritten<S>();
  auto dw = random_weight<A, B>(7, 3, 3);
  linear_backward_weight(context, dw.view(), dy.view(), x.view());
  CHECK(std::isnan(dw.rows()(6, 0)));
  CHECK(std::isfinite(dw.rows()(5, 0)));
  CHECK(dw.padding_is_zero());
  CHECK(dw.intact());
}

TEST_CASE_TEMPLATE_DEFINE("a row of linear_forward that is not finite leaves the others alone",
                          Case,
                          not_finite) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t N = 19, K = 77;
  auto w = random_weight<S, B>(N, K, 2);
  for (const index_t M : {3, 8, 11, 16}) {
    CAPTURE(M);
    auto x = random_rows<S, B>(M, K, K, 1);
    guarded<S, 2, B> y(dims<2>{M, N}), with_nan(dims<2>{M, N});
    linear_forward(context, y.view(), x.view(), w.view());
    x.view()(1, 76) = stored<S>(-std::numeric_limits<double>::infinity());
    x.view()(1, 3) = unwritten<S>();
    linear_forward(context, with_nan.view(), x.view(), w.view());
    for (index_t m = 0; m < M; ++m) {
      if (m == 1) {
        for (index_t n = 0; n < N; ++n) {
          CHECK(std::isnan(static_cast<double>(with_nan.view()(1, n))));
        }
      } else {
        CHECK(same_bits(with_nan.view().select(0, m), y.view().select(0, m)));
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear gradients match differences of the forward operations",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const linear_sizes& s : {linear_sizes{3, 5, 4}, linear_sizes{20, 37, 65}}) {
      const index_t M = s.M, N = s.N, K = s.K;
      auto x = random_rows<double, B>(M, K, K, 1);
      auto w = random_weight<double, B>(N, K, 2);
      auto dy = random_rows<double, B>(M, N, N, 3);
      guarded<double, 1, B> bias(dims<1>{N}, uniform(N, 4));
      const array<2> dys = array_of(dy.view());
      const auto loss = [&](guarded<double, 2, B>& xs,
                            guarded_weight<double, B>& ws,
                            guarded<double, 1, B>& biases) {
        guarded<double, 2, B> y(dims<2>{M, N});
        linear_bias_forward(context, y.view(), xs.view(), ws.view(), biases.view());
        return reference::inner(dys, array_of(y.view()));
      };

      guarded<double, 2, B> dx(dims<2>{M, K});
      linear_backward_input(context, dx.view(), dy.view(), w.view());
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded<double, 2, B> moved(dims<2>{M, K}, std::vector<double>(at.begin(), at.end()));
            return loss(moved, w, bias);
          },
          values(x.view()),
          values(dx.view())));

      guarded_weight<double, B> dw(N, K, std::vector<double>(static_cast<std::size_t>(N * K), 0.0));
      linear_backward_weight(context, dw.view(), dy.view(), x.view());
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded_weight<double, B> moved(N, K, std::vector<double>(at.begin(), at.end()));
            return loss(x, moved, bias);
          },
          w.rows().elements,
          dw.rows().elements));

      guarded<double, 1, B> dbias(dims<1>{N},
                                  std::vector<double>(static_cast<std::size_t>(N), 0.0));
      linear_backward_bias(context, dbias.view(), dy.view());
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded<double, 1, B> moved(dims<1>{N}, std::vector<double>(at.begin(), at.end()));
            return loss(x, w, moved);
          },
          values(bias.view()),
          values(dbias.view())));
    }
  }
}

/// The outputs of rows [first, first + M), row by row: y, y in the precision of its sums, y with a
/// bias, y with a residual.
template <class S, class B>
std::vector<double> forward_rows(context<B>& context,
                                 guarded<S, 2, B>& x,
                                 const weight_view<S, B>& w,
                                 guarded<S, 1, B>& bias,
                                 guarded<S, 2, B>& residual,
                                 index_t first,
                                 index_t M) {
  const index_t N = w.outputs;
  const auto rows = x.view().slice(0, first, M);
  guarded<S, 2, B> y(dims<2>{M, N}), biased(dims<2>{M, N}), added(dims<2>{M, N});
  guarded<accumulate_t<S>, 2, B> wide(dims<2>{M, N});
  linear_forward(context, y.view(), rows, w);
  linear_forward(context, wide.view(), rows, w);
  linear_bias_forward(context, biased.view(), rows, w, bias.view());
  linear_add_forward(context, added.view(), rows, w, residual.view().slice(0, first, M));
  std::vector<double> all;
  for (index_t m = 0; m < M; ++m) {
    all = join(std::move(all), values(y.view().select(0, m)));
    all = join(std::move(all), values(wide.view().select(0, m)));
    all = join(std::move(all), values(biased.view().select(0, m)));
    all = join(std::move(all), values(added.view().select(0, m)));
  }
  return all;
}

TEST_CASE_TEMPLATE_DEFINE(
    "linear forward operations give a row the same bits among up to 64 rows, however it is "
    "computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  // Inputs that one, two, four and eight warps share, in packs and not, and that do not fit into
  // shared memory for all rows.
  for (const linear_sizes& s : {linear_sizes{64, 21, 33},
                                linear_sizes{16, 40, 264},
                                linear_sizes{16, 9, 519},
                                linear_sizes{33, 9, 700},
                                linear_sizes{16, 17, 1100},
                                linear_sizes{16, 9, 1160},
                                linear_sizes{16, 3, 4360}}) {
    const index_t most = s.M, N = s.N, K = s.K;
    CAPTURE(K);
    auto x = random_rows<S, B>(most, K, K + 3, 1);
    auto w = random_weight<S, B>(N, K, 2);
    guarded<S, 1, B> bias(dims<1>{N}, uniform(N, 3));
    auto residual = random_rows<S, B>(most, N, N, 4);
    const auto run = [&](auto& context, index_t first, index_t M) {
      return forward_rows<S, B>(context, x, w.view(), bias, residual, first, M);
    };
    auto one = testing<B>::make_context();
    std::vector<double> alone;
    for (index_t m = 0; m < most; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      for (index_t M = 1; M <= most; M += M > 16 ? 16 : K > 300 && M > 1 ? 7 : 1) {
        CAPTURE(M);
        CHECK(same_bits(run(context, 0, M),
                        std::vector<double>(alone.begin(), alone.begin() + 4 * M * N)));
      }
      CHECK(same_bits(run(context, 5, 9),
                      std::vector<double>(alone.begin() + 4 * 5 * N, alone.begin() + 4 * 14 * N)));
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear gradients have the same bits however they are computed",
                          Case,
                          backward_ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  for (const index_t dy_stride : {index_t{129}, index_t{140}}) {
    auto x = random_rows<S, B>(400, 65, 70, 1);
    auto dy = random_rows<S, B>(400, 129, dy_stride, 2);
    auto w = random_weight<S, B>(129, 65, 5);
    CHECK(same_in_all_ways<B>([&](auto& context) {
      auto dw = random_weight<A, B>(129, 65, 3);
      guarded<A, 1, B> dbias(dims<1>{129}, uniform(129, 4));
      guarded<S, 2, B> dx(dims<2>{400, 65});
      linear_backward_weight(context, dw.view(), dy.view(), x.view());
      linear_backward_bias(context, dbias.view(), dy.view());
      linear_backward_input(context, dx.view(), dy.view(), w.view());
      return join(join(dw.rows().elements, values(dbias.view())), values(dx.view()));
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE("linear operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  auto x = random_rows<S, B>(4, 3, 3, 1), x_wide = random_rows<S, B>(4, 4, 4, 1);
  auto dy = random_rows<S, B>(4, 5, 5, 2), dy_long = random_rows<S, B>(6, 5, 5, 2);
  auto w = random_weight<S, B>(5, 3, 3);
  guarded<S, 1, B> bias(dims<1>{5}, uniform(5, 4)), bias_long(dims<1>{6}, uniform(6, 4));
  guarded<S, 2, B> y(dims<2>{4, 5}), dx(dims<2>{4, 3});
  guarded<S, 2, B> spread(dims<2>{4, 5}, strides(20, 2));  // rows whose elements lie apart
  guarded<S, 2, B> spread_dx(dims<2>{4, 3}, strides(20, 2));
  guarded<S, 1, B> spread_bias(dims<1>{5}, strides(2));
  guarded<A, 1, B> spread_dbias(dims<1>{5}, strides(2));
  guarded_weight<A, B> dw(5, 3, uniform(15, 5)), dw_other(3, 5, uniform(15, 5));
  guarded<A, 1, B> dbias(dims<1>{5}, uniform(5, 6));

  CHECK(rejects("linear_forward",
                [&] { linear_forward(context, y.view(), x_wide.view(), w.view()); }));
  CHECK(rejects("linear_forward",
                [&] { linear_forward(context, y.view().slice(0, 0, 3), x.view(), w.view()); }));
  CHECK(rejects("linear_forward",
                [&] { linear_forward(context, y.view().slice(1, 0, 4), x.view(), w.view()); }));
  CHECK(rejects("linear_forward",
                [&] { linear_forward(context, spread.view(), x.view(), w.view()); }));
  CHECK(rejects("linear_forward",
                [&] { linear_forward(context, y.view(), spread_dx.view(), w.view()); }));
  CHECK(rejects("linear_bias_forward", [&] {
    linear_bias_forward(context, y.view(), x.view(), w.view(), bias_long.view());
  }));
  CHECK(rejects("linear_bias_forward", [&] {
    linear_bias_forward(context, y.view(), x_wide.view(), w.view(), bias.view());
  }));
  CHECK(rejects("linear_bias_forward", [&] {
    linear_bias_forward(context, y.view(), x.view(), w.view(), spread_bias.view());
  }));
  CHECK(rejects("linear_add_forward", [&] {
    linear_add_forward(context, y.view(), x.view(), w.view(), dy_long.view());
  }));
  CHECK(rejects("linear_add_forward",
                [&] { linear_add_forward(context, y.view(), x.view(), w.view(), spread.view()); }));
  CHECK(rejects("linear_backward_input",
                [&] { linear_backward_input(context, dx.view(), dy_long.view(), w.view()); }));
  CHECK(rejects("linear_backward_input",
                [&] { linear_backward_input(context, dx.view(), x.view(), w.view()); }));
  CHECK(rejects("linear_backward_input",
                [&] { linear_backward_input(context, spread_dx.view(), dy.view(), w.view()); }));
  CHECK(rejects("linear_add_backward_input", [&] {
    linear_add_backward_input(context, dx.view(), dy.view(), w.view(), x_wide.view());
  }));
  CHECK(rejects("linear_add_backward_input", [&] {
    linear_add_backward_input(context, dx.view(), dy.view(), w.view(), spread_dx.view());
  }));
  CHECK(rejects("linear_backward_weight",
                [&] { linear_backward_weight(context, dw_other.view(), dy.view(), x.view()); }));
  CHECK(rejects("linear_backward_weight",
                [&] { linear_backward_weight(context, dw.view(), dy_long.view(), x.view()); }));
  CHECK(rejects("linear_backward_weight",
                [&] { linear_backward_weight(context, dw.view(), spread.view(), x.view()); }));
  CHECK(rejects("linear_backward_bias",
                [&] { linear_backward_bias(context, dbias.view(), x.view()); }));
  CHECK(rejects("linear_backward_bias",
                [&] { linear_backward_bias(context, spread_dbias.view(), dy.view()); }));
  CHECK(y.untouched());
  CHECK(dx.untouched());
  CHECK(spread.untouched());
  CHECK(spread_dx.untouched());
  CHECK(spread_bias.untouched());
  CHECK(spread_dbias.untouched());
  CHECK(dw.untouched());
  CHECK(dw_other.untouched());
  CHECK(dbias.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(padding, cases);
TEST_CASE_TEMPLATE_APPLY(not_finite, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(backward_ways, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::linear

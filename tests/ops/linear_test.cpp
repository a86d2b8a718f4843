// Linear maps and their gradients against the reference.
#include "mtp/ops/linear.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/linear.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;
using reference::magnitude;

struct linear_sizes {
  index_t M, N, K;
};

// Around the widths of vectors and panels, the rows of a tile, and the blocks of rows and of depth.
const linear_sizes sizes[] = {
    {1, 1, 1},     {2, 3, 5},     {3, 15, 7},   {3, 16, 8},     {4, 17, 9},    {1, 31, 16},
    {5, 32, 17},   {6, 33, 31},   {7, 64, 33},  {11, 65, 2},    {12, 127, 37}, {13, 129, 64},
    {12, 15, 257}, {5, 100, 600}, {97, 41, 13}, {130, 70, 259}, {385, 17, 9},  {0, 5, 3},
    {3, 4, 0},     {25, 1, 1},    {3, 20, 1},   {40, 20, 1}};

/// Rows that lie side by side, apart, and exactly a panel apart.
template <class S>
std::vector<index_t> row_strides(index_t width) {
  return {width, width + 5, round_up(width, cpu_detail::panel_width<S>)};
}

template <class S>
guarded<S, 2> random_rows(index_t rows, index_t columns, index_t stride, std::uint64_t stream) {
  return {dims<2>{rows, columns}, {stride, 1}, uniform(rows * columns, stream)};
}

template <class S>
guarded_weight<S> random_weight(index_t N, index_t K, std::uint64_t stream) {
  return {N, K, uniform(N * K, stream)};
}

/// Rounding errors of init + a sum of k products, where `sum` is made of magnitudes.
template <class S, int Rank>
std::vector<double> bounds(index_t k, const array<Rank>& sum) {
  std::vector<double> result;
  for (const double element : sum.elements) {
    result.push_back(dot_bound(k + 1, unit_roundoff<S>, element));
  }
  return result;
}

/// Calls body(M, N, K, stride of x, stride of y) for all sizes and strides.
template <class S, class Body>
void for_all_sizes(const Body& body) {
  for (const linear_sizes& s : sizes) {
    const index_t M = s.M, N = s.N, K = s.K;
    for (std::size_t i = 0; i < 3; ++i) {
      const index_t x_stride = row_strides<S>(K)[i], y_stride = row_strides<S>(N)[i];
      CAPTURE(M);
      CAPTURE(N);
      CAPTURE(K);
      CAPTURE(y_stride);
      body(M, N, K, x_stride, y_stride);
    }
  }
}

TEST_CASE_TEMPLATE("linear forward operations match the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for_all_sizes<S>([&](index_t M, index_t N, index_t K, index_t x_stride, index_t y_stride) {
    auto x = random_rows<S>(M, K, x_stride, 1);
    auto w = random_weight<S>(N, K, 2);
    guarded<S, 1> bias(dims<1>{N}, uniform(N, 3));
    auto residual = random_rows<S>(M, N, y_stride, 4);
    const array<2> xs = array_of(x.view()), ws = w.rows();
    const array<2> product = reference::linear_forward(xs, ws);
    const array<2> absolute = reference::linear_forward(magnitude(xs), magnitude(ws));

    guarded<S, 2> y(dims<2>{M, N}, strides(y_stride, 1));
    linear_forward(context, y.view(), x.view(), w.view());
    CHECK(within(y.view(), product.elements, bounds<S>(K, absolute)));
    CHECK(y.intact());

    guarded<S, 2> biased(dims<2>{M, N}, strides(y_stride, 1));
    linear_bias_forward(context, biased.view(), x.view(), w.view(), bias.view());
    const array<1> biases = array_of(bias.view());
    CHECK(within(biased.view(),
                 reference::add_bias(product, biases).elements,
                 bounds<S>(K, reference::add_bias(absolute, magnitude(biases)))));
    CHECK(biased.intact());

    guarded<S, 2> added(dims<2>{M, N}, strides(y_stride, 1));
    const array<2> residuals = array_of(residual.view());
    linear_add_forward(context, added.view(), x.view(), w.view(), residual.view());
    CHECK(within(added.view(),
                 (product + residuals).elements,
                 bounds<S>(K, absolute + magnitude(residuals))));
    CHECK(added.intact());

    linear_add_forward(context, residual.view(), x.view(), w.view(), residual.view());
    CHECK(same_bits(residual.view(), added.view()));
    CHECK(residual.intact());
    CHECK(x.untouched());
    CHECK(w.untouched());
  });
}

TEST_CASE_TEMPLATE("linear gradients match the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for_all_sizes<S>([&](index_t M, index_t N, index_t K, index_t x_stride, index_t y_stride) {
    auto x = random_rows<S>(M, K, x_stride, 1);
    auto w = random_weight<S>(N, K, 2);
    auto dy = random_rows<S>(M, N, y_stride, 3);
    auto residual = random_rows<S>(M, K, x_stride, 4);
    const array<2> xs = array_of(x.view()), ws = w.rows(), dys = array_of(dy.view());

    guarded<S, 2> dx(dims<2>{M, K}, strides(x_stride, 1));
    linear_backward_input(context, dx.view(), dy.view(), w.view());
    const array<2> product = reference::linear_backward_input(dys, ws);
    const array<2> absolute = reference::linear_backward_input(magnitude(dys), magnitude(ws));
    CHECK(within(dx.view(), product.elements, bounds<S>(N, absolute)));
    CHECK(dx.intact());

    guarded<S, 2> added(dims<2>{M, K}, strides(x_stride, 1));
    const array<2> residuals = array_of(residual.view());
    linear_add_backward_input(context, added.view(), dy.view(), w.view(), residual.view());
    CHECK(within(added.view(),
                 (product + residuals).elements,
                 bounds<S>(N, absolute + magnitude(residuals))));
    linear_add_backward_input(context, residual.view(), dy.view(), w.view(), residual.view());
    CHECK(same_bits(residual.view(), added.view()));
    CHECK(residual.intact());

    auto dw = random_weight<S>(N, K, 5);
    const array<2> before = dw.rows();
    linear_backward_weight(context, dw.view(), dy.view(), x.view());
    CHECK(within(dw.rows().elements,
                 (before + reference::linear_backward_weight(dys, xs)).elements,
                 bounds<S>(M,
                           magnitude(before) +
                               reference::linear_backward_weight(magnitude(dys), magnitude(xs)))));
    CHECK(dw.padding_is_zero());
    CHECK(dw.intact());

    guarded<S, 1> dbias(dims<1>{N}, uniform(N, 6));
    const array<1> bias_before = array_of(dbias.view());
    linear_backward_bias(context, dbias.view(), dy.view());
    CHECK(within(
        dbias.view(),
        (bias_before + reference::linear_backward_bias(dys)).elements,
        bounds<S>(M, magnitude(bias_before) + reference::linear_backward_bias(magnitude(dys)))));
    CHECK(dbias.intact());
  });
}

TEST_CASE_TEMPLATE("linear_backward_weight leaves padding zero when x or dy is not a number",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 1});
  auto x = random_rows<S>(5, 3, 3, 1);
  auto dy = random_rows<S>(5, 7, 7, 2);
  x.view()(2, 1) = std::numeric_limits<S>::infinity();
  dy.view()(3, 6) = std::numeric_limits<S>::quiet_NaN();
  guarded_weight<S> dw(7, 3, uniform(21, 3));
  linear_backward_weight(context, dw.view(), dy.view(), x.view());
  CHECK(std::isnan(static_cast<double>(dw.view()(6, 0))));
  CHECK(dw.padding_is_zero());
}

TEST_CASE("linear gradients match differences of the forward operations") {
  cpu_context context({.threads = 2});
  for (const linear_sizes& s : {linear_sizes{3, 5, 4}, linear_sizes{20, 37, 65}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    auto x = random_rows<double>(M, K, K, 1);
    auto w = random_weight<double>(N, K, 2);
    auto dy = random_rows<double>(M, N, N, 3);
    guarded<double, 1> bias(dims<1>{N}, uniform(N, 4));
    const array<2> dys = array_of(dy.view());
    const auto loss =
        [&](guarded<double, 2>& xs, guarded_weight<double>& ws, guarded<double, 1>& biases) {
          guarded<double, 2> y(dims<2>{xs.view().extent(0), biases.view().extent(0)});
          linear_bias_forward(context, y.view(), xs.view(), ws.view(), biases.view());
          return reference::inner(dys, array_of(y.view()));
        };

    guarded<double, 2> dx(dims<2>{M, K});
    linear_backward_input(context, dx.view(), dy.view(), w.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 2> moved(dims<2>{M, K}, std::vector<double>(at.begin(), at.end()));
          return loss(moved, w, bias);
        },
        values(x.view()),
        values(dx.view())));

    guarded_weight<double> dw(N, K, std::vector<double>(static_cast<std::size_t>(N * K), 0.0));
    linear_backward_weight(context, dw.view(), dy.view(), x.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded_weight<double> moved(N, K, std::vector<double>(at.begin(), at.end()));
          return loss(x, moved, bias);
        },
        w.rows().elements,
        dw.rows().elements));

    guarded<double, 1> dbias(dims<1>{N}, std::vector<double>(static_cast<std::size_t>(N), 0.0));
    linear_backward_bias(context, dbias.view(), dy.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 1> moved(dims<1>{N}, std::vector<double>(at.begin(), at.end()));
          return loss(x, w, moved);
        },
        values(bias.view()),
        values(dbias.view())));
  }
}

TEST_CASE_TEMPLATE(
    "linear operations give a row the same bits among any number of rows and threads",
    S,
    float,
    double) {
  cpu_context one({.threads = 1});
  for (const linear_sizes& s : {linear_sizes{200, 129, 300}, linear_sizes{200, 40, 33}}) {
    const index_t rows = s.M, N = s.N, K = s.K;
    auto x = random_rows<S>(rows, K, K + 3, 1);
    auto w = random_weight<S>(N, K, 2);
    guarded<S, 1> bias(dims<1>{N}, uniform(N, 3));
    auto dy = random_rows<S>(rows, N, N, 4);
    // The outputs of rows [0, M): y, y with a bias, y with a residual, dx, dx with a residual.
    const auto run = [&](cpu_context& context, index_t first, index_t M) {
      const auto x_rows = x.view().slice(0, first, M);
      const auto dy_rows = dy.view().slice(0, first, M);
      guarded<S, 2> y(dims<2>{M, N}), biased(dims<2>{M, N}), added(dims<2>{M, N});
      guarded<S, 2> dx(dims<2>{M, K}), dx_added(dims<2>{M, K});
      linear_forward(context, y.view(), x_rows, w.view());
      linear_bias_forward(context, biased.view(), x_rows, w.view(), bias.view());
      linear_add_forward(context, added.view(), x_rows, w.view(), dy_rows);
      linear_backward_input(context, dx.view(), dy_rows, w.view());
      linear_add_backward_input(context, dx_added.view(), dy_rows, w.view(), x_rows);
      std::vector<std::vector<S>> by_row;
      for (index_t m = 0; m < M; ++m) {
        by_row.push_back(
            join(join(join(elements(y.view().select(0, m)), elements(biased.view().select(0, m))),
                      join(elements(added.view().select(0, m)), elements(dx.view().select(0, m)))),
                 elements(dx_added.view().select(0, m))));
      }
      return by_row;
    };
    std::vector<std::vector<S>> alone;
    for (index_t m = 0; m < rows; ++m) {
      alone.push_back(run(one, m, 1).front());
    }
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context context({.threads = threads});
      std::vector<index_t> counts = {rows};
      for (index_t M = 2; M <= 17; ++M) {
        counts.push_back(M);
      }
      for (const index_t M : counts) {
        CAPTURE(threads);
        CAPTURE(M);
        const auto together = run(context, 0, M);
        std::vector<S> actual, expected;
        for (std::size_t m = 0; m < together.size(); ++m) {
          actual = join(std::move(actual), together[m]);
          expected = join(std::move(expected), alone[m]);
        }
        CHECK(same_bits(actual, expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("gradients of linear parameters have the same bits for any number of threads",
                   S,
                   float,
                   double) {
  for (const index_t dy_stride : {index_t{129}, index_t{140}}) {
    auto x = random_rows<S>(400, 65, 70, 1);
    auto dy = random_rows<S>(400, 129, dy_stride, 2);
    CHECK(same_for_all_threads([&](cpu_context& context) {
      auto dw = random_weight<S>(129, 65, 3);
      guarded<S, 1> dbias(dims<1>{129}, uniform(129, 4));
      linear_backward_weight(context, dw.view(), dy.view(), x.view());
      linear_backward_bias(context, dbias.view(), dy.view());
      return join(dw.storage(), elements(dbias.view()));
    }));
  }
}

TEST_CASE_TEMPLATE("linear_backward_weight continues the sum that stands in dw", S, float, double) {
  cpu_context context({.threads = 2});
  auto x = random_rows<S>(300, 17, 17, 1);
  auto dy = random_rows<S>(300, 33, 33, 2);
  auto whole = random_weight<S>(33, 17, 3);
  auto in_parts = random_weight<S>(33, 17, 3);
  linear_backward_weight(context, whole.view(), dy.view(), x.view());
  index_t first = 0;
  for (const index_t M : {1, 12, 100, 187}) {
    linear_backward_weight(
        context, in_parts.view(), dy.view().slice(0, first, M), x.view().slice(0, first, M));
    first += M;
  }
  CHECK(same_bits(in_parts.storage(), whole.storage()));
}

TEST_CASE("linear operations reject wrong shapes and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  auto x = random_rows<S>(4, 3, 3, 1), x_wide = random_rows<S>(4, 4, 4, 1);
  auto dy = random_rows<S>(4, 5, 5, 2), dy_long = random_rows<S>(6, 5, 5, 2);
  auto w = random_weight<S>(5, 3, 3);
  guarded<S, 1> bias(dims<1>{5}, uniform(5, 4)), bias_long(dims<1>{6}, uniform(6, 4));
  guarded<S, 2> y(dims<2>{4, 5}), dx(dims<2>{4, 3});
  guarded<S, 2> spread(dims<2>{4, 5}, strides(20, 2));  // rows whose elements lie apart
  guarded<S, 2> spread_dx(dims<2>{4, 3}, strides(20, 2));
  guarded<S, 1> spread_bias(dims<1>{5}, strides(2));
  guarded_weight<S> dw(5, 3, uniform(15, 5)), dw_other(3, 5, uniform(15, 5));
  guarded<S, 1> dbias(dims<1>{5}, uniform(5, 6));

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
                [&] { linear_backward_bias(context, spread_bias.view(), dy.view()); }));
  CHECK(y.untouched());
  CHECK(dx.untouched());
  CHECK(spread.untouched());
  CHECK(spread_dx.untouched());
  CHECK(spread_bias.untouched());
  CHECK(dw.untouched());
  CHECK(dw_other.untouched());
  CHECK(dbias.untouched());
}

}  // namespace

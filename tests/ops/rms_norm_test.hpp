// Root-mean-square normalization and its gradients against the reference. Who includes this says
// for which cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

#include "mtp/ops/rms_norm.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/rms_norm.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::rms_norm {

using reference::array;
using reference::array_of;
using reference::magnitude;

inline constexpr double epsilon = 1e-5;

struct norm_sizes {
  index_t N, H, C, gap;  // gap: elements between heads; three times as many between rows
};

// Around the widths of vectors, packs and warps.
inline const std::vector<norm_sizes> sizes = {
    {1, 1, 1, 0},    {1, 1, 2, 0},    {3, 2, 3, 1},   {2, 3, 7, 0},    {5, 1, 8, 2},
    {4, 2, 9, 0},    {3, 1, 15, 1},   {3, 4, 16, 0},  {2, 3, 17, 5},   {7, 1, 31, 0},
    {2, 2, 32, 3},   {3, 1, 33, 0},   {5, 2, 64, 1},  {13, 1, 65, 0},  {3, 1, 257, 4},
    {0, 2, 5, 0},    {40, 3, 100, 0}, {9, 1, 512, 8}, {3, 1, 1025, 0}, {2, 1, 1032, 8},
    {3, 2, 1100, 0}, {2, 1, 8200, 0}};

/// With rows wider than what a block keeps of them, in packs and not.
inline std::vector<norm_sizes> sizes_and(std::initializer_list<norm_sizes> wide) {
  std::vector<norm_sizes> all = sizes;
  all.insert(all.end(), wide);
  return all;
}

inline std::array<index_t, 3> spaced(const norm_sizes& s) {
  return strides(s.H * (s.C + s.gap) + 3 * s.gap, s.C + s.gap, 1);
}

template <class S, class B>
guarded<S, 3, B> random_heads(const norm_sizes& s, std::uint64_t stream) {
  return {dims<3>{s.N, s.H, s.C}, spaced(s), normal(s.N * s.H * s.C, stream)};
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm_forward matches the reference", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const norm_sizes& s : some_of<B>(sizes_and({{1, 1, 33001, 2}, {1, 1, 32800, 8}}))) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    auto x = random_heads<S, B>(s, 1);
    guarded<S, 1, B> weight(dims<1>{s.C}, uniform(s.C, 2, 0.5, 1.5));
    guarded<S, 3, B> y(dims<3>{s.N, s.H, s.C}, spaced(s));
    guarded<A, 2, B> inv_rms(dims<2>{s.N, s.H}, strides(s.H + 2, 1));
    rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
    const array<3> xs = array_of(x.view());
    const array<3> expected = reference::rms_norm_forward(xs, array_of(weight.view()), epsilon);
    const array<2> r = reference::inverse_rms(xs, epsilon);
    // The sum has C terms; the root halves its error; five more roundings at most.
    CHECK(within(inv_rms.view(), r.elements, result_bounds<A>(s.C / 2 + 5, r, r)));
    CHECK(within(
        y.view(), expected.elements, result_bounds<S>(s.C / 2 + 7, magnitude(expected), expected)));
    CHECK(y.intact());
    CHECK(inv_rms.intact());
    CHECK(x.untouched());

    rms_norm_forward(context, x.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
    CHECK(same_bits(x.view(), y.view()));
    CHECK(x.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const norm_sizes& s : some_of<B>(sizes_and({{1, 1, 16391, 2}, {1, 1, 16400, 8}}))) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    const dims<3> shape{s.N, s.H, s.C};
    auto x = random_heads<S, B>(s, 1), dy = random_heads<S, B>(s, 2);
    auto residual = random_heads<S, B>(s, 3);
    guarded<S, 1, B> weight(dims<1>{s.C}, uniform(s.C, 4, 0.5, 1.5));
    guarded<A, 1, B> dweight(dims<1>{s.C}, uniform(s.C, 5));
    const array<3> xs = array_of(x.view()), dys = array_of(dy.view());
    const array<1> weights = array_of(weight.view()), before = array_of(dweight.view());
    guarded<A, 2, B> inv_rms(dims<2>{s.N, s.H}, reference::inverse_rms(xs, epsilon).elements);
    const array<2> r = array_of(inv_rms.view());
    const mtp::view<const S, dims<3>, B> nothing(nullptr, shape);
    const auto backward = [&](auto& dx_, auto& dweight_, auto& dy_, auto residual_) {
      rms_norm_backward(context,
                        dx_.view(),
                        dweight_.view(),
                        dy_.view(),
                        x.view(),
                        inv_rms.view(),
                        weight.view(),
                        residual_);
    };

    guarded<S, 3, B> dx(shape, spaced(s));
    backward(dx, dweight, dy, nothing);
    const array<3> expected = reference::rms_norm_backward_input(dys, xs, r, weights);
    const array<3> terms =
        reference::rms_norm_backward_input(magnitude(dys), magnitude(xs), r, magnitude(weights), 1);
    CHECK(within(dx.view(), expected.elements, result_bounds<S>(s.C + 10, terms, expected)));
    CHECK(dx.intact());
    const array<1> dweights = before + reference::rms_norm_backward_weight(dys, xs, r);
    const array<1> dweight_terms =
        magnitude(before) + reference::rms_norm_backward_weight(magnitude(dys), magnitude(xs), r);
    CHECK(within(dweight.view(),
                 dweights.elements,
                 result_bounds<A>(s.N * s.H + 2, dweight_terms, dweights)));
    CHECK(dweight.intact());

    const array<3> residuals = array_of(residual.view());
    const array<3> sums = expected + residuals;
    guarded<A, 1, B> ignored(dims<1>{s.C}, uniform(s.C, 5));
    guarded<S, 3, B> added(shape, spaced(s));
    backward(added, ignored, dy, residual.view());
    CHECK(within(added.view(),
                 sums.elements,
                 result_bounds<S>(s.C + 11, terms + magnitude(residuals), sums)));

    ignored.set(uniform(s.C, 5));
    backward(residual, ignored, dy, residual.view());
    CHECK(same_bits(residual.view(), added.view()));
    CHECK(residual.intact());

    ignored.set(uniform(s.C, 5));
    backward(dy, ignored, dy, nothing);
    CHECK(same_bits(dy.view(), dx.view()));
    CHECK(same_bits(ignored.view(), dweight.view()));
    CHECK(dy.intact());
    CHECK(x.untouched());

    // Without a place for it, the gradient of the weight is not computed.
    dx.set(uniform(s.N * s.H * s.C, 6));
    dy.set(dys.elements);
    rms_norm_backward(context,
                      dx.view(),
                      vector_view<A, B>(nullptr, dims<1>{s.C}),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      nothing);
    CHECK(within(dx.view(), expected.elements, result_bounds<S>(s.C + 10, terms, expected)));
  }
}

// Blocks of a device go through several rounds of rows.
TEST_CASE_TEMPLATE_DEFINE("rms_norm_backward matches the reference for many wide rows",
                          Case,
                          many_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  // Rows that a warp of a device has to itself, and that warps share.
  for (const norm_sizes& s : some_of<B>(
           std::vector<norm_sizes>{{1030, 1, 1032, 8}, {2052, 1, 520, 8}, {258, 1, 2056, 8}})) {
    CAPTURE(s.C);
    const dims<3> shape{s.N, s.H, s.C};
    auto x = random_heads<S, B>(s, 1), dy = random_heads<S, B>(s, 2);
    guarded<S, 1, B> weight(dims<1>{s.C}, uniform(s.C, 4, 0.5, 1.5));
    guarded<S, 1, B> dweight(dims<1>{s.C}, uniform(s.C, 5));
    guarded<S, 2, B> inv_rms(dims<2>{s.N, s.H}, uniform(s.N, 6, 0.5, 2));
    guarded<S, 3, B> dx(shape, spaced(s));
    const array<3> xs = array_of(x.view()), dys = array_of(dy.view());
    const array<2> r = array_of(inv_rms.view());
    const array<1> weights = array_of(weight.view()), before = array_of(dweight.view());
    rms_norm_backward(context,
                      dx.view(),
                      dweight.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      mtp::view<const S, dims<3>, B>(nullptr, shape));
    const array<3> expected = reference::rms_norm_backward_input(dys, xs, r, weights);
    const array<3> terms =
        reference::rms_norm_backward_input(magnitude(dys), magnitude(xs), r, magnitude(weights), 1);
    CHECK(within(dx.view(), expected.elements, result_bounds<S>(s.C + 10, terms, expected)));
    const array<1> dweights = before + reference::rms_norm_backward_weight(dys, xs, r);
    const array<1> dweight_terms =
        magnitude(before) + reference::rms_norm_backward_weight(magnitude(dys), magnitude(xs), r);
    CHECK(within(
        dweight.view(), dweights.elements, result_bounds<S>(s.N + 2, dweight_terms, dweights)));
    CHECK(dx.intact());
    CHECK(dweight.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm gradients match differences of the forward operation",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const norm_sizes& s : {norm_sizes{3, 2, 5, 1}, norm_sizes{11, 2, 67, 0}}) {
      const dims<3> shape{s.N, s.H, s.C};
      auto x = random_heads<double, B>(s, 1), dy = random_heads<double, B>(s, 2);
      guarded<double, 1, B> weight(dims<1>{s.C}, uniform(s.C, 3, 0.5, 1.5));
      guarded<double, 1, B> dweight(dims<1>{s.C},
                                    std::vector<double>(static_cast<std::size_t>(s.C)));
      const array<3> dys = array_of(dy.view());
      guarded<double, 3, B> y(shape), dx(shape);
      guarded<double, 2, B> inv_rms(dims<2>{s.N, s.H});
      const auto loss = [&](guarded<double, 3, B>& xs, guarded<double, 1, B>& weights) {
        rms_norm_forward(context, y.view(), inv_rms.view(), xs.view(), weights.view(), epsilon);
        return reference::inner(dys, array_of(y.view()));
      };
      loss(x, weight);
      rms_norm_backward(context,
                        dx.view(),
                        dweight.view(),
                        dy.view(),
                        x.view(),
                        inv_rms.view(),
                        weight.view(),
                        mtp::view<const double, dims<3>, B>(nullptr, shape));
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded<double, 3, B> moved(shape, std::vector<double>(at.begin(), at.end()));
            return loss(moved, weight);
          },
          values(x.view()),
          values(dx.view())));
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded<double, 1, B> moved(dims<1>{s.C}, std::vector<double>(at.begin(), at.end()));
            return loss(x, moved);
          },
          values(weight.view()),
          values(dweight.view())));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm over a matrix is rms_norm over one head", Case, matrices) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const index_t N = 5, C = 37;
  guarded<S, 2, B> x(dims<2>{N, C}, strides(C + 3, 1), normal(N * C, 1));
  guarded<S, 2, B> dy(dims<2>{N, C}, normal(N * C, 2));
  guarded<S, 1, B> weight(dims<1>{C}, uniform(C, 3));
  guarded<S, 2, B> y(dims<2>{N, C}), dx(dims<2>{N, C});
  guarded<S, 3, B> y_heads(dims<3>{N, 1, C}), dx_heads(dims<3>{N, 1, C});
  guarded<A, 1, B> inv_rms(dims<1>{N}), dweight(dims<1>{C}, uniform(C, 4));
  guarded<A, 2, B> inv_rms_heads(dims<2>{N, 1});
  guarded<A, 1, B> dweight_heads(dims<1>{C}, uniform(C, 4));
  const auto x_heads = mtp::detail::as_heads(x.view());
  const auto dy_heads = mtp::detail::as_heads(dy.view());
  rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
  rms_norm_forward(context, y_heads.view(), inv_rms_heads.view(), x_heads, weight.view(), epsilon);
  rms_norm_backward(context,
                    dx.view(),
                    dweight.view(),
                    dy.view(),
                    x.view(),
                    inv_rms.view(),
                    weight.view(),
                    dy.view());
  rms_norm_backward(context,
                    dx_heads.view(),
                    dweight_heads.view(),
                    dy_heads,
                    x_heads,
                    inv_rms_heads.view(),
                    weight.view(),
                    dy_heads);
  CHECK(same_bits(elements(y.view()), elements(y_heads.view())));
  CHECK(same_bits(elements(inv_rms.view()), elements(inv_rms_heads.view())));
  CHECK(same_bits(elements(dx.view()), elements(dx_heads.view())));
  CHECK(same_bits(dweight.view(), dweight_heads.view()));
  CHECK(y.intact());
  CHECK(dx.intact());
}

TEST_CASE_TEMPLATE_DEFINE(
    "rms_norm_forward gives a row the same bits among any number of rows, however it is computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const norm_sizes s{40, 3, 101, 2};
  auto x = random_heads<S, B>(s, 1);
  guarded<S, 1, B> weight(dims<1>{s.C}, uniform(s.C, 2));
  const auto run = [&](auto& context, index_t first, index_t M) {
    guarded<S, 3, B> y(dims<3>{M, s.H, s.C});
    guarded<A, 2, B> inv_rms(dims<2>{M, s.H});
    rms_norm_forward(
        context, y.view(), inv_rms.view(), x.view().slice(0, first, M), weight.view(), epsilon);
    std::vector<double> all;
    for (index_t m = 0; m < M; ++m) {
      all = join(join(std::move(all), values(y.view().select(0, m))),
                 values(inv_rms.view().select(0, m)));
    }
    return all;
  };
  auto one = testing<B>::make_context();
  std::vector<double> alone;
  for (index_t m = 0; m < s.N; ++m) {
    alone = join(std::move(alone), run(one, m, 1));
  }
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    CHECK(same_bits(run(context, 0, s.N), alone));
    for (index_t M = 1; M <= 17; ++M) {
      CAPTURE(M);
      CHECK(same_bits(run(context, 0, M),
                      std::vector<double>(alone.begin(), alone.begin() + M * s.H * (s.C + 1))));
    }
  });
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm_backward gives the same bits however it is computed",
                          Case,
                          backward_ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const norm_sizes s{200, 3, 131, 2};
  auto x = random_heads<S, B>(s, 1), dy = random_heads<S, B>(s, 2);
  guarded<S, 1, B> weight(dims<1>{s.C}, uniform(s.C, 3));
  guarded<A, 2, B> inv_rms(dims<2>{s.N, s.H}, uniform(s.N * s.H, 4, 0.5, 2));
  CHECK(same_in_all_ways<B>([&](auto& context) {
    guarded<S, 3, B> dx(dims<3>{s.N, s.H, s.C});
    guarded<A, 1, B> dweight(dims<1>{s.C}, uniform(s.C, 5));
    rms_norm_backward(context,
                      dx.view(),
                      dweight.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      dy.view());
    return join(values(dx.view()), values(dweight.view()));
  }));
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm_forward shows NaN in its own row and nowhere else",
                          Case,
                          not_a_number) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  guarded<S, 2, B> x(dims<2>{3, 37}, normal(3 * 37, 1));
  x.view()(1, 36) = unwritten<S>();
  guarded<S, 1, B> weight(dims<1>{37}, uniform(37, 2, 0.5, 1.5));
  guarded<A, 1, B> inv_rms(dims<1>{3});
  guarded<S, 2, B> y(dims<2>{3, 37});
  rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
  for (index_t c = 0; c < 37; ++c) {
    CHECK(std::isnan(static_cast<double>(y.view()(1, c))));
    CHECK(std::isfinite(static_cast<double>(y.view()(0, c))));
    CHECK(std::isfinite(static_cast<double>(y.view()(2, c))));
  }
}

TEST_CASE_TEMPLATE_DEFINE("rms_norm operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const dims<3> shape{4, 2, 6};
  guarded<S, 3, B> x(shape, uniform(48, 1)), dy(shape, uniform(48, 2));
  guarded<S, 3, B> longer(dims<3>{5, 2, 6}, uniform(60, 3)), spread(shape, strides(24, 12, 2));
  guarded<S, 1, B> weight(dims<1>{6}, uniform(6, 4)), weight_long(dims<1>{7}, uniform(7, 4));
  guarded<S, 1, B> weight_spread(dims<1>{6}, strides(2), uniform(6, 4));
  guarded<A, 2, B> r(dims<2>{4, 2}, uniform(8, 5)), r_wrong(dims<2>{4, 3}, uniform(12, 5));
  guarded<S, 3, B> y(shape), dx(shape);
  guarded<A, 2, B> inv_rms(dims<2>{4, 2});
  guarded<A, 1, B> dweight(dims<1>{6}, uniform(6, 6)), dweight_long(dims<1>{7}, uniform(7, 6));
  guarded<A, 1, B> dweight_spread(dims<1>{6}, strides(2), uniform(6, 6));
  const mtp::view<const S, dims<3>, B> nothing(nullptr, shape);
  const auto forward = [&](auto y_, auto r_, auto x_, auto weight_) {
    return rejects("rms_norm_forward",
                   [&] { rms_norm_forward(context, y_, r_, x_, weight_, epsilon); });
  };
  CHECK(forward(y.view(), inv_rms.view(), longer.view(), weight.view()));
  CHECK(forward(y.view(), r_wrong.view(), x.view(), weight.view()));
  CHECK(forward(y.view(), inv_rms.view(), x.view(), weight_long.view()));
  CHECK(forward(y.view(), inv_rms.view(), x.view(), weight_spread.view()));
  CHECK(forward(y.view(), inv_rms.view(), spread.view(), weight.view()));
  CHECK(forward(spread.view(), inv_rms.view(), x.view(), weight.view()));
  const auto backward =
      [&](auto dx_, auto dweight_, auto dy_, auto x_, auto r_, auto weight_, auto residual_) {
        return rejects("rms_norm_backward", [&] {
          rms_norm_backward(context, dx_, dweight_, dy_, x_, r_, weight_, residual_);
        });
      };
  const auto w = weight.view();
  const auto dw = dweight.view();
  CHECK(backward(dx.view(), dw, dy.view(), longer.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dw, longer.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dweight_long.view(), dy.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dweight_spread.view(), dy.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r_wrong.view(), w, nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), weight_long.view(), nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), weight_spread.view(), nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), w, longer.view()));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), w, spread.view()));
  CHECK(backward(spread.view(), dw, dy.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dw, spread.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dw, dy.view(), spread.view(), r.view(), w, nothing));
  CHECK(y.untouched());
  CHECK(dx.untouched());
  CHECK(spread.untouched());
  CHECK(inv_rms.untouched());
  CHECK(r_wrong.untouched());
  CHECK(dweight.untouched());
  CHECK(dweight_long.untouched());
  CHECK(dweight_spread.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(many_rows, one_case);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(matrices, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(backward_ways, cases);
TEST_CASE_TEMPLATE_APPLY(not_a_number, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::rms_norm

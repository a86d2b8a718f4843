// Root-mean-square normalization and its gradients against the reference.
#include "mtp/ops/rms_norm.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/rms_norm.hpp"
#include "support/tolerance.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;
using reference::magnitude;

constexpr double epsilon = 1e-5;

struct norm_sizes {
  index_t N, H, C, gap;  // gap: elements between heads; three times as many between rows
};

const norm_sizes sizes[] = {{1, 1, 1, 0},
                            {1, 1, 2, 0},
                            {3, 2, 3, 1},
                            {2, 3, 7, 0},
                            {5, 1, 8, 2},
                            {4, 2, 9, 0},
                            {3, 1, 15, 1},
                            {3, 4, 16, 0},
                            {2, 3, 17, 5},
                            {7, 1, 31, 0},
                            {2, 2, 32, 3},
                            {3, 1, 33, 0},
                            {5, 2, 64, 1},
                            {13, 1, 65, 0},
                            {3, 1, 257, 4},
                            {0, 2, 5, 0},
                            {40, 3, 100, 0}};

std::array<index_t, 3> spaced(const norm_sizes& s) {
  return strides(s.H * (s.C + s.gap) + 3 * s.gap, s.C + s.gap, 1);
}

template <class S>
guarded<S, 3> random_heads(const norm_sizes& s, std::uint64_t stream) {
  return {dims<3>{s.N, s.H, s.C}, spaced(s), normal(s.N * s.H * s.C, stream)};
}

/// Each element of `terms` times the error of so many roundings.
template <class S, int Rank>
std::vector<double> bounds(index_t roundings, const array<Rank>& terms) {
  std::vector<double> result;
  for (const double element : terms.elements) {
    result.push_back(dot_bound(roundings, unit_roundoff<S>, element) + smallest_number<S>);
  }
  return result;
}

TEST_CASE_TEMPLATE("rms_norm_forward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const norm_sizes& s : sizes) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    auto x = random_heads<S>(s, 1);
    guarded<S, 1> weight(dims<1>{s.C}, uniform(s.C, 2, 0.5, 1.5));
    guarded<S, 3> y(dims<3>{s.N, s.H, s.C}, spaced(s));
    guarded<S, 2> inv_rms(dims<2>{s.N, s.H}, strides(s.H + 2, 1));
    rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
    const array<3> xs = array_of(x.view());
    const array<3> expected = reference::rms_norm_forward(xs, array_of(weight.view()), epsilon);
    const array<2> r = reference::inverse_rms(xs, epsilon);
    // The sum has C terms; the root halves its error; five more roundings at most.
    CHECK(within(inv_rms.view(), r.elements, bounds<S>(s.C / 2 + 5, r)));
    CHECK(within(y.view(), expected.elements, bounds<S>(s.C / 2 + 7, magnitude(expected))));
    CHECK(y.intact());
    CHECK(inv_rms.intact());
    CHECK(x.untouched());

    rms_norm_forward(context, x.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
    CHECK(same_bits(x.view(), y.view()));
    CHECK(x.intact());
  }
}

TEST_CASE_TEMPLATE("rms_norm_backward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const norm_sizes& s : sizes) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    const dims<3> shape{s.N, s.H, s.C};
    auto x = random_heads<S>(s, 1), dy = random_heads<S>(s, 2), residual = random_heads<S>(s, 3);
    guarded<S, 1> weight(dims<1>{s.C}, uniform(s.C, 4, 0.5, 1.5));
    guarded<S, 1> dweight(dims<1>{s.C}, uniform(s.C, 5));
    const array<3> xs = array_of(x.view()), dys = array_of(dy.view());
    const array<1> weights = array_of(weight.view()), before = array_of(dweight.view());
    guarded<S, 2> inv_rms(dims<2>{s.N, s.H}, reference::inverse_rms(xs, epsilon).elements);
    const array<2> r = array_of(inv_rms.view());

    guarded<S, 3> dx(shape, spaced(s));
    const mtp::view<const S, dims<3>, cpu> nothing(nullptr, shape);
    rms_norm_backward(context,
                      dx.view(),
                      dweight.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      nothing);
    const array<3> expected = reference::rms_norm_backward_input(dys, xs, r, weights);
    const array<3> terms =
        reference::rms_norm_backward_input(magnitude(dys), magnitude(xs), r, magnitude(weights), 1);
    CHECK(within(dx.view(), expected.elements, bounds<S>(s.C + 10, terms)));
    CHECK(dx.intact());
    CHECK(within(dweight.view(),
                 (before + reference::rms_norm_backward_weight(dys, xs, r)).elements,
                 bounds<S>(s.N * s.H + 2,
                           magnitude(before) + reference::rms_norm_backward_weight(
                                                   magnitude(dys), magnitude(xs), r))));
    CHECK(dweight.intact());

    const array<3> residuals = array_of(residual.view());
    guarded<S, 1> ignored(dims<1>{s.C}, uniform(s.C, 5));
    guarded<S, 3> added(shape, spaced(s));
    rms_norm_backward(context,
                      added.view(),
                      ignored.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      residual.view());
    CHECK(within(added.view(),
                 (expected + residuals).elements,
                 bounds<S>(s.C + 11, terms + magnitude(residuals))));

    ignored.set(uniform(s.C, 5));
    rms_norm_backward(context,
                      residual.view(),
                      ignored.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      residual.view());
    CHECK(same_bits(residual.view(), added.view()));
    CHECK(residual.intact());

    ignored.set(uniform(s.C, 5));
    rms_norm_backward(context,
                      dy.view(),
                      ignored.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      nothing);
    CHECK(same_bits(dy.view(), dx.view()));
    CHECK(same_bits(ignored.view(), dweight.view()));
    CHECK(dy.intact());
    CHECK(x.untouched());
  }
}

TEST_CASE("rms_norm gradients match differences of the forward operation") {
  cpu_context context({.threads = 2});
  for (const norm_sizes& s : {norm_sizes{3, 2, 5, 1}, norm_sizes{11, 2, 67, 0}}) {
    const dims<3> shape{s.N, s.H, s.C};
    auto x = random_heads<double>(s, 1), dy = random_heads<double>(s, 2);
    guarded<double, 1> weight(dims<1>{s.C}, uniform(s.C, 3, 0.5, 1.5));
    guarded<double, 1> dweight(dims<1>{s.C}, std::vector<double>(static_cast<std::size_t>(s.C)));
    const array<3> dys = array_of(dy.view());
    guarded<double, 3> y(shape), dx(shape);
    guarded<double, 2> inv_rms(dims<2>{s.N, s.H});
    const auto loss = [&](guarded<double, 3>& xs, guarded<double, 1>& weights) {
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
                      mtp::view<const double, dims<3>, cpu>(nullptr, shape));
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 3> moved(shape, std::vector<double>(at.begin(), at.end()));
          return loss(moved, weight);
        },
        values(x.view()),
        values(dx.view())));
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 1> moved(dims<1>{s.C}, std::vector<double>(at.begin(), at.end()));
          return loss(x, moved);
        },
        values(weight.view()),
        values(dweight.view())));
  }
}

TEST_CASE_TEMPLATE("rms_norm over a matrix is rms_norm over one head", S, float, double) {
  cpu_context context({.threads = 1});
  const index_t N = 5, C = 37;
  guarded<S, 2> x(dims<2>{N, C}, strides(C + 3, 1), normal(N * C, 1));
  guarded<S, 2> dy(dims<2>{N, C}, normal(N * C, 2));
  guarded<S, 1> weight(dims<1>{C}, uniform(C, 3));
  guarded<S, 2> y(dims<2>{N, C}), dx(dims<2>{N, C});
  guarded<S, 3> y_heads(dims<3>{N, 1, C}), dx_heads(dims<3>{N, 1, C});
  guarded<S, 1> inv_rms(dims<1>{N}), dweight(dims<1>{C}, uniform(C, 4));
  guarded<S, 2> inv_rms_heads(dims<2>{N, 1});
  guarded<S, 1> dweight_heads(dims<1>{C}, uniform(C, 4));
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

TEST_CASE_TEMPLATE(
    "rms_norm_forward gives a row the same bits among any number of rows and threads",
    S,
    float,
    double) {
  cpu_context one({.threads = 1});
  const norm_sizes s{200, 3, 101, 2};
  auto x = random_heads<S>(s, 1);
  guarded<S, 1> weight(dims<1>{s.C}, uniform(s.C, 2));
  const auto run = [&](cpu_context& context, index_t first, index_t M) {
    guarded<S, 3> y(dims<3>{M, s.H, s.C});
    guarded<S, 2> inv_rms(dims<2>{M, s.H});
    rms_norm_forward(
        context, y.view(), inv_rms.view(), x.view().slice(0, first, M), weight.view(), epsilon);
    std::vector<S> all;
    for (index_t m = 0; m < M; ++m) {
      all = join(join(std::move(all), elements(y.view().select(0, m))),
                 elements(inv_rms.view().select(0, m)));
    }
    return all;
  };
  std::vector<S> alone;
  for (index_t m = 0; m < s.N; ++m) {
    alone = join(std::move(alone), run(one, m, 1));
  }
  for (int threads = 1; threads <= 4; ++threads) {
    cpu_context context({.threads = threads});
    CHECK(same_bits(run(context, 0, s.N), alone));
    for (index_t M = 1; M <= 17; ++M) {
      CAPTURE(M);
      CHECK(same_bits(run(context, 0, M),
                      std::vector<S>(alone.begin(), alone.begin() + M * s.H * (s.C + 1))));
    }
  }
}

TEST_CASE_TEMPLATE("rms_norm_backward gives the same bits for any number of threads",
                   S,
                   float,
                   double) {
  const norm_sizes s{200, 3, 131, 2};
  auto x = random_heads<S>(s, 1), dy = random_heads<S>(s, 2);
  guarded<S, 1> weight(dims<1>{s.C}, uniform(s.C, 3));
  guarded<S, 2> inv_rms(dims<2>{s.N, s.H}, uniform(s.N * s.H, 4, 0.5, 2));
  CHECK(same_for_all_threads([&](cpu_context& context) {
    guarded<S, 3> dx(dims<3>{s.N, s.H, s.C});
    guarded<S, 1> dweight(dims<1>{s.C}, uniform(s.C, 5));
    rms_norm_backward(context,
                      dx.view(),
                      dweight.view(),
                      dy.view(),
                      x.view(),
                      inv_rms.view(),
                      weight.view(),
                      dy.view());
    return join(elements(dx.view()), elements(dweight.view()));
  }));
}

TEST_CASE_TEMPLATE("rms_norm_forward shows NaN in its own row and nowhere else", S, float, double) {
  cpu_context context({.threads = 1});
  guarded<S, 2> x(dims<2>{3, 37}, normal(3 * 37, 1));
  x.view()(1, 36) = std::numeric_limits<S>::quiet_NaN();
  guarded<S, 1> weight(dims<1>{37}, uniform(37, 2, 0.5, 1.5)), inv_rms(dims<1>{3});
  guarded<S, 2> y(dims<2>{3, 37});
  rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
  for (index_t c = 0; c < 37; ++c) {
    CHECK(std::isnan(static_cast<double>(y.view()(1, c))));
    CHECK(std::isfinite(static_cast<double>(y.view()(0, c))));
    CHECK(std::isfinite(static_cast<double>(y.view()(2, c))));
  }
}

TEST_CASE("rms_norm operations reject wrong shapes and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  const dims<3> shape{4, 2, 6};
  guarded<S, 3> x(shape, uniform(48, 1)), dy(shape, uniform(48, 2));
  guarded<S, 3> longer(dims<3>{5, 2, 6}, uniform(60, 3)), spread(shape, strides(24, 12, 2));
  guarded<S, 1> weight(dims<1>{6}, uniform(6, 4)), weight_long(dims<1>{7}, uniform(7, 4));
  guarded<S, 1> weight_spread(dims<1>{6}, strides(2), uniform(6, 4));
  guarded<S, 2> r(dims<2>{4, 2}, uniform(8, 5)), r_wrong(dims<2>{4, 3}, uniform(12, 5));
  guarded<S, 3> y(shape), dx(shape);
  guarded<S, 2> inv_rms(dims<2>{4, 2});
  guarded<S, 1> dweight(dims<1>{6}, uniform(6, 6));
  const mtp::view<const S, dims<3>, cpu> nothing(nullptr, shape);
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
  CHECK(backward(dx.view(), weight_long.view(), dy.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), weight_spread.view(), dy.view(), x.view(), r.view(), w, nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r_wrong.view(), w, nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), weight_long.view(), nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), weight_spread.view(), nothing));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), w, longer.view()));
  CHECK(backward(dx.view(), dw, dy.view(), x.view(), r.view(), w, spread.view()));
  CHECK(backward(spread.view(), dw, dy.view(), x.view(), r.view(), w, nothing));
  CHECK(y.untouched());
  CHECK(dx.untouched());
  CHECK(inv_rms.untouched());
  CHECK(dweight.untouched());
  CHECK(spread.untouched());
  CHECK(weight_long.untouched());
  CHECK(weight_spread.untouched());
}

}  // namespace

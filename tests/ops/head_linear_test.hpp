// Linear maps of heads against the reference, and bit for bit in any company. Who includes this
// says for which cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <type_traits>
#include <vector>

#include "mtp/ops/head_linear.hpp"
#include "mtp/ops/linear.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/head_linear.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::head_linear {

using reference::array;
using reference::array_of;
using reference::magnitude;

struct head_linear_sizes {
  index_t M, H, N, K;
};

// Parts of whole panels; one head with whatever part; rows around a tile, and more than a block.
inline const head_linear_sizes sizes[] = {{1, 1, 5, 3},
                                          {2, 3, 32, 7},
                                          {5, 2, 64, 33},
                                          {12, 4, 32, 40},
                                          {13, 2, 96, 18},
                                          {1, 5, 128, 257},
                                          {3, 1, 33, 31},
                                          {40, 3, 64, 12},
                                          {130, 2, 32, 300},
                                          {0, 2, 32, 5},
                                          {3, 2, 32, 0}};

/// x [M, H, K], dy [M, H, N], with gaps between heads and rows, and W [H N, K].
template <class S, class B>
struct operands {
  index_t M, H, N, K;
  guarded<S, 3, B> x, dy;
  guarded_weight<S, B> w;

  explicit operands(const head_linear_sizes& s)
      : M(s.M),
        H(s.H),
        N(s.N),
        K(s.K),
        x(inputs(), spaced(K), uniform(M * H * K, 1)),
        dy(outputs(), spaced(N), uniform(M * H * N, 2)),
        w(H * N, K, uniform(H * N * K, 3)) {}

  dims<3> inputs() const { return {M, H, K}; }
  dims<3> outputs() const { return {M, H, N}; }
  std::array<index_t, 3> spaced(index_t width) const {
    return strides(H * (width + 3) + 5, width + 3, 1);
  }
  guarded<S, 3, B> like_inputs() const { return {inputs(), spaced(K)}; }
  guarded<S, 3, B> like_outputs() const { return {outputs(), spaced(N)}; }
};

/// As in linear_test.hpp.
template <class S>
std::vector<double> bounds(index_t k, const array<3>& sum, const array<3>& value) {
  return result_bounds<S>(std::is_same_v<S, bf16> ? 2 * (k + 1) : k + 1, sum, value);
}

TEST_CASE_TEMPLATE_DEFINE("head_linear operations match the reference", Case, matches) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const head_linear_sizes& s : some_of<B>(sizes)) {
    CAPTURE(s.M);
    CAPTURE(s.N);
    CAPTURE(s.K);
    operands<S, B> a(s);
    const array<3> x = array_of(a.x.view()), dy = array_of(a.dy.view());
    const array<2> w = a.w.rows();

    auto y = a.like_outputs();
    head_linear_forward(context, y.view(), a.x.view(), a.w.view());
    const array<3> forward = reference::head_linear_forward(x, w);
    CHECK(within(
        y.view(),
        forward.elements,
        bounds<S>(s.K, reference::head_linear_forward(magnitude(x), magnitude(w)), forward)));
    CHECK(y.intact());

    auto dx = a.like_inputs();
    head_linear_backward_input(context, dx.view(), a.dy.view(), a.w.view());
    const array<3> backward = reference::head_linear_backward_input(dy, w);
    CHECK(within(
        dx.view(),
        backward.elements,
        bounds<S>(
            s.N, reference::head_linear_backward_input(magnitude(dy), magnitude(w)), backward)));
    CHECK(dx.intact());
    CHECK(a.x.untouched());
    CHECK(a.dy.untouched());
    CHECK(workspace_is_idle(context));
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "head_linear operations give a row the same bits among up to 64 rows, however computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const head_linear_sizes& s :
       {head_linear_sizes{64, 3, 32, 41}, head_linear_sizes{20, 2, 96, 300}}) {
    operands<S, B> a(s);
    const auto run = [&](auto& context, index_t first, index_t rows) {
      guarded<S, 3, B> y(dims<3>{rows, a.H, a.N}), dx(dims<3>{rows, a.H, a.K});
      head_linear_forward(context, y.view(), a.x.view().slice(0, first, rows), a.w.view());
      head_linear_backward_input(context, dx.view(), a.dy.view().slice(0, first, rows), a.w.view());
      std::vector<double> all;
      for (index_t m = 0; m < rows; ++m) {
        all = join(std::move(all), values(y.view().select(0, m)));
        all = join(std::move(all), values(dx.view().select(0, m)));
      }
      return all;
    };
    auto one = testing<B>::make_context();
    std::vector<double> alone;
    for (index_t m = 0; m < a.M; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    const index_t row = a.H * (a.N + a.K);
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      for (const index_t M : {2, 5, 12, 13, 17, 64}) {
        if (M > a.M) {
          continue;
        }
        CAPTURE(M);
        CHECK(same_bits(run(context, a.M - M, M),
                        std::vector<double>(alone.end() - M * row, alone.end())));
      }
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("head_linear operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  operands<S, B> a({3, 2, 32, 7}), wider({3, 2, 32, 8}), longer({4, 2, 32, 7}),
      other({3, 4, 32, 7});
  auto y = a.like_outputs();
  auto dx = a.like_inputs();
  const auto rejected = [&](auto& rows, auto& gradients, auto& weight) {
    return rejects("head_linear_forward",
                   [&] { head_linear_forward(context, y.view(), rows.view(), weight.view()); }) &&
           rejects("head_linear_backward_input", [&] {
             head_linear_backward_input(context, dx.view(), gradients.view(), weight.view());
           });
  };
  CHECK(rejected(longer.x, longer.dy, a.w));
  CHECK(rejected(other.x, other.dy, a.w));
  CHECK(rejected(a.x, a.dy, wider.w));
  CHECK(rejected(a.x, a.dy, other.w));
  CHECK(y.untouched());
  CHECK(dx.untouched());
  guarded<S, 3, B> apart(dims<3>{3, 2, 7}, strides(40, 20, 2));
  CHECK(rejects("head_linear_forward",
                [&] { head_linear_forward(context, y.view(), apart.view(), a.w.view()); }));
  CHECK(rejects("head_linear_backward_input", [&] {
    head_linear_backward_input(context, apart.view(), a.dy.view(), a.w.view());
  }));
  CHECK(apart.untouched());
}

TEST_CASE_TEMPLATE_APPLY(matches, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::head_linear

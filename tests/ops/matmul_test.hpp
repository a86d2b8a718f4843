// Products of matrices against the reference. Who includes this says for which cases: see
// support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "mtp/ops/matmul.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/matmul.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::products {

// M, N, K around a tile, a panel and a block of steps, and large enough for a product library.
struct sizes {
  index_t M, N, K;
};
inline const sizes all_sizes[] = {{1, 1, 1},
                                  {1, 33, 7},
                                  {3, 31, 5},
                                  {5, 64, 17},
                                  {7, 130, 300},
                                  {13, 32, 2},
                                  {97, 45, 11},
                                  {12, 16, 257},
                                  {200, 520, 40},
                                  {14, 7, 1100},
                                  {65, 130, 129}};

/// Matrix instructions for bf16 cut off where others round to nearest: twice the error for each.
template <class C, class A>
std::vector<double> bounds(const mtp::reference::products& expected, index_t K) {
  const index_t roundings = std::is_same_v<A, bf16> ? 2 * (K + 1) : K + 1;
  std::vector<double> bound;
  for (std::size_t i = 0; i < expected.value.size(); ++i) {
    bound.push_back(stored_bound<C>(
        expected.value[i],
        dot_bound(roundings, unit_roundoff<accumulate_t<C>>, expected.magnitude[i])));
  }
  return bound;
}

// c = a b and c += a b, with a and b as they are and transposed, c with rows side by side, apart
// and transposed.
template <class C, class A, class B, class Backend>
void check_all_layouts(context<Backend>& context, const sizes& s) {
  const index_t M = s.M, N = s.N, K = s.K;
  CAPTURE(M);
  CAPTURE(N);
  CAPTURE(K);
  const auto left = normal(M * K, 1), right = normal(K * N, 2), start = normal(M * N, 3);
  const std::array<index_t, 2> rows[] = {{K, 1}, {1, M}, {2 * K + 3, 2}};
  const std::array<index_t, 2> columns[] = {{N, 1}, {1, K}, {N + 5, 1}};
  const std::array<index_t, 2> outputs[] = {{N, 1}, {N + 7, 1}, {1, M}};
  for (int layout = 0; layout < 3; ++layout) {
    CAPTURE(layout);
    for (int turn = 0; turn < 3; ++turn) {
      CAPTURE(turn);
      const guarded<A, 2, Backend> a(dims<2>(M, K), rows[layout], left);                   // [M, K]
      const guarded<B, 2, Backend> b(dims<2>(K, N), columns[(layout + turn) % 3], right);  // [K, N]
      guarded<C, 2, Backend> c(dims<2>(M, N), outputs[turn]);                              // [M, N]
      matmul(context, c.view(), a.view(), b.view());
      const auto product = mtp::reference::matmul(values(a.view()), values(b.view()), M, N, K);
      CHECK(within(c.view(), product.value, bounds<C, A>(product, K)));
      CHECK(c.intact());
      c.set(start);
      const auto before = values(c.view());
      matmul(context, c.view(), a.view(), b.view(), update::accumulate);
      const auto sum = mtp::reference::matmul(values(a.view()), values(b.view()), M, N, K, before);
      CHECK(within(c.view(), sum.value, bounds<C, A>(sum, K)));
      CHECK(c.intact());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("matmul matches the reference in any layout", Case, layouts) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const sizes& s : some_of<B>(all_sizes)) {
    check_all_layouts<S, S, S, B>(context, s);
  }
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_DEFINE("matmul widens bf16 beside f32", Case, mixtures) {
  using B = typename Case::backend;
  if constexpr (std::is_same_v<typename Case::scalar, bf16>) {
    auto context = testing<B>::make_context();
    for (const sizes& s : {sizes{5, 33, 19}, sizes{70, 128, 120}}) {
      check_all_layouts<float, bf16, bf16, B>(context, s);
      check_all_layouts<float, bf16, float, B>(context, s);
      check_all_layouts<float, float, bf16, B>(context, s);
      check_all_layouts<bf16, float, bf16, B>(context, s);
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("matmul is right across all its blocks", Case, blocks) {
  using B = typename Case::backend;
  if constexpr (std::is_same_v<typename Case::scalar, float>) {
    auto context = testing<B>::make_context();
    for (const sizes& s :
         {sizes{1030, 33, 3}, sizes{3, 1100, 9}, sizes{3, 33, 2500}, sizes{30, 33, 600}}) {
      const index_t M = s.M, N = s.N, K = s.K;
      CAPTURE(M);
      const guarded<float, 2, B> a(dims<2>(M, K), normal(M * K, 4));  // [M, K]
      const guarded<float, 2, B> b(dims<2>(K, N), normal(K * N, 5));  // [K, N]
      guarded<float, 2, B> c(dims<2>(M, N)),
          turned(dims<2>(M, N), {1, M});  // [M, N], turned stride (1, M)
      matmul(context, c.view(), a.view(), b.view());
      matmul(context, turned.view(), a.view(), b.view());
      const auto expected = mtp::reference::matmul(values(a.view()), values(b.view()), M, N, K);
      CHECK(within(c.view(), expected.value, bounds<float, float>(expected, K)));
      CHECK(same_bits(turned.view(), c.view()));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "matmul gives a row the same bits among up to 16 rows, in any layout, however it is computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  constexpr index_t most = 16;
  for (const sizes& s : {sizes{most, 77, 70}, sizes{most, 20, 350}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    CAPTURE(K);
    const auto left = normal(M * K, 6), start = normal(M * N, 8);
    const guarded<S, 2, B> a(dims<2>(M, K), left);               // [M, K]
    const guarded<S, 2, B> turned(dims<2>(M, K), {1, M}, left);  // [M, K] stride (1, M)
    const guarded<S, 2, B> b(dims<2>(K, N), normal(K * N, 7));   // [K, N]
    auto one = testing<B>::make_context();
    guarded<S, 2, B> alone(dims<2>(M, N)), added(dims<2>(M, N), start);  // [M, N]
    for (index_t m = 0; m < M; ++m) {
      matmul(one, alone.view().slice(0, m, 1), a.view().slice(0, m, 1), b.view());
      matmul(
          one, added.view().slice(0, m, 1), a.view().slice(0, m, 1), b.view(), update::accumulate);
    }
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      for (const index_t rows : {2, 5, 16}) {
        CAPTURE(rows);
        for (const auto& layout : {a.view(), turned.view()}) {
          guarded<S, 2, B> c(dims<2>(rows, N));  // [rows, N]
          matmul(context, c.view(), layout.slice(0, 0, rows), b.view());
          REQUIRE(same_bits(c.view(), alone.view().slice(0, 0, rows)));
          guarded<S, 2, B> sum(dims<2>(rows, N), {1, rows});  // [rows, N] stride (1, rows)
          sum.set(std::vector<double>(start.begin(), start.begin() + rows * N));
          matmul(context, sum.view(), layout.slice(0, 0, rows), b.view(), update::accumulate);
          REQUIRE(same_bits(sum.view(), added.view().slice(0, 0, rows)));
        }
      }
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("a NaN reaches its row or its column of a product and nothing else",
                          Case,
                          not_a_number) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const sizes& s : {sizes{15, 40, 9}, sizes{130, 120, 70}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    guarded<S, 2, B> a(dims<2>(M, K), normal(M * K, 9));   // [M, K]
    guarded<S, 2, B> b(dims<2>(K, N), normal(K * N, 10));  // [K, N]
    a.view()(3, 2) = b.view()(4, 39) = unwritten<S>();
    guarded<S, 2, B> c(dims<2>(M, N));  // [M, N]
    matmul(context, c.view(), a.view(), b.view());
    const auto product = c.view();
    for (index_t m = 0; m < M; ++m) {
      for (index_t n = 0; n < N; ++n) {
        CHECK(std::isnan(static_cast<double>(product(m, n))) == (m == 3 || n == 39));
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "a product without steps is zero, or nothing where it is added; without rows or columns it is "
    "nothing",
    Case,
    empty) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t M : {1, 15, 30}) {
    const guarded<S, 2, B> a(dims<2>(M, 0)), b(dims<2>(0, 5));  // [M, 0], [0, 5]
    guarded<S, 2, B> c(dims<2>(M, 5));                          // [M, 5]
    matmul(context, c.view(), a.view(), b.view());
    CHECK(within(c.view(), std::vector<double>(static_cast<std::size_t>(M * 5), 0.0), 0.0));
    c.set(normal(M * 5, 11));
    matmul(context, c.view(), a.view(), b.view(), update::accumulate);
    CHECK(c.untouched());
  }
  const guarded<S, 2, B> none(dims<2>(0, 4)),
      some(dims<2>(4, 3), normal(12, 12));                       // [0, 4], [4, 3]
  guarded<S, 2, B> rows(dims<2>(0, 3)), columns(dims<2>(4, 0));  // [0, 3], [4, 0]
  matmul(context, rows.view(), none.view(), some.view());
  const guarded<S, 2, B> nothing(dims<2>(3, 0));  // [3, 0]
  matmul(context, columns.view(), some.view(), nothing.view());
  CHECK(rows.intact());
  CHECK(columns.intact());
}

TEST_CASE_TEMPLATE_DEFINE("matmul takes static shapes", Case, static_shapes) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const guarded<S, 2, B> left(dims<2>(2, 3), std::vector<double>{1, 2, 3, 4, 5, 6});
  guarded<S, 2, B> right(dims<2>(3, 2), std::vector<double>{1, 0, 0, 1, 1, 1}),
      product(dims<2>(2, 2));
  const view<const S, extents<2, 3>, B> a{left.view().data(), {}};       // [2, 3]
  const view<S, extents<3, dynamic>, B> b{right.view().data(), {3, 2}};  // [3, 2]
  const view<S, extents<2, 2>, B> c{product.view().data(), {}};          // [2, 2]
  matmul(context, c, a, b);
  CHECK(values(product.view()) == std::vector<double>{4, 5, 10, 11});
}

TEST_CASE_TEMPLATE_DEFINE("matmul rejects wrong shapes and leaves the output alone",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded<S, 2, B> c(dims<2>(2, 4));                         // [2, 4]
  const guarded<S, 2, B> a(dims<2>(2, 3), uniform(6, 13));   // [2, 3]
  const guarded<S, 2, B> b(dims<2>(3, 4), uniform(12, 14));  // [3, 4]
  CHECK_THROWS_WITH_AS(matmul(context, c.view(), b.view(), a.view()),
                       "matmul: expected b with 4 rows, as many as a has columns, got [2, 3]",
                       error);
  CHECK_THROWS_WITH_AS(matmul(context, c.view().transpose(), a.view(), b.view()),
                       "matmul: expected c of shape [2, 4], got [4, 2]",
                       error);
  CHECK(c.untouched());
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_APPLY(layouts, cases);
TEST_CASE_TEMPLATE_APPLY(mixtures, cases);
TEST_CASE_TEMPLATE_APPLY(blocks, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(not_a_number, cases);
TEST_CASE_TEMPLATE_APPLY(empty, cases);
TEST_CASE_TEMPLATE_APPLY(static_shapes, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::products

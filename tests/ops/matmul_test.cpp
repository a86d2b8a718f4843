#include "mtp/ops/matmul.hpp"

#include <doctest/doctest.h>

#include <array>
#include <limits>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"
#include "support/reference/matmul.hpp"
#include "support/tolerance.hpp"

using namespace mtp;
using test::guarded;
using test::same_bits;
using test::stored_bound;
using test::unit_roundoff;
using test::values;
using test::within;

namespace {

// M, N, K around a tile, a panel and a block of steps.
struct sizes {
  index_t M, N, K;
};
const sizes all_sizes[] = {{1, 1, 1},
                           {1, 33, 7},
                           {3, 31, 5},
                           {5, 64, 17},
                           {7, 130, 300},
                           {13, 32, 2},
                           {97, 45, 11},
                           {12, 16, 257},
                           {200, 520, 40},
                           {14, 7, 1100}};

template <class S>
std::vector<double> bounds(const reference::products& expected, index_t K) {
  std::vector<double> bound;
  for (std::size_t i = 0; i < expected.value.size(); ++i) {
    bound.push_back(stored_bound<S>(
        expected.value[i],
        test::dot_bound(K + 1, unit_roundoff<accumulate_t<S>>, expected.magnitude[i])));
  }
  return bound;
}

constexpr index_t workspace = index_t{1} << 25;

// c = a b and c += a b, with a and b as they are and transposed, c with rows side by side, apart
// and transposed.
template <class C, class A, class B>
void check_all_layouts(cpu_context& context, const sizes& s) {
  const index_t M = s.M, N = s.N, K = s.K;
  CAPTURE(M);
  CAPTURE(N);
  CAPTURE(K);
  const auto left = test::normal(M * K, 1), right = test::normal(K * N, 2),
             start = test::normal(M * N, 3);
  const std::array<index_t, 2> rows[] = {{K, 1}, {1, M}, {2 * K + 3, 2}};
  const std::array<index_t, 2> columns[] = {{N, 1}, {1, K}, {N + 5, 1}};
  const std::array<index_t, 2> outputs[] = {{N, 1}, {N + 7, 1}, {1, M}};
  for (int layout = 0; layout < 3; ++layout) {
    CAPTURE(layout);
    for (int turn = 0; turn < 3; ++turn) {
      CAPTURE(turn);
      const guarded<A, 2> a(dims<2>(M, K), rows[layout], left);                   // [M, K]
      const guarded<B, 2> b(dims<2>(K, N), columns[(layout + turn) % 3], right);  // [K, N]
      guarded<C, 2> c(dims<2>(M, N), outputs[turn]);                              // [M, N]
      matmul(context, c.view(), a.view(), b.view());
      const auto product = reference::matmul(values(a.view()), values(b.view()), M, N, K);
      CHECK(within(c.view(), product.value, bounds<C>(product, K)));
      CHECK(c.intact());
      c.set(start);
      const auto before = values(c.view());
      matmul(context, c.view(), a.view(), b.view(), update::accumulate);
      const auto sum = reference::matmul(values(a.view()), values(b.view()), M, N, K, before);
      CHECK(within(c.view(), sum.value, bounds<C>(sum, K)));
      CHECK(c.intact());
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("matmul matches the reference in any layout", S, double, float, bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = workspace});
  for (const sizes& s : all_sizes) {
    check_all_layouts<S, S, S>(context, s);
  }
  CHECK(context.workspace().used() == 0);
}

TEST_CASE("matmul widens bf16 beside f32") {
  cpu_context context({.threads = 2, .workspace_bytes = workspace});
  check_all_layouts<float, bf16, bf16>(context, {5, 33, 19});
  check_all_layouts<float, bf16, float>(context, {5, 33, 19});
  check_all_layouts<float, float, bf16>(context, {5, 33, 19});
  check_all_layouts<bf16, float, bf16>(context, {5, 33, 19});
}

TEST_CASE("matmul is right across all its blocks") {
  cpu_context context({.threads = 2, .workspace_bytes = workspace});
  for (const sizes& s : {sizes{1030, 33, 3}, sizes{3, 1100, 9}, sizes{3, 33, 2500}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    CAPTURE(M);
    const guarded<float, 2> a(dims<2>(M, K), test::normal(M * K, 4));  // [M, K]
    const guarded<float, 2> b(dims<2>(K, N), test::normal(K * N, 5));  // [K, N]
    guarded<float, 2> c(dims<2>(M, N)),
        turned(dims<2>(M, N), {1, M});  // [M, N], turned stride (1, M)
    matmul(context, c.view(), a.view(), b.view());
    matmul(context, turned.view(), a.view(), b.view());
    const auto expected = reference::matmul(values(a.view()), values(b.view()), M, N, K);
    CHECK(within(c.view(), expected.value, bounds<float>(expected, K)));
    CHECK(same_bits(turned.view(), c.view()));
  }
}

TEST_CASE_TEMPLATE(
    "the bits of a row do not depend on the rows beside it, on layouts or on threads",
    S,
    double,
    float,
    bf16) {
  for (const sizes& s : {sizes{200, 77, 70}, sizes{200, 40, 1300}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    CAPTURE(K);
    const auto left = test::normal(M * K, 6), start = test::normal(M * N, 8);
    const guarded<S, 2> a(dims<2>(M, K), left);                    // [M, K]
    const guarded<S, 2> turned(dims<2>(M, K), {1, M}, left);       // [M, K] stride (1, M)
    const guarded<S, 2> b(dims<2>(K, N), test::normal(K * N, 7));  // [K, N]
    cpu_context one({.threads = 1, .workspace_bytes = workspace});
    guarded<S, 2> alone(dims<2>(M, N)), added(dims<2>(M, N), start);  // [M, N]
    for (index_t m = 0; m < M; ++m) {
      matmul(one, alone.view().slice(0, m, 1), a.view().slice(0, m, 1), b.view());
      matmul(
          one, added.view().slice(0, m, 1), a.view().slice(0, m, 1), b.view(), update::accumulate);
    }
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context several({.threads = threads, .workspace_bytes = workspace});
      for (index_t rows = 1; rows <= M; rows = rows == 17 ? M : rows + 1) {
        CAPTURE(rows);
        for (const auto& layout : {a.view(), turned.view()}) {
          guarded<S, 2> c(dims<2>(rows, N));  // [rows, N]
          matmul(several, c.view(), layout.slice(0, 0, rows), b.view());
          REQUIRE(same_bits(c.view(), alone.view().slice(0, 0, rows)));
          guarded<S, 2> sum(dims<2>(rows, N), {1, rows});  // [rows, N] stride (1, rows)
          sum.set(std::vector<double>(start.begin(), start.begin() + rows * N));
          matmul(several, sum.view(), layout.slice(0, 0, rows), b.view(), update::accumulate);
          REQUIRE(same_bits(sum.view(), added.view().slice(0, 0, rows)));
        }
      }
    }
  }
}

TEST_CASE("a NaN reaches its row or its column and nothing else") {
  cpu_context context({.threads = 1, .workspace_bytes = workspace});
  const index_t M = 15, N = 40, K = 9;
  guarded<float, 2> a(dims<2>(M, K), test::normal(M * K, 9));   // [M, K]
  guarded<float, 2> b(dims<2>(K, N), test::normal(K * N, 10));  // [K, N]
  a.view()(3, 2) = b.view()(4, 39) = std::numeric_limits<float>::quiet_NaN();
  guarded<float, 2> c(dims<2>(M, N));  // [M, N]
  matmul(context, c.view(), a.view(), b.view());
  for (index_t m = 0; m < M; ++m) {
    for (index_t n = 0; n < N; ++n) {
      CHECK((c.view()(m, n) != c.view()(m, n)) == (m == 3 || n == 39));
    }
  }
}

TEST_CASE(
    "a product without steps is zero, or nothing where it is added; without rows or columns it is "
    "nothing") {
  cpu_context context({.threads = 2, .workspace_bytes = workspace});
  for (const index_t M : {1, 15, 30}) {
    const guarded<float, 2> a(dims<2>(M, 0)), b(dims<2>(0, 5));  // [M, 0], [0, 5]
    guarded<float, 2> c(dims<2>(M, 5));                          // [M, 5]
    matmul(context, c.view(), a.view(), b.view());
    CHECK(within(c.view(), std::vector<double>(static_cast<std::size_t>(M * 5), 0.0), 0.0));
    c.set(test::normal(M * 5, 11));
    matmul(context, c.view(), a.view(), b.view(), update::accumulate);
    CHECK(c.untouched());
  }
  const guarded<float, 2> none(dims<2>(0, 4)),
      some(dims<2>(4, 3), test::normal(12, 12));                  // [0, 4], [4, 3]
  guarded<float, 2> rows(dims<2>(0, 3)), columns(dims<2>(4, 0));  // [0, 3], [4, 0]
  matmul(context, rows.view(), none.view(), some.view());
  const guarded<float, 2> empty(dims<2>(3, 0));  // [3, 0]
  matmul(context, columns.view(), some.view(), empty.view());
  CHECK(rows.intact());
  CHECK(columns.intact());
}

TEST_CASE("matmul takes static shapes") {
  cpu_context context({.threads = 1, .workspace_bytes = workspace});
  float left[6] = {1, 2, 3, 4, 5, 6}, right[6] = {1, 0, 0, 1, 1, 1}, product[4];
  const view<const float, extents<2, 3>, cpu> a{left, {}};       // [2, 3]
  const view<float, extents<3, dynamic>, cpu> b{right, {3, 2}};  // [3, 2]
  const view<float, extents<2, 2>, cpu> c{product, {}};          // [2, 2]
  matmul(context, c, a, b);
  CHECK(values(c) == std::vector<double>{4, 5, 10, 11});
}

TEST_CASE("wrong shapes and too little workspace throw and leave the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 64});
  guarded<float, 2> c(dims<2>(2, 4));                               // [2, 4]
  const guarded<float, 2> a(dims<2>(2, 3), test::uniform(6, 13));   // [2, 3]
  const guarded<float, 2> b(dims<2>(3, 4), test::uniform(12, 14));  // [3, 4]
  CHECK_THROWS_WITH_AS(matmul(context, c.view(), b.view(), a.view()),
                       "matmul: expected b with 4 rows, the columns of a, got [2, 3]",
                       error);
  CHECK_THROWS_WITH_AS(matmul(context, c.view().transpose(), a.view(), b.view()),
                       "matmul: expected c of shape [2, 4], got [4, 2]",
                       error);
  CHECK_THROWS_AS(matmul(context, c.view(), a.view(), b.view()), error);
  CHECK(c.untouched());
  CHECK(context.workspace().used() == 0);
}

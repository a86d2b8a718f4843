#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/matmul_test.hpp"

namespace mtp::test::products {

TEST_CASE_TEMPLATE(
    "on the CPU, the bits of a row of a product do not depend on the rows beside it, on layouts or "
    "on threads",
    S,
    double,
    float,
    bf16) {
  for (const sizes& s : {sizes{200, 77, 70}, sizes{200, 40, 1300}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    CAPTURE(K);
    const auto left = normal(M * K, 6), start = normal(M * N, 8);
    const guarded<S, 2, cpu> a(dims<2>(M, K), left);               // [M, K]
    const guarded<S, 2, cpu> turned(dims<2>(M, K), {1, M}, left);  // [M, K] stride (1, M)
    const guarded<S, 2, cpu> b(dims<2>(K, N), normal(K * N, 7));   // [K, N]
    cpu_context one({.threads = 1});
    guarded<S, 2, cpu> alone(dims<2>(M, N)), added(dims<2>(M, N), start);  // [M, N]
    for (index_t m = 0; m < M; ++m) {
      matmul(one, alone.view().slice(0, m, 1), a.view().slice(0, m, 1), b.view());
      matmul(
          one, added.view().slice(0, m, 1), a.view().slice(0, m, 1), b.view(), update::accumulate);
    }
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context several({.threads = threads});
      for (index_t rows = 1; rows <= M; rows = rows == 17 ? M : rows + 1) {
        CAPTURE(rows);
        for (const auto& layout : {a.view(), turned.view()}) {
          guarded<S, 2, cpu> c(dims<2>(rows, N));  // [rows, N]
          matmul(several, c.view(), layout.slice(0, 0, rows), b.view());
          REQUIRE(same_bits(c.view(), alone.view().slice(0, 0, rows)));
          guarded<S, 2, cpu> sum(dims<2>(rows, N), {1, rows});  // [rows, N] stride (1, rows)
          sum.set(std::vector<double>(start.begin(), start.begin() + rows * N));
          matmul(several, sum.view(), layout.slice(0, 0, rows), b.view(), update::accumulate);
          REQUIRE(same_bits(sum.view(), added.view().slice(0, 0, rows)));
        }
      }
    }
  }
}

TEST_CASE("on the CPU, matmul throws on too little workspace and leaves the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 64});
  guarded<float, 2, cpu> c(dims<2>(2, 4));                         // [2, 4]
  const guarded<float, 2, cpu> a(dims<2>(2, 3), uniform(6, 13));   // [2, 3]
  const guarded<float, 2, cpu> b(dims<2>(3, 4), uniform(12, 14));  // [3, 4]
  CHECK_THROWS_AS(matmul(context, c.view(), a.view(), b.view()), error);
  CHECK(c.untouched());
  CHECK(context.workspace().used() == 0);
}

}  // namespace mtp::test::products

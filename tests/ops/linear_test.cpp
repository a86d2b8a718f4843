#include <type_traits>

#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/linear_test.hpp"

namespace mtp::test::linear {

TEST_CASE_TEMPLATE(
    "on the CPU, linear operations give a row the same bits among any number of rows and threads",
    S,
    float,
    double,
    bf16) {
  cpu_context one({.threads = 1});
  for (const linear_sizes& s : {linear_sizes{200, 129, 300},
                                linear_sizes{200, 40, 33},
                                linear_sizes{97, 35, 2101},
                                linear_sizes{97, 2101, 35}}) {
    const index_t rows = s.M, N = s.N, K = s.K;
    auto x = random_rows<S, cpu>(rows, K, K + 3, 1);
    auto w = random_weight<S, cpu>(N, K, 2);
    guarded<S, 1, cpu> bias(dims<1>{N}, uniform(N, 3));
    auto dy = random_rows<S, cpu>(rows, N, N, 4);
    // The outputs of rows [0, M): y, y with a bias, y with a residual, dx, dx with a residual.
    const auto run = [&](cpu_context& context, index_t first, index_t M) {
      const auto x_rows = x.view().slice(0, first, M);
      const auto dy_rows = dy.view().slice(0, first, M);
      guarded<S, 2, cpu> y(dims<2>{M, N}), biased(dims<2>{M, N}), added(dims<2>{M, N});
      guarded<S, 2, cpu> dx(dims<2>{M, K}), dx_added(dims<2>{M, K});
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

TEST_CASE_TEMPLATE("on the CPU, linear_backward_weight continues the sum that stands in dw",
                   S,
                   float,
                   double,
                   bf16) {
  using A = accumulate_t<S>;
  cpu_context context({.threads = 2});
  auto x = random_rows<S, cpu>(300, 17, 17, 1);
  auto dy = random_rows<S, cpu>(300, 33, 33, 2);
  auto whole = random_weight<A, cpu>(33, 17, 3);
  auto in_parts = random_weight<A, cpu>(33, 17, 3);
  linear_backward_weight(context, whole.view(), dy.view(), x.view());
  index_t first = 0;
  // Of bf16, two rows are one step of the sum.
  const bool pairs = std::is_same_v<S, bf16>;
  for (const index_t M : {pairs ? 2 : 1, 12, 100, pairs ? 186 : 187}) {
    linear_backward_weight(
        context, in_parts.view(), dy.view().slice(0, first, M), x.view().slice(0, first, M));
    first += M;
  }
  CHECK(same_bits(in_parts.storage(), whole.storage()));
}

}  // namespace mtp::test::linear

#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/linear_cross_entropy_test.hpp"

namespace mtp::test::linear_cross_entropy_tests {

// A promise of the CPU alone.
TEST_CASE_TEMPLATE("losses and predictions of a row have the same bits among any rows and threads",
                   S,
                   float,
                   double) {
  cpu_context one({.threads = 1});
  for (const loss_sizes& s : {loss_sizes{200, 40, 301, 2}, loss_sizes{60, 5, 20011, 1}}) {
    loss_case<S, cpu> a(s);
    const auto run = [&](cpu_context& context, index_t first, index_t M) {
      guarded<S, 2, cpu> losses(dims<2>{M, s.J});
      guarded<token_t, 1, cpu> predicted(dims<1>{M});
      linear_cross_entropy_forward(context,
                                   losses.view(),
                                   predicted.view(),
                                   a.hidden.view().slice(0, first, M),
                                   a.w.view(),
                                   a.targets.view().slice(0, first, M));
      std::vector<S> all;
      for (index_t m = 0; m < M; ++m) {
        all = join(std::move(all), elements(losses.view().select(0, m)));
        all.push_back(static_cast<S>(predicted.view()(m)));
      }
      return all;
    };
    std::vector<S> alone;
    for (index_t m = 0; m < s.R; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context context({.threads = threads});
      CHECK(same_bits(run(context, 0, s.R), alone));
      for (index_t M = 1; M <= 17; ++M) {
        CAPTURE(M);
        CHECK(same_bits(run(context, 0, M),
                        std::vector<S>(alone.begin(), alone.begin() + M * (s.J + 1))));
      }
    }
  }
}

TEST_CASE("linear_cross_entropy on the host rejects targets outside the vocabulary") {
  cpu_context context({.threads = 1});
  loss_case<float, cpu> a({4, 3, 6, 2});
  a.set_targets({0, 1, 2, 3, 6, 5, -1, 0});
  CHECK(rejects("linear_cross_entropy", [&] { a.run(context); }));
  CHECK(rejects("linear_cross_entropy_forward", [&] { a.run_forward(context); }));
  CHECK(a.losses.untouched());
  CHECK(a.dhidden.untouched());
  CHECK(a.dw.untouched());
  CHECK(a.predicted.untouched());
}

}  // namespace mtp::test::linear_cross_entropy_tests

#include <span>

#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/tensor_ranks.hpp"
// The cases come first.
#include "ops/sharded_cross_entropy_test.hpp"

namespace mtp::test::linear_cross_entropy_tests {

TEST_CASE("sharded_cross_entropy gradients match differences of the weighted losses") {
  const loss_sizes s{6, 4, 8, 2};
  loss_case<double, cpu> a(s);
  const auto before = a.dw.rows().elements;
  const array<2> weights = array_of(a.weights.view());
  const auto all = run_sharded(a, 2);
  std::vector<double> dw = join(all[0].dw, all[1].dw);
  for (std::size_t i = 0; i < dw.size(); ++i) dw[i] -= before[i];
  loss_case<double, cpu> moved(s);
  const auto loss = [&] {
    double sum = 0;
    const auto losses = run_sharded(moved, 2)[1].losses;
    for (std::size_t i = 0; i < losses.size(); ++i) sum += weights.elements[i] * losses[i];
    return sum;
  };
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        moved.hidden.set({at.begin(), at.end()});
        return loss();
      },
      values(a.hidden.view()),
      all[0].dhidden));
  moved.hidden.set(values(a.hidden.view()));
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        moved.w = guarded_weight<double, cpu>(s.V, s.C, {at.begin(), at.end()});
        return loss();
      },
      a.w.rows().elements,
      dw,
      gradcheck_options{.error = 0x1p-50}));
}

TEST_CASE_TEMPLATE("results over ranks have the same bits with any number of threads",
                   S,
                   float,
                   bf16) {
  loss_case<S, cpu> a({200, 9, 302, 2});
  const auto one = run_sharded(a, 2, 1), three = run_sharded(a, 2, 3);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CHECK(same_bits(one[rank].losses, three[rank].losses));
    CHECK(same_bits(one[rank].dhidden, three[rank].dhidden));
    CHECK(same_bits(one[rank].dw, three[rank].dw));
  }
}

TEST_CASE("operations on divided matrices on the host reject targets that no rank has") {
  const loss_sizes s{4, 3, 6, 2};
  loss_case<float, cpu> a(s);
  guarded<float, 2, cpu> dhidden(dims<2>{4, 3});
  a.set_targets({0, 1, 2, 3, 6, 5, -1, 0});  // 6 is V
  on_ranks(2, [&](cpu_context& context, int rank) {
    if (rank != 0) return;
    guarded_weight<float, cpu> w(3, 3, std::vector<double>(9, 0.5));
    CHECK(rejects("sharded_cross_entropy", [&] {
      sharded_cross_entropy(context,
                            a.losses.view(),
                            a.predicted.view(),
                            dhidden.view(),
                            weight_view<float, cpu>(nullptr, 3, 3),
                            a.hidden.view(),
                            w.view(),
                            a.targets.view(),
                            a.weights.view());
    }));
    CHECK(rejects("sharded_cross_entropy_forward", [&] {
      sharded_cross_entropy_forward(context,
                                    a.losses.view(),
                                    a.predicted.view(),
                                    a.hidden.view(),
                                    w.view(),
                                    a.targets.view());
    }));
  });
  CHECK(a.losses.untouched());
  CHECK(dhidden.untouched());
}

}  // namespace mtp::test::linear_cross_entropy_tests

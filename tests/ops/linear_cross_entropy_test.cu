#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/linear_cross_entropy_test.hpp"

namespace mtp::test::linear_cross_entropy_tests {

// The host cannot look at targets on a device.
TEST_CASE_TEMPLATE(
    "targets outside the vocabulary count as none and are reported", S, float, double, bf16) {
  staged_context context = testing<staged>::make_context();
  loss_case<S, staged> a({4, 3, 6, 2}), without({4, 3, 6, 2});
  a.set_targets({0, 1, 2, 3, 6, 5, 2147483647, 0});
  without.set_targets({0, 1, 2, 3, -1, 5, -1, 0});
  const auto reported = [&] {
    const comparison report = rejects("linear_cross_entropy", [&] { context.synchronize(); });
    CHECK(report.message.find(" does not lie in [0, 6)") != std::string::npos);
    return report;
  };
  a.run(context);
  CHECK(reported());
  without.run(context);
  CHECK_NOTHROW(context.synchronize());
  CHECK(same_bits(a.results(), without.results()));
  a.run_forward(context);
  CHECK(reported());
}

#if defined(MTP_CUDA_EMULATION)

TEST_CASE_TEMPLATE(
    "linear_cross_entropy does what the product library does not", S, float, double, bf16) {
  for_each_refusal([] {
    auto context = testing<staged>::make_context();
    check_case<S, staged>(context, {37, 19, 45, 2}, inputs::small, true);
  });
}

#endif

TEST_CASE("linear_cross_entropy and predict can be recorded and replayed") {
  using S = bf16;
  staged_context context = testing<staged>::make_context();
  const loss_sizes s{5, 4, 2100, 2};
  loss_case<S, staged> a(s);
  guarded<S, 2, staged> logits(dims<2>{s.R, s.V}, normal(s.R * s.V, 1));
  guarded<token_t, 1, staged> best(dims<1>{s.R});
  const auto losses = a.losses.view();
  const auto dhidden = a.dhidden.view(), hidden = a.hidden.view(), rows = logits.view();
  const auto predicted = a.predicted.view(), chosen = best.view();
  const auto targets = a.targets.view();
  const auto weights = a.weights.view();
  const auto w = a.w.view();
  const auto dw = a.dw.view();
  staged_recording cycle;
  for (std::uint64_t round = 0; round < 3; ++round) {
    a.hidden.set(normal(s.R * s.C, 5 + round));
    logits.set(normal(s.R * s.V, 9 + round));
    loss_case<S, staged> usual(s);
    usual.hidden.set(normal(s.R * s.C, 5 + round));
    usual.dw = a.dw;
    cycle.replay(context, [&] {
      linear_cross_entropy(context, losses, predicted, dhidden, dw, hidden, w, targets, weights);
      predict(context, chosen, rows);
    });
    usual.run(context);
    context.synchronize();
    CHECK(same_bits(a.results(), usual.results()));
    CHECK(same_bits(elements(best.view()), reference::predict(array_of(logits.view()))));
  }
}

}  // namespace mtp::test::linear_cross_entropy_tests

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "support/cuda_tensor_ranks.hpp"
// The cases come first.
#include "ops/sharded_cross_entropy_test.hpp"

namespace mtp::test::linear_cross_entropy_tests {

// The host cannot look at targets on a device.
TEST_CASE("targets that no rank has count as none and are reported by all") {
  loss_case<float, staged> a({4, 3, 6, 2}), without({4, 3, 6, 2});
  a.set_targets({0, 1, 2, 3, 6, 5, 2147483647, 0});
  without.set_targets({0, 1, 2, 3, -1, 5, -1, 0});
  const auto expected = run_sharded(without, 2);
  const auto w = a.w.rows().elements;
  on_ranks_of<staged>(2, [&](auto& context, int rank) {
    guarded_weight<float, staged> own(3, 3, rows_of(w, 3, rank * 3, 3));
    guarded<float, 2, staged> losses(dims<2>{4, 2});
    guarded<token_t, 1, staged> predicted(dims<1>{4});
    sharded_cross_entropy_forward(
        context, losses.view(), predicted.view(), a.hidden.view(), own.view(), a.targets.view());
    const comparison report = rejects("linear_cross_entropy", [&] { context.synchronize(); });
    CHECK(report);
    CHECK(report.message.find(" does not lie in [0, 6)") != std::string::npos);
    const auto& usual = expected[static_cast<std::size_t>(rank)];
    CHECK(same_bits(elements(losses.view()), usual.losses));
    CHECK(same_bits(elements(predicted.view()), usual.predicted));
  });
}

}  // namespace mtp::test::linear_cross_entropy_tests

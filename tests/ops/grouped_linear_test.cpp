#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/grouped_linear_test.hpp"

namespace mtp::test::grouped_linear {

TEST_CASE_TEMPLATE_DEFINE(
    "on the CPU gradients of linear maps of experts have the bits of linear maps", Case, bits) {
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<cpu>::make_context();
  for (const group_sizes& s : some_of<cpu>(sizes())) {
    groups<S, cpu> g(s);
    CAPTURE(g.R);
    CAPTURE(g.K);
    guarded<S, 2, cpu> dx(dims<2>{g.R, g.K}), alone(dims<2>{g.R, g.K});
    const auto start = uniform(g.E * g.N * g.K, 5);
    guarded_weight<A, cpu> dw(g.E * g.N, g.K, start), own(g.E * g.N, g.K, start);
    grouped_linear_backward_input(context, dx.view(), g.dy.view(), g.w.view(), g.offsets.view());
    grouped_linear_backward_weight(context, dw.view(), g.dy.view(), g.x.view(), g.offsets.view());
    for (index_t e = 0; e < g.E; ++e) {
      const auto dy = g.part(g.dy.view(), e);
      linear_backward_input(context, g.part(alone.view(), e), dy, g.w.view().rows(e * g.N, g.N));
      linear_backward_weight(context, own.view().rows(e * g.N, g.N), dy, g.part(g.x.view(), e));
    }
    CHECK(same_bits(dx.view(), alone.view()));
    CHECK(same_bits(dw.storage(), own.storage()));
  }
}
TEST_CASE_TEMPLATE_APPLY(bits, cases);

TEST_CASE_TEMPLATE_DEFINE("linear maps of experts stay within the planned workspace",
                          Case,
                          workspace) {
  using S = typename Case::scalar;
  for (const group_sizes& s : some_of<cpu>(sizes())) {
    groups<S, cpu> g(s);
    CAPTURE(g.R);
    CAPTURE(g.K);
    using ops = ops_of<cpu>;
    const auto sized = [&](index_t bytes) {
      return cpu_context({.threads = 3, .workspace_bytes = bytes});
    };
    guarded<S, 2, cpu> y(dims<2>{g.R, g.N}), dx(dims<2>{g.R, g.K});
    guarded_weight<accumulate_t<S>, cpu> dw(
        g.E * g.N, g.K, std::vector<double>(static_cast<std::size_t>(g.E * g.N * g.K), 0.0));
    auto forward = sized(ops::template grouped_linear_forward_workspace<S>(g.R, g.E, g.N, g.K, 3));
    grouped_linear_forward(forward, y.view(), g.x.view(), g.w.view(), g.offsets.view());
    auto all = sized(ops::template grouped_linear_workspace<S>(g.R, g.E, g.N, g.K, 3));
    grouped_linear_forward(all, y.view(), g.x.view(), g.w.view(), g.offsets.view());
    grouped_linear_backward_input(all, dx.view(), g.dy.view(), g.w.view(), g.offsets.view());
    grouped_linear_backward_weight(all, dw.view(), g.dy.view(), g.x.view(), g.offsets.view());
    CHECK(y.intact());
  }
}
TEST_CASE_TEMPLATE_APPLY(workspace, cases);

}  // namespace mtp::test::grouped_linear

#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/head_linear_test.hpp"

namespace mtp::test::head_linear {

TEST_CASE_TEMPLATE("on the CPU, the part of a head gives the bits of a linear map",
                   Case,
                   on<cpu, float>,
                   on<cpu, double>,
                   on<cpu, bf16>) {
  using S = typename Case::scalar;
  cpu_context context({.threads = 2});
  for (const head_linear_sizes& s : sizes) {
    CAPTURE(s.M);
    CAPTURE(s.K);
    operands<S, cpu> a(s);
    auto y = a.like_outputs();
    auto dx = a.like_inputs();
    head_linear_forward(context, y.view(), a.x.view(), a.w.view());
    head_linear_backward_input(context, dx.view(), a.dy.view(), a.w.view());
    for (index_t h = 0; h < s.H; ++h) {
      const weight_view<const S, cpu> part = a.w.view().rows(h * s.N, s.N);
      guarded<S, 2, cpu> one(dims<2>{s.M, s.N}), back(dims<2>{s.M, s.K});
      linear_forward(context, one.view(), a.x.view().select(1, h), part);
      linear_backward_input(context, back.view(), a.dy.view().select(1, h), part);
      CHECK(same_bits(y.view().select(1, h), one.view()));
      CHECK(same_bits(dx.view().select(1, h), back.view()));
    }
  }
}

TEST_CASE("head_linear operations refuse parts that are not whole panels, and weights in 8 bits") {
  cpu_context context({.threads = 1});
  guarded<float, 3, cpu> x(dims<3>{2, 2, 4}, uniform(16, 1)), y(dims<3>{2, 2, 20});
  guarded_weight<float, cpu> w(40, 4, uniform(160, 2));
  CHECK(rejects("head_linear_forward",
                [&] { head_linear_forward(context, y.view(), x.view(), w.view()); }));
  const weight_view<const float, cpu> bytes(
      nullptr, 40, 4, reinterpret_cast<const std::byte*>(w.view().data));
  CHECK(rejects("head_linear_forward",
                [&] { head_linear_forward(context, y.view(), x.view(), bytes); }));
  CHECK(y.untouched());
}

}  // namespace mtp::test::head_linear

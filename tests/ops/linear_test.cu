#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/linear_test.hpp"

namespace mtp::test::linear {

TEST_CASE_TEMPLATE(
    "on a GPU, a row's bits do not depend on how weights, rows and results are aligned",
    S,
    float,
    double,
    bf16) {
  auto context = testing<staged>::make_context();
  const index_t M = 5, N = 37, K = 136;
  auto x = random_rows<S, staged>(M, K, K, 1);
  auto shifted_x = random_rows<S, staged>(M, K, K + 1, 1);
  guarded<S, 1, staged> w(dims<1>{N * K + 1}, join({0.0}, uniform(N * K, 2)));
  auto aligned_w = random_weight<S, staged>(N, K, 2);
  const weight_view<const S, staged> shifted_w(w.view().data() + 1, N, K);
  guarded<S, 2, staged> y(dims<2>{M, N}), other(dims<2>{M, N}, strides(N + 2, 1));
  linear_forward(context, y.view(), x.view(), aligned_w.view());
  linear_forward(context, other.view(), x.view(), shifted_w);
  CHECK(same_bits(other.view(), y.view()));
  linear_forward(context, other.view(), shifted_x.view(), aligned_w.view());
  CHECK(same_bits(other.view(), y.view()));
  linear_forward(context, other.view(), shifted_x.view(), shifted_w);
  CHECK(same_bits(other.view(), y.view()));
  CHECK(other.intact());
}

TEST_CASE_TEMPLATE("on a GPU, linear operations can be recorded", S, float, double, bf16) {
  using A = accumulate_t<S>;
  auto context = testing<staged>::make_context();
  const index_t N = 20, K = 24;
  for (const index_t M : {index_t{3}, index_t{40}}) {
    CAPTURE(M);
    auto x = random_rows<S, staged>(M, K, K, 1), dy = random_rows<S, staged>(M, N, N, 2);
    auto w = random_weight<S, staged>(N, K, 3);
    guarded<S, 1, staged> bias(dims<1>{N}, uniform(N, 4));
    const auto run = [&](const auto& repeat) {
      guarded<S, 2, staged> y(dims<2>{M, N}), dx(dims<2>{M, K});
      guarded<A, 1, staged> dbias(dims<1>{N}, uniform(N, 5));
      auto dw = random_weight<A, staged>(N, K, 6);
      const auto y_view = y.view(), dx_view = dx.view();
      const auto x_view = x.view(), dy_view = dy.view();
      const auto w_view = w.view();
      const auto dw_view = dw.view();
      const auto bias_view = bias.view();
      const auto dbias_view = dbias.view();
      repeat([&] {
        linear_bias_forward(context, y_view, x_view, w_view, bias_view);
        linear_backward_input(context, dx_view, dy_view, w_view);
        linear_backward_weight(context, dw_view, dy_view, x_view);
        linear_backward_bias(context, dbias_view, dy_view);
      });
      return join(join(values(y.view()), values(dx.view())),
                  join(values(dbias.view()), dw.rows().elements));
    };
    const auto expected = run([](const auto& operations) {
      for (int i = 0; i < 4; ++i) {
        operations();
      }
    });
    CHECK(same_bits(run([&](const auto& operations) {
                      staged_recording recording;
                      for (int i = 0; i < 4; ++i) {
                        recording.replay(context, operations);
                      }
                      context.synchronize();
                    }),
                    expected));
  }
}

#if defined(MTP_CUDA_EMULATION)

TEST_CASE_TEMPLATE(
    "on a GPU, results do not depend on its number of multiprocessors", S, float, double, bf16) {
  const mtp::emulation::options before = mtp::emulation::settings();
  // Enough tiles that blocks take several of them in turn, for one and for eight warps to an
  // output.
  for (const linear_sizes& s : {linear_sizes{9, 600, 40}, linear_sizes{9, 50, 1100}}) {
    const index_t M = s.M, N = s.N, K = s.K;
    CAPTURE(K);
    auto x = random_rows<S, staged>(M, K, K, 1);
    auto w = random_weight<S, staged>(N, K, 2);
    const array<2> product = reference::linear_forward(array_of(x.view()), w.rows());
    const array<2> absolute =
        reference::linear_forward(magnitude(array_of(x.view())), magnitude(w.rows()));
    guarded<S, 2, staged> expected(dims<2>{M, N});
    for (const int multiprocessors : {132, 4, 1}) {
      CAPTURE(multiprocessors);
      mtp::emulation::settings().multiprocessors = multiprocessors;
      auto context = testing<staged>::make_context();
      guarded<S, 2, staged> y(dims<2>{M, N});
      linear_forward(context, y.view(), x.view(), w.view());
      CHECK(within(y.view(), product.elements, bounds<S>(K, absolute, product)));
      CHECK(y.intact());
      if (multiprocessors == 132) {
        linear_forward(context, expected.view(), x.view(), w.view());
      }
      CHECK(same_bits(y.view(), expected.view()));
    }
    mtp::emulation::settings() = before;
  }
}

TEST_CASE_TEMPLATE(
    "on a GPU, linear operations do what the product library does not", S, float, double, bf16) {
  for_each_refusal([] {
    auto context = testing<staged>::make_context();
    for (const linear_sizes& s : {linear_sizes{40, 24, 32}, linear_sizes{25, 33, 17}}) {
      const long products = emulation::counts().products;
      check_forward<S, staged>(context, s.M, s.N, s.K, s.K + 8, s.N);
      check_backward<S, staged>(context, s.M, s.N, s.K, s.K + 8, s.N);
      CHECK((emulation::counts().products == products) ==
            (emulation::settings().product_alignment == 0 || s.K == 17));
    }
  });
}

#endif

}  // namespace mtp::test::linear

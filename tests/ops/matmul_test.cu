#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/matmul_test.hpp"

namespace mtp::test::products {

/// c = op(a) op(b) + added through the library, with rows apart.
template <class In, class Out>
void check_library(staged_context& context, bool a_turned, bool b_turned, bool adds) {
  using cuda_detail::library_product;
  const index_t M = 19, N = 33, K = 21, gap = 3;
  CAPTURE(a_turned);
  CAPTURE(b_turned);
  CAPTURE(adds);
  const auto matrix = [](index_t rows, index_t columns, std::uint64_t stream) {
    return guarded<In, 2, staged>(
        dims<2>(rows, columns), strides(columns + gap, 1), normal(rows * columns, stream));
  };
  auto a = a_turned ? matrix(K, M, 1) : matrix(M, K, 1);
  auto b = b_turned ? matrix(N, K, 2) : matrix(K, N, 2);
  guarded<Out, 2, staged> added(dims<2>(M, N), strides(N + 5, 1), normal(M * N, 3));
  guarded<Out, 2, staged> c(dims<2>(M, N), strides(N + 1, 1));
  context.on_device(
      [&](const auto& on_a, const auto& on_b, const auto& on_added, const auto& on_c) {
        library_product<In, Out> p{.M = M,
                                   .N = N,
                                   .K = K,
                                   .a = {on_a.data(), on_a.stride(0), a_turned},
                                   .b = {on_b.data(), on_b.stride(0), b_turned},
                                   .c = on_c.data(),
                                   .c_stride = N + 1};
        if (adds) {
          p.added = on_added.data();
          p.added_stride = N + 5;
        }
        REQUIRE(cuda_detail::library_takes(p));
        REQUIRE(cuda_detail::run_library_product(context, "products", p));
      },
      a.view(),
      b.view(),
      added.view(),
      c.view());

  const auto left = a_turned ? values(a.view().transpose()) : values(a.view());
  const auto right = b_turned ? values(b.view().transpose()) : values(b.view());
  const auto expected = mtp::reference::matmul(
      left, right, M, N, K, adds ? values(added.view()) : std::vector<double>{});
  CHECK(within(c.view(), expected.value, bounds<Out, In>(expected, K)));
  CHECK(c.intact());
  CHECK(added.untouched());
}

TEST_CASE("a product by the library is what it says, transposed and added") {
  auto context = testing<staged>::make_context();
  for (int which = 0; which < 8; ++which) {
    const bool a_turned = (which & 1) != 0, b_turned = (which & 2) != 0, adds = (which & 4) != 0;
    check_library<float, float>(context, a_turned, b_turned, adds);
    check_library<double, double>(context, a_turned, b_turned, adds);
    check_library<bf16, bf16>(context, a_turned, b_turned, adds);
    check_library<bf16, float>(context, a_turned, b_turned, adds);
  }
}

TEST_CASE_TEMPLATE("on a GPU, an element among up to 16 rows is one chain of multiply-adds",
                   S,
                   float,
                   double,
                   bf16) {
  using A = accumulate_t<S>;
  auto context = testing<staged>::make_context();
  const index_t M = 16, N = 70, K = 75;
  const guarded<S, 2, staged> a(dims<2>(M, K), normal(M * K, 1)),
      b(dims<2>(K, N), normal(K * N, 2));
  guarded<S, 2, staged> c(dims<2>(M, N), normal(M * N, 3)), chains(dims<2>(M, N), normal(M * N, 3));
  const auto left = a.view(), right = b.view();
  const auto chain = chains.view();
  for (index_t m = 0; m < M; ++m) {
    for (index_t n = 0; n < N; ++n) {
      A sum = static_cast<A>(chain(m, n));
      for (index_t k = 0; k < K; ++k) {
        sum = std::fma(static_cast<A>(left(m, k)), static_cast<A>(right(k, n)), sum);
      }
      chain(m, n) = static_cast<S>(sum);
    }
  }
  matmul(context, c.view(), a.view(), b.view(), update::accumulate);
  CHECK(same_bits(c.view(), chains.view()));

  // The chain ends with the last step: one more, with zeros, would turn -0 into +0.
  const guarded<S, 2, staged> minus(dims<2>(1, 3), std::vector<double>(3, -1)),
      zeros(dims<2>(3, 1), std::vector<double>(3, 0));
  guarded<S, 2, staged> sum(dims<2>(1, 1), std::vector<double>{-0.0});
  matmul(context, sum.view(), minus.view(), zeros.view(), update::accumulate);
  CHECK(sum.untouched());
}

#if defined(MTP_CUDA_EMULATION)

TEST_CASE("the library is asked for an algorithm once for each kind of product") {
  const auto searches = [] { return emulation::calls("cublasLtMatmulAlgoGetHeuristic"); };
  const long objects = emulation::counts().live_objects;
  {
    auto context = testing<staged>::make_context();
    const index_t M = 64, N = 128, K = 136;
    guarded<float, 2, staged> a(dims<2>(M, K), normal(M * K, 1)),
        b(dims<2>(K, N), normal(K * N, 2));
    guarded<float, 2, staged> c(dims<2>(M, N)), other(dims<2>(M, N)),
        apart(dims<2>(M, N), strides(N + 4, 1)), odd(dims<2>(M, N), strides(N + 1, 1));
    const auto searches_of = [&](auto&& product, update mode) {
      const long before = searches();
      matmul(context, product, a.view(), b.view(), mode);
      return searches() - before;
    };
    CHECK(searches_of(c.view(), update::overwrite) == 1);
    CHECK(searches_of(c.view(), update::overwrite) == 0);
    CHECK(searches_of(other.view(), update::overwrite) == 0);
    CHECK(searches_of(c.view(), update::accumulate) == 0);
    CHECK(searches_of(apart.view(), update::overwrite) == 1);
    CHECK(searches_of(odd.view(), update::overwrite) == 1);
    CHECK(searches_of(odd.view(), update::overwrite) == 0);
    guarded<float, 2, staged> turned(dims<2>(M, N), strides(1, M));
    CHECK(searches_of(turned.view(), update::overwrite) == 1);
    // A quarter of the rows, and then rows that begin in the middle of 16 bytes.
    const auto few = [&](const auto& rows) { return rows.slice(0, 0, M / 4 + 1); };
    const long before = searches();
    matmul(context, few(c.view()), few(a.view()), b.view());
    CHECK(searches() - before == 0);  // too small for the library
    const auto late = [&](const auto& x) { return x.slice(1, 1, x.extent(1) - 1); };
    matmul(context, late(c.view()), a.view(), late(b.view()));
    CHECK(searches() - before == 1);
    matmul(context, late(other.view()), a.view(), late(b.view()));
    CHECK(searches() - before == 1);
  }
  CHECK(emulation::counts().live_objects == objects);
}

TEST_CASE_TEMPLATE(
    "a product that the library does not do is computed without it, and it is asked "
    "once",
    S,
    float,
    double,
    bf16) {
  for_each_refusal([] {
    auto context = testing<staged>::make_context();
    const bool all = emulation::settings().product_alignment == 0;
    const long products = emulation::counts().products;
    check_all_layouts<S, S, S, staged>(context, {64, 136, 128});
    CHECK((emulation::counts().products == products) == all);

    const index_t M = 65, N = 129, K = 127;  // no row but the first is aligned
    const guarded<S, 2, staged> a(dims<2>(M, K), normal(M * K, 1)),
        b(dims<2>(K, N), normal(K * N, 2));
    guarded<S, 2, staged> c(dims<2>(M, N)), again(dims<2>(M, N)), tiled(dims<2>(M, N));
    matmul(context, c.view(), a.view(), b.view());
    const long searches = emulation::calls("cublasLtMatmulAlgoGetHeuristic"),
               tries = emulation::calls("cublasLtMatmul");
    matmul(context, again.view(), a.view(), b.view());
    CHECK(emulation::calls("cublasLtMatmulAlgoGetHeuristic") == searches);
    CHECK(emulation::calls("cublasLtMatmul") == tries);
    CHECK(same_bits(again.view(), c.view()));
    context.on_device(
        [&](const auto& on_c, const auto& on_a, const auto& on_b) {
          const auto matrix = [](auto* data, index_t row) {
            return cuda_detail::strided_matrix<std::remove_pointer_t<decltype(data)>>{data, row, 1};
          };
          cuda_detail::run_tiled_product(context,
                                         "tiled",
                                         matrix(on_c.data(), N),
                                         {},
                                         matrix(on_a.data(), K),
                                         matrix(on_b.data(), N),
                                         M,
                                         N,
                                         K);
        },
        tiled.view(),
        a.view(),
        b.view());
    CHECK(same_bits(tiled.view(), c.view()));
  });
}

TEST_CASE("a product that the library does not do can be recorded") {
  const emulation::options before = emulation::settings();
  emulation::settings().product_alignment = 0;
  emulation::settings().product_refusal = emulation::refusal::when_run;
  auto context = testing<staged>::make_context();
  const index_t M = 64, N = 128, K = 136;
  guarded<float, 2, staged> a(dims<2>(M, K), normal(M * K, 1)), b(dims<2>(K, N), normal(K * N, 2));
  guarded<float, 2, staged> c(dims<2>(M, N));
  staged_recording recording;
  for (int turn = 0; turn < 3; ++turn) {
    CAPTURE(turn);
    a.set(normal(M * K, static_cast<std::uint64_t>(turn + 1)));
    recording.replay(context, [&] { matmul(context, c.view(), a.view(), b.view()); });
    const auto expected = mtp::reference::matmul(values(a.view()), values(b.view()), M, N, K);
    CHECK(within(c.view(), expected.value, bounds<float, float>(expected, K)));
  }
  emulation::settings() = before;
}

TEST_CASE("what the library reports becomes mtp::error, and nothing is lost") {
  auto context = testing<staged>::make_context();
  const index_t M = 64, N = 128, K = 136;
  guarded<float, 2, staged> a(dims<2>(M, K), normal(M * K, 1)), b(dims<2>(K, N), normal(K * N, 2));
  guarded<float, 2, staged> c(dims<2>(M, N));
  const long objects = emulation::counts().live_objects;
  for (const char* const call : {"cublasLtMatmulDescCreate",
                                 "cublasLtMatmulDescSetAttribute",
                                 "cublasLtMatrixLayoutCreate",
                                 "cublasLtMatmulPreferenceCreate",
                                 "cublasLtMatmulPreferenceSetAttribute",
                                 "cublasLtMatmulAlgoGetHeuristic"}) {
    CAPTURE(call);
    emulation::fail_next(call, CUBLAS_STATUS_INVALID_VALUE);
    CHECK_THROWS_WITH_AS(matmul(context, c.view(), a.view(), b.view()),
                         "matmul: cuBLASLt reports CUBLAS_STATUS_INVALID_VALUE: "
                         "CUBLAS_STATUS_INVALID_VALUE",
                         error);
    CHECK(emulation::counts().live_objects == objects);
    CHECK(c.untouched());
  }
  emulation::fail_next("cublasLtMatmul", CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(rejects("matmul", [&] { matmul(context, c.view(), a.view(), b.view()); }));
  CHECK(c.untouched());
  matmul(context, c.view(), a.view(), b.view());
  const auto expected = mtp::reference::matmul(values(a.view()), values(b.view()), M, N, K);
  CHECK(within(c.view(), expected.value, bounds<float, float>(expected, K)));
}

#endif

}  // namespace mtp::test::products

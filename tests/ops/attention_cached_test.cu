#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/attention_cached_test.hpp"

namespace mtp::test::attention_cached {

TEST_CASE_TEMPLATE("rows outside a cache write nothing and give zeros", S, float, bf16) {
  staged_context context = testing<staged>::make_context();
  const index_t capacity = 20;
  for (const head_sizes& sizes : {head_sizes{4, 2, 16}, head_sizes{2, 1, 9}}) {
    for (const index_t M : {12, 40, 70}) {
      for (const index_t first : {-80, -60, -5, 15, 20, 70}) {
        CAPTURE(sizes.E);
        CAPTURE(M);
        CAPTURE(first);
        sequences<S, staged> a(1, M, sizes);
        test_cache<S, staged> cache(a, capacity), expected(a, capacity);
        auto out = a.like_queries(), inside = a.like_queries();
        // Positions before the first must have been written.
        sequences<S, staged> past(1, 15, sizes);
        auto ignored = past.like_queries();
        for (auto* const one : {&cache, &expected}) {
          if (first == 15) {
            run_cached(context, past, one->view(), ignored, 0, 15, [](index_t) { return 15; });
          }
        }
        const auto attend = [&](auto& to, auto& in, index_t skip, index_t rows) {
          auto positions = positions_at<staged>(first + skip, rows);
          attention_cached_forward(context,
                                   to.view().slice(0, skip, rows),
                                   in.view(),
                                   a.q.view().slice(0, skip, rows),
                                   a.k.view().slice(0, skip, rows),
                                   a.v.view().slice(0, skip, rows),
                                   positions.view());
          context.synchronize();
        };
        attend(out, cache, 0, M);
        const index_t begin = std::clamp<index_t>(-first, 0, M);
        const index_t end = std::clamp<index_t>(capacity - first, begin, M);
        const bool same_kernel = (M <= 64) == (end - begin <= 64) || sizes.E % 16 != 0;
        if (same_kernel || std::is_same_v<S, float>) {
          attend(inside, expected, begin, end - begin);
          CHECK(same_bits(out.view().slice(0, begin, end - begin),
                          inside.view().slice(0, begin, end - begin)));
          CHECK(same_bits(cache.elements(), expected.elements()));
        }
        for (index_t m = 0; m < M; ++m) {
          if (m < begin || m >= end) {
            CHECK(same_bits(values(out.view().select(0, m)),
                            std::vector<double>(static_cast<std::size_t>(a.H * a.E), 0.0)));
          }
        }
        CHECK(out.intact());
      }
    }
  }
}

TEST_CASE("a recorded step of attention follows positions that change on the device") {
  using S = bf16;
  staged_context context = testing<staged>::make_context();
  const index_t M = 3, T = 140;
  sequences<S, staged> a(1, T, {4, 2, 32}, 1, 1);
  auto expected = a.like_queries();
  test_cache<S, staged> direct(a, T), replayed(a, T);
  run_cached(context, a, direct.view(), expected, 0, T, [&](index_t) { return M; });
  // The same addresses each time, what they hold changes.
  sequences<S, staged> step(1, M, {4, 2, 32}, 1, 1);
  guarded<S, 3, staged> out(step.queries());
  auto positions = positions_at<staged>(0, M);
  staged_recording recording;
  for (index_t t = 0; t + M <= T; t += M) {
    const auto part = [&](auto& x) { return values(x.view().slice(0, t, M)); };
    step.q.set(part(a.q));
    step.k.set(part(a.k));
    step.v.set(part(a.v));
    positions.set(values(positions_at<staged>(t, M).view()));
    const auto to = out.view();
    const auto q = step.q.view(), k = step.k.view(), v = step.v.view();
    const auto at = positions.view();
    const auto cache = replayed.view();
    recording.replay(context, [&] { attention_cached_forward(context, to, cache, q, k, v, at); });
    CHECK(same_bits(out.view(), expected.view().slice(0, t, M)));
  }
}

#if defined(MTP_CUDA_EMULATION)

TEST_CASE(
    "attention against a long cache runs blocks for the device, whose number changes no bit") {
  using S = bf16;
  const emulation::options before = emulation::settings();
  const index_t T = 643, M = 5, capacity = 2000;  // new rows on both sides of a split's end
  for (const head_sizes& sizes : {head_sizes{2, 1, 32}, head_sizes{3, 3, 16}}) {
    CAPTURE(sizes.G);
    sequences<S, staged> a(1, T, sizes, 1, 1);
    std::vector<double> expected, written;
    for (const int multiprocessors : {132, 2, 1}) {
      CAPTURE(multiprocessors);
      emulation::settings().multiprocessors = multiprocessors;
      auto context = testing<staged>::make_context();
      test_cache<S, staged> cache(a, capacity);
      auto out = a.like_queries();
      run_cached(context, a, cache.view(), out, 0, T - M, [&](index_t) { return T; });
      const long blocks = emulation::counts().blocks_run;
      run_cached(context, a, cache.view(), out, T - M, T, [&](index_t) { return M; });
      const long combining = sizes.H * M;
      CHECK(emulation::counts().blocks_run - blocks <= 4 * multiprocessors + sizes.G + combining);
      const auto actual = values(out.view());
      const auto elements = cache.elements();
      if (multiprocessors == 132) {  // one for each split
        expected = actual;
        written.assign(elements.begin(), elements.end());
        CHECK(emulation::counts().blocks_run - blocks == 16 * sizes.G + combining);
      }
      CHECK(same_bits(actual, expected));
      CHECK(same_bits(std::vector<double>(elements.begin(), elements.end()), written));
      CHECK(out.intact());
    }
  }
  emulation::settings() = before;
}

#endif

TEST_CASE("a piece of a prompt gives the bits of the whole sequence") {
  using S = bf16;
  staged_context context = testing<staged>::make_context();
  for (const head_sizes& sizes : {head_sizes{2, 1, 64}, head_sizes{2, 2, 16}}) {
    const index_t T = 200;
    sequences<S, staged> a(1, T, sizes, 1, 1);
    attended<S, staged> whole(a);
    whole.forward(context, a);
    auto out = a.like_queries();
    test_cache<S, staged> cache(a, T);
    run_cached(context, a, cache.view(), out, 0, T, [](index_t t) { return t < 65 ? 65 : 135; });
    CHECK(same_bits(out.view(), whole.out.view()));
  }
}

TEST_CASE_TEMPLATE("attention needs no more workspace than it says", S, float, double, bf16) {
  using ops = ops_of<staged>;
  const index_t T = 70, capacity = 300;
  for (const head_sizes& sizes : {head_sizes{4, 2, 16}, head_sizes{3, 1, 5}}) {
    const auto bytes = [&](index_t rows, index_t length) {
      return ops::attention_workspace<S>(
          rows, length, sizes.H * sizes.E, sizes.G * sizes.E, sizes.E, 1);
    };
    sequences<S, staged> a(2, T, sizes);
    staged_context training({.workspace_bytes = bytes(2 * T, T)});
    attended<S, staged> forward(a);
    attention_gradients<S, staged> gradients(a);
    forward.forward(training, a);
    CHECK_NOTHROW(gradients.backward(training, a, forward));
    for (const index_t M : {1, 32, 33, 64, 65, 70}) {
      staged_context decoding({.workspace_bytes = bytes(M, capacity)});
      sequences<S, staged> some(1, M, sizes);
      auto out = some.like_queries();
      test_cache<S, staged> cache(some, capacity);
      CHECK_NOTHROW(
          run_cached(decoding, some, cache.view(), out, 0, M, [&](index_t) { return M; }));
    }
  }
}

TEST_CASE("attention for a width that is known compiles and gives the same bits") {
  using S = bf16;
  using only = cuda_detail::head_widths<32>;
  staged_context context = testing<staged>::make_context();
  sequences<S, staged> a(1, 40, {2, 1, 32}, 1, 1);
  attended<S, staged> expected(a), actual(a);
  expected.forward(context, a);
  context.on_device(
      [&](const auto&... x) { ops_of<cuda>::attention_forward<only>(context, x..., 1); },
      actual.out.view(),
      actual.statistics.view(),
      std::as_const(a.q).view(),
      std::as_const(a.k).view(),
      std::as_const(a.v).view());
  CHECK(same_bits(actual.elements(), expected.elements()));
}

#if defined(MTP_CUDA_EMULATION)

TEST_CASE("attention of every width runs on a device with 99 KiB of shared memory for a block") {
  using S = bf16;
  const emulation::options before = emulation::settings();
  emulation::settings().block_shared_bytes = std::size_t{99} << 10;
  emulation::settings().multiprocessor_shared_bytes = std::size_t{100} << 10;
  for (const index_t E : {16, 32, 64, 96, 128}) {
    CAPTURE(E);
    staged_context context = testing<staged>::make_context();
    const index_t T = 12;
    sequences<S, staged> a(1, T, {4, 2, E}, 1, 1);
    attended<S, staged> whole(a);
    attention_gradients<S, staged> gradients(a);
    CHECK_NOTHROW(whole.forward(context, a));
    CHECK_NOTHROW(gradients.backward(context, a, whole));
    auto out = a.like_queries();
    test_cache<S, staged> cache(a, T);
    CHECK_NOTHROW(run_cached(context, a, cache.view(), out, 0, T, [](index_t) { return 12; }));
    CHECK(out.intact());
  }
  emulation::settings() = before;
}

#endif

}  // namespace mtp::test::attention_cached

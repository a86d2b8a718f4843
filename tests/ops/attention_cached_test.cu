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

namespace {

/// Rows of sequences behind beginnings of different lengths, some of which end where a block's part
/// of a cache does; the last one has none.
struct rows_of_sequences {
  using S = bf16;
  static constexpr index_t capacity = 420, sequences_count = 6;
  static constexpr index_t length[] = {126, 0, 256, 127, 300, 9};
  static constexpr index_t rows[] = {5, 1, 3, 17, 2, 0};
  const head_sizes sizes{4, 2, 32};
  sequences<S, staged> a{1, capacity, sizes, 1, 1};  // each is a part of the same one

  /// Row `first` of `a` and those behind it, as the next ones of the sequence in a slot.
  void run(staged_context& context,
           test_cache<S, staged>& cache,
           index_t slot,
           index_t first,
           index_t count,
           guarded<S, 3, staged>& out) const {
    const std::vector<row_run> runs{{slot, count}};
    const auto part = [&](auto& x) { return x.view().slice(0, first, count); };
    attention_cached_forward(context,
                             part(out),
                             cache.view(),
                             part(a.q),
                             part(a.k),
                             part(a.v),
                             positions_at<staged>(first, count).view(),
                             runs);
    testing<staged>::settle();
  }
  void begin(staged_context& context, test_cache<S, staged>& cache, index_t slot, index_t s) const {
    auto ignored = a.like_queries();
    for (index_t t = 0; t < length[s]; t += 60) {
      run(context, cache, slot, t, std::min<index_t>(60, length[s] - t), ignored);
    }
  }
};

}  // namespace

TEST_CASE("rows of many sequences are one launch, recorded or not, with the bits of each alone") {
  using S = bf16;
  const rows_of_sequences given;
  auto& a = given.a;
  staged_context context = testing<staged>::make_context();
  constexpr index_t slots = rows_of_sequences::sequences_count;
  test_cache<S, staged> together(a, given.capacity, slots), replayed(a, given.capacity, slots);
  index_t M = 0;
  std::vector<row_run> runs;
  std::vector<double> q, k, v, at, expected;
  for (index_t s = 0; s < slots; ++s) {
    const index_t slot = (s + 4) % slots, first = given.length[s], rows = given.rows[s];
    given.begin(context, together, slot, s);
    given.begin(context, replayed, slot, s);
    test_cache<S, staged> alone(a, given.capacity);
    given.begin(context, alone, 0, s);
    const auto append = [&](std::vector<double>& to, const auto& x) {
      const auto more = values(x);
      to.insert(to.end(), more.begin(), more.end());
    };
    if (rows > 0) {
      auto out = a.like_queries();
      given.run(context, alone, 0, first, rows, out);
      append(expected, out.view().slice(0, first, rows));
      append(q, a.q.view().slice(0, first, rows));
      append(k, a.k.view().slice(0, first, rows));
      append(v, a.v.view().slice(0, first, rows));
      append(at, positions_at<staged>(first, rows).view());
    }
    runs.push_back({slot, rows});
    M += rows;
  }
  sequences<S, staged> step(1, M, given.sizes, 1, 1);
  step.q.set(q);
  step.k.set(k);
  step.v.set(v);
  auto positions = positions_at<staged>(0, M);
  positions.set(at);
  auto out = step.like_queries();
#if defined(MTP_CUDA_EMULATION)
  const long before = emulation::counts().launches;
#endif
  attention_cached_forward(context,
                           out.view(),
                           together.view(),
                           step.q.view(),
                           step.k.view(),
                           step.v.view(),
                           positions.view(),
                           runs);
#if defined(MTP_CUDA_EMULATION)
  CHECK(emulation::counts().launches - before == 2);  // and one that adds up the parts
#endif
  CHECK(same_bits(values(out.view()), expected));
  CHECK(out.intact());
  // A recording follows positions: each sequence again, from where it has been set back to.
  auto again = step.like_queries();
  staged_recording recording;
  const auto replay = [&] {
    const auto to = again.view();
    const auto rows_q = step.q.view(), rows_k = step.k.view(), rows_v = step.v.view();
    const auto places = positions.view();
    const auto cache = replayed.view();
    recording.replay(context, [&] {
      attention_cached_forward(context, to, cache, rows_q, rows_k, rows_v, places, runs);
    });
    return values(again.view());
  };
  positions.set(std::vector<double>(static_cast<std::size_t>(M), 419.0));  // others, once
  replay();
  positions.set(at);
  CHECK(same_bits(replay(), expected));
  for (index_t s = 0; s < slots; ++s) {  // what the first replay wrote stands behind
    const auto kept = [&](const test_cache<S, staged>& x) {
      const auto all = x.elements();
      std::vector<double> seen;
      const index_t E = given.sizes.E, stride = 2 * given.sizes.G * given.capacity * E;
      for (index_t g = 0; g < 2 * given.sizes.G; ++g) {
        const index_t from = (s + 4) % slots * stride + g * given.capacity * E;
        for (index_t i = 0; i < (given.length[s] + given.rows[s]) * E; ++i) {
          seen.push_back(static_cast<double>(all[static_cast<std::size_t>(from + i)]));
        }
      }
      return seen;
    };
    CHECK(same_bits(kept(replayed), kept(together)));
  }
}

#if defined(MTP_CUDA_EMULATION)

TEST_CASE("rows of many sequences take launches by the rows that workspace is for") {
  using S = bf16;
  const index_t slots = 40, M = 2 * slots;
  sequences<S, staged> step(1, M, {2, 1, 16}, 1, 1);
  const index_t bytes = ops_of<staged>::attention_workspace<S>(M, 140, 32, 16, 16, 1);
  staged_context tight({.workspace_bytes = bytes});
  test_cache<S, staged> cache(step, 140, slots), expected(step, 140, slots);
  auto out = step.like_queries(), alone = step.like_queries();
  std::vector<row_run> runs;
  std::vector<double> at;
  for (index_t s = 0; s < slots; ++s) {
    runs.push_back({s, 2});
    at.insert(at.end(), {0, 1});
  }
  auto positions = positions_at<staged>(0, M);
  positions.set(at);
  const auto attend = [&](auto& to, auto& in, index_t first, index_t rows, const auto& some) {
    const auto part = [&](auto& x) { return x.view().slice(0, first, rows); };
    attention_cached_forward(tight,
                             part(to),
                             in.view(),
                             part(step.q),
                             part(step.k),
                             part(step.v),
                             part(positions),
                             some);
  };
  const long before = emulation::counts().launches;
  attend(out, cache, 0, M, runs);
  CHECK(emulation::counts().launches - before == 4);  // 64 rows, then 16
  for (index_t s = 0; s < slots; ++s) {
    attend(alone, expected, 2 * s, 2, std::vector<row_run>{{s, 2}});
  }
  CHECK(same_bits(out.view(), alone.view()));
  CHECK(same_bits(cache.elements(), expected.elements()));
}

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

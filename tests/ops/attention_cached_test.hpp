// Attention over a cache: against the reference, and bit for bit however its rows are shared out
// among calls. Who includes this says for which cases: see support/cpu_cases.hpp and
// support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/ops/attention.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::attention_cached {

/// Runs [first, end) of a sequence through a cache, `chunk(position)` rows at a time.
template <class S, class B, class Chunk>
void run_cached(context<B>& context,
                sequences<S, B>& a,
                const cache_view<S, B>& cache,
                guarded<S, 3, B>& out,
                index_t first,
                index_t end,
                const Chunk& chunk) {
  for (index_t t = first; t < end;) {
    const index_t rows = std::min<index_t>(chunk(t), end - t);
    auto positions = positions_at<B>(t, rows);
    attention_cached_forward(context,
                             out.view().slice(0, t, rows),
                             cache,
                             a.q.view().slice(0, t, rows),
                             a.k.view().slice(0, t, rows),
                             a.v.view().slice(0, t, rows),
                             positions.view());
    CHECK(positions.untouched());
    t += rows;
  }
}

/// Whether whole sequences and caches go through the same code.
template <class Case>
bool same_code(index_t E) {
  using B = typename Case::backend;
  return backend_traits<B>::is_host_memory || !std::is_same_v<typename Case::scalar, bf16> ||
         E % 16 != 0;
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward matches the reference", Case, cached_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const random_stream random(mtp::seed{5}, 1);
  auto context = testing<B>::make_context();
  index_t number = 0;
  for (const attention_sizes& sizes : some_of<B>(matrix_sizes)) {
    CAPTURE(sizes.T);
    CAPTURE(sizes.heads.E);
    sequences<S, B> a(1, sizes.T, sizes.heads, 1, number++);
    const expected_forward<Case> expected(
        array_of(a.q.view()), array_of(a.k.view()), array_of(a.v.view()), 1);
    for (const std::uint64_t most : {17u, 100u}) {
      auto out = a.like_queries();
      test_cache<S, B> cache(a, sizes.T + 3);
      run_cached(context, a, cache.view(), out, 0, sizes.T, [&](index_t t) {
        return 1 + static_cast<index_t>(random.below(static_cast<std::uint64_t>(t), most));
      });
      // Partial results of splits are weighted and added once more.
      std::vector<double> bounds = expected.out_bounds;
      for (std::size_t i = 0; i < bounds.size(); ++i) {
        bounds[i] +=
            attention_rounding<Case>::is_bf16 ? 0x1p-18 * std::abs(expected.out.elements[i]) : 0;
      }
      CHECK(within(out.view(), expected.out.elements, bounds));
      CHECK(out.intact());
    }
    CHECK(a.q.untouched());
    CHECK(a.k.untouched());
    CHECK(a.v.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "attention_cached_forward in any chunks gives the bits of attention_forward",
    Case,
    chunks_of_sequences) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const random_stream random(mtp::seed{5}, 0);
  const bool host = backend_traits<B>::is_host_memory;
  for (index_t number = 0; number < 11; number += host ? 1 : 3) {
    const index_t T = host ? 131 : 70, capacity = number % 2 == 0 ? T : T + 19;
    sequences<S, B> a(1, T, heads_of(number));
    if (!same_code<Case>(a.E)) {
      continue;
    }
    CAPTURE(a.H);
    CAPTURE(a.E);
    index_t way = 0;
    testing<B>::each_way([&](auto& context, const std::string& name) {
      CAPTURE(name);
      guarded<S, 3, B> whole(a.queries()), out = a.like_queries();
      guarded<accumulate_t<S>, 2, B> statistics(dims<2>{T, 2 * a.H});
      attention_forward(
          context, whole.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), 1);
      test_cache<S, B> cache(a, capacity);
      const bool one_by_one = way++ == 0;
      run_cached(context, a, cache.view(), out, 0, T, [&](index_t t) {
        return one_by_one ? 1
                          : 1 + static_cast<index_t>(random.below(
                                    static_cast<std::uint64_t>(t + 1000 * number), 17));
      });
      CHECK(same_bits(out.view(), whole.view()));
      CHECK(out.intact());
      test_cache<S, B> at_once(a, capacity);
      guarded<S, 3, B> all(a.queries());
      run_cached(context, a, at_once.view(), all, 0, T, [&](index_t) { return T; });
      CHECK(same_bits(all.view(), whole.view()));
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward gives a row the same bits among up to 64 rows",
                          Case,
                          rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const head_sizes& sizes :
       {head_sizes{4, 2, 16}, head_sizes{3, 1, 64}, head_sizes{2, 1, 5}}) {
    const index_t T = 275;
    sequences<S, B> a(1, T, sizes, 1, 1);
    CAPTURE(a.E);
    auto alone = a.like_queries();
    test_cache<S, B> cache(a, T);
    // What stands before the rows to compare may come in pieces of any size.
    run_cached(context, a, cache.view(), alone, 0, 112, [](index_t) { return 16; });
    run_cached(context, a, cache.view(), alone, 112, 145, [](index_t) { return 1; });
    run_cached(context, a, cache.view(), alone, 145, 240, [](index_t) { return 16; });
    run_cached(context, a, cache.view(), alone, 240, T, [](index_t) { return 1; });
    // Around the ends of whatever a cache may be split into: 128 and 256.
    for (index_t M = 1; M <= 64; M += M >= 16 ? 16 : same_code<Case>(sizes.E) ? 5 : 1) {
      for (const index_t first : {112, 120, 127, 128, 129, 240, 255, 256, 259}) {
        if (first == 112 + 16 * (M % 2) || first + M > T) {
          continue;  // every other size, to save time
        }
        CAPTURE(M);
        CAPTURE(first);
        auto out = a.like_queries();
        run_cached(context, a, cache.view(), out, first, first + M, [&](index_t) { return M; });
        CHECK(same_bits(out.view().slice(0, first, M), alone.view().slice(0, first, M)));
        CHECK(out.intact());
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward gives a sequence the same bits among others",
                          Case,
                          runs_of_sequences) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  struct turn {
    index_t slot, first, rows;
  };
  // Four sequences: some begin, some go on, one waits; around a tile, and a run without rows.
  const std::vector<std::vector<turn>> passes = {
      {{2, 0, 5}, {0, 0, 3}},
      {{0, 3, 1}, {3, 0, 20}, {2, 5, 4}},
      {{1, 0, 2}, {2, 9, 0}, {3, 20, 3}, {0, 4, 7}},
      {{3, 23, 1}, {2, 9, 2}, {1, 2, 1}, {0, 11, 2}},
  };
  const index_t T = 24, slots = 4;
  index_t number = 0;
  for (const head_sizes& sizes :
       {head_sizes{4, 2, 16}, head_sizes{3, 1, 64}, head_sizes{2, 1, 5}, head_sizes{6, 2, 17}}) {
    if (!testing<B>::at_all_sizes && sizes.E != 16) {
      continue;
    }
    CAPTURE(sizes.E);
    sequences<S, B> a(slots, T, sizes, 1, number++);
    testing<B>::each_way([&](auto& context, const std::string& name) {
      CAPTURE(name);
      test_cache<S, B> together(a, T + 1, slots);
      std::vector<test_cache<S, B>> alone(static_cast<std::size_t>(slots),
                                          test_cache<S, B>(a, T + 1));
      for (const auto& turns : passes) {
        index_t M = 0;
        for (const turn& each : turns) {
          M += each.rows;
        }
        guarded<S, 3, B> q(dims<3>{M, a.H, a.E}), k(dims<3>{M, a.G, a.E}), v(dims<3>{M, a.G, a.E});
        guarded<S, 3, B> out(dims<3>{M, a.H, a.E}), expected(dims<3>{M, a.H, a.E});
        std::vector<double> where;
        std::vector<row_run> runs;
        index_t row = 0;
        for (const turn& each : turns) {
          runs.push_back({each.slot, each.rows});
          for (index_t m = 0; m < each.rows; ++m, ++row) {
            const index_t from = each.slot * T + each.first + m;
            const auto put = [&](auto& to, auto& all) {
              for (index_t h = 0; h < to.view().extent(1); ++h) {
                for (index_t e = 0; e < a.E; ++e) {
                  to.view()(row, h, e) = all.view()(from, h, e);
                }
              }
            };
            put(q, a.q);
            put(k, a.k);
            put(v, a.v);
            where.push_back(static_cast<double>(each.first + m));
          }
          if (each.rows > 0) {
            const auto own = [&](auto& x) { return x.view().slice(0, row - each.rows, each.rows); };
            auto positions = positions_at<B>(each.first, each.rows);
            attention_cached_forward(context,
                                     own(expected),
                                     alone[static_cast<std::size_t>(each.slot)].view(),
                                     own(q),
                                     own(k),
                                     own(v),
                                     positions.view());
          }
        }
        guarded<index_t, 1, B> positions(dims<1>{M}, where);
        attention_cached_forward(context,
                                 out.view(),
                                 together.view(),
                                 q.view(),
                                 k.view(),
                                 v.view(),
                                 positions.view(),
                                 runs);
        CHECK(same_bits(out.view(), expected.view()));
        CHECK(out.intact());
        CHECK(positions.untouched());
      }
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward rejects runs that fit no rows or no slots",
                          Case,
                          wrong_runs) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  sequences<S, B> a(1, 4, {2, 1, 5});
  test_cache<S, B> cache(a, 8, 2);
  const std::vector<S> before = cache.elements();
  auto out = a.like_queries();
  auto positions = positions_at<B>(0, 4);
  const auto rejected_at = [&](auto& where, const std::vector<row_run>& runs) {
    return rejects("attention_cached_forward", [&] {
      attention_cached_forward(context,
                               out.view(),
                               cache.view(),
                               a.q.view(),
                               a.k.view(),
                               a.v.view(),
                               where.view(),
                               runs);
    });
  };
  const auto rejected = [&](const std::vector<row_run>& runs) {
    return rejected_at(positions, runs);
  };
  CHECK(rejected({}));
  CHECK(rejected({{0, 3}}));
  CHECK(rejected({{0, 5}}));
  CHECK(rejected({{0, 2}, {0, 2}}));
  CHECK(rejected({{0, 2}, {2, 2}}));
  CHECK(rejected({{-1, 4}}));
  CHECK(rejected({{0, -1}, {1, 5}}));
  if (backend_traits<B>::is_host_memory) {
    // The second run has a gap.
    guarded<index_t, 1, B> apart(dims<1>{4}, std::vector<double>{0, 1, 5, 7});
    CHECK(rejected_at(apart, {{0, 2}, {1, 2}}));
  }
  CHECK(same_bits(cache.elements(), before));
  CHECK(out.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("setting a cache back to a length forgets what lies behind it",
                          Case,
                          roll_back) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (index_t number = 0; number < 6; ++number) {
    const index_t T = 90;
    sequences<S, B> a(1, T, heads_of(number)), other(1, T, heads_of(number), 2);
    other.k.set(std::vector<double>(static_cast<std::size_t>(T * a.G * a.E),
                                    std::numeric_limits<double>::quiet_NaN()));
    other.v.set(values(other.k.view()));
    guarded<S, 3, B> expected(a.queries()), out(a.queries()), lost(a.queries());
    test_cache<S, B> fresh(a, T), rolled(a, T);
    const auto one = [](index_t) { return 1; };
    const auto five = [](index_t) { return 5; };
    run_cached(context, a, fresh.view(), expected, 0, T, one);
    run_cached(context, a, rolled.view(), out, 0, 37, one);
    run_cached(context, other, rolled.view(), lost, 37, 80, five);
    run_cached(context, a, rolled.view(), out, 37, T, five);
    CHECK(same_bits(out.view(), expected.view()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("no row of a cached step changes a bit of what stands before it",
                          Case,
                          causality) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const head_sizes& sizes :
       {head_sizes{4, 2, 16}, head_sizes{2, 1, 32}, head_sizes{2, 1, 7}}) {
    // As a few rows and as a piece of a prompt; rows before them come from the cache.
    for (const index_t M : {13, 70}) {
      const index_t T = 80, first = T - M;
      sequences<S, B> a(1, T, sizes);
      auto before = a.like_queries();
      test_cache<S, B> cache(a, T);
      const auto all = [&](index_t) { return M; };
      run_cached(context, a, cache.view(), before, 0, first, [](index_t) { return 10; });
      run_cached(context, a, cache.view(), before, first, T, all);
      for (const double strange : {7.0, std::numeric_limits<double>::quiet_NaN(), infinity}) {
        for (const index_t s : {first + 1, first + 5, T - 1}) {
          CAPTURE(M);
          CAPTURE(s);
          sequences<S, B> changed(1, T, sizes);
          for (index_t g = 0; g < a.G; ++g) {
            for (index_t e = 0; e < a.E; ++e) {
              changed.k.view()(s, g, e) = stored<S>(strange);
              changed.v.view()(s, g, e) = stored<S>(strange);
            }
          }
          auto after = a.like_queries();
          run_cached(context, changed, cache.view(), after, first, T, all);
          const auto now = after.view(), then = before.view();
          CHECK(same_bits(now.slice(0, first, s - first), then.slice(0, first, s - first)));
          CHECK_FALSE(same_bits(now.slice(0, s, T - s), then.slice(0, s, T - s)));
          if (std::isnan(strange)) {
            const auto rest = values(now.slice(0, s, T - s));
            CHECK(std::all_of(rest.begin(), rest.end(), [](double x) { return std::isnan(x); }));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward of no rows leaves the cache alone",
                          Case,
                          no_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  sequences<S, B> a(1, 0, {2, 1, 16});
  test_cache<S, B> cache(a, 8);
  const std::vector<S> before = cache.elements();
  auto out = a.like_queries();
  attention_cached_forward(context,
                           out.view(),
                           cache.view(),
                           a.q.view(),
                           a.k.view(),
                           a.v.view(),
                           positions_at<B>(3, 0).view());
  CHECK(out.intact());
  CHECK(same_bits(cache.elements(), before));
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward rejects wrong shapes and changes nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t N = 6, H = 4, G = 2, E = 5, capacity = 8;
  const auto random = [](index_t rows, index_t count, index_t width) {
    return guarded<S, 3, B>(dims<3>{rows, count, width}, uniform(rows * count * width, 1));
  };
  auto q = random(N, H, E), k = random(N, G, E), v = random(N, G, E);
  auto three = random(N, 3, E), longer = random(N + 1, G, E);
  guarded<S, 3, B> out(dims<3>{N, H, E});
  guarded<S, 3, B> spread(dims<3>{N, H, E}, strides(H * E * 2, E * 2, 2));
  sequences<S, B> sizes(1, N, {H, G, E});
  test_cache<S, B> cache(sizes, capacity);
  const std::vector<S> before = cache.elements();
  const auto cached =
      [&](auto out_, index_t groups, index_t width, auto q_, auto k_, auto v_, index_t first) {
        return rejects("attention_cached_forward", [&] {
          const cache_view<S, B> other{cache.view().data, capacity, groups, width};
          attention_cached_forward(
              context, out_, other, q_, k_, v_, positions_at<B>(first, q_.extent(0)).view());
        });
      };
  const auto o = out.view(), qs = q.view(), ks = k.view(), vs = v.view(), ts = three.view();
  CHECK(cached(o, G, E, qs, ts, ts, 0));
  CHECK(cached(o, G, E, qs, ks, longer.view(), 0));
  CHECK(cached(ks, G, E, qs, ks, vs, 0));
  CHECK(cached(spread.view(), G, E, qs, ks, vs, 0));
  CHECK(cached(o, G + 1, E, qs, ks, vs, 0));
  CHECK(cached(o, G, E + 1, qs, ks, vs, 0));
  if (backend_traits<B>::is_host_memory) {
    CHECK(cached(o, G, E, qs, ks, vs, 3));
    CHECK(cached(o, G, E, qs, ks, vs, -1));
  }
  CHECK(same_bits(cache.elements(), before));
  CHECK(out.untouched());
  CHECK(spread.untouched());
}

TEST_CASE_TEMPLATE_APPLY(cached_values, cases);
TEST_CASE_TEMPLATE_APPLY(chunks_of_sequences, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(runs_of_sequences, cases);
TEST_CASE_TEMPLATE_APPLY(wrong_runs, cases);
TEST_CASE_TEMPLATE_APPLY(roll_back, cases);
TEST_CASE_TEMPLATE_APPLY(causality, cases);
TEST_CASE_TEMPLATE_APPLY(no_rows, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::attention_cached

// Attention over latents: against the reference, and bit for bit however its rows are shared out
// among calls, sequences and branches of trees. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/ops/latent_attention.hpp"
#include "mtp/ops/tree.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"
#include "support/tree_rows.hpp"

namespace mtp::test::latent_attention {

struct latent_sizes {
  index_t H, W, R;  // heads, elements of a row, those that are its value
};

// Heads around panels, widths around vectors and panels, also as they are in large models.
inline const latent_sizes some_sizes[] = {{1, 1, 1},
                                          {3, 9, 5},
                                          {2, 33, 32},
                                          {4, 32, 32},
                                          {16, 40, 32},
                                          {5, 24, 18},
                                          {33, 72, 64},
                                          {32, 17, 16}};

/// T rows of one sequence, or of several.
template <class S, class B>
struct latents {
  index_t T, H, W, R;
  double scale;
  guarded<S, 3, B> q;
  guarded<S, 2, B> latent;

  latents(index_t rows, const latent_sizes& s, std::uint64_t stream = 0)
      : T(rows),
        H(s.H),
        W(s.W),
        R(s.R),
        scale(1.3 / std::sqrt(static_cast<double>(s.W))),
        q(dims<3>{T, H, W}, spaced(H, W), normal(T * H * W, 10 * stream + 1)),
        latent(dims<2>{T, W}, strides(W + 7, 1), normal(T * W, 10 * stream + 2)) {}

  guarded<S, 3, B> like_out(index_t rows) const { return {dims<3>{rows, H, R}, spaced(H, R)}; }
};

/// A cache that holds what is not a number: reading it would show.
template <class S, class B>
class latent_memory {
 public:
  latent_memory(index_t width, index_t capacity, index_t slots = 1)
      : width_(width),
        capacity_(capacity),
        slots_(slots),
        memory_(static_cast<std::size_t>(slots * capacity * width), poison<S>()) {}

  latent_cache_view<S, B> view() {
    return {memory_.data(), capacity_, width_, slots_, capacity_ * width_};
  }
  std::vector<S> elements() const {
    testing<B>::settle();
    return {memory_.begin(), memory_.end()};
  }

 private:
  index_t width_, capacity_, slots_;
  std::vector<S, shared_allocator<S, B>> memory_;
};

/// Rows of `a` at these places of a run, with these positions; `out` has as many rows.
template <class S, class B>
void attend(context<B>& context,
            latents<S, B>& a,
            const latent_cache_view<S, B>& cache,
            const std::vector<index_t>& rows,
            guarded<index_t, 1, B>& positions,
            const std::vector<row_run>& runs,
            const view<S, dims<3>, B>& out) {
  const auto M = static_cast<index_t>(rows.size());
  guarded<S, 3, B> q(dims<3>{M, a.H, a.W}, spaced(a.H, a.W), picked_values(a.q, rows));
  guarded<S, 2, B> latent(dims<2>{M, a.W}, strides(a.W + 3, 1), picked_values(a.latent, rows));
  latent_attention_cached_forward(
      context, out, cache, q.view(), latent.view(), a.scale, positions.view(), runs);
  CHECK(q.untouched());
  CHECK(latent.untouched());
  CHECK(positions.untouched());
}

/// Rows [first, end) of a sequence in one run of slot 0, `chunk(position)` rows at a time.
template <class S, class B, class Chunk>
void attend_chain(context<B>& context,
                  latents<S, B>& a,
                  const latent_cache_view<S, B>& cache,
                  guarded<S, 3, B>& out,
                  index_t first,
                  index_t end,
                  const Chunk& chunk) {
  for (index_t t = first; t < end;) {
    const index_t M = std::min<index_t>(chunk(t), end - t);
    std::vector<index_t> rows(static_cast<std::size_t>(M));
    std::iota(rows.begin(), rows.end(), t);
    auto positions = positions_at<B>(t, M);
    attend(context, a, cache, rows, positions, {{0, M}}, out.view().slice(0, t, M));
    t += M;
  }
}

/// The results of the rows of one sequence and their bounds: attention with one head of keys, whose
/// first elements are the values. Besides what expected_forward counts, each block of positions
/// brings a factor, whose argument is a difference of scores, and two products with it.
template <class Case>
struct expected_rows {
  using S = typename Case::scalar;
  array<3> out;
  std::vector<double> bounds;

  expected_rows(const array<3>& q_rows, const array<2>& latent, double scale, index_t R)
      : out({0, 0, 0}) {
    const index_t T = q_rows.size(0), H = q_rows.size(1), W = q_rows.size(2);
    const double u = unit_roundoff<accumulate_t<S>>;
    array<3> q = q_rows, k({T, 1, W}), v({T, 1, R});
    for (double& element : q.elements) {
      element *= scale * std::sqrt(static_cast<double>(W));  // which the reference divides by
    }
    for (index_t t = 0; t < T; ++t) {
      for (index_t e = 0; e < W; ++e) {
        k(t, 0, e) = latent(t, e);
        if (e < R) v(t, 0, e) = latent(t, e);
      }
    }
    const auto p = reference::attend(q, k, 1).p;
    out = reference::attention_forward(p, v, 1);
    const array<3> q_terms = magnitude(q), k_terms = magnitude(k);
    const double blocks = static_cast<double>(T) / 32 + 1;  // or less
    array<2> factor({T, H});
    for (index_t n = 0; n < T; ++n) {
      for (index_t h = 0; h < H; ++h) {
        double largest = 0;
        for (index_t s = 0; s <= n; ++s) {
          largest = std::max(largest, reference::score(q_terms, k_terms, n, h, s, 0));
        }
        const double score = dot_bound(W + 3, u, largest) + blocks * 2 * u * largest;
        factor(n, h) = compound(probability_error(score, T, u),
                                gamma(static_cast<double>(T) + 3 + 8 * blocks, u));
      }
    }
    const double below = 4 * static_cast<double>(std::numeric_limits<accumulate_t<S>>::min());
    bounds = stored_bounds<S>(
        out, reference::attention_forward(times(p, factor, below), magnitude(v), 1));
  }
};

TEST_CASE_TEMPLATE_DEFINE("latent_attention_cached_forward matches the reference",
                          Case,
                          cached_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const random_stream random(mtp::seed{5}, 1);
  auto context = testing<B>::make_context();
  const bool host = backend_traits<B>::is_host_memory;
  for (const latent_sizes& sizes : some_of<B>(some_sizes)) {
    for (const index_t T :
         host ? std::vector<index_t>{1, 63, 64, 65, 130, 201} : std::vector<index_t>{1, 33, 70}) {
      CAPTURE(T);
      CAPTURE(sizes.H);
      CAPTURE(sizes.W);
      latents<S, B> a(T, sizes);
      const expected_rows<Case> expected(
          array_of(a.q.view()), array_of(a.latent.view()), a.scale, a.R);
      latent_memory<S, B> cache(a.W, T + 3);
      auto out = a.like_out(T);
      attend_chain(context, a, cache.view(), out, 0, T, [&](index_t t) {
        return 1 + static_cast<index_t>(random.below(static_cast<std::uint64_t>(t), 20));
      });
      CHECK(within(out.view(), expected.out.elements, expected.bounds));
      CHECK(out.intact());
      CHECK(workspace_is_idle(context));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "latent_attention_cached_forward gives a row the same bits among up to 64 rows",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const bool host = backend_traits<B>::is_host_memory;
  const index_t T = host ? 200 : 76;
  for (const latent_sizes& sizes : {latent_sizes{3, 40, 32}, latent_sizes{33, 9, 5}}) {
    latents<S, B> a(T, sizes);
    auto context = testing<B>::make_context();
    auto alone = a.like_out(T);
    latent_memory<S, B> cache(a.W, T);
    attend_chain(context, a, cache.view(), alone, 0, T, [](index_t) { return 1; });
    testing<B>::each_way([&](auto& other, const std::string& name) {
      CAPTURE(name);
      for (const index_t M : {2, 7, 8, 9, 64}) {
        for (const index_t first : {0, 12, 56, 60, 63, 64, 120}) {
          if (first + M > T || (!host && M < 9 && first % 12 != 0)) {
            continue;
          }
          CAPTURE(M);
          CAPTURE(first);
          auto out = a.like_out(T);
          attend_chain(other, a, cache.view(), out, first, first + M, [&](index_t) { return M; });
          CHECK(same_bits(out.view().slice(0, first, M), alone.view().slice(0, first, M)));
          CHECK(out.intact());
        }
      }
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("trees and chains of latents do not disturb each other", Case, company) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const parent_list first{0, 0, 0, 1, 1, 2, 4}, second{0, 0, 1, 0, 3};
  const index_t base[] = {9, 57, 0, 64};
  const std::vector<const parent_list*> trees{&first, nullptr, &second, &first};
  for (const latent_sizes& sizes : {latent_sizes{4, 24, 16}, latent_sizes{3, 41, 33}}) {
    testing<B>::each_way([&](auto& context, const std::string& name) {
      CAPTURE(name);
      latents<S, B> a(4 * 80, sizes);
      latent_memory<S, B> together(a.W, 72, 4), alone(a.W, 72, 4);
      std::vector<index_t> rows;
      std::vector<double> where;
      std::vector<row_run> runs;
      std::vector<guarded<index_t, 1, B>> kept;
      kept.reserve(trees.size());
      for (std::size_t slot = 0; slot < trees.size(); ++slot) {
        const auto number = static_cast<index_t>(slot);
        std::vector<index_t> before(static_cast<std::size_t>(base[slot]));
        std::iota(before.begin(), before.end(), number * 80);
        auto places = positions_at<B>(0, base[slot]);
        for (auto* const cache : {&together, &alone}) {
          auto out = a.like_out(base[slot]);
          attend(context, a, cache->view(), before, places, {{number, base[slot]}}, out.view());
        }
        const bool is_tree = trees[slot] != nullptr;
        const parent_list parents = is_tree ? *trees[slot] : parent_list{0, 0, 1};
        kept.push_back(numbers_of<B>(parents));
        runs.push_back({number,
                        static_cast<index_t>(parents.size()),
                        is_tree ? kept.back().view().data() : nullptr});
        const auto positions = values(positions_of<B>(parents, base[slot]).view());
        for (std::size_t r = 0; r < parents.size(); ++r) {
          rows.push_back(number * 80 + base[slot] + static_cast<index_t>(r));
          where.push_back(positions[r]);
        }
      }
      const auto M = static_cast<index_t>(rows.size());
      guarded<index_t, 1, B> positions(dims<1>{M}, where);
      auto out = a.like_out(M), expected = a.like_out(M);
      attend(context, a, together.view(), rows, positions, runs, out.view());
      index_t from = 0;
      for (const row_run& run : runs) {
        const auto begin = rows.begin() + from;
        guarded<index_t, 1, B> own(
            dims<1>{run.rows},
            std::vector<double>(where.begin() + from, where.begin() + from + run.rows));
        attend(context,
               a,
               alone.view(),
               {begin, begin + run.rows},
               own,
               {run},
               expected.view().slice(0, from, run.rows));
        from += run.rows;
      }
      CHECK(same_bits(out.view(), expected.view()));
      CHECK(out.intact());
      CHECK(same_bits(together.elements(), alone.elements()));
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("each row of a tree of latents has the bits of its path alone",
                          Case,
                          paths) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const bool host = backend_traits<B>::is_host_memory;
  index_t number = 0;
  for (const parent_list& parents : trees()) {
    const auto R = static_cast<index_t>(parents.size());
    const index_t which = number++;
    for (const index_t base :
         host ? std::vector<index_t>{0, 1, 60, 64, 90} : std::vector<index_t>{0, 30}) {
      if (!host && which % 3 != 1) {
        continue;  // to save time
      }
      CAPTURE(R);
      CAPTURE(base);
      latents<S, B> a(base + R, some_sizes[static_cast<std::size_t>(which) % 6]);
      auto context = testing<B>::make_context();
      latent_memory<S, B> tree(a.W, base + R), straight(a.W, base + R);
      std::vector<index_t> rows(static_cast<std::size_t>(R));
      std::iota(rows.begin(), rows.end(), base);
      auto ignored = a.like_out(base + R);
      const auto eight = [](index_t) { return 8; };
      attend_chain(context, a, tree.view(), ignored, 0, base, eight);
      auto parent_numbers = numbers_of<B>(parents);
      auto positions = positions_of<B>(parents, base);
      auto out = a.like_out(R);
      attend(context,
             a,
             tree.view(),
             rows,
             positions,
             {{0, R, parent_numbers.view().data()}},
             out.view());
      CHECK(out.intact());
      CHECK(parent_numbers.untouched());
      // Each row has a place of its own: the cache is that of the rows without branches.
      attend_chain(context, a, straight.view(), ignored, 0, base + R, eight);
      CHECK(same_bits(tree.elements(), straight.elements()));
      for (index_t r = 0; r < R; ++r) {
        CAPTURE(r);
        std::vector<index_t> path = path_to(parents, r);
        for (index_t& row : path) {
          row += base;
        }
        const auto count = static_cast<index_t>(path.size());
        latent_memory<S, B> alone(a.W, base + R);
        attend_chain(context, a, alone.view(), ignored, 0, base, eight);
        auto expected = a.like_out(count);
        auto consecutive = positions_at<B>(base, count);
        attend(context, a, alone.view(), path, consecutive, {{0, count}}, expected.view());
        CHECK(same_bits(out.view().slice(0, r, 1), expected.view().slice(0, count - 1, 1)));
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("no row of latents changes a bit of what stands before it",
                          Case,
                          causality) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t bad : {0, 3, 63, 64, 69}) {
    latents<S, B> a(70, {3, 24, 18});
    latent_memory<S, B> good(a.W, 70), spoiled(a.W, 70);
    auto expected = a.like_out(70), out = a.like_out(70);
    attend_chain(context, a, good.view(), expected, 0, 70, [](index_t) { return 64; });
    for (index_t e = 0; e < a.W; ++e) {
      a.latent.view()(bad, e) = stored<S>(std::numeric_limits<double>::quiet_NaN());
    }
    attend_chain(context, a, spoiled.view(), out, 0, 70, [](index_t) { return 64; });
    CHECK(same_bits(out.view().slice(0, 0, bad), expected.view().slice(0, 0, bad)));
    for (const double each : values(out.view().slice(0, bad, 70 - bad))) {
      CHECK(std::isnan(each));
    }
    // What is rolled back reaches nothing.
    a.latent.view()(bad, 0) = stored<S>(0.0);
    latents<S, B> again(70, {3, 24, 18});
    attend_chain(context, again, spoiled.view(), out, bad, 70, [](index_t) { return 5; });
    CHECK(same_bits(out.view(), expected.view()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("latent_attention_cached_forward rejects what does not fit",
                          Case,
                          wrong) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  latents<S, B> a(4, {2, 9, 5});
  latent_memory<S, B> cache(a.W, 8, 2), narrow(a.W - 1, 8, 2);
  const std::vector<S> before = cache.elements();
  auto out = a.like_out(4), fewer = a.like_out(3);
  guarded<S, 3, B> wide(dims<3>{4, 2, 10});
  guarded<S, 2, B> short_rows(dims<2>{4, 8}, uniform(32, 1));
  const auto rejected = [&](auto& results,
                            auto& memory,
                            auto& rows,
                            double scale,
                            const std::vector<double>& where,
                            const std::vector<row_run>& runs) {
    guarded<index_t, 1, B> positions(dims<1>{static_cast<index_t>(where.size())}, where);
    return rejects("latent_attention_cached_forward", [&] {
      latent_attention_cached_forward(context,
                                      results.view(),
                                      memory.view(),
                                      a.q.view(),
                                      rows.view(),
                                      scale,
                                      positions.view(),
                                      runs);
    });
  };
  const std::vector<double> four{0, 1, 2, 3};
  const std::vector<row_run> one{{0, 4}};
  CHECK(rejected(fewer, cache, a.latent, 1, four, one));
  CHECK(rejected(wide, cache, a.latent, 1, four, one));
  CHECK(rejected(out, narrow, a.latent, 1, four, one));
  CHECK(rejected(out, cache, short_rows, 1, four, one));
  CHECK(rejected(out, cache, a.latent, 0, four, one));
  CHECK(rejected(out, cache, a.latent, std::nan(""), four, one));
  CHECK(rejected(out, cache, a.latent, 1, {0, 1, 2}, one));
  CHECK(rejected(out, cache, a.latent, 1, four, {{0, 3}}));
  CHECK(rejected(out, cache, a.latent, 1, four, {{0, 2}, {0, 2}}));
  CHECK(rejected(out, cache, a.latent, 1, four, {{2, 4}}));
  if (backend_traits<B>::is_host_memory) {
    CHECK(rejected(out, cache, a.latent, 1, {0, 1, 3, 4}, one));
    CHECK(rejected(out, cache, a.latent, 1, {6, 7, 8, 9}, one));
  }
  CHECK(same_bits(cache.elements(), before));
  CHECK(out.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("keep_path leaves a cache of latents as if the path had been alone",
                          Case,
                          moves) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t rows = 6, slot = 1, capacity = 20, W = 7;
  for (const std::vector<double>& path : {std::vector<double>{9, 11, 14, 12, 13, 14},
                                          std::vector<double>{9, 10, 13, 14, 13, 14},
                                          std::vector<double>{9, 10, 11, 12, 13, 14}}) {
    latent_memory<S, B> cache(W, capacity, 3);
    S* const all = cache.view().data;
    for (index_t i = 0; i < 3 * capacity * W; ++i) {
      all[i] = stored<S>(static_cast<double>(i % 97));
    }
    std::vector<S> expected = cache.elements();
    const auto row = [&](double place) {
      return expected.begin() + (slot * capacity + static_cast<index_t>(path[0])) * W +
             static_cast<index_t>(place - path[0]) * W;
    };
    for (std::size_t j = 1; j < path.size(); ++j) {  // upwards: what is read has not been written
      std::copy_n(row(path[j]), W, row(path[0] + static_cast<double>(j)));
    }
    guarded<index_t, 1, B> places(dims<1>{rows}, path);
    guarded<index_t, 1, B> parents(dims<1>{rows}, std::vector<double>(6, 0));
    guarded<token_t, 1, B> tokens(dims<1>{30}, std::vector<double>(30, 0));
    guarded<index_t, 1, B> state(dims<1>{sequence_states}, std::vector<double>(sequence_states, 0));
    sequence_view<B> sequence{tokens.view(), state.view()};
    sequence.slot = slot;
    sequence.tree = {parents.view(), places.view()};
    keep_path(context, cache.view(), sequence, rows);
    CHECK(same_bits(cache.elements(), expected));
    sequence.slot = 3;
    CHECK(rejects("keep_path", [&] { keep_path(context, cache.view(), sequence, rows); }));
    sequence.slot = slot;
    CHECK(rejects("keep_path", [&] { keep_path(context, cache.view(), sequence, rows + 1); }));
  }
}

TEST_CASE_TEMPLATE_APPLY(cached_values, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(company, cases);
TEST_CASE_TEMPLATE_APPLY(paths, cases);
TEST_CASE_TEMPLATE_APPLY(causality, cases);
TEST_CASE_TEMPLATE_APPLY(wrong, one_case);
TEST_CASE_TEMPLATE_APPLY(moves, cases);

}  // namespace mtp::test::latent_attention

// Attention over a cache for trees of drafts: each path through a tree against the reference, and
// bit for bit what the path alone gives. Who includes this says for which cases: see
// support/cpu_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/rope_attention.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/rope.hpp"
#include "support/tree_rows.hpp"

namespace mtp::test::attention_tree {

/// Widths that matrix instructions take and others.
inline const head_sizes device_heads[] = {{4, 2, 16}, {2, 1, 64}, {3, 1, 32}, {2, 1, 9}};

/// The first `base` rows of a sequence, then `rows` of the rest of it, into a cache.
template <class S, class B>
void run_chain(context<B>& context,
               sequences<S, B>& a,
               const cache_view<S, B>& cache,
               index_t base,
               const std::vector<index_t>& rows,
               guarded<S, 3, B>& out) {
  const auto all = behind(base, rows);
  auto q = picked(a.q, all), k = picked(a.k, all), v = picked(a.v, all);
  const auto count = static_cast<index_t>(all.size());
  for (index_t t = 0; t < count; t += 16) {  // few rows at a time have the same bits everywhere
    const index_t M = std::min<index_t>(16, count - t);
    auto positions = positions_at<B>(t, M);
    const auto part = [&](auto& x) { return x.view().slice(0, t, M); };
    attention_cached_forward(
        context, part(out), cache, part(q), part(k), part(v), positions.view());
  }
}

template <class S, class B>
guarded<S, 3, B> room_for(const sequences<S, B>& a, std::size_t rows) {
  return guarded<S, 3, B>(dims<3>{static_cast<index_t>(rows), a.H, a.E});
}

TEST_CASE_TEMPLATE_DEFINE("each row of a tree has the bits and the values of its path alone",
                          Case,
                          paths) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  index_t number = 0, tree_number = 0;
  for (const parent_list& parents : trees()) {
    const index_t which = tree_number++;
    const auto R = static_cast<index_t>(parents.size());
    // Around the ends of panels, which positions of keys are stored in.
    const bool host = backend_traits<B>::is_host_memory;
    for (const index_t base :
         host ? std::vector<index_t>{0, 1, 7, 15, 16, 30, 63} : std::vector<index_t>{0, 121}) {
      if (!host && (which % 3 != 1 || (base > 0 && which != 4))) {
        continue;  // to save time
      }
      const head_sizes sizes =
          host ? heads_of(number) : device_heads[static_cast<std::size_t>(number) % 4];
      CAPTURE(R);
      CAPTURE(base);
      CAPTURE(sizes.E);
      sequences<S, B> a(1, base + R, sizes, 1, number++);
      testing<B>::each_way([&](auto& context, const std::string& name) {
        CAPTURE(name);
        test_cache<S, B> tree(a, base + R), straight(a, base + R);
        auto before = room_for(a, static_cast<std::size_t>(base));
        run_chain(context, a, tree.view(), base, {}, before);
        auto parent_numbers = numbers_of<B>(parents);
        auto positions = positions_of<B>(parents, base);
        auto out = room_for(a, parents.size());
        const row_run run{0, R, parent_numbers.view().data()};
        attention_cached_forward(context,
                                 out.view(),
                                 tree.view(),
                                 a.q.view().slice(0, base, R),
                                 a.k.view().slice(0, base, R),
                                 a.v.view().slice(0, base, R),
                                 positions.view(),
                                 {&run, 1});
        CHECK(out.intact());
        CHECK(positions.untouched());
        CHECK(parent_numbers.untouched());
        // Each row has a place of its own: the cache is that of the rows without branches.
        std::vector<index_t> each_row;
        for (index_t r = 0; r < R; ++r) {
          each_row.push_back(r);
        }
        auto ignored = room_for(a, static_cast<std::size_t>(base + R));
        run_chain(context, a, straight.view(), base, each_row, ignored);
        CHECK(same_bits(tree.elements(), straight.elements()));

        for (index_t r = 0; r < R; ++r) {
          CAPTURE(r);
          const auto path = path_to(parents, r);
          const auto all = behind(base, path);
          test_cache<S, B> alone(a, base + R);
          auto expected = room_for(a, all.size());
          run_chain(context, a, alone.view(), base, path, expected);
          const auto last = static_cast<index_t>(all.size()) - 1;
          CHECK(same_bits(out.view().slice(0, r, 1), expected.view().slice(0, last, 1)));
          if (base != 7 && base != 16) {
            continue;
          }
          auto q = picked(a.q, all), k = picked(a.k, all), v = picked(a.v, all);
          const expected_forward<Case> slow(
              array_of(q.view()), array_of(k.view()), array_of(v.view()), 1);
          const auto part = [&](const std::vector<double>& elements) {
            return std::vector<double>(elements.end() - static_cast<std::ptrdiff_t>(a.H * a.E),
                                       elements.end());
          };
          CHECK(within(out.view().slice(0, r, 1), part(slow.out.elements), part(slow.out_bounds)));
        }
      });
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("trees and chains of several sequences do not disturb each other",
                          Case,
                          company) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const parent_list first{0, 0, 0, 1, 1, 2, 4}, second{0, 0, 1, 0, 3};
  const index_t base[] = {9, 17, 0, 4};
  const std::vector<const parent_list*> trees{&first, nullptr, &second, &first};
  for (const head_sizes& sizes : {head_sizes{4, 2, 16}, head_sizes{3, 1, 33}}) {
    testing<B>::each_way([&](auto& context, const std::string& name) {
      CAPTURE(name);
      sequences<S, B> a(4, 30, sizes);
      test_cache<S, B> together(a, 24, 4), alone(a, 24, 4);
      std::vector<index_t> rows, where;
      std::vector<row_run> runs;
      std::vector<guarded<index_t, 1, B>> kept;
      kept.reserve(trees.size());
      for (std::size_t slot = 0; slot < trees.size(); ++slot) {
        const auto number = static_cast<index_t>(slot);
        for (auto* const cache : {&together, &alone}) {
          std::vector<index_t> before;
          for (index_t t = 0; t < base[slot]; ++t) {
            before.push_back(number * 30 + t);
          }
          auto q = picked(a.q, before), k = picked(a.k, before), v = picked(a.v, before);
          auto out = room_for(a, before.size());
          const row_run run{number, base[slot]};
          auto positions = positions_at<B>(0, base[slot]);
          attention_cached_forward(context,
                                   out.view(),
                                   cache->view(),
                                   q.view(),
                                   k.view(),
                                   v.view(),
                                   positions.view(),
                                   {&run, 1});
        }
        const bool is_tree = trees[slot] != nullptr;
        const parent_list parents = is_tree ? *trees[slot] : parent_list{0, 0, 1};
        kept.push_back(numbers_of<B>(parents));
        runs.push_back({number,
                        static_cast<index_t>(parents.size()),
                        is_tree ? kept.back().view().data() : nullptr});
        auto positions = positions_of<B>(parents, base[slot]);
        for (std::size_t r = 0; r < parents.size(); ++r) {
          rows.push_back(number * 30 + base[slot] + static_cast<index_t>(r));
          where.push_back(static_cast<index_t>(values(positions.view())[r]));
        }
      }
      auto q = picked(a.q, rows), k = picked(a.k, rows), v = picked(a.v, rows);
      guarded<index_t, 1, B> positions(dims<1>{static_cast<index_t>(rows.size())},
                                       std::vector<double>(where.begin(), where.end()));
      auto out = room_for(a, rows.size()), expected = room_for(a, rows.size());
      attention_cached_forward(context,
                               out.view(),
                               together.view(),
                               q.view(),
                               k.view(),
                               v.view(),
                               positions.view(),
                               runs);
      index_t from = 0;
      for (const row_run& run : runs) {
        const auto part = [&](auto& x) { return x.view().slice(0, from, run.rows); };
        attention_cached_forward(context,
                                 part(expected),
                                 alone.view(),
                                 part(q),
                                 part(k),
                                 part(v),
                                 part(positions),
                                 {&run, 1});
        from += run.rows;
      }
      CHECK(same_bits(out.view(), expected.view()));
      CHECK(same_bits(together.elements(), alone.elements()));
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_attention_cached_forward rotates rows of a tree to their depth",
                          Case,
                          rotations) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const parent_list parents{0, 0, 0, 1, 1, 2, 4, 4};
  const auto R = static_cast<index_t>(parents.size());
  for (const head_sizes& sizes : {head_sizes{4, 2, 16}, head_sizes{3, 1, 6}}) {
    const index_t base = 13;
    sequences<S, B> a(1, base + R, sizes);
    auto table = rope_table<accumulate_t<S>, B>(base + R, sizes.E);
    test_cache<S, B> whole(a, base + R), parts(a, base + R);
    auto numbers = numbers_of<B>(parents);
    auto positions = positions_of<B>(parents, base);
    auto out = room_for(a, parents.size()), expected = room_for(a, parents.size());
    for (auto* const cache : {&whole, &parts}) {
      auto ignored = room_for(a, static_cast<std::size_t>(base));
      run_chain(context, a, cache->view(), base, {}, ignored);
    }
    std::vector<index_t> rows;
    for (index_t r = 0; r < R; ++r) {
      rows.push_back(base + r);
    }
    auto q = picked(a.q, rows), k = picked(a.k, rows), v = picked(a.v, rows);
    auto rotated_q = picked(a.q, rows), rotated_k = picked(a.k, rows);
    const row_run run{0, R, numbers.view().data()};
    rope_attention_cached_forward(context,
                                  out.view(),
                                  whole.view(),
                                  q.view(),
                                  k.view(),
                                  v.view(),
                                  table.view(),
                                  positions.view(),
                                  {&run, 1});
    for (index_t r = 0; r < R; ++r) {
      const auto at = static_cast<index_t>(values(positions.view())[static_cast<std::size_t>(r)]);
      rope_forward(context, rotated_q.view().slice(0, r, 1), table.view(), 1, at);
      rope_forward(context, rotated_k.view().slice(0, r, 1), table.view(), 1, at);
    }
    attention_cached_forward(context,
                             expected.view(),
                             parts.view(),
                             rotated_q.view(),
                             rotated_k.view(),
                             v.view(),
                             positions.view(),
                             {&run, 1});
    CHECK(same_bits(out.view(), expected.view()));
    CHECK(same_bits(whole.elements(), parts.elements()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_cached_forward rejects what is no tree and changes nothing",
                          Case,
                          wrong_trees) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if (!backend_traits<B>::is_host_memory) {
    return;  // a device's numbers are not looked at
  }
  auto context = testing<B>::make_context();
  sequences<S, B> a(1, 4, {2, 1, 5});
  test_cache<S, B> cache(a, 8);
  const std::vector<S> before = cache.elements();
  auto out = a.like_queries();
  const auto rejected = [&](const parent_list& parents, const std::vector<double>& where) {
    auto numbers = numbers_of<B>(parents);
    guarded<index_t, 1, B> positions(dims<1>{4}, where);
    const row_run run{0, 4, numbers.view().data()};
    return rejects("attention_cached_forward", [&] {
      attention_cached_forward(context,
                               out.view(),
                               cache.view(),
                               a.q.view(),
                               a.k.view(),
                               a.v.view(),
                               positions.view(),
                               {&run, 1});
    });
  };
  CHECK(rejected({0, 1, 0, 0}, {2, 3, 3, 3}));
  CHECK(rejected({0, 0, 3, 2}, {2, 3, 3, 3}));
  CHECK(rejected({0, -1, 0, 0}, {2, 3, 3, 3}));
  CHECK(rejected({0, 0, 0, 1}, {2, 3, 3, 5}));
  CHECK(rejected({0, 0, 0, 1}, {2, 3, 4, 4}));
  CHECK(rejected({0, 0, 0, 0}, {5, 6, 6, 6}));
  CHECK(rejected({0, 0, 0, 0}, {-1, 0, 0, 0}));
  CHECK(same_bits(cache.elements(), before));
  CHECK(out.untouched());
}

TEST_CASE_TEMPLATE_APPLY(paths, cases);
TEST_CASE_TEMPLATE_APPLY(company, cases);
TEST_CASE_TEMPLATE_APPLY(rotations, cases);
TEST_CASE_TEMPLATE_APPLY(wrong_trees, cases);

}  // namespace mtp::test::attention_tree

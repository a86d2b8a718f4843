// Trees of drafts against plain loops. Who includes this says for which cases: see
// support/cpu_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/tree.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/ruled_sequence.hpp"

namespace mtp::test::tree {

/// What does not depend on an element type is tested once.
using one_case = std::tuple<std::tuple_element_t<0, cases>>;
using numbers = std::vector<index_t>;
using choose_tokens::as_values;
using choose_tokens::token_list;

template <class Element, class B>
guarded<Element, 1, B> list(const std::vector<Element>& elements) {
  return {dims<1>{static_cast<index_t>(elements.size())}, as_values(elements)};
}

inline std::size_t at(index_t i) {
  return static_cast<std::size_t>(i);
}

/// A sequence with a tree, between guard zones.
template <class B>
struct guarded_tree {
  guarded<token_t, 1, B> tokens;
  guarded<index_t, 1, B> state, parents, path;

  guarded_tree(const token_list& all, index_t count, const numbers& rows)
      : tokens(list<token_t, B>(all)),
        state(list<index_t, B>({count, 77})),
        parents(list<index_t, B>(rows)),
        path(list<index_t, B>(numbers(rows.size(), 55))) {}

  sequence_view<B> view(index_t rows) {
    sequence_view<B> made{tokens.view(), state.view()};
    made.tree = {parents.view().slice(0, 0, rows), path.view().slice(0, 0, rows)};
    return made;
  }
  bool intact() const {
    return tokens.intact() && state.intact() && parents.intact() && path.intact();
  }
};

inline token_list some_tokens(index_t count, index_t V, std::uint64_t stream) {
  const random_stream random(mtp::seed{8}, stream);
  token_list tokens;
  for (index_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(V))));
  }
  return tokens;
}

inline numbers random_parents(index_t rows, std::uint64_t stream) {
  const random_stream random(mtp::seed{9}, stream);
  numbers parents{-1};
  for (index_t r = 1; r < rows; ++r) {
    parents.push_back(static_cast<index_t>(
        random.below(static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(r))));
  }
  return parents;
}

inline numbers path_to(const numbers& parents, index_t r) {
  numbers path{r};
  while (path.front() > 0) {
    path.insert(path.begin(), parents[at(path.front())]);
  }
  return path;
}

TEST_CASE_TEMPLATE_DEFINE("grow_tree puts the candidates of a fixed tree behind the tokens",
                          Case,
                          fixed_trees) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const draft_tree& shape : {draft_tree::of_widths({3, 2, 1}),
                                  draft_tree::of_widths({1, 1}),
                                  draft_tree::of_paths({{1, 0}, {4}, {1, 3, 0}})}) {
    for (const index_t capacity : {40, 20, 12}) {
      const index_t count = 11, R = shape.rows();
      guarded_tree<B> text(some_tokens(capacity, 90, 1), count, numbers(at(R) + 2, 33));
      const token_list before = elements(text.tokens.view());
      std::vector<double> drawn;
      for (int i = 0; i < 15; ++i) {
        drawn.push_back(i == 7 ? -1 : 100 + i);
      }
      guarded<token_t, 2, B> candidates(dims<2>{3, 5}, drawn);
      guarded<double, 2, B> scores(dims<2>{3, 5}, std::vector<double>(15, NAN));
      grow_tree(context, text.view(R + 2), candidates.view(), scores.view(), shape);
      token_list expected = before;
      numbers parents(at(R) + 2, 33);
      parents[0] = -1;
      for (index_t r = 1; r < R; ++r) {
        parents[at(r)] = shape.parent(r);
        if (count - 1 + r < capacity) {
          const auto draft = drawn[at((shape.depth(r) - 1) * 5 + shape.rank(r))];
          expected[at(count - 1 + r)] = std::max(static_cast<token_t>(draft), token_t{0});
        }
      }
      CHECK(elements(text.tokens.view()) == expected);
      CHECK(elements(text.parents.view()) == parents);
      CHECK(text.intact());
      CHECK(text.state.untouched());
      CHECK(text.path.untouched());
      CHECK(candidates.untouched());
      CHECK(scores.untouched());
    }
  }
}

/// A row of the tree of all candidates.
struct possible_row {
  double score;
  numbers ranks;
};

/// All rows of the tree of W candidates at each of D depths, the likeliest first.
inline std::vector<possible_row> all_rows(const std::vector<double>& scores, index_t D, index_t W) {
  std::vector<possible_row> rows{{0, {}}};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const possible_row front = rows[i];
    const auto depth = static_cast<index_t>(front.ranks.size());
    for (index_t w = 0; w < W && depth < D; ++w) {
      possible_row row = front;
      row.score += scores[at(depth * W + w)];
      row.ranks.push_back(w);
      rows.push_back(row);
    }
  }
  std::stable_sort(
      rows.begin() + 1, rows.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  return rows;
}

TEST_CASE_TEMPLATE_DEFINE("grow_tree by confidence has the rows of the largest probabilities",
                          Case,
                          dynamic_trees) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  const random_stream random(mtp::seed{4}, 4);
  std::uint64_t drawn = 0;
  for (int trial = 0; trial < 60; ++trial) {
    const index_t D = 1 + trial % 3, W = 2 + trial % 4;
    const auto possible = [&] {
      index_t all = 1, level = 1;
      for (index_t d = 0; d < D; ++d) {
        all += level *= W;
      }
      return all;
    }();
    const index_t R = std::min<index_t>(2 + trial % 15, possible), count = 5;
    std::vector<double> scores, tokens;
    for (index_t d = 0; d < D; ++d) {
      double sum = 0;
      for (index_t w = 0; w < W; ++w) {
        sum -= 3 * random.uniform(drawn++);
        scores.push_back(sum);
        tokens.push_back(static_cast<double>(10 * d + w));
      }
    }
    guarded_tree<B> text(some_tokens(40, 90, 1), count, numbers(at(R), 33));
    guarded<token_t, 2, B> candidates(dims<2>{D, W}, tokens);
    guarded<double, 2, B> log_probabilities(dims<2>{D, W}, scores);
    grow_tree(context,
              text.view(R),
              candidates.view(),
              log_probabilities.view(),
              draft_tree::by_confidence(R, W));
    const auto parents = elements(text.parents.view());
    const auto all = elements(text.tokens.view());
    std::vector<numbers> actual, expected;
    for (index_t r = 1; r < R; ++r) {
      REQUIRE(parents[at(r)] >= 0);
      REQUIRE(parents[at(r)] < r);
      numbers ranks;
      const numbers path = path_to(parents, r);
      for (std::size_t d = 1; d < path.size(); ++d) {
        ranks.push_back(all[at(count - 1 + path[d])] - static_cast<index_t>(10 * (d - 1)));
      }
      actual.push_back(ranks);
    }
    const auto rows = all_rows(scores, D, W);
    for (index_t r = 1; r < R; ++r) {
      expected.push_back(rows[at(r)].ranks);
    }
    CHECK(actual == expected);
    CHECK(text.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("grow_tree by confidence leaves out what is no number",
                          Case,
                          strange_trees) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  guarded_tree<B> text(some_tokens(40, 90, 1), 3, numbers(6, 33));
  guarded<token_t, 2, B> candidates(dims<2>{2, 2}, std::vector<double>{7, -1, 8, 9});
  guarded<double, 2, B> scores(dims<2>{2, 2}, std::vector<double>{-1, -2, NAN, -1});
  grow_tree(
      context, text.view(6), candidates.view(), scores.view(), draft_tree::by_confidence(6, 2));
  CHECK(elements(text.parents.view()) == numbers{-1, 0, 0, 0, 0, 0});
  const auto tokens = elements(text.tokens.view());
  CHECK(token_list(tokens.begin() + 3, tokens.begin() + 8) == token_list{7, 0, 0, 0, 0});
}

TEST_CASE_TEMPLATE_DEFINE("accept_tree keeps the longest path that was predicted",
                          Case,
                          accepting) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  std::vector<index_t> seen(8);
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    const index_t M = 1 + static_cast<index_t>(trial % 14), count = 6, capacity = 30;
    // Few tokens, so that paths of all lengths occur, and siblings that are equal.
    const token_list all = some_tokens(capacity, 3, trial);
    token_list predicted = some_tokens(M, 3, 1000 + trial);
    if (trial % 5 == 0) {
      predicted[at(M - 1)] = -1;
    }
    if (trial % 7 == 0) {
      predicted[0] = -1;
    }
    const numbers parents = random_parents(M, trial);
    guarded_tree<B> text(all, count, parents);
    auto given = list<token_t, B>(predicted);
    accept_tree(context, text.view(M), given.view(), 29);

    numbers path{0};
    for (bool found = true; found;) {
      found = false;
      for (index_t c = 1; c < M && !found; ++c) {
        if (parents[at(c)] == path.back() && all[at(count - 1 + c)] == predicted[at(path.back())]) {
          path.push_back(c);
          found = true;
        }
      }
    }
    const auto accepted = static_cast<index_t>(path.size()) - 1;
    ++seen[at(std::min<index_t>(accepted, 7))];
    const auto tokens = elements(text.tokens.view());
    for (index_t j = 0; j <= accepted; ++j) {
      const token_t token = predicted[at(path[at(j)])];
      CHECK(tokens[at(count + j)] == (token < 0 ? all[at(count + j)] : token));
    }
    CHECK(std::equal(all.begin(), all.begin() + count, tokens.begin()));
    const index_t written = accepted + (predicted[at(path.back())] < 0 ? 0 : 1);
    CHECK(elements(text.state.view()) == numbers{count + written, accepted});
    const auto places = elements(text.path.view());
    for (index_t j = 0; j < M; ++j) {
      CHECK(places[at(j)] == count - 1 + (j <= accepted ? path[at(j)] : j));
    }
    CHECK(text.parents.untouched());
    CHECK(given.untouched());
    CHECK(text.intact());
  }
  for (int accepted = 0; accepted < 4; ++accepted) {
    CHECK(seen[at(accepted)] > 0);
  }
}

TEST_CASE_TEMPLATE_DEFINE("accept_tree does nothing where rows reach beyond the limit",
                          Case,
                          limits) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const index_t M : {1, 2, 5}) {
    for (const index_t count : {5, 6, 9, 10, 11}) {
      guarded_tree<B> text(some_tokens(16, 3, 1), count, numbers(at(M), 0));
      auto given = list<token_t, B>(token_list(at(M), 2));
      accept_tree(context, text.view(M), given.view(), 10);
      const bool fits = count + M - 1 <= 10 && count < 10;
      CHECK((elements(text.state.view())[sequence_accepted] >= 0) == fits);
      if (!fits) {
        CHECK(text.tokens.untouched());
        CHECK(elements(text.state.view())[sequence_count] == count);
        for (index_t j = 0; j < M; ++j) {
          CHECK(elements(text.path.view())[at(j)] == count - 1 + j);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("keep_path leaves a cache as if the path had been alone", Case, moves) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t slots = 3, slot = 1;
  index_t number = 0;
  for (const numbers& path : {numbers{0}, numbers{0, 1, 2}, numbers{0, 3, 4, 9}, numbers{0, 9}}) {
    for (const index_t base : {0, 7, 15, 30}) {
      const index_t R = 10;
      sequences<S, B> a(1, base + R, heads_of(number), 1, number);
      ++number;
      test_cache<S, B> moved(a, base + R + 1, slots), expected(a, base + R + 1, slots);
      auto out = a.like_queries();
      const auto run = [&](test_cache<S, B>& cache, index_t from, index_t to, index_t rows) {
        const row_run one{slot, rows};
        const auto part = [&](auto& x) { return x.view().slice(0, from, rows); };
        attention_cached_forward(context,
                                 part(out),
                                 cache.view(),
                                 part(a.q),
                                 part(a.k),
                                 part(a.v),
                                 positions_at<B>(to, rows).view(),
                                 {&one, 1});
      };
      run(moved, 0, 0, base + R);
      run(expected, 0, 0, base + R);
      for (std::size_t j = 0; j < path.size(); ++j) {
        run(expected, base + path[j], base + static_cast<index_t>(j), 1);
      }
      guarded_tree<B> text(some_tokens(40, 9, 1), base + 2, numbers(at(R), 0));
      numbers places;
      for (index_t j = 0; j < R; ++j) {
        places.push_back(base + (at(j) < path.size() ? path[at(j)] : j));
      }
      text.path.set(as_values(places));
      auto sequence = text.view(R);
      sequence.slot = slot;
      keep_path(context, moved.view(), sequence, R);
      CHECK(same_bits(moved.elements(), expected.elements()));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("exclude_tokens takes tokens out of rows of logits", Case, excluding) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded<S, 2, B> logits(dims<2>{4, 7}, strides(9, 1), normal(28, 1));
  auto expected = values(logits.view());
  const token_list tokens{6, -1, 7, 0};
  auto given = list<token_t, B>(tokens);
  exclude_tokens(context, logits.view(), given.view());
  expected[6] = expected[21] = -std::numeric_limits<double>::infinity();
  CHECK(same_bits(values(logits.view()), expected));
  CHECK(logits.intact());
  CHECK(given.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("rows of a tree are chosen from as their paths alone", Case, choices) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 13, M = 9, count = 8;
  context.reserve(ops_of<B>::template choose_tokens_workspace<S>(M, V, context.threads()));
  for (std::uint64_t trial = 0; trial < 12; ++trial) {
    const reference::rule_of_choice rule{.seed = 5,
                                         .sequence = 3,
                                         .prompt_length = 4,
                                         .min_new_tokens = trial % 2 == 0 ? 6 : 0,
                                         .temperature = trial % 3 == 0 ? 0.0 : 0.8,
                                         .repetition_penalty = 1.4,
                                         .frequency_penalty = 0.5,
                                         .presence_penalty = 0.3,
                                         .stop_tokens = {2, 5}};
    const numbers parents = random_parents(M, trial);
    const token_list all = some_tokens(count + M, V, trial);
    choose_tokens::guarded_sequence<B> text(all, count, rule, V);
    auto rows = list<index_t, B>(parents), path = list<index_t, B>(parents);
    auto sequence = text.view();
    sequence.tree = {rows.view(), path.view()};
    guarded<S, 2, B> logits(dims<2>{M, V}, normal(M * V, trial, 2));
    guarded<token_t, 1, B> chosen(dims<1>{M}), tail(dims<1>{M - 4});
    mtp::choose_tokens(context, chosen.view(), logits.view(), sequence, 0);
    mtp::choose_tokens(context, tail.view(), logits.view().slice(0, 4, M - 4), sequence, 4);
    guarded<index_t, 1, B> positions(dims<1>{M});
    guarded<token_t, 1, B> ids(dims<1>{M});
    select_rows(context, positions.view(), ids.view(), sequence, -1, 0);
    for (index_t r = 0; r < M; ++r) {
      const numbers way = path_to(parents, r);
      token_list alone(all.begin(), all.begin() + count);
      for (std::size_t j = 1; j < way.size(); ++j) {
        alone.push_back(all[at(count - 1 + way[j])]);
      }
      const auto depth = static_cast<index_t>(way.size()) - 1;
      choose_tokens::guarded_sequence<B> straight(alone, count, rule, V);
      guarded<token_t, 1, B> expected(dims<1>{1});
      mtp::choose_tokens(
          context, expected.view(), logits.view().slice(0, r, 1), straight.view(), depth);
      CHECK(chosen.view()(r) == expected.view()(0));
      CHECK((r < 4 || tail.view()(r - 4) == expected.view()(0)));
      CHECK(positions.view()(r) == count - 1 + depth);
      CHECK(ids.view()(r) == all[at(count - 1 + r)]);
    }
    // Rows of a stream whose tokens stand two positions further on.
    guarded<index_t, 1, B> behind(dims<1>{M - 1});
    guarded<token_t, 1, B> same(dims<1>{M - 1});
    select_rows(context, behind.view(), same.view(), sequence, -2, 2);
    for (index_t r = 1; r < M; ++r) {
      CHECK(behind.view()(r - 1) == positions.view()(r) - 2);
      CHECK(same.view()(r - 1) == ids.view()(r));
    }
    CHECK(text.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("operations on trees reject what does not fit and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded_tree<B> text(some_tokens(20, 9, 1), 5, numbers(4, 0));
  guarded<token_t, 2, B> candidates(dims<2>{2, 2}), other(dims<2>{2, 3});
  guarded<double, 2, B> scores(dims<2>{2, 2});
  const auto grows = [&](auto sequence, auto tokens, const draft_tree& shape) {
    return rejects("grow_tree",
                   [&] { grow_tree(context, sequence, tokens, scores.view(), shape); });
  };
  const auto c = candidates.view();
  CHECK(grows(
      sequence_view<B>{text.tokens.view(), text.state.view()}, c, draft_tree::of_widths({1})));
  CHECK(grows(text.view(4), c, draft_tree{}));
  CHECK(grows(text.view(4), c, draft_tree::of_widths({2, 1})));
  CHECK(grows(text.view(4), c, draft_tree::of_widths({3})));
  CHECK(grows(text.view(4), c, draft_tree::of_widths({1, 1, 1})));
  CHECK(grows(text.view(4), c, draft_tree::by_confidence(3, 3)));
  CHECK(grows(text.view(4), other.view(), draft_tree::of_widths({1})));
  guarded<token_t, 1, B> five(dims<1>{5}), none(dims<1>{0}), three(dims<1>{3});
  const auto accepts = [&](auto predicted, index_t limit) {
    return rejects("accept_tree", [&] { accept_tree(context, text.view(4), predicted, limit); });
  };
  CHECK(accepts(five.view(), 19));
  CHECK(accepts(none.view(), 19));
  CHECK(accepts(three.view(), 20));
  sequences<S, B> a(1, 4, {2, 1, 5});
  test_cache<S, B> cache(a, 8, 2);
  const std::vector<S> before = cache.elements();
  auto sequence = text.view(4);
  CHECK(rejects("keep_path", [&] { keep_path(context, cache.view(), sequence, 5); }));
  sequence.slot = 2;
  CHECK(rejects("keep_path", [&] { keep_path(context, cache.view(), sequence, 4); }));
  CHECK(same_bits(cache.elements(), before));
  guarded<S, 2, B> logits(dims<2>{2, 7});
  CHECK(rejects("exclude_tokens", [&] { exclude_tokens(context, logits.view(), three.view()); }));
  guarded<index_t, 1, B> positions(dims<1>{5});
  CHECK(rejects("select_rows",
                [&] { select_rows(context, positions.view(), five.view(), text.view(4), -1, 0); }));
  CHECK(text.tokens.untouched());
  CHECK(text.state.untouched());
  CHECK(text.parents.untouched());
  CHECK(text.path.untouched());
  CHECK(logits.untouched());
}

TEST_CASE_TEMPLATE_APPLY(fixed_trees, one_case);
TEST_CASE_TEMPLATE_APPLY(dynamic_trees, one_case);
TEST_CASE_TEMPLATE_APPLY(strange_trees, one_case);
TEST_CASE_TEMPLATE_APPLY(accepting, one_case);
TEST_CASE_TEMPLATE_APPLY(limits, one_case);
TEST_CASE_TEMPLATE_APPLY(moves, cases);
TEST_CASE_TEMPLATE_APPLY(excluding, cases);
TEST_CASE_TEMPLATE_APPLY(choices, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::tree

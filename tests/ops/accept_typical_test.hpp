// Typical drafts against sums in extended precision and a search for the longest path. Who includes
// this says for which cases: see support/backends.hpp.
#pragma once

#include "mtp/ops/accept_typical.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <vector>

#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/choose_tokens.hpp"
#include "support/ruled_sequence.hpp"

namespace mtp::test::accept_typical {

using choose_tokens::as_values;
using choose_tokens::guarded_sequence;
using choose_tokens::rounded;
using choose_tokens::rules_for;
using choose_tokens::token_list;
using choose_tokens::tokens_below;
using reference::rule_of_choice;
using numbers = std::vector<index_t>;

/// What does not depend on an element type is tested once.
using one_case = std::tuple<std::tuple_element_t<0, cases>>;

inline std::size_t at(index_t i) {
  return static_cast<std::size_t>(i);
}

/// Rows of a chain, and of a tree if the backend takes any.
template <class B>
std::vector<numbers> shapes() {
  std::vector<numbers> all{{-1}, {-1, 0}, {-1, 0, 1, 2, 3}};
  if (decodes_trees<B>) {
    all.push_back({-1, 0, 0, 0});
    all.push_back({-1, 0, 1, 0, 3, 4, 0, 2, 2, 3});
    all.push_back({-1, 0, 1, 2, 0, 4, 4, 0, 7, 8, 9, 7, 5, 5, 1, 1});
  }
  return all;
}
inline bool is_chain(const numbers& parents) {
  for (index_t c = 1; c < static_cast<index_t>(parents.size()); ++c) {
    if (parents[at(c)] != c - 1) {
      return false;
    }
  }
  return true;
}

/// Drafts behind confirmed tokens, their logits, and what was chosen behind each row.
template <class B, class S>
struct drafted_rows {
  static constexpr index_t count = 11;
  index_t V, M;
  numbers parents;
  rule_of_choice rule;
  std::vector<double> values;  // [M, V]
  token_list all, chosen;
  guarded_sequence<B> sequence;
  guarded<index_t, 1, B> parent_list, path;
  guarded<S, 2, B> logits;
  guarded<token_t, 1, B> predicted;

  drafted_rows(index_t vocabulary, const numbers& rows, const rule_of_choice& with, index_t gap = 0)
      : V(vocabulary),
        M(static_cast<index_t>(rows.size())),
        parents(rows),
        rule(with),
        values(normal(M * V, 5, 2)),
        all(draft()),
        chosen(tokens_below(V, M, 9)),
        sequence(all, count, rule, V),
        parent_list(dims<1>{M}, as_values(parents)),
        path(dims<1>{M}),
        logits(dims<2>{M, V}, strides(V + gap, 1), values),
        predicted(dims<1>{M}, as_values(chosen)) {
    values = as_values(elements(logits.view()));
  }

  sequence_view<B> view() {
    sequence_view<B> made = sequence.view();
    if (!is_chain(parents)) {
      made.tree = {parent_list.view(), path.view()};
    }
    return made;
  }
  std::vector<double> row(index_t m) const {
    return {values.begin() + m * V, values.begin() + (m + 1) * V};
  }
  token_t token(index_t c) const { return all[at(count - 1 + c)]; }

  /// The tokens in front of what follows row m.
  token_list in_front(index_t m) const {
    token_list behind;
    for (index_t r = m; r > 0; r = parents[at(r)]) {
      behind.insert(behind.begin(), token(r));
    }
    token_list text(all.begin(), all.begin() + count);
    text.insert(text.end(), behind.begin(), behind.end());
    return text;
  }

 private:
  /// Each draft is one of the four largest logits of the row in front of it, or any token.
  token_list draft() const {
    token_list tokens = tokens_below(V, count, 6);
    for (index_t c = 1; c < M; ++c) {
      const auto own = values.begin() + parents[at(c)] * V;
      const auto order = reference::by_falling({own, own + V});
      tokens.push_back(order[at((c * 5 + V) % std::min<index_t>(c % 4 == 3 ? V : 4, V))]);
    }
    return tokens;
  }
};

/// Whether a draft is typical of a row; where the two sides are too close to call, it says so.
struct judged {
  bool typical, close;
};
template <class S, class Rows>
judged judge(const Rows& rows, index_t m, token_t token, const typical_acceptance& acceptance) {
  rule_of_choice rule = rows.rule;
  rule.temperature = acceptance.temperature;
  const auto weights = reference::kept_weights(
      reference::adjusted(rows.row(m), rows.in_front(m), rule, rounded<S>), rule);
  long double sum = 0, entropy = 0;
  for (const auto w : weights) {
    sum += static_cast<long double>(w);
  }
  for (const auto w : weights) {
    const long double p = static_cast<long double>(w) / sum;
    entropy -= w > 0 ? p * std::log(p) : 0;
  }
  const long double least =
      std::min(static_cast<long double>(acceptance.epsilon),
               static_cast<long double>(acceptance.delta) * std::exp(-entropy));
  const long double p = static_cast<long double>(weights[at(token)]) / sum;
  return {p > least, p != least && std::abs(p - least) < 1e-8L * least};
}

/// The longest accepted path behind a row, by trying all; ties to the first.
struct longest {
  index_t length = 0, child = -1;
};
inline longest search(const numbers& parents, const std::vector<bool>& accepted, index_t row) {
  longest best;
  for (index_t c = row + 1; c < static_cast<index_t>(parents.size()); ++c) {
    if (parents[at(c)] == row && accepted[at(c)]) {
      const index_t length = 1 + search(parents, accepted, c).length;
      if (length > best.length) {
        best = {length, c};
      }
    }
  }
  return best;
}

inline std::vector<typical_acceptance> acceptances() {
  return {{},
          {.epsilon = 0.5, .delta = 0.8, .temperature = 0.7},
          {.epsilon = 1, .delta = 1.5, .temperature = 2},
          {.epsilon = 1e-9, .delta = 0.1}};
}

TEST_CASE_TEMPLATE_DEFINE("typical drafts are accepted along the longest path of them",
                          Case,
                          accepted_paths) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  index_t changed = 0, kept = 0;
  for (const index_t V : {1, 7, 130}) {
    for (const rule_of_choice& rule : some_of<B>(rules_for(V))) {
      for (const numbers& parents : shapes<B>()) {
        for (const typical_acceptance& acceptance : acceptances()) {
          drafted_rows<B, S> rows(V, parents, rule, V % 3);
          std::vector<bool> accepted(parents.size(), false);
          for (index_t c = 1; c < rows.M; ++c) {
            const index_t m = parents[at(c)];
            const judged draft = judge<S>(rows, m, rows.token(c), acceptance);
            REQUIRE_FALSE(draft.close);
            accepted[at(c)] = draft.typical || rows.token(c) == rows.chosen[at(m)];
          }
          token_list expected = rows.chosen;
          for (index_t m = 0; m < rows.M; ++m) {
            const index_t child = search(parents, accepted, m).child;
            expected[at(m)] = child < 0 ? expected[at(m)] : rows.token(child);
            (expected[at(m)] != rows.chosen[at(m)] ? changed : kept) += 1;
          }
          mtp::accept_typical(
              context, rows.predicted.view(), rows.logits.view(), rows.view(), acceptance);
          CHECK(elements(rows.predicted.view()) == expected);
          CHECK(rows.predicted.intact());
          CHECK(rows.sequence.untouched());
          CHECK(rows.logits.untouched());
        }
      }
    }
  }
  CHECK(changed > 100);
  CHECK(kept > 100);
}

TEST_CASE_TEMPLATE_DEFINE("with an epsilon of 1 and a large delta no draft is typical",
                          Case,
                          none_typical) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const numbers& parents : shapes<B>()) {
    drafted_rows<B, S> rows(7, parents, {.prompt_length = 3});
    mtp::accept_typical(context,
                        rows.predicted.view(),
                        rows.logits.view(),
                        rows.view(),
                        {.epsilon = 1, .delta = 7.001});
    CHECK(rows.predicted.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("the most likely token is typical for every delta below 1",
                          Case,
                          likeliest) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 40, rows = 30;
  // From one logit that stands out to all alike.
  std::vector<double> values = normal(rows * V, 12, 1);
  token_list tokens = tokens_below(V, 5, 1), likely;
  for (index_t m = 0; m < rows; ++m) {
    const auto row = values.begin() + m * V;
    std::transform(row, row + V, row, [&](double x) {
      return x * 6 * static_cast<double>(m) / static_cast<double>(rows - 1);
    });
    likely.push_back(reference::by_falling({row, row + V})[0]);
  }
  tokens.insert(tokens.end(), likely.begin(), likely.end() - 1);
  for (const double delta : {0.1, 0.999}) {
    for (const double temperature : {0.3, 1.0, 3.0}) {
      guarded_sequence<B> sequence(tokens, 5, {}, V);
      guarded<S, 2, B> logits(dims<2>{rows, V}, values);
      guarded<token_t, 1, B> predicted(dims<1>{rows}, std::vector<double>(at(rows), -1));
      mtp::accept_typical(context,
                          predicted.view(),
                          logits.view(),
                          sequence.view(),
                          {.epsilon = 1, .delta = delta, .temperature = temperature});
      token_list expected = likely;
      expected.back() = -1;  // there is no draft behind the last row
      CHECK(elements(predicted.view()) == expected);
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "drafts outside the vocabulary or memory, and rows without a number, "
    "change nothing",
    Case,
    outside) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 6;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const typical_acceptance all{.epsilon = 1e-12};
  const auto unchanged = [&](const token_list& tokens, const std::vector<double>& values) {
    guarded_sequence<B> sequence(tokens, 2, {}, V);
    guarded<S, 2, B> logits(dims<2>{3, V}, values);
    guarded<token_t, 1, B> predicted(dims<1>{3}, std::vector<double>{4, 4, 4});
    mtp::accept_typical(context, predicted.view(), logits.view(), sequence.view(), all);
    return predicted.untouched() && sequence.untouched();
  };
  const std::vector<double> flat(at(3 * V), 0.5);
  CHECK(unchanged({0, 1, -1, static_cast<token_t>(V)}, flat));
  CHECK(unchanged({0, 1}, flat));
  CHECK(unchanged({0, 1, 2, 3}, std::vector<double>(at(3 * V), nan)));
  CHECK_FALSE(unchanged({0, 1, 2, 3}, flat));
}

TEST_CASE_TEMPLATE_DEFINE("accept_typical refuses what makes no sense and changes nothing",
                          Case,
                          refusals) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const numbers tree{-1, 0, 0};
  drafted_rows<B, S> rows(4, tree, {});
  rows.parents = {-1, 0, 1};
  guarded<token_t, 1, B> few(dims<1>{2});
  guarded<S, 2, B> no_rows(dims<2>{0, 4}), wide(dims<2>{3, 5});
  guarded<token_t, 1, B> none(dims<1>{0});
  const auto refuses = [&](auto predicted,
                           auto logits,
                           sequence_view<B> sequence,
                           const typical_acceptance& acceptance = {}) {
    return rejects("accept_typical",
                   [&] { mtp::accept_typical(context, predicted, logits, sequence, acceptance); });
  };
  const auto good = rows.view();
  sequence_view<B> bad = good;
  bad.rule = {};
  CHECK(refuses(few.view(), rows.logits.view(), good));
  CHECK(refuses(none.view(), no_rows.view(), good));
  CHECK(refuses(rows.predicted.view(), wide.view(), good));
  CHECK(refuses(rows.predicted.view(), rows.logits.view(), bad));
  if (decodes_trees<B>) {
    rows.parents = tree;
    CHECK(refuses(few.view(), rows.logits.view().slice(0, 0, 2), rows.view()));
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const typical_acceptance& acceptance : {typical_acceptance{.epsilon = 0},
                                               typical_acceptance{.epsilon = 1.01},
                                               typical_acceptance{.epsilon = NAN},
                                               typical_acceptance{.delta = 0},
                                               typical_acceptance{.delta = infinity},
                                               typical_acceptance{.temperature = 0},
                                               typical_acceptance{.temperature = infinity}}) {
    CHECK(refuses(rows.predicted.view(), rows.logits.view(), good, acceptance));
  }
  CHECK(rows.predicted.untouched());
  CHECK(few.untouched());
}

TEST_CASE_TEMPLATE_APPLY(accepted_paths, cases);
TEST_CASE_TEMPLATE_APPLY(none_typical, one_case);
TEST_CASE_TEMPLATE_APPLY(likeliest, one_case);
TEST_CASE_TEMPLATE_APPLY(outside, one_case);
TEST_CASE_TEMPLATE_APPLY(refusals, one_case);

}  // namespace mtp::test::accept_typical

// Drafts drawn and verified by rejection, against quotients in extended precision. Who includes
// this says for which cases: see support/backends.hpp.
#pragma once

#include "mtp/ops/reject_drafts.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/reference/reject_drafts.hpp"
#include "support/ruled_sequence.hpp"

namespace mtp::test::reject_drafts {

using choose_tokens::as_values;
using choose_tokens::guarded_sequence;
using choose_tokens::rough_logits;
using choose_tokens::rounded;
using choose_tokens::rules_for;
using choose_tokens::token_list;
using choose_tokens::tokens_below;
using reference::rule_of_choice;

/// Row m of a matrix.
template <class Element>
std::vector<Element> row_of(const std::vector<Element>& all, index_t m, index_t V) {
  const auto row = all.begin() + m * V;
  return {row, row + V};
}

/// Weights that the reference finds for a row of logits.
template <class S>
std::vector<index_t> expected_weights(const std::vector<S>& logits,
                                      const token_list& in_front,
                                      const rule_of_choice& rule) {
  const auto x = reference::adjusted(
      std::vector<double>(logits.begin(), logits.end()), in_front, rule, rounded<S>);
  std::vector<index_t> weights(x.size(), 0);
  const auto order = reference::by_falling(x);
  if (rule.temperature == 0) {
    if (!order.empty()) {
      weights[static_cast<std::size_t>(order[0])] = index_t{1} << 40;
    }
    return weights;
  }
  const auto kept = reference::kept_weights(x, rule);
  return {kept.begin(), kept.end()};
}

/// What a head says that is often right: the model's numbers, some of them larger.
inline std::vector<double> near_model(index_t count) {
  std::vector<double> logits = rough_logits(count, 71);
  for (std::size_t i = 0; i < logits.size(); i += 4) {
    logits[i] += 0.75;
  }
  return logits;
}

/// Rules that draw and verify, and places for n drafts.
template <class B, class S>
struct verification {
  index_t V, n, count;
  rule_of_choice rule;
  token_list all;
  guarded_sequence<B> sequence;
  guarded<S, 2, B> head_logits, logits;
  guarded<index_t, 2, B> head_weights, model_weights;
  guarded<token_t, 1, B> drafts, plain, predicted;

  verification(index_t vocabulary, index_t draft_count, const rule_of_choice& with, index_t gap)
      : V(vocabulary),
        n(draft_count),
        count(11),
        rule(with),
        all(tokens_below(V, count + n, 6)),
        sequence(all, count, rule, V),
        head_logits(dims<2>{n, V}, strides(V + gap, 1), near_model(n * V)),
        logits(dims<2>{n + 1, V}, strides(V + gap, 1), rough_logits((n + 1) * V, 71)),
        head_weights(dims<2>{n, V}, strides(V + gap, 1)),
        model_weights(dims<2>{n + 1, V}),
        drafts(dims<1>{n}),
        plain(dims<1>{n + 1}),
        predicted(dims<1>{n + 1}) {}

  /// Draws every other draft, and leaves the others what they are.
  void draw(context<B>& context) {
    for (index_t m = 0; m < n; ++m) {
      draw_drafts(context,
                  drafts.view().slice(0, m, 1),
                  head_weights.view().slice(0, m, 1),
                  head_logits.view().slice(0, m, 1),
                  sequence.view(),
                  m,
                  draft_unit::token);
      if (m % 2 == 0) {
        all[static_cast<std::size_t>(count + m)] = elements(drafts.view())[at(m)];
        sequence.tokens.set(as_values(all));
      }
    }
  }
  void verify(context<B>& context, draft_unit unit = draft_unit::token) {
    mtp::reject_drafts(
        context, predicted.view(), logits.view(), head_weights.view(), sequence.view(), unit);
  }
  token_list in_front(index_t m) const { return {all.begin(), all.begin() + count + m}; }

  /// What the reference predicts at place m, of the operation's own weights.
  token_t expected(index_t m) {
    using reference::law_of;
    const auto p = law_of(row_of(elements(model_weights.view()), m, V));
    const auto q = m < n ? law_of(row_of(elements(head_weights.view()), m, V)) : p;
    return reference::verified(p, q, m < n ? all[at(count + m)] : -1, rule, count + m);
  }
  /// What the reference predicts at all places of a block.
  token_list expected_block() {
    using reference::law_of;
    using reference::token_law;
    std::vector<token_law> p, q;
    token_list drafts_there;
    for (index_t m = 0; m <= n; ++m) {
      p.push_back(law_of(row_of(elements(model_weights.view()), m, V)));
    }
    index_t there = 0;  // drafts in front of the first that is none
    for (; there < n && all[at(count + there)] >= 0; ++there) {
      q.push_back(law_of(row_of(elements(head_weights.view()), there, V)));
      drafts_there.push_back(all[at(count + there)]);
      const std::size_t d = at(drafts_there.back());
      if (q.back()[d] <= 0) {
        q.back().assign(q.back().size(), 0);
        q.back()[d] = 1;
      }
    }
    const reference::verified_block block(p, q, drafts_there);
    index_t kept = there;
    while (kept > 0 &&
           reference::uniform_at(rule, count + kept - 1, 0x41, count) >= block.keeps[at(kept)]) {
      --kept;
    }
    token_list tokens(drafts_there.begin(), drafts_there.begin() + kept);
    for (index_t m = kept; m <= n; ++m) {
      token_law law = p[at(m)];
      if (m == kept && m < there) {
        long double z = 0;
        const token_law rest = reference::block_residual(p[at(m)], q[at(m)], block.r[at(m)], &z);
        law = z > 0 ? rest : law;
      }
      tokens.push_back(
          reference::drawn_at(law, reference::uniform_at(rule, count + m, 0x52, count)));
    }
    return tokens;
  }
  static std::size_t at(index_t m) { return static_cast<std::size_t>(m); }
};

TEST_CASE_TEMPLATE_DEFINE("draw_drafts gives the weights of a sort, and draws from them in order",
                          Case,
                          drawn) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t vocabularies[] = {1, 2, 5, 33, 129, 257, 2049};
  for (const index_t V : some_of<B>(vocabularies)) {
    const auto rules = rules_for(V);
    for (std::size_t r = 0; r < rules.size(); ++r) {
      CAPTURE(V);
      CAPTURE(r);
      verification<B, S> v(V, 1 + static_cast<index_t>(r % 4), rules[r], r % 3);
      draw_drafts(context,
                  v.drafts.view(),
                  v.head_weights.view(),
                  v.head_logits.view(),
                  v.sequence.view(),
                  0,
                  draft_unit::token);
      const auto weights = elements(v.head_weights.view());
      for (index_t m = 0; m < v.n; ++m) {
        CAPTURE(m);
        const auto own = row_of(weights, m, V);
        const auto expected =
            expected_weights(row_of(elements(v.head_logits.view()), m, V), v.in_front(m), v.rule);
        for (std::size_t i = 0; i < own.size(); ++i) {
          // Exponentials differ in the last of 52 bits, of which 40 count.
          REQUIRE(std::abs(own[i] - expected[i]) <= 1);
          REQUIRE((own[i] == 0) == (expected[i] == 0));
        }
        const token_t token = reference::drawn_at(reference::law_of(own),
                                                  reference::uniform_at(v.rule, v.count + m, 0x44));
        REQUIRE(elements(v.drafts.view())[v.at(m)] == token);
      }
      draw_drafts(context,
                  v.drafts.view(),
                  v.head_weights.view(),
                  v.head_logits.view(),
                  v.sequence.view(),
                  0,
                  draft_unit::block);
      CHECK(elements(v.head_weights.view()) == weights);
      for (index_t m = 0; m < v.n; ++m) {
        const token_t token =
            reference::drawn_at(reference::law_of(row_of(weights, m, V)),
                                reference::uniform_at(v.rule, v.count + m, 0x44, v.count));
        REQUIRE(elements(v.drafts.view())[v.at(m)] == token);
      }
      CHECK(v.drafts.intact());
      CHECK(v.head_weights.intact());
      CHECK(v.head_logits.untouched());
      CHECK(v.sequence.untouched());
      CHECK(workspace_is_idle(context));
    }
  }
}

/// Drafts of all sizes and rules, verified, against expected(verification): the tokens of all rows.
template <class Case, class Expected>
void check_verified(draft_unit unit, const Expected& expected) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t vocabularies[] = {1, 2, 5, 33, 129, 257, 2049};
  const auto chosen = some_of<B>(vocabularies);
  index_t accepted = 0, rejected = 0;
  for (const index_t V : chosen) {
    const auto rules = rules_for(V);
    for (std::size_t r = 0; r < rules.size(); ++r) {
      CAPTURE(V);
      CAPTURE(r);
      verification<B, S> v(V, static_cast<index_t>(r % 5), rules[r], r % 3);
      v.draw(context);
      draw_drafts(context,
                  v.plain.view(),
                  v.model_weights.view(),
                  v.logits.view(),
                  v.sequence.view(),
                  0,
                  draft_unit::token);
      v.verify(context, unit);
      const auto predicted = elements(v.predicted.view());
      REQUIRE(predicted == expected(v));
      for (index_t m = 0; m < v.n; ++m) {
        (predicted[v.at(m)] == v.all[v.at(v.count + m)] ? accepted : rejected) += 1;
      }
      CHECK(v.predicted.intact());
      CHECK(v.logits.untouched());
      CHECK(v.sequence.untouched());
      CHECK(workspace_is_idle(context));
    }
  }
  const auto enough = static_cast<index_t>(7 * chosen.size());
  CHECK(accepted > enough);
  CHECK(rejected > enough);
}

TEST_CASE_TEMPLATE_DEFINE("reject_drafts predicts what quotients in extended precision do",
                          Case,
                          verified) {
  check_verified<Case>(draft_unit::token, [](auto& v) {
    token_list tokens;
    for (index_t m = 0; m <= v.n; ++m) {
      tokens.push_back(v.expected(m));
    }
    return tokens;
  });
}

TEST_CASE_TEMPLATE_DEFINE("a block of drafts is verified as quotients in extended precision tell",
                          Case,
                          verified_blocks) {
  check_verified<Case>(draft_unit::block, [](auto& v) { return v.expected_block(); });
}

TEST_CASE_TEMPLATE_DEFINE("a verified row is the same however many rows follow", Case, company) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t V = 67;
  for (const rule_of_choice& rule : some_of<B>(rules_for(V))) {
    CHECK(same_in_all_ways<B>([&](auto& context) {
      verification<B, S> v(V, 6, rule, 0);
      v.draw(context);
      v.verify(context);
      const auto together = elements(v.predicted.view());
      for (index_t n = 1; n < v.n; ++n) {
        guarded<token_t, 1, B> fewer(dims<1>{n + 1});
        mtp::reject_drafts(context,
                           fewer.view(),
                           v.logits.view().slice(0, 0, n + 1),
                           v.head_weights.view().slice(0, 0, n),
                           v.sequence.view(),
                           draft_unit::token);
        const auto alone = elements(fewer.view());
        CHECK(token_list(alone.begin(), alone.end() - 1) ==
              token_list(together.begin(), together.begin() + n));
      }
      return together;
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE("with temperature 0 rejection gives the most likely tokens",
                          Case,
                          greedy) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t V : {1, 5, 40}) {
    rule_of_choice rule = rules_for(V).front();
    rule.temperature = 0;
    verification<B, S> v(V, 5, rule, 0);
    v.draw(context);
    v.verify(context);
    mtp::choose_tokens(context, v.plain.view(), v.logits.view(), v.sequence.view(), 0);
    CHECK(elements(v.predicted.view()) == elements(v.plain.view()));
    v.verify(context, draft_unit::block);
    CHECK(elements(v.predicted.view()) == elements(v.plain.view()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("a head without a number drafts one token, and a model without none",
                          Case,
                          without_numbers) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 3, count = 2;
  const double infinity = std::numeric_limits<double>::infinity();
  index_t accepted = 0;
  for (std::uint32_t number = 0; number < 40; ++number) {
    rule_of_choice rule;
    rule.sequence = number;
    guarded_sequence<B> sequence(token_list{1, 1, 0, 0, 0}, count, rule, V);
    guarded<S, 2, B> head(dims<2>{1, V}, std::vector<double>{NAN, NAN, NAN});
    guarded<S, 2, B> logits(dims<2>{2, V}, std::vector<double>{0, 1, -infinity, NAN, NAN, NAN});
    guarded<index_t, 2, B> weights(dims<2>{1, V});
    guarded<token_t, 1, B> draft(dims<1>{1}), predicted(dims<1>{2});
    draw_drafts(
        context, draft.view(), weights.view(), head.view(), sequence.view(), 0, draft_unit::token);
    CHECK(elements(draft.view()) == token_list{-1});
    CHECK(elements(weights.view()) == std::vector<index_t>{0, 0, 0});
    append_drafts(context, sequence.view(), draft.view(), 0);
    mtp::reject_drafts(context,
                       predicted.view(),
                       logits.view(),
                       weights.view(),
                       sequence.view(),
                       draft_unit::token);
    const auto tokens = elements(predicted.view());
    CHECK((tokens[0] == 0 || tokens[0] == 1));
    CHECK(tokens[1] == -1);
    accepted += tokens[0] == 0 ? 1 : 0;
  }
  CHECK(accepted > 2);  // softmax(0, 1)[0] is 0.27
  CHECK(accepted < 22);
}

TEST_CASE_TEMPLATE_DEFINE("drafts that lie outside the memory or the vocabulary are none",
                          Case,
                          outside) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 5;
  for (const token_list& all : {token_list{1, 1}, token_list{1, 1, -1}, token_list{1, 1, 5}}) {
    guarded_sequence<B> sequence(all, 2, rule_of_choice{}, V);
    guarded<S, 2, B> logits(dims<2>{2, V}, rough_logits(2 * V, 3));
    guarded<index_t, 2, B> weights(dims<2>{1, V}, std::vector<double>{1, 2, 3, 4, 5}),
        none(dims<2>{0, V});
    guarded<token_t, 1, B> predicted(dims<1>{2}), alone(dims<1>{1});
    mtp::reject_drafts(context,
                       predicted.view(),
                       logits.view(),
                       weights.view(),
                       sequence.view(),
                       draft_unit::token);
    mtp::reject_drafts(context,
                       alone.view(),
                       logits.view().slice(0, 0, 1),
                       none.view(),
                       sequence.view(),
                       draft_unit::token);
    CHECK(elements(predicted.view())[0] == elements(alone.view())[0]);
    for (auto* each : {&predicted, &alone}) {
      mtp::reject_drafts(context,
                         each->view(),
                         logits.view().slice(0, 0, each->view().extent(0)),
                         each == &alone ? none.view() : weights.view(),
                         sequence.view(),
                         draft_unit::block);
    }
    CHECK(elements(predicted.view())[0] == elements(alone.view())[0]);
  }
}

TEST_CASE_TEMPLATE_DEFINE("drawing and rejecting drafts refuse wrong shapes and change nothing",
                          Case,
                          refusals) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded_sequence<B> sequence(token_list(8, 0), 3, rule_of_choice{}, 4);
  guarded<S, 2, B> three(dims<2>{3, 4}), spread(dims<2>{3, 4}, strides(8, 2)),
      no_rows(dims<2>{0, 4});
  guarded<index_t, 2, B> weights(dims<2>{3, 4}), two(dims<2>{2, 4}), narrow(dims<2>{2, 3}),
      apart(dims<2>{2, 4}, strides(8, 2));
  guarded<token_t, 1, B> tokens(dims<1>{3}), few(dims<1>{2}), none(dims<1>{0});
  const auto draw = [&](auto to, auto of, auto rows, sequence_view<B> by) {
    return rejects("draw_drafts", [&] {
      mtp::draw_drafts(context, to, of, rows, by, index_t{0}, draft_unit::token);
    });
  };
  const auto reject = [&](auto to, auto rows, auto of, sequence_view<B> by) {
    return rejects("reject_drafts",
                   [&] { mtp::reject_drafts(context, to, rows, of, by, draft_unit::token); });
  };
  const sequence_view<B> good = sequence.view();
  sequence_view<B> bad = good;
  bad.rule = {};
  CHECK(draw(few.view(), weights.view(), three.view(), good));
  CHECK(draw(tokens.view(), two.view(), three.view(), good));
  CHECK(draw(tokens.view(), weights.view(), spread.view(), good));
  CHECK(draw(tokens.view(), weights.view(), three.view(), bad));
  CHECK(draw(few.view(), apart.view(), three.view().slice(0, 0, 2), good));
  CHECK(reject(few.view(), three.view(), two.view(), good));
  CHECK(reject(tokens.view(), three.view(), weights.view(), good));
  CHECK(reject(tokens.view(), three.view(), narrow.view(), good));
  CHECK(reject(tokens.view(), three.view(), apart.view(), good));
  CHECK(reject(tokens.view(), spread.view(), two.view(), good));
  CHECK(reject(tokens.view(), three.view(), two.view(), bad));
  CHECK(reject(none.view(), no_rows.view(), two.view(), good));
  CHECK(tokens.untouched());
  CHECK(few.untouched());
  CHECK(weights.untouched());
  CHECK(sequence.untouched());
}

TEST_CASE_TEMPLATE_APPLY(drawn, cases);
TEST_CASE_TEMPLATE_APPLY(verified, cases);
TEST_CASE_TEMPLATE_APPLY(verified_blocks, cases);
TEST_CASE_TEMPLATE_APPLY(company, one_case);
TEST_CASE_TEMPLATE_APPLY(greedy, one_case);
TEST_CASE_TEMPLATE_APPLY(without_numbers, one_case);
TEST_CASE_TEMPLATE_APPLY(outside, one_case);
TEST_CASE_TEMPLATE_APPLY(refusals, one_case);

}  // namespace mtp::test::reject_drafts

// Tokens drawn from logits, against a sort and a search in double. Who includes this says for which
// cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "mtp/ops/choose_tokens.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/reference/choose_tokens.hpp"
#include "support/ruled_sequence.hpp"

namespace mtp::test::choose_tokens {

/// What the reference chooses for row m.
template <class S>
token_t expected_of(const std::vector<S>& logits,
                    index_t V,
                    index_t m,
                    const token_list& all,
                    index_t position,
                    const rule_of_choice& rule) {
  const auto row = logits.begin() + m * V;
  return reference::chosen(std::vector<double>(row, row + V),
                           token_list(all.begin(), all.begin() + position),
                           rule,
                           rounded<S>);
}

TEST_CASE_TEMPLATE_DEFINE("choose_tokens chooses what a sort and a search in double choose",
                          Case,
                          values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t vocabularies[] = {1, 2, 5, 31, 32, 33, 257, 2049};
  for (const index_t V : some_of<B>(vocabularies)) {
    const auto rules = rules_for(V);
    for (std::size_t r = 0; r < rules.size(); ++r) {
      const index_t M = 1 + static_cast<index_t>(r + static_cast<std::size_t>(V)) % 9;
      const index_t gap = static_cast<index_t>(r % 3), offset = static_cast<index_t>(r % 2);
      const index_t count = 12;
      CAPTURE(V);
      CAPTURE(r);
      CAPTURE(M);
      // Memory behind the last row's position is not looked at.
      token_list all = tokens_below(V, count + offset + M - 1, 5);
      guarded_sequence<B> sequence(all, count, rules[r], V);
      guarded<S, 2, B> logits(dims<2>{M, V}, strides(V + gap, 1), rough_logits(M * V, r));
      guarded<token_t, 1, B> chosen(dims<1>{M});
      mtp::choose_tokens(context, chosen.view(), logits.view(), sequence.view(), offset);
      token_list expected;
      for (index_t m = 0; m < M; ++m) {
        expected.push_back(
            expected_of(elements(logits.view()), V, m, all, count + offset + m, rules[r]));
      }
      REQUIRE(same_bits(elements(chosen.view()), expected));
      CHECK(chosen.intact());
      CHECK(logits.untouched());
      CHECK(sequence.untouched());
      CHECK(workspace_is_idle(context));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("choose_tokens gives a row the same token however many rows follow",
                          Case,
                          company) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t V = 67, count = 10;
  for (const rule_of_choice& rule : some_of<B>(rules_for(V))) {
    CHECK(same_in_all_ways<B>([&](auto& context) {
      const std::vector<double> logits = rough_logits(9 * V, 3);
      guarded_sequence<B> sequence(tokens_below(V, 20, 5), count, rule, V);
      guarded<S, 2, B> rows(dims<2>{9, V}, logits);
      guarded<token_t, 1, B> chosen(dims<1>{9}), single(dims<1>{1});
      mtp::choose_tokens(context, chosen.view(), rows.view(), sequence.view(), 0);
      for (index_t m = 0; m < 9; ++m) {
        mtp::choose_tokens(context, single.view(), rows.view().slice(0, m, 1), sequence.view(), m);
        CHECK(elements(single.view())[0] == elements(chosen.view())[static_cast<std::size_t>(m)]);
      }
      return elements(chosen.view());
    }));
  }
}

/// The token of one row.
template <class B, class S>
token_t choose_one(context<B>& context,
                   const std::vector<double>& row,
                   const rule_of_choice& rule,
                   index_t position) {
  const auto V = static_cast<index_t>(row.size());
  guarded_sequence<B> sequence(token_list(20, 0), position, rule, V);
  guarded<S, 2, B> logits(dims<2>{1, V}, row);
  guarded<token_t, 1, B> chosen(dims<1>{1});
  mtp::choose_tokens(context, chosen.view(), logits.view(), sequence.view(), 0);
  return elements(chosen.view())[0];
}

TEST_CASE_TEMPLATE_DEFINE("choose_tokens never chooses NaN, and an infinity as it must",
                          Case,
                          infinities) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double infinity = std::numeric_limits<double>::infinity();
  for (double temperature : {0.0, 1.0, 1e-300, 1e300}) {
    for (const index_t top_k : {0, 2}) {
      for (const double top_p : {1.0, 0.5}) {
        rule_of_choice rule;
        rule.temperature = temperature;
        rule.top_k = top_k;
        rule.top_p = top_p;
        CAPTURE(temperature);
        CAPTURE(top_k);
        CAPTURE(top_p);
        CHECK(choose_one<B, S>(context, {NAN, NAN, NAN}, rule, 1) == -1);
        CHECK(choose_one<B, S>(context, {NAN, -infinity, NAN}, rule, 1) == 1);
        CHECK(choose_one<B, S>(context, {NAN, 3, infinity, NAN}, rule, 1) == 2);
        CHECK(choose_one<B, S>(context, {-infinity, NAN, -5, -infinity}, rule, 1) == 2);
        rule.stop_tokens = {2};
        rule.prompt_length = 3;
        rule.min_new_tokens = 2;
        CHECK(choose_one<B, S>(context, {NAN, NAN, 5}, rule, 4) == -1);
        CHECK(choose_one<B, S>(context, {NAN, NAN, 5}, rule, 5) == 2);
        // What is no token forbids nothing.
        rule.stop_tokens = {3, -1, 1000};
        CHECK(choose_one<B, S>(context, {NAN, NAN, 5}, rule, 4) == 2);
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a list of stop tokens that is shorter than its count is read to its end",
                          Case,
                          short_lists) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  rule_of_choice rule;
  rule.stop_tokens = {0, 1, 2};
  rule.min_new_tokens = 9;
  guarded_sequence<B> sequence(token_list(4, 0), 1, rule, 3);
  sequence_view<B> view = sequence.view();
  view.rule.stop_tokens = view.rule.stop_tokens.slice(0, 0, 2);
  guarded<S, 2, B> logits(dims<2>{1, 3}, std::vector<double>{1, 2, 3});
  guarded<token_t, 1, B> chosen(dims<1>{1});
  mtp::choose_tokens(context, chosen.view(), logits.view(), view, 0);
  CHECK(elements(chosen.view())[0] == 2);
}

TEST_CASE_TEMPLATE_DEFINE("numbers for tokens differ by seed, sequence and position, and repeat",
                          Case,
                          streams) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const std::vector<double> row(5, 0.0);
  const auto text = [&](std::uint64_t seed, std::uint32_t sequence, index_t first) {
    rule_of_choice rule;
    rule.seed = seed;
    rule.sequence = sequence;
    token_list tokens;
    for (index_t p = first; p < first + 16; ++p) {
      tokens.push_back(choose_one<B, S>(context, row, rule, p));
    }
    return tokens;
  };
  const token_list one = text(1, 2, 3);
  CHECK(text(1, 2, 3) == one);
  CHECK(std::set<token_t>(one.begin(), one.end()).size() > 2);
  CHECK(text(2, 2, 3) != one);
  CHECK(text(std::uint64_t{1} + (std::uint64_t{1} << 40), 2, 3) != one);
  CHECK(text(1, 3, 3) != one);
  token_list shifted = text(1, 2, 4);
  CHECK(shifted != one);
  shifted.insert(shifted.begin(), one[0]);
  shifted.pop_back();
  CHECK(shifted == one);
}

TEST_CASE_TEMPLATE_DEFINE("token_log_probabilities gives those of a softmax, a row the same bits",
                          Case,
                          log_probabilities) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t vocabularies[] = {1, 2, 5, 33, 513, 1025};
  for (const index_t V : some_of<B>(vocabularies)) {
    CAPTURE(V);
    const std::vector<double> numbers = rough_logits(5 * V, 4);
    CHECK(same_in_all_ways<B>([&](auto& context) {
      guarded<S, 2, B> logits(dims<2>{5, V}, strides(V + 3, 1), numbers);
      const token_list of{
          0, static_cast<token_t>(V - 1), static_cast<token_t>(V / 2), -1, static_cast<token_t>(V)};
      guarded<token_t, 1, B> tokens(dims<1>{5}, as_values(of));
      guarded<double, 1, B> given(dims<1>{5}), single(dims<1>{1});
      token_log_probabilities(context, given.view(), logits.view(), tokens.view());
      const auto actual = elements(given.view());
      for (index_t m = 0; m < 5; ++m) {
        const auto at = static_cast<std::size_t>(m);
        const auto all = elements(logits.view());
        const std::vector<double> row(all.begin() + m * V, all.begin() + (m + 1) * V);
        CAPTURE(m);
        if (m < 3) {
          const double expected = reference::log_probability(row, of[at]);
          // A sum of V terms, an exponential and a logarithm.
          const double bound = 0x1p-52 * (static_cast<double>(V) + 8 + std::abs(expected));
          CHECK((actual[at] == expected || std::abs(actual[at] - expected) <= bound));
        } else {
          CHECK(std::isnan(actual[at]));
        }
        token_log_probabilities(
            context, single.view(), logits.view().slice(0, m, 1), tokens.view().slice(0, m, 1));
        CHECK(same_bits(elements(single.view()), std::vector<double>{actual[at]}));
      }
      CHECK(given.intact());
      return actual;
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE("choosing tokens rejects wrong shapes and changes nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded_sequence<B> sequence(token_list(8, 0), 3, rule_of_choice{}, 4);
  guarded<S, 2, B> logits(dims<2>{3, 4}), spread(dims<2>{3, 4}, strides(8, 2));
  guarded<token_t, 1, B> three(dims<1>{3}), two(dims<1>{2}), apart(dims<1>{3}, strides(2));
  guarded<double, 1, B> log_p(dims<1>{3}), short_log_p(dims<1>{2}), few(dims<1>{1});
  const auto choose = [&](auto chosen, auto rows, sequence_view<B> of) {
    return rejects("choose_tokens",
                   [&] { mtp::choose_tokens(context, chosen, rows, of, index_t{0}); });
  };
  const sequence_view<B> good = sequence.view();
  sequence_view<B> bad = good;
  CHECK(choose(two.view(), logits.view(), good));
  CHECK(choose(apart.view(), logits.view(), good));
  CHECK(choose(three.view(), spread.view(), good));
  bad.rule = {};
  CHECK(choose(three.view(), logits.view(), bad));
  bad = good;
  bad.rule.reals = few.view();
  CHECK(choose(three.view(), logits.view(), bad));
  bad = good;
  bad.rule.integers = sequence.state.view();
  CHECK(choose(three.view(), logits.view(), bad));
  bad = good;
  bad.rule.bias = bad.rule.bias.slice(0, 0, 3);
  CHECK(choose(three.view(), logits.view(), bad));
  const auto score = [&](auto to, auto rows, auto of) {
    return rejects("token_log_probabilities",
                   [&] { token_log_probabilities(context, to, rows, of); });
  };
  CHECK(score(short_log_p.view(), logits.view(), three.view()));
  CHECK(score(log_p.view(), spread.view(), three.view()));
  CHECK(score(log_p.view(), logits.view(), two.view()));
  CHECK(three.untouched());
  CHECK(two.untouched());
  CHECK(log_p.untouched());
  CHECK(logits.untouched());
  CHECK(sequence.untouched());
}

TEST_CASE_TEMPLATE_APPLY(values, cases);
TEST_CASE_TEMPLATE_APPLY(company, one_case);
TEST_CASE_TEMPLATE_APPLY(infinities, one_case);
TEST_CASE_TEMPLATE_APPLY(short_lists, one_case);
TEST_CASE_TEMPLATE_APPLY(streams, one_case);
TEST_CASE_TEMPLATE_APPLY(log_probabilities, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::choose_tokens

// The likeliest tokens of rows of logits, against a sort in double. Who includes this says for
// which cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/best_tokens.hpp"

namespace mtp::test::best_tokens {

using token_list = std::vector<token_t>;

/// Numbers of which many are equal, with an infinity here and there.
inline std::vector<double> rough_logits(index_t count, std::uint64_t stream) {
  std::vector<double> logits = normal(count, stream, 2);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    logits[i] = i % 29 == 7 ? -HUGE_VAL : std::round(logits[i] * 4) / 4;
  }
  return logits;
}

/// Results between guard zones, rows apart.
template <class B>
struct results {
  guarded<token_t, 2, B> tokens;
  guarded<double, 2, B> log_probabilities;

  results(index_t M, index_t n, index_t gap = 0)
      : tokens(dims<2>{M, n}, strides(n + gap, 1)),
        log_probabilities(dims<2>{M, n}, strides(n + 2 * gap, 1)) {}
  bool intact() const { return tokens.intact() && log_probabilities.intact(); }
  bool untouched() const { return tokens.untouched() && log_probabilities.untouched(); }
};

/// Row m of what the operation gave is what the reference gives for the logits, and each logarithm
/// has the bits of token_log_probabilities.
template <class B, class S>
void check_row(context<B>& context,
               const results<B>& given,
               const guarded<S, 2, B>& logits,
               index_t m) {
  CAPTURE(m);
  const auto row = logits.view().slice(0, m, 1);
  const index_t V = row.extent(1), n = given.tokens.view().extent(1);
  const token_list tokens = elements(given.tokens.view().select(0, m));
  const auto log_probabilities = elements(given.log_probabilities.view().select(0, m));
  const auto expected = reference::best_tokens(values(row), n);
  REQUIRE(same_bits(tokens, expected.tokens));
  guarded<token_t, 1, B> one_token(dims<1>{1});
  guarded<double, 1, B> one(dims<1>{1});
  for (std::size_t j = 0; j < tokens.size(); ++j) {
    CAPTURE(j);
    const double actual = log_probabilities[j], right = expected.log_probabilities[j];
    // A sum of V terms, an exponential and a logarithm.
    const double bound = 0x1p-52 * (static_cast<double>(V) + 8 + std::abs(right));
    REQUIRE((std::isnan(right) ? std::isnan(actual)
                               : actual == right || std::abs(actual - right) <= bound));
    if (tokens[j] >= 0 && (j < 3 || j + 3 > tokens.size())) {
      one_token.set({static_cast<double>(tokens[j])});
      token_log_probabilities(context, one.view(), row, one_token.view());
      CHECK(same_bits(elements(one.view()), std::vector<double>{actual}));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens gives the tokens and probabilities that a sort gives",
                          Case,
                          sorted) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t vocabularies[] = {1, 2, 5, 31, 32, 33, 257, 1031};
  for (const index_t V : some_of<B>(vocabularies)) {
    for (const index_t n : {index_t{1}, index_t{2}, index_t{7}, V, V + 3}) {
      const index_t M = 1 + (V + n) % 4, gap = (V + n) % 3;
      CAPTURE(V);
      CAPTURE(n);
      const auto stream = static_cast<std::uint64_t>(n);
      guarded<S, 2, B> logits(dims<2>{M, V}, strides(V + gap, 1), rough_logits(M * V, stream));
      results<B> given(M, n, gap);
      mtp::best_tokens(context, given.tokens.view(), given.log_probabilities.view(), logits.view());
      for (index_t m = 0; m < M; ++m) {
        check_row<B, S>(context, given, logits, m);
      }
      CHECK(given.intact());
      CHECK(logits.untouched());
      CHECK(workspace_is_idle(context));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens takes rows in any order, and rows of equal logits",
                          Case,
                          orders) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t V = 77;
  std::vector<double> rows;
  for (index_t v = 0; v < 4 * V; ++v) {
    const double at = static_cast<double>(v % V);
    rows.push_back(v < V ? at : v < 2 * V ? -at : v < 3 * V ? 0.5 : std::abs(at - 38));
  }
  guarded<S, 2, B> logits(dims<2>{4, V}, rows);
  for (const index_t n : {1, 3, 64, 65, 76, 77}) {
    CAPTURE(n);
    results<B> given(4, n);
    mtp::best_tokens(context, given.tokens.view(), given.log_probabilities.view(), logits.view());
    for (index_t m = 0; m < 4; ++m) {
      check_row<B, S>(context, given, logits, m);
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens gives a row the same bits however many rows follow",
                          Case,
                          company) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t V = 67, M = 9, n = 6;
  CHECK(same_in_all_ways<B>([&](auto& context) {
    guarded<S, 2, B> logits(dims<2>{M, V}, rough_logits(M * V, 3));
    results<B> given(M, n), single(1, n);
    mtp::best_tokens(context, given.tokens.view(), given.log_probabilities.view(), logits.view());
    for (index_t m = 0; m < M; ++m) {
      mtp::best_tokens(context,
                       single.tokens.view(),
                       single.log_probabilities.view(),
                       logits.view().slice(0, m, 1));
      CHECK(
          same_bits(elements(single.tokens.view()), elements(given.tokens.view().slice(0, m, 1))));
      CHECK(same_bits(elements(single.log_probabilities.view()),
                      elements(given.log_probabilities.view().slice(0, m, 1))));
    }
    std::vector<double> all = values(given.tokens.view());
    return join(all, elements(given.log_probabilities.view()));
  }));
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens leaves NaN out and takes infinities as they are",
                          Case,
                          infinities) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double infinity = HUGE_VAL;
  const auto best_of = [&](const std::vector<double>& row, index_t n) {
    guarded<S, 2, B> logits(dims<2>{1, static_cast<index_t>(row.size())}, row);
    results<B> given(1, n);
    mtp::best_tokens(context, given.tokens.view(), given.log_probabilities.view(), logits.view());
    check_row<B, S>(context, given, logits, 0);
    return elements(given.tokens.view());
  };
  CHECK(best_of({NAN, NAN, NAN}, 2) == token_list{-1, -1});
  CHECK(best_of({NAN, -infinity, NAN}, 3) == token_list{1, -1, -1});
  CHECK(best_of({NAN, 3, infinity, NAN}, 3) == token_list{2, 1, -1});
  CHECK(best_of({-infinity, NAN, -5, -infinity}, 4) == token_list{2, 0, 3, -1});
  CHECK(best_of({-infinity, -infinity}, 2) == token_list{0, 1});
  CHECK(best_of({infinity, 1, infinity}, 2) == token_list{0, 2});
  CHECK(best_of({-1, 0.0, -0.0, 0.0}, 3) == token_list{1, 2, 3});
  CHECK(best_of({-0.0, 0.0, -1}, 2) == token_list{0, 1});
  CHECK(best_of({}, 2) == token_list{-1, -1});
  // The probabilities of a row without NaN are known, those of a row with one are not.
  guarded<S, 2, B> logits(dims<2>{2, 2}, std::vector<double>{0, 0, 0, NAN});
  results<B> given(2, 1);
  mtp::best_tokens(context, given.tokens.view(), given.log_probabilities.view(), logits.view());
  const auto log_probabilities = elements(given.log_probabilities.view());
  CHECK(std::abs(log_probabilities[0] + std::log(2.0)) <= 0x1p-52);
  CHECK(std::isnan(log_probabilities[1]));
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens chooses among the tokens of a large vocabulary",
                          Case,
                          large) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if (!testing<B>::at_full_size) {
    return;
  }
  auto context = testing<B>::make_context();
  const index_t V = 151936;
  guarded<S, 2, B> logits(dims<2>{1, V}, normal(V, 6, 3));
  results<B> given(1, 20);
  mtp::best_tokens(context, given.tokens.view(), given.log_probabilities.view(), logits.view());
  check_row<B, S>(context, given, logits, 0);
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens needs no more workspace than it says, and none for nothing",
                          Case,
                          little) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t M = 3, V = 301, n = 11;
  auto small = testing<B>::make_context(0);
  small.reserve(ops_of<B>::template best_tokens_workspace<S>(M, V, index_t{small.threads()}));
  guarded<S, 2, B> logits(dims<2>{M, V}, rough_logits(M * V, 8));
  results<B> given(M, n), none(M, 0), no_rows(0, n);
  mtp::best_tokens(small, given.tokens.view(), given.log_probabilities.view(), logits.view());
  for (index_t m = 0; m < M; ++m) {
    check_row<B, S>(small, given, logits, m);
  }
  auto nothing = testing<B>::make_context(0);
  mtp::best_tokens(nothing, none.tokens.view(), none.log_probabilities.view(), logits.view());
  mtp::best_tokens(nothing,
                   no_rows.tokens.view(),
                   no_rows.log_probabilities.view(),
                   logits.view().slice(0, 0, 0));
  CHECK(none.untouched());
  CHECK(no_rows.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("best_tokens rejects wrong shapes and changes nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded<S, 2, B> logits(dims<2>{3, 4}), spread(dims<2>{3, 4}, strides(8, 2));
  guarded<token_t, 2, B> tokens(dims<2>{3, 2}), two(dims<2>{2, 2}),
      apart(dims<2>{3, 2}, strides(8, 2));
  guarded<double, 2, B> log_p(dims<2>{3, 2}), narrow(dims<2>{3, 1}),
      log_apart(dims<2>{3, 2}, strides(8, 2));
  const auto best = [&](auto to, auto of, auto rows) {
    return rejects("best_tokens", [&] { mtp::best_tokens(context, to, of, rows); });
  };
  CHECK(best(two.view(), log_p.view(), logits.view()));
  CHECK(best(tokens.view(), narrow.view(), logits.view()));
  CHECK(best(apart.view(), log_p.view(), logits.view()));
  CHECK(best(tokens.view(), log_apart.view(), logits.view()));
  CHECK(best(tokens.view(), log_p.view(), spread.view()));
  const matrix_view<const S, B> wide(logits.view().data(), dims<2>{3, (index_t{1} << 22) + 1});
  CHECK(best(tokens.view(), log_p.view(), wide));
  CHECK(tokens.untouched());
  CHECK(log_p.untouched());
  CHECK(logits.untouched());
}

TEST_CASE_TEMPLATE_APPLY(sorted, cases);
TEST_CASE_TEMPLATE_APPLY(orders, one_case);
TEST_CASE_TEMPLATE_APPLY(company, cases);
TEST_CASE_TEMPLATE_APPLY(infinities, cases);
TEST_CASE_TEMPLATE_APPLY(large, one_case);
TEST_CASE_TEMPLATE_APPLY(little, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::best_tokens

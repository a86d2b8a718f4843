// A text that grows while it is decoded, against plain loops. Who includes this says for which
// cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <vector>

#include "mtp/ops/sequence.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::sequence {

/// What does not depend on an element type is tested once.
using one_case = std::tuple<std::tuple_element_t<0, cases>>;

template <class Element>
std::vector<double> as_values(const std::vector<Element>& elements) {
  return {elements.begin(), elements.end()};
}

template <class Element, class B>
guarded<Element, 1, B> list(const std::vector<Element>& elements) {
  return {dims<1>{static_cast<index_t>(elements.size())}, as_values(elements)};
}

/// A text between guard zones. Its tokens are 100, 101, ..
template <class B>
struct guarded_text {
  guarded<token_t, 1, B> tokens;
  guarded<index_t, 1, B> state;

  guarded_text(index_t capacity, index_t count)
      : tokens(list<token_t, B>(numbers(capacity))), state(list<index_t, B>({count, 77})) {}

  static std::vector<token_t> numbers(index_t capacity) {
    std::vector<token_t> all;
    for (index_t i = 0; i < capacity; ++i) {
      all.push_back(static_cast<token_t>(100 + i));
    }
    return all;
  }
  sequence_view<B> view() { return {tokens.view(), state.view()}; }
  bool intact() const { return tokens.intact() && state.intact(); }
};

TEST_CASE_TEMPLATE_DEFINE("select_rows gives positions and tokens around the end of a text",
                          Case,
                          selection) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const index_t capacity : {1, 6, 300}) {
    for (const index_t count : {0, 1, 5, 299}) {
      for (const index_t M : {0, 1, 2, 5, 33, 257}) {
        for (const index_t offset : {-300, -2, -1, 0, 1}) {
          for (const index_t ahead : {-1, 0, 1, 4}) {
            guarded_text<B> text(capacity, count);
            guarded<index_t, 1, B> positions(dims<1>{M});
            guarded<token_t, 1, B> ids(dims<1>{M});
            select_rows(context, positions.view(), ids.view(), text.view(), offset, ahead);
            std::vector<index_t> positions_expected;
            std::vector<token_t> ids_expected;
            for (index_t m = 0; m < M; ++m) {
              const index_t position = count + offset + m, at = position + ahead;
              const bool exists = position >= 0 && at >= 0 && at < capacity;
              positions_expected.push_back(position);
              ids_expected.push_back(exists ? static_cast<token_t>(100 + at) : 0);
            }
            CAPTURE(capacity);
            CAPTURE(count);
            CAPTURE(M);
            CAPTURE(offset);
            CAPTURE(ahead);
            REQUIRE(same_bits(elements(positions.view()), positions_expected));
            REQUIRE(same_bits(elements(ids.view()), ids_expected));
            REQUIRE(positions.intact());
            REQUIRE(ids.intact());
            REQUIRE(text.tokens.untouched());
            REQUIRE(text.state.untouched());
          }
        }
      }
    }
  }
}

struct ring_sizes {
  index_t R, M, C, gap;
};

// Around the widths of packs and blocks.
inline const ring_sizes rings[] = {{1, 1, 1, 0},
                                   {3, 2, 7, 1},
                                   {5, 5, 8, 0},
                                   {4, 3, 16, 16},
                                   {7, 4, 33, 0},
                                   {9, 9, 1032, 8},
                                   {2, 2, 1033, 3},
                                   {3, 0, 4, 0},
                                   {3, 2, 0, 0}};

/// Consecutive positions that go round the ring, begin before the text, or lie far behind.
inline std::vector<index_t> positions_of(const ring_sizes& s, index_t first) {
  std::vector<index_t> positions;
  for (index_t m = 0; m < s.M; ++m) {
    positions.push_back(first + m);
  }
  return positions;
}

TEST_CASE_TEMPLATE_DEFINE("store_rows and load_rows keep the latest rows of a stream",
                          Case,
                          rows_in_a_ring) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const ring_sizes& s : rings) {
    for (const index_t first : {index_t{0}, s.R - 1, index_t{-2}, 5 * s.R + 1, index_t{1} << 40}) {
      CAPTURE(s.R);
      CAPTURE(s.C);
      CAPTURE(first);
      const std::vector<index_t> positions = positions_of(s, first);
      guarded<index_t, 1, B> at = list<index_t, B>(positions);
      guarded<S, 2, B> ring(dims<2>{s.R, s.C}, strides(s.C + s.gap, 1), normal(s.R * s.C, 1));
      guarded<S, 2, B> rows(dims<2>{s.M, s.C}, strides(s.C + 2 * s.gap, 1), normal(s.M * s.C, 2));
      std::vector<S> expected = elements(ring.view());
      const std::vector<S> given = elements(rows.view());
      for (index_t m = 0; m < s.M; ++m) {
        const index_t position = positions[static_cast<std::size_t>(m)];
        if (position >= 0) {
          std::copy_n(given.begin() + m * s.C, s.C, expected.begin() + position % s.R * s.C);
        }
      }
      store_rows(context, ring.view(), rows.view(), at.view());
      CHECK(same_bits(elements(ring.view()), expected));
      CHECK(ring.intact());
      CHECK(rows.untouched());
      CHECK(at.untouched());

      guarded<S, 2, B> loaded(dims<2>{s.M, s.C}, strides(s.C + s.gap, 1));
      load_rows(context, loaded.view(), ring.view(), at.view());
      std::vector<S> expected_rows = given;
      for (index_t m = 0; m < s.M; ++m) {
        if (positions[static_cast<std::size_t>(m)] < 0) {
          std::fill_n(expected_rows.begin() + m * s.C, s.C, static_cast<S>(0.0f));
        }
      }
      CHECK(same_bits(elements(loaded.view()), expected_rows));
      CHECK(loaded.intact());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("append_drafts writes behind the confirmed tokens and never outside",
                          Case,
                          appending) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const index_t capacity : {1, 6, 200}) {
    for (const index_t count : {0, 1, 4, 198}) {
      for (const index_t J : {0, 1, 3, 150}) {
        for (const index_t ahead : {-3, 0, 1}) {
          guarded_text<B> text(capacity, count);
          std::vector<token_t> drafts;
          for (index_t j = 0; j < J; ++j) {
            drafts.push_back(static_cast<token_t>(j % 3 == 1 ? -1 : 7 * j));
          }
          guarded<token_t, 1, B> given = list<token_t, B>(drafts);
          append_drafts(context, text.view(), given.view(), ahead);
          std::vector<token_t> expected = guarded_text<B>::numbers(capacity);
          for (index_t j = 0; j < J; ++j) {
            const index_t at = count + ahead + j;
            if (at >= 0 && at < capacity) {
              expected[static_cast<std::size_t>(at)] =
                  std::max(drafts[static_cast<std::size_t>(j)], token_t{0});
            }
          }
          CAPTURE(capacity);
          CAPTURE(count);
          CAPTURE(J);
          CAPTURE(ahead);
          CHECK(same_bits(elements(text.tokens.view()), expected));
          CHECK(text.state.untouched());
          CHECK(text.intact());
          CHECK(given.untouched());
        }
      }
    }
  }
}

/// The state after accept_drafts on a text whose drafts are accepted up to the a-th, `right`.
template <class B>
void check_accepted(context<B>& context,
                    index_t capacity,
                    index_t count,
                    index_t M,
                    index_t right,
                    index_t limit,
                    bool is_token) {
  CAPTURE(capacity);
  CAPTURE(count);
  CAPTURE(M);
  CAPTURE(right);
  CAPTURE(limit);
  CAPTURE(is_token);
  guarded_text<B> text(capacity, count);
  std::vector<token_t> predicted;
  for (index_t m = 0; m < M; ++m) {
    predicted.push_back(static_cast<token_t>(100 + count + m));  // what the text says
  }
  // Behind the first wrong draft everything may look right again.
  predicted[static_cast<std::size_t>(right)] = is_token ? 55 : -1;
  guarded<token_t, 1, B> given = list<token_t, B>(predicted);
  accept_drafts(context, text.view(), given.view(), limit);
  std::vector<token_t> tokens = guarded_text<B>::numbers(capacity);
  std::vector<index_t> state = {count, -1};
  if (count + M - 1 <= limit && count < limit) {
    state = {count + right + (is_token ? 1 : 0), right};
    if (is_token) {
      tokens[static_cast<std::size_t>(count + right)] = 55;
    }
  }
  CHECK(same_bits(elements(text.tokens.view()), tokens));
  CHECK(same_bits(elements(text.state.view()), state));
  CHECK(text.intact());
  CHECK(given.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("accept_drafts keeps drafts up to the first wrong one", Case, accepting) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const index_t count : {1, 2, 9}) {
    for (const index_t M : {1, 2, 5, 32, 33, 34, 70}) {
      for (const index_t right : {index_t{0}, index_t{1}, M / 2, M - 2, M - 1}) {
        if (right >= 0 && right < M) {
          for (const bool is_token : {true, false}) {
            check_accepted<B>(context, 200, count, M, right, 150, is_token);
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("accept_drafts does nothing where the text would reach beyond its limit",
                          Case,
                          limits) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const index_t M : {1, 2, 5}) {
    for (index_t count = 1; count <= 21; ++count) {
      // The last accepted draft of a full text fills its last place.
      check_accepted<B>(context, 21, count, M, M - 1, 20, true);
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a text goes through drafts, acceptance and the next rows",
                          Case,
                          cycles) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  guarded_text<B> text(12, 4);
  guarded<token_t, 1, B> drafts = list<token_t, B>({104, 7, -1});
  append_drafts(context, text.view(), drafts.view(), 0);
  guarded<token_t, 1, B> predicted = list<token_t, B>({104, 8, 9, 10});
  accept_drafts(context, text.view(), predicted.view(), 11);
  guarded<index_t, 1, B> positions(dims<1>{3});
  guarded<token_t, 1, B> ids(dims<1>{3});
  select_rows(context, positions.view(), ids.view(), text.view(), -2, 0);
  CHECK(same_bits(elements(text.state.view()), std::vector<index_t>{6, 1}));
  CHECK(same_bits(elements(positions.view()), std::vector<index_t>{4, 5, 6}));
  CHECK(same_bits(elements(ids.view()), std::vector<token_t>{104, 8, 0}));
}

TEST_CASE_TEMPLATE_DEFINE("operations of a text reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded_text<B> text(8, 3);
  guarded<index_t, 1, B> positions(dims<1>{3}), spread(dims<1>{3}, strides(2)), four(dims<1>{4});
  guarded<token_t, 1, B> ids(dims<1>{3}), ids_spread(dims<1>{3}, strides(2)), none(dims<1>{0});
  const auto select = [&](auto positions_, auto ids_, sequence_view<B> text_) {
    return rejects("select_rows",
                   [&] { select_rows(context, positions_, ids_, text_, index_t{0}, index_t{0}); });
  };
  CHECK(select(four.view(), ids.view(), text.view()));
  CHECK(select(spread.view(), ids.view(), text.view()));
  CHECK(select(positions.view(), ids_spread.view(), text.view()));
  CHECK(select(positions.view(), ids.view(), {ids_spread.view(), text.state.view()}));
  CHECK(select(positions.view(), ids.view(), {text.tokens.view(), positions.view()}));

  guarded<S, 2, B> ring(dims<2>{3, 4}, uniform(12, 1)), rows(dims<2>{3, 4}, uniform(12, 2));
  guarded<S, 2, B> wide(dims<2>{3, 5}, uniform(15, 3)), many(dims<2>{4, 4}, uniform(16, 4));
  guarded<S, 2, B> gaps(dims<2>{3, 4}, strides(8, 2), uniform(12, 5));
  const auto both = [&](auto ring_, auto rows_, auto positions_) {
    CHECK(rejects("load_rows", [&] { load_rows(context, rows_, ring_, positions_); }));
    return rejects("store_rows", [&] { store_rows(context, ring_, rows_, positions_); });
  };
  CHECK(both(ring.view(), wide.view(), positions.view()));
  CHECK(both(ring.view(), many.view(), four.view()));
  CHECK(both(ring.view(), gaps.view(), positions.view()));
  CHECK(both(gaps.view(), rows.view(), positions.view()));
  CHECK(both(ring.view(), rows.view(), four.view()));
  CHECK(both(ring.view(), rows.view(), spread.view()));

  CHECK(rejects("append_drafts",
                [&] { append_drafts(context, text.view(), ids_spread.view(), index_t{0}); }));
  const auto accept = [&](auto predicted, index_t limit) {
    return rejects("accept_drafts", [&] { accept_drafts(context, text.view(), predicted, limit); });
  };
  CHECK(accept(none.view(), 7));
  CHECK(accept(ids_spread.view(), 7));
  CHECK(accept(ids.view(), 8));

  CHECK(text.tokens.untouched());
  CHECK(text.state.untouched());
  CHECK(positions.untouched());
  CHECK(ids.untouched());
  CHECK(ring.untouched());
  CHECK(rows.untouched());
  CHECK(many.untouched());
  CHECK(gaps.untouched());
}

TEST_CASE_TEMPLATE_APPLY(selection, one_case);
TEST_CASE_TEMPLATE_APPLY(rows_in_a_ring, cases);
TEST_CASE_TEMPLATE_APPLY(appending, one_case);
TEST_CASE_TEMPLATE_APPLY(accepting, one_case);
TEST_CASE_TEMPLATE_APPLY(limits, one_case);
TEST_CASE_TEMPLATE_APPLY(cycles, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::sequence

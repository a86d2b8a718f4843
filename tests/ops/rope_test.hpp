// Rotary position embedding against the reference. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/ops/rope.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/rope.hpp"
#include "support/rope.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::rope {

using reference::array;
using reference::array_of;

struct rope_sizes {
  index_t N, H, E, length, first;
  index_t gap = 1;        // elements between heads; twice as many between rows
  index_t table_gap = 3;  // elements between rows of the table
};

// Around the widths of vectors; with gaps of 8 and 4, rows begin at multiples of 16 bytes. The last
// row is wider than a block of threads.
inline const rope_sizes sizes[] = {{1, 1, 2, 1, 0},
                                   {6, 2, 4, 3, 0},
                                   {4, 3, 6, 2, 5},
                                   {5, 1, 14, 5, 1},
                                   {7, 2, 16, 7, 0},
                                   {7, 2, 16, 7, 2, 8, 4},
                                   {3, 1, 18, 1, 39},
                                   {8, 2, 30, 4, 2},
                                   {5, 3, 32, 5, 0},
                                   {9, 3, 32, 9, 1, 0, 0},
                                   {13, 1, 34, 13, 3},
                                   {12, 2, 62, 6, 0},
                                   {4, 2, 64, 2, 9},
                                   {40, 5, 64, 20, 9, 8, 4},
                                   {3, 2, 66, 3, 0},
                                   {2, 70, 64, 2, 0},
                                   {0, 2, 8, 1, 0},
                                   {3, 0, 8, 1, 0}};

template <class S, class B>
guarded<S, 3, B> random_heads(const rope_sizes& s, std::uint64_t stream) {
  return {dims<3>{s.N, s.H, s.E},
          strides(s.H * (s.E + s.gap) + 2 * s.gap, s.E + s.gap, 1),
          normal(s.N * s.H * s.E, stream)};
}

/// Two products and their sum, each with the rounding of its cosine or sine; then the result's.
template <class S>
std::vector<double> bounds(const array<3>& x, const array<3>& expected) {
  const index_t half = x.size(2) / 2;
  std::vector<double> all;
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      for (index_t e = 0; e < x.size(2); ++e) {
        const double error = gamma(4, unit_roundoff<accumulate_t<S>>) *
                             (std::abs(x(n, h, e % half)) + std::abs(x(n, h, e % half + half)));
        all.push_back(std::is_same_v<S, bf16> ? stored_bound<S>(expected(n, h, e), error) : error);
      }
    }
  }
  return all;
}

TEST_CASE_TEMPLATE_DEFINE("rope_forward and rope_backward match the reference",
                          Case,
                          rotated_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const rope_sizes& s : sizes) {
    CAPTURE(s.N);
    CAPTURE(s.H);
    CAPTURE(s.E);
    auto table = rope_table<accumulate_t<S>, B>(40, s.E, s.table_gap);
    auto x = random_heads<S, B>(s, 1), dx = random_heads<S, B>(s, 2);
    const array<3> xs = array_of(x.view()), dxs = array_of(dx.view());
    const array<3> expected = reference::rope(xs, rope_theta, s.length, s.first);
    const array<3> dexpected = reference::rope(dxs, rope_theta, s.length, s.first, -1);
    rope_forward(context, x.view(), table.view(), s.length, s.first);
    CHECK(within(x.view(), expected.elements, bounds<S>(xs, expected)));
    CHECK(x.intact());
    rope_backward(context, dx.view(), table.view(), s.length, s.first);
    CHECK(within(dx.view(), dexpected.elements, bounds<S>(dxs, dexpected)));
    CHECK(dx.intact());
    CHECK(table.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_backward matches differences of rope_forward", Case, gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const rope_sizes& s : {rope_sizes{4, 2, 6, 2, 3}, rope_sizes{12, 3, 34, 6, 0}}) {
      const dims<3> shape{s.N, s.H, s.E};
      auto table = rope_table<S, B>(40, s.E);
      auto x = random_heads<S, B>(s, 1), dy = random_heads<S, B>(s, 2);
      const array<3> dys = array_of(dy.view());
      rope_backward(context, dy.view(), table.view(), s.length, s.first);
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded<S, 3, B> moved(shape, std::vector<double>(at.begin(), at.end()));
            rope_forward(context, moved.view(), table.view(), s.length, s.first);
            return reference::inner(dys, array_of(moved.view()));
          },
          values(x.view()),
          values(dy.view())));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "rope gives a row the same bits among any number of rows, however it is computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto one = testing<B>::make_context();
  const rope_sizes s{backend_traits<B>::is_host_memory ? 200 : 40, 3, 66, 200, 7};
  auto table = rope_table<A, B>(207, s.E);
  auto x = random_heads<S, B>(s, 1);
  using function =
      void (*)(context<B>&, mtp::view<S, dims<3>, B>, matrix_view<const A, B>, index_t, index_t);
  const function functions[] = {
      [](auto& context, auto rows, auto positions, index_t length, index_t first) {
        rope_forward(context, rows, positions, length, first);
      },
      [](auto& context, auto rows, auto positions, index_t length, index_t first) {
        rope_backward(context, rows, positions, length, first);
      }};
  for (const function rotate : functions) {
    const auto run = [&](auto& context, index_t first, index_t M) {
      guarded<S, 3, B> rows(dims<3>{M, s.H, s.E}, values(x.view().slice(0, first, M)));
      rotate(context, rows.view(), table.view(), M, s.first + first);
      return values(rows.view());
    };
    std::vector<double> alone;
    for (index_t m = 0; m < s.N; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      CHECK(same_bits(run(context, 0, s.N), alone));
      for (index_t M = 1; M <= 17; ++M) {
        CAPTURE(M);
        CHECK(same_bits(run(context, 0, M),
                        std::vector<double>(alone.begin(), alone.begin() + M * s.H * s.E)));
      }
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope gives the same bits wherever rows begin", Case, alignments) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  std::vector<double> elements[2];
  for (const index_t packed : {0, 1}) {
    const rope_sizes s{9, 2, 32, 9, 0, packed == 1 ? 8 : 1, packed == 1 ? 4 : 3};
    auto table = rope_table<accumulate_t<S>, B>(9, s.E, s.table_gap);
    auto x = random_heads<S, B>(s, 1);
    rope_forward(context, x.view(), table.view(), s.length, s.first);
    elements[packed] = values(x.view());
  }
  CHECK(same_bits(elements[0], elements[1]));
}

TEST_CASE_TEMPLATE_DEFINE("rope starts each sequence of a batch at the first position",
                          Case,
                          batches) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t length = 7, H = 2, E = 18;
  auto table = rope_table<accumulate_t<S>, B>(10, E);
  for (index_t batch = 1; batch <= 5; ++batch) {
    auto all = random_heads<S, B>({batch * length, H, E, length, 3}, 1);
    std::vector<double> expected;
    for (index_t b = 0; b < batch; ++b) {
      guarded<S, 3, B> one(dims<3>{length, H, E}, values(all.view().slice(0, b * length, length)));
      rope_forward(context, one.view(), table.view(), length, 3);
      expected = join(std::move(expected), values(one.view()));
    }
    rope_forward(context, all.view(), table.view(), length, 3);
    CHECK(same_bits(values(all.view()), expected));
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_forward gives rows at positions of their own the same bits",
                          Case,
                          positions_of_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t E : {4, 18, 64}) {
    auto table = rope_table<accumulate_t<S>, B>(30, E);
    const std::vector<double> where{3, 0, 29, 3, 12, 13, 14};
    auto x = random_heads<S, B>({7, 3, E, 7, 0}, 1);
    guarded<S, 3, B> expected(dims<3>{7, 3, E}, values(x.view()));
    for (index_t n = 0; n < 7; ++n) {
      rope_forward(context,
                   expected.view().slice(0, n, 1),
                   table.view(),
                   1,
                   static_cast<index_t>(where[static_cast<std::size_t>(n)]));
    }
    guarded<index_t, 1, B> positions(dims<1>{7}, where);
    rope_forward(context, x.view(), table.view(), positions.view());
    CHECK(same_bits(x.view(), expected.view()));
    CHECK(x.intact());
    CHECK(positions.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope operations reject wrong shapes and positions and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  auto table = rope_table<A, B>(10, 8), narrow = rope_table<A, B>(10, 6);
  guarded<S, 3, B> x(dims<3>{6, 2, 8}, uniform(96, 1)), odd(dims<3>{6, 2, 7}, uniform(84, 1));
  guarded<S, 3, B> spread(dims<3>{6, 2, 8}, strides(32, 16, 2), uniform(96, 1));
  guarded<A, 2, B> odd_table(dims<2>{10, 7}, uniform(70, 2));
  guarded<A, 2, B> spread_table(dims<2>{10, 8}, strides(16, 2), uniform(80, 2));
  const auto both = [&](auto x_, auto table_, index_t length, index_t first) {
    CHECK(rejects("rope_forward", [&] { rope_forward(context, x_, table_, length, first); }));
    CHECK(rejects("rope_backward", [&] { rope_backward(context, x_, table_, length, first); }));
  };
  both(x.view(), narrow.view(), 6, 0);
  both(odd.view(), odd_table.view(), 6, 0);
  both(spread.view(), table.view(), 6, 0);
  both(x.view(), spread_table.view(), 6, 0);
  both(x.view(), table.view(), 4, 0);
  both(x.view(), table.view(), 0, 0);
  both(x.view(), table.view(), 6, 5);
  both(x.view(), table.view(), 6, -1);
  const auto at = [&](auto table_, const std::vector<double>& where) {
    guarded<index_t, 1, B> positions(dims<1>{static_cast<index_t>(where.size())}, where);
    CHECK(rejects("rope_forward",
                  [&] { rope_forward(context, x.view(), table_, positions.view()); }));
  };
  at(narrow.view(), {0, 1, 2, 3, 4, 5});
  at(table.view(), {0, 1, 2, 3, 4});
  if (backend_traits<B>::is_host_memory) {
    at(table.view(), {0, 1, 2, 3, 4, 10});
    at(table.view(), {0, 1, 2, 3, 4, -1});
  }
  CHECK(x.untouched());
  CHECK(odd.untouched());
  CHECK(spread.untouched());
}

TEST_CASE_TEMPLATE_APPLY(rotated_values, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(alignments, cases);
TEST_CASE_TEMPLATE_APPLY(batches, cases);
TEST_CASE_TEMPLATE_APPLY(positions_of_rows, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::rope

// Sums over ranks against the formula, element by element. Who includes this says for which cases:
// see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "mtp/ops/sum_over_ranks.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/ranks_of_backend.hpp"

namespace mtp::test::sum_over_ranks_cases {

/// Numbers of very different sizes, so that every order of a sum has bits of its own.
template <class S>
std::vector<double> numbers(index_t count, int rank) {
  const auto size = normal(count, static_cast<std::uint64_t>(rank) + 100);
  auto all = normal(count, static_cast<std::uint64_t>(rank));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] *= std::exp2(std::round(4 * size[i]));
  return all;
}

/// ((0 + x_0) + x_1) + .. in the accumulator type, rounded once.
template <class S>
std::vector<S> expected_sums(index_t count, int ranks) {
  std::vector<accumulate_t<S>> sums(static_cast<std::size_t>(count));
  for (int rank = 0; rank < ranks; ++rank) {
    const auto own = numbers<S>(count, rank);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] += static_cast<accumulate_t<S>>(stored<S>(own[i]));
    }
  }
  std::vector<S> rounded;
  for (const auto sum : sums) rounded.push_back(static_cast<S>(sum));
  return rounded;
}

TEST_CASE_TEMPLATE_DEFINE(
    "sums over ranks are added in the order of ranks, with the same bits on all", Case, order) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  // The largest are added by ranges.
  const std::vector<index_t> counts =
      some_of<B>(std::vector<index_t>{70016, 0, 1, 17, 3, 256, 70001});
  for (const int ranks : {2, 3, 4}) {
    for (const index_t count : counts) {
      for (const int threads : joined_ranks<B>::thread_counts) {
        CAPTURE(ranks);
        CAPTURE(count);
        std::vector<char> intact(static_cast<std::size_t>(ranks));
        const auto all = from_ranks_of<std::vector<S>, B>(
            ranks,
            [&](auto& context, int rank) {
              guarded<S, 1, B> own(dims<1>{count}, numbers<S>(count, rank));
              sum_over_ranks(context, own.view());
              intact[static_cast<std::size_t>(rank)] = own.intact();
              return elements(own.view());
            },
            threads);
        for (std::size_t rank = 0; rank < all.size(); ++rank) {
          CHECK(same_bits(all[rank], expected_sums<S>(count, ranks)));
          CHECK(intact[rank]);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a sum over ranks has NaN where one rank has, and there alone",
                          Case,
                          not_numbers) {
  using B = typename Case::backend;
  const auto all = from_ranks_of<std::vector<float>, B>(3, [](auto& context, int rank) {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    guarded<float, 2, B> own(dims<2>{2, 2}, std::vector<double>{1, 2, rank == 1 ? nan : 3, 4});
    sum_over_ranks(context, own.view());
    return elements(own.view());
  });
  for (const auto& own : all) {
    CHECK(own[0] == 3);
    CHECK(own[1] == 6);
    CHECK(own[2] != own[2]);
    CHECK(own[3] == 12);
  }
}

TEST_CASE_TEMPLATE_DEFINE("a sum over one rank leaves the bits, minus zero among them",
                          Case,
                          one_rank) {
  using B = typename Case::backend;
  on_ranks_of<B>(1, [](auto& context, int) {
    guarded<float, 1, B> own(dims<1>{3}, std::vector<double>{-0.0, 1e-40, 3});
    sum_over_ranks(context, own.view());
    CHECK(own.untouched());
  });
}

TEST_CASE_TEMPLATE_DEFINE("a sum over ranks needs ranks, and rows without gaps", Case, rejections) {
  using B = typename Case::backend;
  auto alone = testing<B>::make_context();
  guarded<float, 1, B> own(dims<1>{6}, std::vector<double>(6, 1.0));
  const auto values = own.view();
  CHECK(rejects("sum_over_ranks", [&] { sum_over_ranks(alone, values); }));
  on_ranks_of<B>(1, [&](auto& context, int) {
    const matrix_view<float, B> gaps(values.data(), {2, 2}, {3, 1});
    CHECK(rejects("sum_over_ranks", [&] { sum_over_ranks(context, gaps); }));
    const vector_view<float, B> strided(values.data(), dims<1>{3}, {2});
    CHECK(rejects("sum_over_ranks", [&] { sum_over_ranks(context, strided); }));
  });
  CHECK(own.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("a sum over ranks stays within the workspace that it plans",
                          Case,
                          workspace) {
  using B = typename Case::backend;
  for (const index_t count : {1, 1001, 30000}) {
    on_ranks_of<B>(
        3,
        [&](auto& context, int) {
          context.reserve(ops_of<B>::template sum_over_ranks_workspace<double>(count, 3));
          guarded<double, 1, B> own(dims<1>{count},
                                    std::vector<double>(static_cast<std::size_t>(count), 1.0));
          for (const index_t part : {count, count / 2}) {  // fewer do not need more
            CHECK_NOTHROW(sum_over_ranks(context, own.view().slice(0, 0, part)));
          }
        },
        1,
        0);
  }
}

TEST_CASE_TEMPLATE_APPLY(order, cases);
TEST_CASE_TEMPLATE_APPLY(not_numbers, one_case);
TEST_CASE_TEMPLATE_APPLY(one_rank, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);
TEST_CASE_TEMPLATE_APPLY(workspace, one_case);

}  // namespace mtp::test::sum_over_ranks_cases

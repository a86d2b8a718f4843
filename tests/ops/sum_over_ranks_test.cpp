// Sums over ranks against the formula, element by element. The CPU alone has them.
#include "mtp/ops/sum_over_ranks.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <limits>
#include <vector>

#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/tensor_ranks.hpp"

namespace mtp::test::sum_over_ranks_cases {

namespace {

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

}  // namespace

TEST_CASE_TEMPLATE("sums over ranks are added in the order of ranks, with the same bits on all",
                   S,
                   float,
                   double,
                   bf16) {
  for (const int ranks : {2, 3, 4}) {
    for (const index_t count : {0, 1, 3, 17, 40000}) {
      for (const int threads : {1, 3}) {
        CAPTURE(ranks);
        CAPTURE(count);
        std::vector<char> intact(static_cast<std::size_t>(ranks));
        const auto all = from_ranks<std::vector<S>>(
            ranks,
            [&](cpu_context& context, int rank) {
              guarded<S, 1, cpu> own(dims<1>{count}, numbers<S>(count, rank));
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

TEST_CASE("a sum over ranks has NaN where one rank has, and there alone") {
  const auto all = from_ranks<std::vector<float>>(3, [](cpu_context& context, int rank) {
    std::vector<float> own{1, 2, 3, 4};
    if (rank == 1) own[2] = std::numeric_limits<float>::quiet_NaN();
    sum_over_ranks(context, matrix_view<float, cpu>(own.data(), {2, 2}));
    return own;
  });
  for (const auto& own : all) {
    CHECK(own[0] == 3);
    CHECK(own[1] == 6);
    CHECK(own[2] != own[2]);
    CHECK(own[3] == 12);
  }
}

TEST_CASE("a sum over one rank leaves the bits, minus zero among them") {
  on_ranks(1, [](cpu_context& context, int) {
    std::vector<float> own{-0.0f, 1e-40f, 3};
    const auto before = own;
    sum_over_ranks(context, vector_view<float, cpu>(own.data(), dims<1>{3}));
    CHECK(same_bits(own, before));
  });
}

TEST_CASE("a sum over ranks needs ranks, and rows without gaps") {
  cpu_context alone;
  std::vector<float> own(6, 1.0f);
  const vector_view<float, cpu> values(own.data(), dims<1>{6});
  CHECK(rejects("sum_over_ranks", [&] { sum_over_ranks(alone, values); }));
  on_ranks(1, [&](cpu_context& context, int) {
    const matrix_view<float, cpu> gaps(own.data(), {2, 2}, {3, 1});
    CHECK(rejects("sum_over_ranks", [&] { sum_over_ranks(context, gaps); }));
    const vector_view<float, cpu> strided(own.data(), dims<1>{3}, {2});
    CHECK(rejects("sum_over_ranks", [&] { sum_over_ranks(context, strided); }));
  });
  CHECK(same_bits(own, std::vector<float>(6, 1.0f)));
}

TEST_CASE("a sum over ranks stays within the workspace that it plans") {
  for (const index_t count : {1, 1001}) {
    on_ranks(
        3,
        [&](cpu_context& context, int) {
          context.reserve(ops_of<cpu>::sum_over_ranks_workspace<double>(count, 3));
          std::vector<double> own(static_cast<std::size_t>(count), 1.0);
          CHECK_NOTHROW(
              sum_over_ranks(context, vector_view<double, cpu>(own.data(), dims<1>{count})));
        },
        1,
        0);
  }
}

}  // namespace mtp::test::sum_over_ranks_cases

#include "mtp/distributed/ordered_sum.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/thread_ranks.hpp"

namespace mtp::test::distributed_ordered_sum_cases {

/// Values whose sums depend on their order.
template <class T>
std::vector<T> values_of(int rank, index_t count) {
  std::mt19937 random(static_cast<unsigned>(rank) + 17);
  std::uniform_real_distribution<double> draw(-1, 1);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& each : values) each = static_cast<T>(draw(random) * (random() % 4 == 0 ? 1000 : 1));
  return values;
}

/// What one process computes that adds the values of the ranks one after the other.
template <class T, class A>
std::vector<A> expected_sums(int ranks, index_t count) {
  std::vector<A> sums(static_cast<std::size_t>(count));
  for (index_t i = 0; i < count; ++i) sums[static_cast<std::size_t>(i)] = A(0.1) * A(i % 7);
  for (int rank = 0; rank < ranks; ++rank) {
    const std::vector<T> x = values_of<T>(rank, count);
    for (std::size_t i = 0; i < x.size(); ++i) sums[i] += static_cast<A>(x[i]);
  }
  return sums;
}

template <class T>
bool equal_bits(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

template <class T, class A, host_communicator C>
void check_sums(C& group, index_t count, index_t unit, index_t piece, bool waits) {
  const shards parts(count, group.size(), unit);
  const auto own = static_cast<std::size_t>(parts.size(group.rank()));
  const std::vector<A> all = expected_sums<T, A>(group.size(), count);
  const std::span<const A> expected =
      std::span(all).subspan(static_cast<std::size_t>(parts.begin(group.rank())), own);
  const std::vector<T> x = values_of<T>(group.rank(), count);
  std::vector<A> sums(own);
  for (std::size_t i = 0; i < own; ++i) {
    sums[i] = A(0.1) * A((parts.begin(group.rank()) + static_cast<index_t>(i)) % 7);
  }
  ordered_sum<C, T, A> sum(group, x, parts, std::span(sums), detail::ordered_sum_tag, piece);
  if (waits) {
    sum.finish();
  } else {
    while (!sum.advance()) std::this_thread::yield();
  }
  check(sum.advance(), "a complete sum has more to do");
  check(equal_bits<A>(sums, expected),
        "rank ",
        group.rank(),
        " of ",
        group.size(),
        " has other bits: count ",
        count,
        ", unit ",
        unit,
        ", piece ",
        piece);
}

TEST_CASE("sums over ranks have the bits of one process, for any count, unit and piece") {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    CAPTURE(ranks);
    CHECK_NOTHROW(run_ranks(ranks, [](thread_communicator& group) {
      for (const index_t count : {0, 1, 2, 5, 64, 131, 700}) {
        for (const index_t unit : {1, 16, 300}) {
          for (const index_t piece : {0, 1, 7, 64, 1000}) {
            if (piece == 1 && count > 64) continue;
            check_sums<float, float>(group, count, unit, piece, piece != 7);
          }
          check_sums<float, double>(group, count, unit, 7, true);
          check_sums<double, double>(group, count, unit, 0, false);
        }
      }
      check_sums<float, float>(
          group, 150001, 64, 0, true);  // more pieces than one, of the size chosen
    }));
  }
}

TEST_CASE("a process alone adds its own values") {
  alone group;
  for (const index_t piece : {0, 1, 64}) {
    CHECK_NOTHROW(check_sums<float, float>(group, 131, 4, piece, true));
  }
}

TEST_CASE("several sums under way at the same time do not mix") {
  run_ranks(3, [](thread_communicator& group) {
    constexpr index_t count = 500;
    const shards parts(count, 3);
    const auto own = static_cast<std::size_t>(parts.size(group.rank()));
    std::vector<std::vector<float>> x, sums;
    for (int n = 0; n < 3; ++n) {
      x.push_back(values_of<float>(group.rank(), count));
      for (float& each : x.back()) each *= static_cast<float>(n + 1);
      sums.emplace_back(own);
    }
    std::vector<ordered_sum<thread_communicator, float>> under_way;
    for (std::size_t n = 0; n < 3; ++n) {
      under_way.emplace_back(
          group, std::span<const float>(x[n]), parts, std::span(sums[n]), static_cast<int>(n), 16);
    }
    // Each rank goes on with another one first.
    for (int n = 0; n < 3; ++n)
      under_way[static_cast<std::size_t>((n + group.rank()) % 3)].advance();
    for (auto& each : under_way) each.finish();
    for (std::size_t n = 0; n < 3; ++n) {
      std::vector<float> expected(own);
      for (int rank = 0; rank < 3; ++rank) {
        const std::vector<float> of_rank = values_of<float>(rank, count);
        for (std::size_t i = 0; i < own; ++i) {
          const auto k = static_cast<std::size_t>(parts.begin(group.rank())) + i;
          expected[i] += of_rank[k] * static_cast<float>(n + 1);
        }
      }
      check(equal_bits<float>(sums[n], expected), "sum ", n, " has other bits");
    }
  });
}

TEST_CASE("the whole sum on all ranks is in the order of ranks") {
  for (int ranks = 1; ranks <= 4; ++ranks) {
    run_ranks(ranks, [](thread_communicator& group) {
      for (const index_t count : {0, 1, 3, 40}) {
        std::vector<float> x = values_of<float>(group.rank(), count), expected(x.size());
        for (int rank = 0; rank < group.size(); ++rank) {
          const std::vector<float> other = values_of<float>(rank, count);
          for (std::size_t i = 0; i < x.size(); ++i) expected[i] += other[i];
        }
        ordered_all_reduce(group, std::span(x));
        check(equal_bits<float>(x, expected), "rank ", group.rank(), " has other bits");
      }
    });
  }
}

TEST_CASE("NaN and infinity reach the sum") {
  run_ranks(2, [](thread_communicator& group) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> x{group.rank() == 1 ? infinity : 1, group.rank() == 0 ? NAN : 1};
    ordered_all_reduce(group, std::span(x));
    check(x[0] == infinity && x[1] != x[1], "came: ", x[0], ", ", x[1]);
  });
}

TEST_CASE("sizes that do not fit the shards are refused") {
  alone group;
  const std::vector<float> x(5);
  std::vector<float> sums(4);
  CHECK_THROWS_WITH_AS(ordered_reduce_scatter(group, std::span(x), shards(5, 1), std::span(sums)),
                       "ordered_sum: an accumulator of 5 elements was expected for the range of "
                       "rank 0, but 4 came",
                       error);
  CHECK_THROWS_AS(ordered_reduce_scatter(group, std::span(x), shards(5, 2), std::span(sums)),
                  error);
  CHECK_THROWS_AS(ordered_reduce_scatter(group, std::span(x), shards(4, 1), std::span(sums)),
                  error);
  CHECK(sums == std::vector<float>(4));
}

}  // namespace mtp::test::distributed_ordered_sum_cases

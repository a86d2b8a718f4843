// Buckets of gradients on their way: sums in the order of ranks, whatever the sizes, and the first
// buckets arrive before the backward pass has ended.
#include "mtp/train/gradient_exchange.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "support/compare.hpp"

namespace mtp::test::train_gradient_exchange_cases {

namespace {

using exchange_type = mtp::detail::gradient_exchange<float, cpu, thread_communicator>;

constexpr index_t front = 5;  // elements that are not exchanged

/// The gradient of a pass: numbers whose sum depends on the order of additions.
std::vector<float> gradient_of(int pass, index_t count) {
  const random_stream random(seed{3}, static_cast<std::uint64_t>(pass));
  std::vector<float> all;
  for (index_t i = 0; i < count; ++i) {
    all.push_back(static_cast<float>(random.normal(static_cast<std::uint64_t>(i))));
  }
  return all;
}

/// Rounds of `ranks` passes, the last of which is of the rest; the backward pass reports `reports`
/// places in between.
void check_sums(int ranks, int passes, index_t count, index_t unit, index_t bucket, int reports) {
  CAPTURE(ranks);
  CAPTURE(passes);
  CAPTURE(count);
  CAPTURE(bucket);
  std::vector<float> expected(static_cast<std::size_t>(count + front));
  for (int pass = 0; pass < passes; ++pass) {
    const auto own = gradient_of(pass, count + front);
    for (std::size_t i = front; i < own.size(); ++i) expected[i] += own[i];
  }
  std::vector<float> actual(expected.size());
  run_ranks(ranks, [&](thread_communicator& group) {
    cpu_context context({.threads = 1});
    const shards parts(count, ranks, unit);
    exchange_type exchange(context, group, front, parts, bucket);
    const index_t begin = front + parts.begin(group.rank());
    std::vector<float> sum(static_cast<std::size_t>(parts.size(group.rank())));
    for (int first = 0; first < passes; first += ranks) {
      const int senders = std::min(ranks, passes - first);
      auto pass = gradient_of(first + group.rank(), count + front);
      const auto complete = pass;
      std::fill(pass.begin(), pass.end(), 1e9f);  // what is not computed yet
      exchange.start(senders, pass.data(), sum.data(), begin);
      if (group.rank() < senders) {
        for (int report = reports; report-- > 0;) {
          const index_t from = (count + front) * report / reports;
          std::copy(complete.begin() + from, complete.end(), pass.begin() + from);
          exchange.finished(from);
        }
      }
      exchange.finish();
    }
    std::copy(sum.begin(), sum.end(), actual.begin() + begin);
  });
  CHECK(same_bits(actual, expected));
}

}  // namespace

TEST_CASE("sums are those of the passes in their order, whatever the ranks and sizes") {
  for (const int ranks : {2, 3, 4}) {
    for (const int passes : {ranks, ranks + 1, 3 * ranks - 1}) {
      check_sums(ranks, passes, 1000, 16, 64, 7);
      check_sums(ranks, passes, 1000, 1, 1, 3);
      check_sums(ranks, passes, 61, 16, 1000, 1);
      check_sums(ranks, passes, 17, 16, 5, 40);  // ranks without a shard
    }
  }
}

TEST_CASE("buckets arrive while the backward pass goes on") {
  constexpr index_t count = 400;
  run_ranks(2, [&](thread_communicator& group) {
    cpu_context context({.threads = 1});
    exchange_type exchange(context, group, 0, shards(count, 2), 50);
    std::vector<float> pass(count, 1.0f), sum(count / 2);
    exchange.start(2, pass.data(), sum.data(), group.rank() == 0 ? 0 : count / 2);
    // The second half is complete. Rank 1 has all of its sums before any rank goes on.
    for (int tries = 0; tries < 1000000; ++tries) {
      exchange.finished(count / 2);
      if (group.rank() == 0 || sum.front() == 2) break;
      std::this_thread::yield();
    }
    if (group.rank() == 1) {
      CHECK(std::count(sum.begin(), sum.end(), 2.0f) == count / 2);
    } else {
      CHECK(std::count(sum.begin(), sum.end(), 0.0f) == count / 2);
    }
    group.barrier();
    exchange.finished(0);
    exchange.finish();
    CHECK(std::count(sum.begin(), sum.end(), 2.0f) == count / 2);
  });
}

}  // namespace mtp::test::train_gradient_exchange_cases

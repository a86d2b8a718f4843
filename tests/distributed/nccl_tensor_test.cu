// GPUs of NCCL's communicator as the ranks that compute one model together, with threads as GPUs
// and a stub of NCCL that records its calls.
#include <cuda_runtime.h>
// The emulation comes first.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "mtp/distributed/nccl_tensor_ranks.cuh"
// The backend comes before what is made for it.
#include "mtp/core/tensor.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/sum_over_ranks.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace mtp::test::distributed_nccl_tensor_cases {

namespace {

/// Calls body(context, rank) for each of `ranks` GPUs, which have joined.
template <class Body>
void on_gpus(int ranks, const Body& body, reduction_order order = reduction_order::by_rank) {
  run_ranks(ranks, [&](thread_communicator& hosts) {
    cuda_context context({.workspace_bytes = 1 << 22, .product_bytes = 0});
    nccl_communicator group(context, hosts);
    nccl_tensor_ranks joined(group, order);
    context.join(joined);
    body(context, hosts.rank());
  });
}

template <class S>
std::vector<S> on_host(const buffer<S, cuda>& values) {
  std::vector<S> all(static_cast<std::size_t>(values.count()));
  backend_traits<cuda>::copy_to_host(all.data(), values.data(), all.size() * sizeof(S));
  return all;
}
template <class S>
buffer<S, cuda> on_device(const std::vector<S>& values) {
  buffer<S, cuda> all(static_cast<index_t>(values.size()));
  backend_traits<cuda>::copy_from_host(all.data(), values.data(), values.size() * sizeof(S));
  return all;
}
template <class S>
vector_view<S, cuda> flat(buffer<S, cuda>& values) {
  return {values.data(), dims<1>{values.count()}};
}

template <class S>
std::vector<S> numbers(index_t count, int rank) {
  std::vector<S> all;
  for (const double x : normal(count, static_cast<std::uint64_t>(rank))) {
    all.push_back(static_cast<S>(static_cast<accumulate_t<S>>(x)));
  }
  return all;
}

/// ((0 + x_0) + x_1) + .., rounded once.
template <class S>
std::vector<S> sums(index_t count, int ranks) {
  std::vector<accumulate_t<S>> wide(static_cast<std::size_t>(count));
  for (int rank = 0; rank < ranks; ++rank) {
    const auto own = numbers<S>(count, rank);
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] += static_cast<accumulate_t<S>>(own[i]);
  }
  std::vector<S> all;
  for (const auto sum : wide) all.push_back(static_cast<S>(sum));
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("GPUs add in the order of ranks, few numbers at once and many by ranges",
                   S,
                   float,
                   double,
                   bf16) {
  for (const int ranks : {1, 2, 3, 4}) {
    for (const index_t count : {1, 17, 64, 140003}) {
      CAPTURE(ranks);
      CAPTURE(count);
      nccl_stub::reset();
      std::vector<std::vector<S>> all(static_cast<std::size_t>(ranks));
      on_gpus(ranks, [&](cuda_context& context, int rank) {
        buffer<S, cuda> own = on_device(numbers<S>(count, rank));
        sum_over_ranks(context, flat(own));
        all[static_cast<std::size_t>(rank)] = on_host(own);
      });
      for (const auto& own : all) CHECK(same_bits(own, sums<S>(count, ranks)));
      const auto calls = nccl_stub::calls();
      CHECK(calls.empty() == (ranks == 1));
      if (ranks > 1 && count == 64) {
        CHECK(calls == std::vector<std::string>{"AllGather 0 " + std::to_string(64 * sizeof(S))});
      }
      if (ranks == 2 && count > 64) CHECK(calls.at(0).rfind("Send ", 0) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("NCCL adds in its own order if it is asked to", S, float, double, bf16) {
  nccl_stub::reset();
  std::vector<std::vector<S>> all(3);
  on_gpus(
      3,
      [&](cuda_context& context, int rank) {
        buffer<S, cuda> own = on_device(numbers<S>(33, rank));
        sum_over_ranks(context, flat(own));
        all[static_cast<std::size_t>(rank)] = on_host(own);
      },
      reduction_order::engine);
  const std::string type = std::is_same_v<S, float> ? "7" : std::is_same_v<S, double> ? "8" : "9";
  CHECK(nccl_stub::calls() == std::vector<std::string>{"AllReduce " + type + " 33 by 0"});
  CHECK(same_bits(all[1], all[0]));
  CHECK(same_bits(all[2], all[0]));
  CHECK(same_bits(all[0], sums<S>(33, 3)));  // threads add in the order of ranks
}

TEST_CASE("sums are recorded in a graph, and replayed with other numbers without waiting") {
  for (const index_t count : {19, 40001}) {  // at once, and by ranges
    std::vector<std::vector<float>> all(2);
    on_gpus(2, [&](cuda_context& context, int rank) {
      buffer<float, cuda> own(count), from(count);
      context.reserve(ops_of<cuda>::sum_over_ranks_workspace<float>(count, 2));
      cuda_detail::recording cycle;
      for (int round = 0; round < 4; ++round) {
        const auto values = numbers<float>(count, 2 * round + rank);
        backend_traits<cuda>::copy_from_host(
            from.data(), values.data(), values.size() * sizeof(float));
        cycle.replay(context, [&] {
          copy(context, flat(own), vector_view<const float, cuda>(flat(from)));
          sum_over_ranks(context, flat(own));
        });
        context.synchronize();
        const auto sum = on_host(own);
        auto& mine = all[static_cast<std::size_t>(rank)];
        mine.insert(mine.end(), sum.begin(), sum.end());
      }
    });
    std::vector<float> expected;
    for (int round = 0; round < 4; ++round) {
      const auto a = numbers<float>(count, 2 * round), b = numbers<float>(count, 2 * round + 1);
      for (std::size_t i = 0; i < a.size(); ++i) expected.push_back(a[i] + b[i]);
    }
    CHECK(same_bits(all[0], expected));
    CHECK(same_bits(all[1], expected));
  }
}

TEST_CASE("values of the host go through GPUs, also if ranges differ") {
  for (const int ranks : {1, 2, 3}) {
    std::vector<std::vector<int>> all(static_cast<std::size_t>(ranks));
    on_gpus(ranks, [&](cuda_context& context, int rank) {
      std::vector<int> values(7, -1);
      const shards parts(7, ranks);
      for (index_t i = parts.begin(rank); i < parts.end(rank); ++i) {
        values[static_cast<std::size_t>(i)] = static_cast<int>(10 * i);
      }
      constexpr index_t unit = sizeof(int);
      context.ranks()->all_gather(reinterpret_cast<std::byte*>(values.data()), 7 * unit, unit);
      all[static_cast<std::size_t>(rank)] = values;
    });
    for (const auto& values : all) CHECK(values == std::vector<int>{0, 10, 20, 30, 40, 50, 60});
  }
}

TEST_CASE("arguments that NCCL does not take are refused, and the group goes on") {
  run_ranks(2, [](thread_communicator& hosts) {
    cuda_context context({.workspace_bytes = 0, .product_bytes = 0});
    nccl_communicator group(context, hosts);
    std::vector<float> x(4), y(9);
    const std::span<const float> from(x);
    CHECK_THROWS_AS(group.gather(from, std::span(y)), error);
    CHECK_THROWS_AS(group.exchange(from, std::span(y), shards(5, 2)), error);
    CHECK_THROWS_AS(group.exchange(from, std::span(y).subspan(0, 3), shards(4, 2)), error);
    group.barrier();
  });
}

}  // namespace mtp::test::distributed_nccl_tensor_cases

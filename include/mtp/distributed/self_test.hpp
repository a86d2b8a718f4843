// Calls of an engine whose results are known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Throws mtp::error on the ranks where a sum, a gather or an exchange of the engine `name` does
/// not give what it must. Sizes below and above the usual switches between algorithms, and odd
/// ones.
template <host_communicator C>
void self_test(C& group, const char* name) {
  const index_t R = group.size(), rank = group.rank();
  const auto at = [](index_t i) { return static_cast<std::size_t>(i); };
  for (const index_t count : {1, 7, 3001, 40009}) {
    std::vector<float> sums(at(count));
    for (index_t i = 0; i < count; ++i) sums[at(i)] = static_cast<float>(rank + i % 5);
    std::vector<float> own = sums;
    group.all_reduce(std::span(sums), reduction::sum);
    const auto sum = [&](index_t i) { return static_cast<float>(R * (R - 1) / 2 + R * (i % 5)); };
    for (index_t i = 0; i < count; ++i) {
      check(sums[at(i)] == sum(i),
            name,
            " gives wrong sums: all_reduce of ",
            count,
            " floats on rank ",
            rank,
            " of ",
            R,
            " gave ",
            sums[at(i)],
            " for ",
            sum(i));
    }
    const shards parts(count, static_cast<int>(R));
    group.reduce_scatter(std::span(own), parts);
    for (index_t i = parts.begin(group.rank()); i < parts.end(group.rank()); ++i) {
      check(own[at(i)] == sum(i),
            name,
            " gives wrong sums: reduce_scatter of ",
            count,
            " floats on rank ",
            rank,
            " of ",
            R,
            " gave ",
            own[at(i)],
            " for ",
            sum(i));
    }
  }

  std::vector<std::int64_t> all(at(R));
  all[at(rank)] = 100 + rank;
  group.all_gather(std::span(all), shards(R, static_cast<int>(R)));
  for (index_t i = 0; i < R; ++i) {
    check(all[at(i)] == 100 + i,
          name,
          " gathers wrong values: rank ",
          rank,
          " of ",
          R,
          " got ",
          all[at(i)],
          " for ",
          100 + i);
  }

  if (R == 1) return;
  std::vector<std::int64_t> to(1000, rank), from(1000, -1);
  const int before = static_cast<int>((rank + R - 1) % R), after = static_cast<int>((rank + 1) % R);
  auto receive = group.start_receive(std::span(from), before, self_test_tag);
  group.send(std::span(to), after, self_test_tag);
  receive.wait();
  for (const std::int64_t value : from) {
    check(value == before,
          name,
          " exchanges wrong values: rank ",
          rank,
          " of ",
          R,
          " got ",
          value,
          " from rank ",
          before);
  }
}

}  // namespace mtp::inline MTP_ABI::detail

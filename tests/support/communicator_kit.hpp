// What every engine has to do, as functions that each rank of a group calls; they throw mtp::error
// where it does something else. Values are small integers, so every order of a sum is exact.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/communicator.hpp"

namespace mtp::test::communicator_kit {

/// What a rank brings.
template <class T>
T value(int rank, index_t i) {
  return static_cast<T>((rank * 7 + i * 3) % 11 - 5);
}

template <class T>
std::vector<T> values_of(int rank, index_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (index_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = value<T>(rank, i);
  return values;
}

template <class T>
T reduced_value(int ranks, index_t i, reduction kind) {
  T all = value<T>(0, i);
  for (int rank = 1; rank < ranks; ++rank) {
    const T next = value<T>(rank, i);
    all = kind == reduction::sum   ? static_cast<T>(all + next)
          : kind == reduction::min ? (std::min)(all, next)
                                   : (std::max)(all, next);
  }
  return all;
}

/// Throws unless values[i] == expected(i) for i from begin to end.
template <class T, class Expected>
void expect(const char* what,
            int rank,
            const std::vector<T>& values,
            index_t begin,
            index_t end,
            const Expected& expected) {
  for (index_t i = begin; i < end; ++i) {
    const T came = values[static_cast<std::size_t>(i)];
    check(came == expected(i),
          what,
          ": rank ",
          rank,
          " has ",
          +came,
          " as element ",
          i,
          " of ",
          values.size(),
          ", but ",
          +expected(i),
          " was expected");
  }
}

/// All collective calls, with `count` elements.
template <class T, communicator C>
void collectives(C& group, index_t count) {
  const int R = group.size(), rank = group.rank();
  group.barrier();
  for (int root = 0; root < R; ++root) {
    std::vector<T> x = values_of<T>(rank, count);
    group.broadcast(std::span(x), root);
    expect("broadcast", rank, x, 0, count, [&](index_t i) { return value<T>(root, i); });
  }
  for (const index_t unit : {1, 4, 64}) {
    const shards parts(count, R, unit);
    std::vector<T> x(static_cast<std::size_t>(count), T{77});
    for (index_t i = parts.begin(rank); i < parts.end(rank); ++i) {
      x[static_cast<std::size_t>(i)] = value<T>(rank, i);
    }
    group.all_gather(std::span(x), parts);
    for (int each = 0; each < R; ++each) {
      expect("all_gather", rank, x, parts.begin(each), parts.end(each), [&](index_t i) {
        return value<T>(each, i);
      });
    }

    x = values_of<T>(rank, count);
    group.reduce_scatter(std::span(x), parts);
    expect("reduce_scatter", rank, x, parts.begin(rank), parts.end(rank), [&](index_t i) {
      return reduced_value<T>(R, i, reduction::sum);
    });
  }
  for (const reduction kind : {reduction::sum, reduction::min, reduction::max}) {
    std::vector<T> x = values_of<T>(rank, count);
    group.all_reduce(std::span(x), kind);
    expect(
        "all_reduce", rank, x, 0, count, [&](index_t i) { return reduced_value<T>(R, i, kind); });
  }
}

/// Collective calls of every element type, with none, one, few and odd numbers of elements.
template <communicator C>
void all_collectives(C& group, std::initializer_list<index_t> counts) {
  for (const index_t count : counts) {
    collectives<float>(group, count);
    collectives<double>(group, count);
    collectives<std::int8_t>(group, count);
    collectives<std::int32_t>(group, count);
    collectives<std::int64_t>(group, count);
  }
}

/// Elements that are sent and not reduced.
struct odd_bytes {
  char bytes[7];
};

/// Every rank sends to every rank, itself included, with two tags, and receives the second tag
/// first; two messages of one tag come in order.
template <communicator C>
void messages(C& group, index_t count) {
  const int R = group.size(), rank = group.rank();
  const auto content = [&](int from, int to, int number) {
    return values_of<std::int32_t>(from * 100 + to * 10 + number, count);
  };
  std::vector<std::vector<std::int32_t>> sent, received;
  std::vector<typename C::request> requests;
  sent.reserve(static_cast<std::size_t>(3 * R));
  received.reserve(static_cast<std::size_t>(3 * R));
  for (int peer = 0; peer < R; ++peer) {
    for (int number = 0; number < 3; ++number) {
      sent.push_back(content(rank, peer, number));
      const std::span<const std::int32_t> values = sent.back();
      requests.push_back(group.start_send(values, peer, number == 2 ? 8 : 5));
    }
  }
  std::vector<std::pair<int, int>> expected;
  for (int peer = R - 1; peer >= 0; --peer) {
    for (const int number : {2, 0, 1}) {
      received.emplace_back(static_cast<std::size_t>(count), -99);
      requests.push_back(
          group.start_receive(std::span(received.back()), peer, number == 2 ? 8 : 5));
      expected.emplace_back(peer, number);
    }
  }
  // Half by done(), half by wait(), in the wrong order.
  for (std::size_t i = requests.size(); i-- > requests.size() / 2;) requests[i].wait();
  for (std::size_t i = 0; i < requests.size() / 2; ++i) {
    while (!requests[i].done()) std::this_thread::yield();
    requests[i].wait();  // once more does no harm
  }
  for (std::size_t i = 0; i < received.size(); ++i) {
    const auto want = content(expected[i].first, rank, expected[i].second);
    expect("messages", rank, received[i], 0, count, [&](index_t k) {
      return want[static_cast<std::size_t>(k)];
    });
  }
}

/// A value goes around the ring by blocking calls; elements have an odd size.
template <communicator C>
void ring(C& group) {
  const int R = group.size(), rank = group.rank();
  if (R == 1) return;
  std::vector<odd_bytes> x(3);
  if (rank == 0) {
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t k = 0; k < 7; ++k) x[i].bytes[k] = static_cast<char>(i * 7 + k);
    }
    group.send(std::span(x), 1, 3);
    for (odd_bytes& each : x) each = {};
  }
  group.receive(std::span(x), (rank + R - 1) % R, 3);
  if (rank != 0) group.send(std::span(x), (rank + 1) % R, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t k = 0; k < 7; ++k) {
      check(x[i].bytes[k] == static_cast<char>(i * 7 + k), "ring: rank ", rank, " got other bytes");
    }
  }
}

/// Groups of even and odd ranks in reverse order; then each alone.
template <communicator C>
void split(C& group) {
  const int R = group.size(), rank = group.rank();
  C half = group.split(rank % 2, -rank);
  const int expected_size = (R + (rank % 2 == 0 ? 1 : 0)) / 2;
  check(half.size() == expected_size, "split: rank ", rank, " is in a group of ", half.size());
  const int last = rank % 2 == 0 ? (R - 1) / 2 * 2 : R / 2 * 2 - 1;
  check(half.rank() == (last - rank) / 2, "split: rank ", rank, " has become ", half.rank());
  collectives<float>(half, 5);
  messages(half, 3);
  collectives<float>(group, 5);  // the whole group goes on
  C single = half.split(half.rank(), 0);
  check(single.size() == 1 && single.rank() == 0, "split: rank ", rank, " is not alone");
  collectives<float>(single, 3);
  C same = group.split(0, 0);
  check(same.size() == R && same.rank() == rank, "split: equal keys keep the order of ranks");
}

}  // namespace mtp::test::communicator_kit

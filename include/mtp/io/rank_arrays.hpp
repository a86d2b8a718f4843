// Moments and masters that are sharded among ranks, as whole arrays on rank 0.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI::io::detail {

inline constexpr index_t piece_of_array = index_t{1} << 20;  // elements that are sent at a time

/// Calls body(first, count) for pieces of [begin, end).
template <class Body>
void for_each_piece(index_t begin, index_t end, const Body& body) {
  for (index_t first = begin; first < end; first += piece_of_array) {
    body(first, (std::min)(piece_of_array, end - first));
  }
}

/// `whole` on rank 0 gets the parts of all ranks, which have no element in common: `part` of each
/// are its elements from `begin` on. Other ranks need no `whole`, and no memory.
template <class T, host_communicator Communicator>
void gather_parts(Communicator& group, std::span<T> whole, std::span<const T> part, index_t begin) {
  if (group.rank() == 0) {
    std::copy(part.begin(), part.end(), whole.begin() + begin);
  }
  std::vector<index_t> bounds(2 * static_cast<std::size_t>(group.size()));  // [R, 2]
  const auto at = [](int rank) { return 2 * static_cast<std::size_t>(rank); };
  bounds[at(group.rank())] = begin;
  bounds[at(group.rank()) + 1] = begin + static_cast<index_t>(part.size());
  group.all_gather(std::span<index_t>(bounds), shards(2 * group.size(), group.size(), 2));
  for (int rank = 1; group.rank() == 0 && rank < group.size(); ++rank) {
    for_each_piece(bounds[at(rank)], bounds[at(rank) + 1], [&](index_t first, index_t count) {
      group.receive(whole.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
                    rank,
                    mtp::detail::array_tag);
    });
  }
  if (group.rank() == 0) return;
  for_each_piece(0, static_cast<index_t>(part.size()), [&](index_t first, index_t count) {
    group.send(part.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
               0,
               mtp::detail::array_tag);
  });
}

/// Calls take(first, elements from there on) on every rank, piece by piece, for all `count`
/// elements of `whole`, which rank 0 has.
template <class T, host_communicator Communicator, class Take>
void spread(Communicator& group, index_t count, std::span<const T> whole, const Take& take) {
  std::vector<T> piece;
  for_each_piece(0, count, [&](index_t first, index_t size) {
    const auto from = static_cast<std::size_t>(first), elements = static_cast<std::size_t>(size);
    if (group.size() == 1) {
      take(first, whole.subspan(from, elements));
      return;
    }
    piece.resize(elements);
    if (group.rank() == 0) {
      std::copy_n(whole.begin() + first, size, piece.begin());
    }
    group.broadcast(std::span<T>(piece), 0);
    take(first, std::span<const T>(piece));
  });
}

/// Of elements from `first` on, `array` takes those that it has; its first one is number `begin`.
/// They are rounded to its element type.
template <class S, class Backend, class T>
void take_piece(parameter_array<S, Backend> array,
                index_t begin,
                index_t first,
                std::span<const T> piece) {
  const index_t from = (std::max)(first, begin);
  const index_t to = (std::min)(first + static_cast<index_t>(piece.size()), begin + array.count());
  if (from >= to) return;
  const auto own =
      piece.subspan(static_cast<std::size_t>(from - first), static_cast<std::size_t>(to - from));
  S* const there = array.data() + (from - begin);
  if constexpr (std::is_same_v<S, T>) {
    backend_traits<Backend>::copy_from_host(there, own.data(), own.size_bytes());
  } else {
    std::array<S, 4096> rounded;  // no allocation, which could fail with half of it done
    for (std::size_t at = 0; at < own.size(); at += rounded.size()) {
      const auto some = own.subspan(at, (std::min)(rounded.size(), own.size() - at));
      std::transform(
          some.begin(), some.end(), rounded.begin(), [](T value) { return static_cast<S>(value); });
      backend_traits<Backend>::copy_from_host(there + at, rounded.data(), some.size() * sizeof(S));
    }
  }
}

}  // namespace mtp::inline MTP_ABI::io::detail

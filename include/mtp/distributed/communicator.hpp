// What the library needs of an engine that carries data between ranks.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

/// How the values of the ranks become one.
enum class reduction { sum, min, max };

/// Elements that every engine sends.
template <class T>
concept transferable = std::is_trivially_copyable_v<T>;

/// Elements that every engine reduces: float, double, and integers of 1, 4 and 8 bytes. Sums of
/// integers wrap around.
template <class T>
concept reducible = std::same_as<T, float> || std::same_as<T, double> ||
    (std::integral<T> && !std::same_as<T, bool> &&
     (sizeof(T) == 1 || sizeof(T) == 4 || sizeof(T) == 8));

/// Options of an engine.
struct communicator_options {
  /// The longest that a call waits for other ranks. Longer is taken for a rank that has died or
  /// hangs.
  std::chrono::milliseconds time_limit = std::chrono::seconds(120);
};

/// Tags of programs are 0 to max_tag; those of the library's own messages follow. MPI promises tags
/// up to 32767.
inline constexpr int max_tag = 32000;

/// An engine that carries data between the ranks of a group. docs/distributed.md lists them.
///
/// `memory` is host_memory, or the backend whose memory the spans lie in. All ranks of a group make
/// the same calls in the same order, with the same sizes. Only the thread that holds a communicator
/// calls it.
///
///     rank(), size()                          this rank, 0 to size() - 1
///     barrier()                               returns when all ranks have called it
///     broadcast(values, root)                 values = those of root
///     all_gather(whole, shards)               in place: each rank brings its own range
///     all_reduce(values, reduction)           the engine's order of sums; all ranks get equal bits
///     reduce_scatter(whole, shards)           in place: own range = its sum over ranks, in the
///                                             engine's order; the other ranges are undefined after
///                                             it
///     start_send(values, to, tag)             a request; the span lives until its wait() returns
///     start_receive(values, from, tag)        a request, likewise; the sizes of both must be equal
///     send(..), receive(..)                   the same, and wait
///     split(color, key)                       the group of the ranks that passed this color, in
///                                             the order of key, then of rank
///
/// Messages from one rank to another with one tag arrive in the order in which they were sent. A
/// send may wait until its receive has started. Tags are 0 to max_tag.
///
/// A request moves and is not copied. `done()` makes progress, never blocks, and says whether the
/// transfer is complete; wait() returns when it is. A request that is destroyed before that is
/// cancelled, and the contents of its span are undefined; the group may be unusable after it.
///
/// Every call throws mtp::error if it has waited longer than the time limit, naming this rank, the
/// ranks that it waits for and the operation. After that the group is unusable.
template <class C>
concept communicator =
    std::movable<C> && std::movable<typename C::request> && !std::copyable<typename C::request> &&
    requires(C & group,
             const C& constant,
             typename C::request& request,
             std::span<float> values,
             std::span<const float> source,
             const shards& parts,
             int number) {
  typename C::memory;
  { constant.rank() } -> std::same_as<int>;
  { constant.size() } -> std::same_as<int>;
  group.barrier();
  group.broadcast(values, number);
  group.all_gather(values, parts);
  group.all_reduce(values, reduction::sum);
  group.reduce_scatter(values, parts);
  { group.start_send(source, number, number) } -> std::same_as<typename C::request>;
  { group.start_receive(values, number, number) } -> std::same_as<typename C::request>;
  group.send(source, number, number);
  group.receive(values, number, number);
  { group.split(number, number) } -> std::same_as<C>;
  { request.done() } -> std::same_as<bool>;
  request.wait();
};

/// A communicator whose spans are host memory.
template <class C>
concept host_communicator = communicator<C> && std::same_as<typename C::memory, host_memory>;

namespace detail {

/// Tags of the library's own messages.
inline constexpr int ordered_sum_tag = max_tag + 1;
inline constexpr int self_test_tag = max_tag + 2;
inline constexpr int gradients_tag = max_tag + 3;           // of passes, to the owners of shards
inline constexpr int array_tag = max_tag + 4;               // masters and moments of a checkpoint
inline constexpr int stream_tag = max_tag + 5;              // between the stages of a pipeline
inline constexpr int stream_gradient_tag = max_tag + 6;     // likewise, and the following
inline constexpr int embedding_gradient_tag = max_tag + 7;  // from the head to the first stage
inline constexpr int embedding_tag = max_tag + 8;           // back
inline constexpr int norm_tag = max_tag + 9;                // partial sums of squares
inline constexpr int tensor_tag = max_tag + 10;             // of the ranks of a tensor_group
inline constexpr int head_gradients_tag = max_tag + 11;  // of the head, between copies of a stage
inline constexpr int largest_tag = max_tag + 100;

/// Throws mtp::error unless `peer` is a rank of a group of `size`.
inline void check_peer(const char* operation, int peer, int rank, int size) {
  check(peer >= 0 && peer < size,
        operation,
        ": a rank of 0 to ",
        size - 1,
        " was expected, but rank ",
        rank,
        " of ",
        size,
        " passed ",
        peer);
}

/// Throws mtp::error unless a message can have the tag.
inline void check_tag(const char* operation, int tag) {
  check(tag >= 0 && tag <= largest_tag,
        operation,
        ": a tag of 0 to ",
        max_tag,
        " was expected, but ",
        tag,
        " came");
}

/// Throws mtp::error unless `parts` cuts `count` elements into one range for each of `size` ranks.
inline void check_shards(const char* operation, std::size_t count, const shards& parts, int size) {
  check(parts.ranks() == size && parts.count() == static_cast<index_t>(count),
        operation,
        ": shards of ",
        count,
        " elements for ",
        size,
        " ranks were expected, but shards of ",
        parts.count(),
        " for ",
        parts.ranks(),
        " came");
}

/// Throws mtp::error unless split has a color.
inline void check_color(int color) {
  check(color >= 0, "split: a color of at least 0 was expected, but ", color, " came");
}

/// The reduction of two values. NaN makes a sum NaN; its minimum and maximum are undefined.
template <reducible T>
T reduced(reduction kind, T a, T b) {
  if (kind == reduction::min) return b < a ? b : a;
  if (kind == reduction::max) return a < b ? b : a;
  if constexpr (std::integral<T>) {
    using bits = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<bits>(static_cast<bits>(a) + static_cast<bits>(b)));
  } else {
    return a + b;
  }
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI

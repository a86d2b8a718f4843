// One process as a group: every call returns at once.
#pragma once

#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"

namespace mtp::inline MTP_ABI {

/// Rank 0 of 1. Collective calls check their arguments and leave the values as they are, which is
/// what one rank has to do; a message throws mtp::error, because there is nobody to send it to.
class alone {
 public:
  /// Spans are host memory.
  using memory = host_memory;

  /// Nothing returns one, because nothing can be sent.
  class request {
   public:
    /// Takes over the message.
    request(request&&) = default;  ///< Takes the message.
    /// Takes over the message.
    request& operator=(request&&) = default;  ///< Takes the message.
    /// True.
    bool done() { return true; }
    /// Returns at once.
    void wait() {}
  };

  /// 0.
  static constexpr int rank() { return 0; }
  /// 1.
  static constexpr int size() { return 1; }
  /// Returns at once.
  void barrier() {}
  /// The values are those of the root.
  template <transferable T, std::size_t E>
  void broadcast(std::span<T, E>, int root) {
    detail::check_peer("broadcast", root, 0, 1);
  }
  /// The only range is the whole.
  template <transferable T, std::size_t E>
  void all_gather(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("all_gather", whole.size(), parts, 1);
  }
  /// The values are their own sum, minimum and maximum.
  template <reducible T, std::size_t E>
  void all_reduce(std::span<T, E>, reduction) {}
  /// The only range is its own sum.
  template <reducible T, std::size_t E>
  void reduce_scatter(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("reduce_scatter", whole.size(), parts, 1);
  }
  /// Throws mtp::error.
  template <transferable T, std::size_t E>
  request start_send(std::span<T, E>, int to, int) {
    fail("start_send: a process alone has no rank ", to, " to send to");
  }
  /// Throws mtp::error.
  template <transferable T, std::size_t E>
  request start_receive(std::span<T, E>, int from, int) {
    fail("start_receive: a process alone has no rank ", from, " to receive from");
  }
  /// Throws mtp::error.
  template <transferable T, std::size_t E>
  void send(std::span<T, E>, int to, int) {
    fail("send: a process alone has no rank ", to, " to send to");
  }
  /// Throws mtp::error.
  template <transferable T, std::size_t E>
  void receive(std::span<T, E>, int from, int) {
    fail("receive: a process alone has no rank ", from, " to receive from");
  }
  /// A group of one again.
  alone split(int color, int) {
    detail::check_color(color);
    return {};
  }
};

static_assert(host_communicator<alone>);

}  // namespace mtp::inline MTP_ABI

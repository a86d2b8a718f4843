// A rank of a group whose other ranks do not exist.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::test {

/// What it receives is zero, what it sends is counted, and in collective calls the others bring
/// what it brings itself. It allocates nothing, so a step of one rank can be watched by itself.
class lone_rank {
 public:
  using memory = host_memory;
  struct request {
    request() = default;
    request(request&&) = default;
    request& operator=(request&&) = default;
    bool done() { return true; }
    void wait() {}
  };

  /// With `stages` below `size` there are copies of a pipeline, and groups of both.
  lone_rank(int rank, int size, int stages = 0) : rank_(rank), size_(size), stages_(stages) {}
  lone_rank(lone_rank&&) = default;
  lone_rank& operator=(lone_rank&&) = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Bytes that were sent to other ranks.
  double sent = 0;
  /// Those of float that collective calls must send at least.
  double sent_by_engine = 0;

  void barrier() {}
  template <transferable T, std::size_t E>
  void broadcast(std::span<T, E>, int) {}
  template <transferable T, std::size_t E>
  void all_gather(std::span<T, E> whole, const shards& parts) {
    for (int other = 0; other < size_; ++other) {
      std::copy_n(whole.begin() + parts.begin(rank_),
                  (std::min)(parts.size(rank_), parts.size(other)),
                  whole.begin() + parts.begin(other));
    }
    if constexpr (std::same_as<T, float>) {
      total().sent_by_engine +=
          static_cast<double>(parts.size(rank_) * (size_ - 1) * static_cast<index_t>(sizeof(T)));
    }
  }
  template <reducible T, std::size_t E>
  void all_reduce(std::span<T, E>, reduction) {}
  template <reducible T, std::size_t E>
  void reduce_scatter(std::span<T, E>, const shards& parts) {
    total().sent_by_engine +=
        static_cast<double>((parts.count() - parts.size(rank_)) * static_cast<index_t>(sizeof(T)));
  }
  template <transferable T, std::size_t E>
  request start_send(std::span<T, E> values, int, int tag) {
    if (tag != total().unmeasured) total().sent += static_cast<double>(values.size_bytes());
    return {};
  }
  template <transferable T, std::size_t E>
  request start_receive(std::span<T, E> values, int, int) {
    std::fill(values.begin(), values.end(), T(0));
    return {};
  }
  template <transferable T, std::size_t E>
  void send(std::span<T, E> values, int to, int tag) {
    start_send(values, to, tag);
  }
  template <transferable T, std::size_t E>
  void receive(std::span<T, E> values, int from, int tag) {
    start_receive(values, from, tag);
  }
  /// The first is that of the stages of a copy, the second that of the copies of a stage.
  lone_rank split(int, int) {
    if (stages_ == 0) return {0, 1};
    lone_rank part = splits_++ == 0 ? lone_rank(rank_ % stages_, stages_)
                                    : lone_rank(rank_ / stages_, size_ / stages_);
    part.total_ = this;
    return part;
  }

  /// Messages with this tag are not counted.
  int unmeasured = -1;

 private:
  lone_rank& total() { return total_ == nullptr ? *this : *total_; }

  int rank_, size_, stages_;
  int splits_ = 0;
  lone_rank* total_ = nullptr;  // which counts what a part sends
};

static_assert(host_communicator<lone_rank>);

}  // namespace mtp::test

// Threads of one process as ranks: for tests, and for trying a program without an engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/thread_group.hpp"

namespace mtp::inline MTP_ABI {

/// A rank that is a thread of run_ranks. Sums are added in the order of ranks.
///
/// A send is complete when its receive has taken it, so a program that needs room in between
/// shows. Calls that do not match on all ranks, and messages of different sizes, throw.
class thread_communicator {
 public:
  /// Spans are host memory.
  using memory = host_memory;

  /// A message under way. Destroyed before its end it is taken back.
  class request {
   public:
    /// Takes over the message.
    request(request&&) = default;  ///< Takes the message.
    /// Takes back what was under way before.
    request& operator=(request&& other) noexcept {
      std::swap(group_, other.group_);
      std::swap(half_, other.half_);
      return *this;
    }
    ~request() {
      if (half_ != nullptr) group_->cancel(*half_);
    }
    /// Whether the message is complete.
    bool done() {
      if (half_ != nullptr && group_->test(*half_)) half_.reset();
      return half_ == nullptr;
    }
    /// Returns when the message is complete.
    void wait() {
      if (half_ == nullptr) return;
      group_->finish(*half_);
      half_.reset();
    }

   private:
    friend class thread_communicator;
    request(std::shared_ptr<detail::thread_group> group, const detail::thread_message& half)
        : group_(std::move(group)), half_(std::make_unique<detail::thread_message>(half)) {
      group_->start(*half_);
    }
    std::shared_ptr<detail::thread_group> group_;
    std::unique_ptr<detail::thread_message> half_;  // nullptr: complete
  };

  /// Made by run_ranks and split.
  thread_communicator(std::shared_ptr<detail::thread_group> group, int rank)
      : group_(std::move(group)), rank_(rank) {}
  /// Takes over the group.
  thread_communicator(thread_communicator&&) = default;  ///< Takes the group.
  /// Takes over the group.
  thread_communicator& operator=(thread_communicator&&) = default;  ///< Takes the group.

  /// This rank.
  int rank() const { return rank_; }
  /// Ranks of the group.
  int size() const { return group_->size(); }

  /// Returns when all ranks have called it.
  void barrier() { group_->meet(rank_, {.operation = "barrier"}); }

  /// All ranks get the values of `root`.
  template <transferable T, std::size_t E>
  void broadcast(std::span<T, E> values, int root) {
    detail::check_peer("broadcast", root, rank_, size());
    meet("broadcast", values, root);
    if (rank_ != root) copy(values.data(), values_of<T>(root), values.size());
    group_->part(rank_);
  }

  /// All ranks get the range of each.
  template <transferable T, std::size_t E>
  void all_gather(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("all_gather", whole.size(), parts, size());
    meet("all_gather", whole, static_cast<int>(parts.longest() % 1000003));
    gather(whole, parts);
    group_->part(rank_);
  }

  /// All ranks get ((x0 + x1) + x2) + .., or the minimum or maximum.
  template <reducible T, std::size_t E>
  void all_reduce(std::span<T, E> values, reduction kind) {
    const shards parts(static_cast<index_t>(values.size()), size());
    meet("all_reduce", values, static_cast<int>(kind));
    reduce(values, parts, kind);
    group_->part(rank_);
    gather(values, parts);
    group_->part(rank_);
  }

  /// The own range becomes ((x0 + x1) + x2) + ..; the others stay.
  template <reducible T, std::size_t E>
  void reduce_scatter(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("reduce_scatter", whole.size(), parts, size());
    meet("reduce_scatter", whole, static_cast<int>(parts.longest() % 1000003));
    reduce(whole, parts, reduction::sum);
    group_->part(rank_);
  }

  /// Starts to send values, which must stay as they are until wait() returns.
  template <transferable T, std::size_t E>
  request start_send(std::span<T, E> values, int to, int tag) {
    detail::check_peer("send", to, rank_, size());
    detail::check_tag("send", tag);
    return {group_,
            {.is_send = true,
             .here = rank_,
             .peer = to,
             .tag = tag,
             .to = nullptr,
             .from = reinterpret_cast<const std::byte*>(values.data()),
             .bytes = values.size_bytes()}};
  }
  /// Starts to receive values, which must not be touched until wait() returns.
  template <transferable T, std::size_t E>
  request start_receive(std::span<T, E> values, int from, int tag) {
    detail::check_peer("receive", from, rank_, size());
    detail::check_tag("receive", tag);
    return {group_,
            {.is_send = false,
             .here = rank_,
             .peer = from,
             .tag = tag,
             .to = reinterpret_cast<std::byte*>(values.data()),
             .from = nullptr,
             .bytes = values.size_bytes()}};
  }
  /// Sends values, and waits until they are received.
  template <transferable T, std::size_t E>
  void send(std::span<T, E> values, int to, int tag) {
    start_send(values, to, tag).wait();
  }
  /// Waits for values.
  template <transferable T, std::size_t E>
  void receive(std::span<T, E> values, int from, int tag) {
    start_receive(values, from, tag).wait();
  }

  /// The group of the ranks of this color.
  thread_communicator split(int color, int key) {
    detail::check_color(color);
    group_->meet(rank_, {.operation = "split", .number = color, .key = key});
    auto [group, place] = group_->split(rank_);
    group_->part(rank_);
    group_->forget_parts();
    group_->part(rank_);
    return {std::move(group), place};
  }

 private:
  template <class T, std::size_t E>
  void meet(const char* operation, std::span<T, E> values, int number) {
    group_->meet(rank_,
                 {.operation = operation,
                  .values = reinterpret_cast<std::byte*>(values.data()),
                  .bytes = static_cast<index_t>(values.size_bytes()),
                  .number = number});
  }
  template <class T>
  T* values_of(int rank) const {
    return reinterpret_cast<T*>(group_->offer(rank).values);
  }
  template <class T>
  static void copy(T* to, const T* from, std::size_t count) {
    if (count > 0) std::memcpy(to, from, count * sizeof(T));
  }
  template <class T, std::size_t E>
  void gather(std::span<T, E> whole, const shards& parts) {
    for (int each = 0; each < size(); ++each) {
      if (each == rank_) continue;
      copy(whole.data() + parts.begin(each),
           values_of<T>(each) + parts.begin(each),
           static_cast<std::size_t>(parts.size(each)));
    }
  }
  template <class T, std::size_t E>
  void reduce(std::span<T, E> whole, const shards& parts, reduction kind) {
    for (index_t i = parts.begin(rank_); i < parts.end(rank_); ++i) {
      T sum = values_of<T>(0)[i];
      for (int each = 1; each < size(); ++each) {
        sum = detail::reduced(kind, sum, values_of<T>(each)[i]);
      }
      whole[static_cast<std::size_t>(i)] = sum;
    }
  }

  std::shared_ptr<detail::thread_group> group_;
  int rank_;
};

static_assert(host_communicator<thread_communicator>);

/// Calls function(thread_communicator&) on a thread of its own for each of `ranks` ranks, and
/// returns when all have returned. When one throws, the calls of the others end with an mtp::error
/// that names it, and the first exception is thrown again.
template <class Function>
void run_ranks(int ranks, const Function& function, communicator_options options = {}) {
  check(ranks >= 1, "run_ranks: at least 1 rank was expected, but ", ranks, " came");
  const auto world = std::make_shared<detail::thread_world>(ranks, options);
  std::vector<int> members(static_cast<std::size_t>(ranks));
  std::iota(members.begin(), members.end(), 0);
  const auto group = std::make_shared<detail::thread_group>(world, std::move(members));

  const auto work = [&](int rank) {
    const auto prefix = [&] { return "rank " + std::to_string(rank) + " has failed: "; };
    try {
      thread_communicator own(group, rank);
      function(own);
    } catch (const std::exception& problem) {
      world->fail_all(prefix() + problem.what(), std::current_exception());
    } catch (...) {
      world->fail_all(prefix() + "an exception of a type of its own", std::current_exception());
    }
    {
      const std::lock_guard lock(world->guard);
      world->waiting[static_cast<std::size_t>(rank)].has_returned = true;
    }
    world->changed.notify_all();
  };

  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(ranks));
  try {
    for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(work, rank);
  } catch (const std::exception& problem) {
    world->fail_all(std::string("the system gave no more threads: ") + problem.what(),
                    std::current_exception());
  }
  for (std::thread& each : threads) each.join();
  if (world->first_error != nullptr) std::rethrow_exception(world->first_error);
}

}  // namespace mtp::inline MTP_ABI

// What threads that are ranks share: messages that wait for their other half, and meetings.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <exception>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/communicator.hpp"

namespace mtp::inline MTP_ABI::detail {

/// What all threads of a run share, whatever group they speak in. One lock and one signal for all:
/// the ranks are few.
struct thread_world {
  thread_world(int ranks, communicator_options wanted)
      : options(wanted), waiting(static_cast<std::size_t>(ranks)) {}

  /// What a rank waits in; nullptr while it computes.
  struct place {
    const char* operation = nullptr;
    bool has_returned = false;
  };

  const communicator_options options;
  std::mutex guard;
  std::condition_variable changed;
  std::vector<place> waiting;      // of each rank of the run
  std::string failure;             // why no call can succeed any more; empty: nothing has failed
  std::exception_ptr first_error;  // what the first rank to fail threw

  /// Ends the waits of all ranks. The first failure counts.
  void fail_all(const std::string& why, std::exception_ptr thrown = nullptr) {
    {
      const std::lock_guard lock(guard);
      if (failure.empty()) failure = why;
      if (first_error == nullptr) first_error = std::move(thrown);
    }
    changed.notify_all();
  }
};

/// Half of a message, a send or a receive. `here` and `peer` are ranks of the group.
struct thread_message {
  bool is_send;
  int here;
  int peer;
  int tag;
  std::byte* to;          // of a receive
  const std::byte* from;  // of a send
  std::size_t bytes;
  std::size_t peer_bytes = 0;
  bool is_done = false;

  const char* operation() const { return is_send ? "send" : "receive"; }
};

/// What a rank brings to a meeting, for the others to read until all have left.
struct thread_offer {
  const char* operation = nullptr;
  std::byte* values = nullptr;
  index_t bytes = 0;
  int number = 0;  // root, reduction or color
  int key = 0;     // of split

  bool matches(const thread_offer& other) const {
    const bool splits = std::strcmp(operation, "split") == 0;
    return std::strcmp(operation, other.operation) == 0 && bytes == other.bytes &&
           (splits || number == other.number);
  }
};

/// A group of threads. Ranks of the run are "world ranks"; all else counts within the group.
class thread_group {
 public:
  using lock_type = std::unique_lock<std::mutex>;

  thread_group(std::shared_ptr<thread_world> world, std::vector<int> members)
      : world_(std::move(world)),
        members_(std::move(members)),
        offers_(members_.size()),
        is_here_(members_.size()) {}

  int size() const { return static_cast<int>(members_.size()); }
  const std::shared_ptr<thread_world>& world() const { return world_; }

  /// Starts a half of a message. If its other half has started, both are complete on return.
  void start(thread_message& half) {
    const lock_type lock(world_->guard);
    check_failure(half.operation(), half.here);
    std::list<thread_message*>& others = half.is_send ? receives_ : sends_;
    const auto other = std::find_if(others.begin(), others.end(), [&](const thread_message* each) {
      return each->here == half.peer && each->peer == half.here && each->tag == half.tag;
    });
    if (other == others.end()) {
      (half.is_send ? sends_ : receives_).push_back(&half);
      return;
    }
    thread_message& partner = **other;
    others.erase(other);
    half.peer_bytes = partner.bytes;
    partner.peer_bytes = half.bytes;
    if (half.bytes == partner.bytes && half.bytes > 0) {
      const thread_message& source = half.is_send ? half : partner;
      std::memcpy((half.is_send ? partner : half).to, source.from, source.bytes);
    }
    half.is_done = partner.is_done = true;
    world_->changed.notify_all();
  }

  /// Whether the message is complete.
  bool test(const thread_message& half) {
    const lock_type lock(world_->guard);
    if (!half.is_done) check_failure(half.operation(), half.here);
    if (half.is_done) check_bytes(half);
    return half.is_done;
  }

  /// Waits for the other half.
  void finish(const thread_message& half) {
    lock_type lock(world_->guard);
    wait(
        lock,
        half.operation(),
        half.here,
        [&] { return half.is_done; },
        [&](int rank) { return rank == half.peer; },
        half.tag);
    check_bytes(half);
  }

  /// Takes a half back that nobody has matched.
  void cancel(const thread_message& half) {
    const lock_type lock(world_->guard);
    (half.is_send ? sends_ : receives_).remove(const_cast<thread_message*>(&half));
  }

  /// Brings an offer and returns when all ranks have. Throws, on all ranks, if the offers differ.
  void meet(int rank, const thread_offer& offer) {
    lock_type lock(world_->guard);
    check_failure(offer.operation, rank);
    offers_[at(rank)] = offer;
    if (arrive(rank)) {
      compare_offers();
    } else {
      const auto now = meeting_;
      wait(
          lock,
          offer.operation,
          rank,
          [&] { return meeting_ != now; },
          [&](int other) { return !is_here_[at(other)]; },
          -1);
    }
    // Not check_failure: where one rank goes on, all do, because it reads their memory.
    check(mismatch_.empty(), offer.operation, of(rank), ": ", mismatch_);
  }

  /// Returns when all ranks have read what they need, which all do without waiting for anything
  /// else: whatever fails elsewhere, nobody leaves while others read its memory. The offers stay
  /// as they are.
  void part(int rank) {
    lock_type lock(world_->guard);
    if (arrive(rank)) return;
    const auto now = meeting_;
    world_->changed.wait(lock, [&] {
      return meeting_ != now || has_returned([&](int other) { return !is_here_[at(other)]; });
    });
  }

  /// What a rank brought to the meeting.
  const thread_offer& offer(int rank) const { return offers_[at(rank)]; }

  /// The group of the ranks that offered a color, made by its first rank; between meet and part.
  std::pair<std::shared_ptr<thread_group>, int> split(int rank) {
    const int color = offers_[at(rank)].number;
    std::vector<int> chosen;
    for (int each = 0; each < size(); ++each) {
      if (offers_[at(each)].number == color) chosen.push_back(each);
    }
    std::stable_sort(chosen.begin(), chosen.end(), [&](int a, int b) {
      return offers_[at(a)].key < offers_[at(b)].key;
    });
    const auto place = std::find(chosen.begin(), chosen.end(), rank) - chosen.begin();
    for (int& each : chosen) each = members_[at(each)];
    const lock_type lock(world_->guard);
    auto& group = parts_[color];
    if (group == nullptr) group = std::make_shared<thread_group>(world_, std::move(chosen));
    return {group, static_cast<int>(place)};
  }
  /// Forgets the parts of a split, of which every rank now has its own.
  void forget_parts() {
    const lock_type lock(world_->guard);
    parts_.clear();
  }

 private:
  static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

  /// " of rank 1 of 4": messages name ranks by their number in the run, whatever group they wait
  /// in.
  std::string of(int rank) const {
    return " of rank " + std::to_string(members_[at(rank)]) + " of " +
           std::to_string(world_->waiting.size());
  }
  void check_failure(const char* operation, int rank) const {
    check(world_->failure.empty(), operation, of(rank), ": ", world_->failure);
  }
  void check_bytes(const thread_message& half) const {
    check(half.bytes == half.peer_bytes,
          half.operation(),
          of(half.here),
          " with tag ",
          half.tag,
          ": ",
          half.bytes,
          " bytes were expected, but those of rank ",
          members_[at(half.peer)],
          " are ",
          half.peer_bytes);
  }
  std::string described(int rank) const {
    const thread_offer& each = offers_[at(rank)];
    std::ostringstream text;
    text << "rank " << members_[at(rank)] << " " << each.operation << " of " << each.bytes
         << " bytes with " << each.number;
    return text.str();
  }

  /// Counts a rank in. True for the last one, which ends the meeting.
  bool arrive(int rank) {
    is_here_[at(rank)] = true;
    if (++arrived_ < size()) return false;
    arrived_ = 0;
    std::fill(is_here_.begin(), is_here_.end(), false);
    ++meeting_;
    world_->changed.notify_all();
    return true;
  }

  void compare_offers() {
    for (int other = 1; other < size() && mismatch_.empty(); ++other) {
      if (offers_[at(other)].matches(offers_[0])) continue;
      mismatch_ = "ranks called different things: " + described(0) + ", " + described(other);
      if (world_->failure.empty()) world_->failure = mismatch_;
    }
  }

  /// Whether a rank for which `is_missing` will never come.
  template <class Missing>
  bool has_returned(const Missing& is_missing) const {
    for (int each = 0; each < size(); ++each) {
      if (is_missing(each) && world_->waiting[at(members_[at(each)])].has_returned) return true;
    }
    return false;
  }

  /// Waits until `is_done`; throws when a rank for which `is_missing` has returned, when a rank
  /// fails, and after the time limit.
  template <class Done, class Missing>
  void wait(lock_type& lock,
            const char* operation,
            int rank,
            const Done& is_done,
            const Missing& is_missing,
            int tag) {
    thread_world::place& place = world_->waiting[at(members_[at(rank)])];
    const char* const before = std::exchange(place.operation, operation);
    const bool in_time = world_->changed.wait_for(lock, world_->options.time_limit, [&] {
      return is_done() || !world_->failure.empty() || has_returned(is_missing);
    });
    place.operation = before;
    if (is_done()) return;
    check_failure(operation, rank);
    std::ostringstream who;
    for (int each = 0; each < size(); ++each) {
      if (!is_missing(each)) continue;
      const thread_world::place& other = world_->waiting[at(members_[at(each)])];
      who << (who.tellp() > 0 ? ", " : "") << "rank " << members_[at(each)] << " ("
          << (other.has_returned           ? "has returned"
              : other.operation != nullptr ? other.operation
                                           : "in no call")
          << ")";
    }
    std::ostringstream message;
    message << operation << of(rank);
    if (tag >= 0) message << " with tag " << tag;
    if (in_time) {
      message << " waits in vain for ";
    } else {
      message << " waited " << world_->options.time_limit.count() << " ms for ";
    }
    world_->failure = message.str() + who.str();
    world_->changed.notify_all();
    throw error(world_->failure);
  }

  std::shared_ptr<thread_world> world_;
  std::vector<int> members_;                     // world ranks
  std::list<thread_message*> sends_, receives_;  // without their other half, in order
  std::vector<thread_offer> offers_;
  std::vector<char> is_here_;
  int arrived_ = 0;
  unsigned long meeting_ = 0;
  std::string mismatch_;
  std::map<int, std::shared_ptr<thread_group>> parts_;  // of a split under way, by color
};

}  // namespace mtp::inline MTP_ABI::detail

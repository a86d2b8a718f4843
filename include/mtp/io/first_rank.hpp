// What one rank of a group does for all: files are read and written by rank 0 alone.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Ranks that rank 0 can speak to: a communicator, or those that have parts of a model.
template <class Group>
concept broadcasting = requires(Group& group, std::span<char> text) {
  group.rank();
  group.size();
  group.broadcast(text, 0);
};

/// All ranks get the text of rank 0.
template <broadcasting Communicator>
void broadcast_text(Communicator& group, std::string& text) {
  if (group.size() == 1) return;
  std::array<std::int64_t, 1> length{static_cast<std::int64_t>(text.size())};
  group.broadcast(std::span<std::int64_t>(length), 0);
  text.resize(static_cast<std::size_t>(length[0]));
  group.broadcast(std::span<char>(text), 0);
}

/// What the other ranks hear of rank 0 while they wait for it, so that a long write is not taken
/// for a rank that has died.
template <broadcasting Communicator>
class sign_of_life {
 public:
  /// heard(), if there is one, is called on the others when they hear of it.
  explicit sign_of_life(Communicator& group, std::function<void()> heard = {})
      : group_(&group), heard_(std::move(heard)) {}

  /// Rank 0 calls it now and then while it works; every few seconds the others hear of it.
  void operator()() {
    const auto now = clock::now();
    if (group_->size() > 1 && now - last_ >= interval) {
      last_ = now;
      send(working);
    }
  }
  /// Rank 0 has finished.
  void end() { send(finished); }
  /// The other ranks wait for that.
  void wait() {
    std::array<std::int32_t, 1> word{working};
    while (word[0] == working) {
      group_->broadcast(std::span<std::int32_t>(word), 0);
      if (heard_) heard_();
    }
  }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr std::int32_t working = 1, finished = 2;
  static constexpr std::chrono::seconds interval{5};

  void send(std::int32_t value) {
    std::array<std::int32_t, 1> word{value};
    group_->broadcast(std::span<std::int32_t>(word), 0);
  }

  Communicator* group_;
  std::function<void()> heard_;
  clock::time_point last_ = clock::now();
};

/// Calls work(sign of life) on rank 0. If it throws, all ranks throw: rank 0 its exception, the
/// others an mtp::error with its message. heard() is called on ranks that wait, now and then.
template <broadcasting Communicator, class Work>
void on_first_rank(Communicator& group, const Work& work, std::function<void()> heard = {}) {
  sign_of_life<Communicator> life(group, std::move(heard));
  if (group.size() == 1) {
    work(life);
    return;
  }
  std::string failure;
  std::exception_ptr thrown;
  if (group.rank() == 0) {
    try {
      work(life);
    } catch (const std::exception& problem) {
      failure = problem.what();
      failure += failure.empty() ? "failed" : "";
      thrown = std::current_exception();
    } catch (...) {
      failure = "an exception of a type of its own";
      thrown = std::current_exception();
    }
    life.end();
  } else {
    life.wait();
  }
  broadcast_text(group, failure);
  if (thrown != nullptr) std::rethrow_exception(thrown);
  check(failure.empty(), "rank 0: ", failure);
}

}  // namespace mtp::inline MTP_ABI::io::detail

// What one rank of a group does for all: files are read and written by rank 0 alone.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>

#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// All ranks get the text of rank 0.
template <host_communicator Communicator>
void broadcast_text(Communicator& group, std::string& text) {
  if (group.size() == 1) return;
  std::array<std::int64_t, 1> length{static_cast<std::int64_t>(text.size())};
  group.broadcast(std::span<std::int64_t>(length), 0);
  text.resize(static_cast<std::size_t>(length[0]));
  group.broadcast(std::span<char>(text), 0);
}

/// What the other ranks hear of rank 0 while they wait for it, so that a long write is not taken
/// for a rank that has died.
template <host_communicator Communicator>
class sign_of_life {
 public:
  explicit sign_of_life(Communicator& group) : group_(&group) {}

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
  clock::time_point last_ = clock::now();
};

/// Calls work(sign of life) on rank 0. If it throws, all ranks throw: rank 0 its exception, the
/// others an mtp::error with its message.
template <host_communicator Communicator, class Work>
void on_first_rank(Communicator& group, const Work& work) {
  sign_of_life<Communicator> life(group);
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

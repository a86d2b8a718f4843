// Waiting for MPI's requests with a time limit, and asking the other ranks what they wait for.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <list>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/mpi_calls.hpp"

namespace mtp::inline MTP_ABI::detail {

/// What all groups of a process share. Messages name ranks by their number here, whatever group
/// they wait in.
///
/// MPI has no time limits, and a collective call does not say who is missing. So every wait is a
/// loop around MPI_Test, and a rank that has waited too long calls the roll: it asks all others,
/// on a communicator of its own, what they wait in. Ranks that wait answer from their loops. A rank
/// that does not answer hangs, has died, or computes.
class mpi_world {
 public:
  using clock = std::chrono::steady_clock;

  /// What is waited for, for messages.
  struct place {
    const char* operation;
    int peer = -1;  // rank of the world; -1: all of a group
    int tag = -1;
  };

  /// Collective over `base`.
  mpi_world(MPI_Comm base, communicator_options wanted) : options(wanted) {
    check(mpi_is_running(), "mpi_communicator: MPI is not running; make an mpi_session first");
    // MPICH reports what a completed request finds to the handler of MPI_COMM_WORLD.
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(base, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(base, &size), "MPI_Comm_size");
    roll_ = copy_of(base);
  }
  mpi_world(const mpi_world&) = delete;
  mpi_world& operator=(const mpi_world&) = delete;
  ~mpi_world() {
    if (!is_broken && mpi_is_running()) MPI_Comm_free(&roll_);
  }

  const communicator_options options;
  int rank = 0;
  int size = 0;
  bool is_broken = false;  // after an error of MPI, a timeout, or a request that was not finished

  /// A communicator of the same ranks, with messages of its own; collective.
  MPI_Comm copy_of(MPI_Comm base) const {
    MPI_Comm copy = MPI_COMM_NULL;
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Comm_idup(base, &copy, &request), "MPI_Comm_idup");
    const auto start = clock::now();
    for (int is_complete = 0;;) {
      check_mpi(MPI_Test(&request, &is_complete, MPI_STATUS_IGNORE), "MPI_Comm_idup");
      if (is_complete != 0) break;
      const auto waited = clock::now() - start;
      check(waited < options.time_limit,
            "mpi_communicator of rank ",
            rank,
            " of ",
            size,
            " waited ",
            options.time_limit.count(),
            " ms for ranks that do not make one");
      rest(waited);
    }
    check_mpi(MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    return copy;
  }

  /// Throws mtp::error if an earlier call has left the group unusable.
  void check_usable(const place& where) const {
    check(!is_broken, described(where), ": the group is unusable since an earlier call failed");
  }

  /// Throws mtp::error, and leaves the group unusable, unless a call of MPI has succeeded.
  void check_call(int code, const place& where) {
    if (code == MPI_SUCCESS) return;
    is_broken = true;
    check_mpi(code, described(where).c_str());
  }

  /// The ranks here of the ranks of `group`.
  std::vector<int> ranks_of(MPI_Comm group) const {
    MPI_Group of_group = MPI_GROUP_NULL, of_world = MPI_GROUP_NULL;
    check_mpi(MPI_Comm_group(group, &of_group), "MPI_Comm_group");
    check_mpi(MPI_Comm_group(roll_, &of_world), "MPI_Comm_group");
    int count = 0;
    check_mpi(MPI_Group_size(of_group, &count), "MPI_Group_size");
    std::vector<int> theirs(static_cast<std::size_t>(count)), here(theirs.size());
    std::iota(theirs.begin(), theirs.end(), 0);
    check_mpi(MPI_Group_translate_ranks(of_group, count, theirs.data(), of_world, here.data()),
              "MPI_Group_translate_ranks");
    MPI_Group_free(&of_group);
    MPI_Group_free(&of_world);
    return here;
  }

  /// Whether a request is complete. `status` may be MPI_STATUS_IGNORE.
  bool test(MPI_Request& request, const place& where, MPI_Status* status = MPI_STATUS_IGNORE) {
    int is_complete = 0;
    const int code = MPI_Test(&request, &is_complete, status);
    if (code != MPI_SUCCESS) request = MPI_REQUEST_NULL;  // MPI leaves open what has become of it
    check_call(code, where);
    return is_complete != 0;
  }

  /// Waits until is_complete(). Throws mtp::error after the time limit.
  template <class Complete>
  void wait(const place& where, const Complete& is_complete) {
    const auto start = clock::now();
    auto answered = start;
    for (;;) {
      if (is_complete()) return;
      const auto now = clock::now();
      if (now - answered > std::chrono::milliseconds(10)) {
        answer(where);
        answered = now;
      }
      if (now - start > options.time_limit) give_up(where);
      rest(now - start);
    }
  }

  /// "receive of rank 1 of 3 from rank 0 with tag 5"
  std::string described(const place& where) const {
    std::ostringstream text;
    text << where.operation << " of rank " << rank << " of " << size << with_peer(where);
    return text.str();
  }

 private:
  static constexpr int question_tag = 1;
  static constexpr int answer_tag = 2;
  using note = std::array<char, 80>;

  /// " to rank 1 with tag 5", or nothing for a call of a whole group.
  static std::string with_peer(const place& where) {
    if (where.peer < 0) return "";
    const bool is_send = std::strcmp(where.operation, "send") == 0;
    return (is_send ? " to rank " : " from rank ") + std::to_string(where.peer) + " with tag " +
           std::to_string(where.tag);
  }

  /// Leaves the processor to others: there may be more ranks than processors.
  static void rest(clock::duration waited) {
    if (waited < std::chrono::milliseconds(1)) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(
          std::chrono::microseconds(waited > std::chrono::seconds(1) ? 500 : 50));
    }
  }

  /// Tells whoever has asked what this rank waits in.
  void answer(const place& where) {
    for (;;) {
      int is_there = 0;
      MPI_Status status;
      check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, question_tag, roll_, &is_there, &status), "MPI_Iprobe");
      if (is_there == 0) return;
      check_mpi(
          MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, question_tag, roll_, MPI_STATUS_IGNORE),
          "MPI_Recv");
      note& kept = sent_.emplace_back();
      (where.operation + with_peer(where)).copy(kept.data(), kept.size() - 1);
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Isend(kept.data(),
                          static_cast<int>(kept.size()),
                          MPI_CHAR,
                          status.MPI_SOURCE,
                          answer_tag,
                          roll_,
                          &request),
                "MPI_Isend");
      check_mpi(MPI_Request_free(&request), "MPI_Request_free");  // the text lives as long as this
    }
  }

  /// Calls the roll, and throws with what came back.
  [[noreturn]] void give_up(const place& where) {
    is_broken = true;
    const auto count = static_cast<std::size_t>(size);
    for (int other = 0; other < size; ++other) {
      if (other == rank) continue;
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Isend(nullptr, 0, MPI_BYTE, other, question_tag, roll_, &request), "MPI_Isend");
      check_mpi(MPI_Request_free(&request), "MPI_Request_free");
    }
    std::vector<std::string> answers(count);
    int missing = size - 1;
    const auto start = clock::now();
    const auto patience = std::clamp<clock::duration>(
        options.time_limit / 4, std::chrono::milliseconds(500), std::chrono::seconds(5));
    while (missing > 0 && clock::now() - start < patience) {
      answer(where);  // others may be calling the roll as well
      int is_there = 0;
      MPI_Status status;
      check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, answer_tag, roll_, &is_there, &status), "MPI_Iprobe");
      if (is_there == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      note came{};
      check_mpi(MPI_Recv(came.data(),
                         static_cast<int>(came.size()),
                         MPI_CHAR,
                         status.MPI_SOURCE,
                         answer_tag,
                         roll_,
                         MPI_STATUS_IGNORE),
                "MPI_Recv");
      answers[static_cast<std::size_t>(status.MPI_SOURCE)] = came.data();
      --missing;
    }
    std::ostringstream who;
    for (int other = 0; other < size; ++other) {
      if (other != rank && answers[static_cast<std::size_t>(other)].empty()) {
        who << "; rank " << other << " does not answer: it hangs, has died, or computes";
      }
    }
    for (int other = 0; other < size; ++other) {
      const std::string& said = answers[static_cast<std::size_t>(other)];
      if (!said.empty()) who << "; rank " << other << " waits in " << said;
    }
    fail(described(where), " waited ", options.time_limit.count(), " ms", who.str());
  }

  MPI_Comm roll_ = MPI_COMM_NULL;
  std::list<note> sent_;  // answers under way
};

}  // namespace mtp::inline MTP_ABI::detail

// What a communicator of NCCL and its requests share: the handle, messages that wait to be
// submitted, and waits with a time limit.
#pragma once

#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "mtp/backend/cuda/context.cuh"
#include "mtp/backend/cuda/memory.cuh"
#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/nccl_calls.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// A message of this rank. Until it is submitted it has no event.
struct nccl_message {
  bool is_send;
  void* memory;
  std::size_t bytes;
  int peer;
  int tag;
  std::shared_ptr<stream_event> end = nullptr;
};

/// A communicator of NCCL that does not block: its calls return "in progress", and waits are loops
/// with a time limit.
class nccl_group {
 public:
  nccl_group(cuda_context& context, communicator_options wanted)
      : options(wanted), context_(&context), barrier_(allocate(sizeof(int))) {}
  nccl_group(const nccl_group&) = delete;
  nccl_group& operator=(const nccl_group&) = delete;
  ~nccl_group() {
    if (comm != nullptr) {
      static_cast<void>(finalized() ? ncclCommDestroy(comm) : ncclCommAbort(comm));
    }
    deallocate(barrier_);
  }

  const communicator_options options;
  ncclComm_t comm = nullptr;
  int rank = 0;
  int size = 1;
  bool is_broken = false;

  cuda_context& context() const { return *context_; }
  cudaStream_t stream() const { return context_->stream(); }
  /// One int of device memory.
  int* barrier_value() const { return static_cast<int*>(barrier_); }

  /// Joins the group that `id` names.
  void join(const ncclUniqueId& id, int own_rank, int ranks) {
    rank = own_rank;
    size = ranks;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    settle(ncclCommInitRankConfig(&comm, ranks, id, own_rank, &config), "nccl_communicator");
  }

  /// Throws mtp::error if an earlier call has left the group unusable.
  void check_usable(const char* operation) const {
    check(!is_broken,
          operation,
          " of rank ",
          rank,
          " of ",
          size,
          ": the group is unusable since an earlier call failed");
  }

  /// Waits until NCCL has taken what a call asked for.
  void settle(ncclResult_t result, const char* operation) {
    wait(operation, [&] {
      if (result != ncclInProgress) return true;
      check_nccl(ncclCommGetAsyncError(comm, &result), operation, comm);
      return result != ncclInProgress;
    });
    if (result != ncclSuccess) is_broken = true;
    check_nccl(result, operation, comm);
  }

  /// Waits until the stream has come to an event.
  void wait_for(const stream_event& event, const char* operation) {
    wait(operation, [&] {
      if (event.has_come()) return true;
      ncclResult_t result = ncclSuccess;
      check_nccl(ncclCommGetAsyncError(comm, &result), operation, comm);
      if (result != ncclSuccess && result != ncclInProgress) {
        is_broken = true;
        check_nccl(result, operation, comm);
      }
      return false;
    });
  }

  /// Keeps a message until submit, because NCCL runs only those at the same time that it gets
  /// together.
  void add(std::shared_ptr<nccl_message> message) { messages_.push_back(std::move(message)); }
  /// Forgets a message that has not been submitted.
  void forget(const std::shared_ptr<nccl_message>& message) { std::erase(messages_, message); }

  /// Submits the messages so far. NCCL matches messages between two ranks by their order, so they
  /// go in the order of tags, and of start within a tag.
  void submit() {
    if (messages_.empty()) return;
    check_usable("send or receive");
    std::vector<std::shared_ptr<nccl_message>> together = std::exchange(messages_, {});
    std::stable_sort(together.begin(), together.end(), [](const auto& a, const auto& b) {
      return a->tag < b->tag;
    });
    check_nccl(ncclGroupStart(), "ncclGroupStart", comm);
    ncclResult_t first = ncclSuccess;
    for (const auto& each : together) {
      const ncclResult_t result =
          each->is_send ? ncclSend(each->memory, each->bytes, ncclInt8, each->peer, comm, stream())
                        : ncclRecv(each->memory, each->bytes, ncclInt8, each->peer, comm, stream());
      if (first == ncclSuccess && result != ncclInProgress) first = result;
    }
    const ncclResult_t last = ncclGroupEnd();
    settle(first != ncclSuccess ? first : last, "send or receive");
    const auto end = std::make_shared<stream_event>(stream());
    for (const auto& each : together) each->end = end;
  }

 private:
  /// Whether all ranks have ended their work; not where an error is under way, because others may
  /// not come.
  bool finalized() {
    if (is_broken || std::uncaught_exceptions() > 0) return false;
    try {
      settle(ncclCommFinalize(comm), "nccl_communicator");
    } catch (const error&) {
      return false;
    }
    return true;
  }

  template <class Complete>
  void wait(const char* operation, const Complete& is_complete) {
    const auto start = std::chrono::steady_clock::now();
    while (!is_complete()) {
      const auto waited = std::chrono::steady_clock::now() - start;
      if (waited > options.time_limit) {
        is_broken = true;
        fail(operation,
             " of rank ",
             rank,
             " of ",
             size,
             " waited ",
             options.time_limit.count(),
             " ms for the other ranks");
      }
      if (waited < std::chrono::milliseconds(1)) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
  }

  cuda_context* context_;
  void* barrier_;
  std::vector<std::shared_ptr<nccl_message>> messages_;  // not submitted
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

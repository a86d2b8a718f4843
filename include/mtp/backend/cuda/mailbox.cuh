// For decoding: small messages to the host without a wait, and cycles that are submitted as one
// graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "mtp/backend/cuda/context.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// A few slots of page-locked memory. A slot is filled in order with the operations of the context.
class mailbox {
 public:
  mailbox(cuda_context& context, std::size_t bytes, std::size_t slots)
      : context_(&context), bytes_(bytes), memory_(bytes * slots) {
    events_.reserve(slots);
    for (std::size_t slot = 0; slot < slots; ++slot) {
      events_.emplace_back();
    }
  }

  void post(cuda_context& context, std::size_t slot, const void* from) {
    check_cuda(
        cudaMemcpyAsync(
            memory_.data() + slot * bytes_, from, bytes_, cudaMemcpyDeviceToHost, context.stream()),
        "mailbox::post");
    check_cuda(cudaEventRecord(events_[slot].get(), context.stream()), "mailbox::post");
  }

  /// Waits for the latest message in this slot.
  const std::byte* wait(std::size_t slot) const {
    check_cuda(cudaEventSynchronize(events_[slot].get()), "mailbox::wait");
    context_->raise_faults();
    return memory_.data() + slot * bytes_;
  }

 private:
  class event {
   public:
    event() { check_cuda(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming), "mailbox"); }
    ~event() {
      if (handle_ != nullptr) {
        static_cast<void>(cudaEventDestroy(handle_));
      }
    }
    event(event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    event& operator=(event&&) = delete;
    cudaEvent_t get() const { return handle_; }

   private:
    cudaEvent_t handle_ = nullptr;
  };

  cuda_context* context_;
  std::size_t bytes_;
  pinned_memory memory_;
  std::vector<event> events_;
};

/// Operations with the same addresses and sizes each time they are submitted. The first time they
/// run one by one, which loads kernels and plans products. The second time they are recorded as a
/// graph. From then on the graph is launched, with one call of the driver for all of them. If the
/// workspace has moved, the recording starts anew.
class recording {
 public:
  recording() = default;
  ~recording() { forget(); }
  recording(const recording&) = delete;
  recording& operator=(const recording&) = delete;

  template <class Function>
  void replay(cuda_context& context, const Function& function) {
    if (generation_ != context.workspace_generation()) {
      forget();
      generation_ = context.workspace_generation();
    }
    if (!warm_) {
      function();
      warm_ = true;
      return;
    }
    if (graph_ == nullptr) {
      record(context, function);
    }
    check_cuda(cudaGraphLaunch(graph_, context.stream()), "recording::replay");
  }

 private:
  template <class Function>
  void record(cuda_context& context, const Function& function) {
    const char* const name = "recording::replay";
    check_cuda(cudaStreamBeginCapture(context.stream(), cudaStreamCaptureModeThreadLocal), name);
    cudaGraph_t captured = nullptr;
    try {
      function();
    } catch (...) {
      static_cast<void>(cudaStreamEndCapture(context.stream(), &captured));
      if (captured != nullptr) {
        static_cast<void>(cudaGraphDestroy(captured));
      }
      throw;
    }
    check_cuda(cudaStreamEndCapture(context.stream(), &captured), name);
    const cudaError_t made = cudaGraphInstantiate(&graph_, captured, 0);
    static_cast<void>(cudaGraphDestroy(captured));
    check_cuda(made, name);
  }

  void forget() {
    if (graph_ != nullptr) {
      static_cast<void>(cudaGraphExecDestroy(graph_));
      graph_ = nullptr;
    }
    warm_ = false;
  }

  cudaGraphExec_t graph_ = nullptr;
  bool warm_ = false;
  std::uint64_t generation_ = 0;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

// Memory of the device, copies, and memory of the host that the device can reach.
#pragma once

#include <cstddef>
#include <utility>

#include "mtp/backend/cuda/errors.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Zeroed memory of the current device. Throws mtp::error when memory runs out.
inline void* allocate(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    std::size_t left = 0, all = 0;
    static_cast<void>(cudaMemGetInfo(&left, &all));
    fail("cuda: out of memory: ", bytes, " bytes requested, ", left, " of ", all, " left");
  }
  check_cuda(status, "cuda: allocate");
  cudaError_t zeroed = cudaMemset(memory, 0, bytes);
  if (zeroed == cudaSuccess) {
    zeroed = cudaDeviceSynchronize();  // streams of contexts do not wait for the default stream
  }
  if (zeroed != cudaSuccess) {
    static_cast<void>(cudaFree(memory));
    check_cuda(zeroed, "cuda: allocate");
  }
  return memory;
}

// Freeing reports nothing: earlier errors were thrown where they occurred.
inline void deallocate(void* memory) {
  static_cast<void>(cudaFree(memory));
}

/// A copy after everything that was submitted to any stream.
inline void copy_behind_everything(
    void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, const char* function) {
  if (bytes > 0) {
    check_cuda(cudaDeviceSynchronize(), function);
    check_cuda(cudaMemcpy(to, from, bytes, kind), function);
    check_cuda(cudaDeviceSynchronize(), function);
  }
}

/// Page-locked memory of the host, which the device accesses at the same address.
class pinned_memory {
 public:
  explicit pinned_memory(std::size_t bytes) {
    check_cuda(cudaHostAlloc(&memory_, bytes, cudaHostAllocMapped), "cuda: pinned memory");
  }
  ~pinned_memory() {
    if (memory_ != nullptr) {
      static_cast<void>(cudaFreeHost(memory_));
    }
  }
  pinned_memory(pinned_memory&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)) {}
  pinned_memory& operator=(pinned_memory&&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  void* memory_ = nullptr;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

// CUDA errors as mtp::error, and reports of kernels to the host.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>

#include "mtp/backend/cuda/device.cuh"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Throws mtp::error with CUDA's own text unless `status` is success. `function` is the name of the
/// caller.
inline void check_cuda(cudaError_t status, const char* function) {
  if (status == cudaSuccess) [[likely]] {
    return;
  }
  // Clears an error of this call, so that the next call is not blamed for it.
  static_cast<void>(cudaGetLastError());
  fail(function, ": CUDA reports ", cudaGetErrorName(status), ": ", cudaGetErrorString(status));
}

inline void check_cublas(cublasStatus_t status, const char* function) {
  check(status == CUBLAS_STATUS_SUCCESS,
        function,
        ": cuBLASLt reports ",
        cublasLtGetStatusName(status),
        ": ",
        cublasLtGetStatusString(status));
}

/// The kind of an error that a kernel found in its data.
enum fault_kind : int {
  fault_token,   ///< a token outside the vocabulary
  fault_target,  ///< a target outside the vocabulary
};

/// The first fault since the host last looked, in memory shared by host and device. Reports are
/// numbered. Each word has one side that writes it, because an atomic operation of the device does
/// not exclude the host: the device claims and publishes a number, and the host stores the number
/// that it has seen. Only then may the next one be claimed.
struct fault_record {
  std::uint32_t claimed;    ///< number of the latest report claimed by a device thread
  std::uint32_t published;  ///< number of the latest complete report
  std::uint32_t seen;       ///< number of the latest report that the host has read
  int kind;                 ///< a fault_kind
  index_t place;            ///< row among the tokens or targets
  index_t value;
  index_t limit;  ///< the value should lie in [0, limit)
};

/// Throws what kernels have reported, once. Kernels may be running.
inline void raise_fault(fault_record& record) {
  const std::uint32_t published = std::atomic_ref(record.published).load(std::memory_order_acquire);
  if (published == record.seen) [[likely]] {
    return;
  }
  const fault_record found = {0, 0, 0, record.kind, record.place, record.value, record.limit};
  std::atomic_ref(record.seen).store(published, std::memory_order_release);
  fail(found.kind == fault_token ? "embedding: token " : "linear_cross_entropy: target ",
       found.value,
       " in row ",
       found.place,
       " does not lie in [0, ",
       found.limit,
       "); found on the device, results since the last synchronization are not valid");
}

/// Reports a fault to the host, unless there is one that the host has not seen.
__device__ inline void report_fault(
    fault_record* record, fault_kind kind, index_t place, index_t value, index_t limit) {
  const std::uint32_t seen = load_acquire_system(&record->seen);
  if (atomicCAS(&record->claimed, seen, seen + 1) == seen) {
    record->kind = kind;
    record->place = place;
    record->value = value;
    record->limit = limit;
    store_release_system(&record->published, seen + 1);
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail

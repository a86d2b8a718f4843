// Errors of CUDA as mtp::error, and what kernels report to the host.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Throws mtp::error with CUDA's own text unless `status` is success. `function` is who called.
inline void check_cuda(cudaError_t status, const char* function) {
  if (status == cudaSuccess) [[likely]] {
    return;
  }
  // An error of this call alone is forgotten, so that the next call is not blamed for it.
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

/// What a kernel found wrong in its data: the first of its kind since the host has looked.
enum fault_kind : int {
  fault_none,
  fault_token,     ///< a token outside the vocabulary
  fault_target,    ///< a target outside the vocabulary
  fault_position,  ///< a position outside the cache
};

/// In memory that host and device share.
struct fault_record {
  int kind;
  index_t place;  ///< which row or position
  index_t value;
  index_t limit;  ///< the value should lie in [0, limit)
};

/// Throws what kernels have reported, once.
inline void raise_fault(fault_record& record) {
  const fault_record found = record;
  if (found.kind == fault_none) [[likely]] {
    return;
  }
  record = fault_record{};
  const char* const what = found.kind == fault_token    ? "embedding: token "
                           : found.kind == fault_target ? "linear_cross_entropy: target "
                                                        : "attention: cache position ";
  fail(what,
       found.value,
       " in row ",
       found.place,
       " does not lie in [0, ",
       found.limit,
       "); found on the device, results since the last synchronization are not valid");
}

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)
/// Leaves a fault for the host, unless there is one already.
__device__ inline void report_fault(
    fault_record* record, int kind, index_t place, index_t value, index_t limit) {
  if (atomicCAS(&record->kind, static_cast<int>(fault_none), kind) == fault_none) {
    record->place = place;
    record->value = value;
    record->limit = limit;
  }
}
#endif

}  // namespace mtp::inline MTP_ABI::cuda_detail

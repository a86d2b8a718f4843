// NCCL's interface: errors as mtp::error, types and operations by name, and events of a stream.
#pragma once

#include <nccl.h>

#include <concepts>
#include <type_traits>
#include <utility>

#include "mtp/backend/cuda/errors.cuh"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/communicator.hpp"

#if NCCL_VERSION_CODE < 21800
#error mtp/distributed/nccl.cuh needs NCCL 2.18 or newer, which can split groups
#endif

namespace mtp::inline MTP_ABI::cuda_detail {

/// Elements that NCCL reduces.
template <class T>
concept nccl_reducible = reducible<T> || std::same_as<T, bf16>;

/// NCCL's name of an element type.
template <nccl_reducible T>
constexpr ncclDataType_t nccl_type() {
  if constexpr (std::same_as<T, bf16>) {
    return ncclBfloat16;
  } else if constexpr (std::same_as<T, float>) {
    return ncclFloat32;
  } else if constexpr (std::same_as<T, double>) {
    return ncclFloat64;
  } else if constexpr (sizeof(T) == 1) {
    return std::is_signed_v<T> ? ncclInt8 : ncclUint8;
  } else if constexpr (sizeof(T) == 4) {
    return std::is_signed_v<T> ? ncclInt32 : ncclUint32;
  } else {
    return std::is_signed_v<T> ? ncclInt64 : ncclUint64;
  }
}

/// NCCL's name of a reduction.
constexpr ncclRedOp_t nccl_operation(reduction kind) {
  return kind == reduction::sum ? ncclSum : kind == reduction::min ? ncclMin : ncclMax;
}

/// Throws mtp::error with NCCL's own words unless a call has succeeded. `comm` may be nullptr.
inline void check_nccl(ncclResult_t result, const char* call, ncclComm_t comm) {
  if (result == ncclSuccess) return;
  fail(call, ": NCCL reports ", ncclGetErrorString(result), ": ", ncclGetLastError(comm));
}

/// A place in a stream, to see whether the stream has reached it.
class stream_event {
 public:
  explicit stream_event(cudaStream_t stream) {
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "nccl_communicator");
    const cudaError_t status = cudaEventRecord(event_, stream);
    if (status != cudaSuccess) {
      static_cast<void>(cudaEventDestroy(event_));
      check_cuda(status, "nccl_communicator");
    }
  }
  stream_event(const stream_event&) = delete;
  stream_event& operator=(const stream_event&) = delete;
  ~stream_event() { static_cast<void>(cudaEventDestroy(event_)); }

  /// Whether the stream has reached it.
  bool has_come() const {
    const cudaError_t status = cudaEventQuery(event_);
    if (status == cudaErrorNotReady) return false;
    check_cuda(status, "nccl_communicator");
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

// The functions of the CUDA runtime for devices and errors.
#pragma once

#include <cstddef>
#include <cstdio>
#include <mutex>

#include "emulation/block.hpp"
#include "emulation/device_heap.hpp"
#include "emulation/streams.hpp"

namespace mtp::emulation {

// Of compute capability 9.0.
inline constexpr std::size_t shared_bytes_by_default = 48 * 1024;
inline constexpr std::size_t shared_bytes_of_system = 1024;  // that each block costs in addition
inline constexpr int threads_of_multiprocessor = 2048, blocks_of_multiprocessor = 32;
inline constexpr int l2_bytes = 50 << 20;
inline constexpr int runtime_version = 13000;

}  // namespace mtp::emulation

inline cudaError_t cudaPeekAtLastError() {
  const std::lock_guard lock(mtp::emulation::detail::api_mutex());
  const auto& state = mtp::emulation::detail::runtime();
  return state.sticky_error != cudaSuccess ? state.sticky_error : state.last_error;
}
inline cudaError_t cudaGetLastError() {
  const std::lock_guard lock(mtp::emulation::detail::api_mutex());
  const cudaError_t error = cudaPeekAtLastError();
  mtp::emulation::detail::runtime().last_error = cudaSuccess;
  return error;
}

inline cudaError_t cudaGetDeviceCount(int* count) {
  using namespace mtp::emulation;
  *count = 0;
  return call("cudaGetDeviceCount", during_capture::allowed, [&] {
    *count = 1;
    return cudaSuccess;
  });
}
inline cudaError_t cudaGetDevice(int* device) {
  using namespace mtp::emulation;
  return call("cudaGetDevice", during_capture::allowed, [&] {
    *device = 0;
    return cudaSuccess;
  });
}
inline cudaError_t cudaSetDevice(int device) {
  using namespace mtp::emulation;
  return call("cudaSetDevice", during_capture::allowed, [&] {
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
  });
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  using namespace mtp::emulation;
  return call("cudaDeviceGetAttribute", during_capture::allowed, [&] {
    if (device != 0) {
      return cudaErrorInvalidDevice;
    }
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock:
        *value = static_cast<int>(max_threads);
        break;
      case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(shared_bytes_by_default);
        break;
      case cudaDevAttrWarpSize:
        *value = static_cast<int>(lanes_per_warp);
        break;
      case cudaDevAttrMultiProcessorCount:
        *value = settings().multiprocessors;
        break;
      case cudaDevAttrL2CacheSize:
        *value = l2_bytes;
        break;
      case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = threads_of_multiprocessor;
        break;
      case cudaDevAttrComputeCapabilityMajor:
        *value = settings().compute_major;
        break;
      case cudaDevAttrComputeCapabilityMinor:
        *value = settings().compute_minor;
        break;
      case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = static_cast<int>(settings().multiprocessor_shared_bytes);
        break;
      case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(settings().block_shared_bytes);
        break;
      case cudaDevAttrMaxBlocksPerMultiprocessor:
        *value = blocks_of_multiprocessor;
        break;
      default:
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  using namespace mtp::emulation;
  return call("cudaGetDeviceProperties", during_capture::allowed, [&] {
    if (device != 0) {
      return cudaErrorInvalidDevice;
    }
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "emulated by the CPU");
    properties->totalGlobalMem = heap().total();
    properties->sharedMemPerBlock = shared_bytes_by_default;
    properties->sharedMemPerBlockOptin = settings().block_shared_bytes;
    properties->warpSize = static_cast<int>(lanes_per_warp);
    properties->maxThreadsPerBlock = static_cast<int>(max_threads);
    properties->major = settings().compute_major;
    properties->minor = settings().compute_minor;
    properties->multiProcessorCount = settings().multiprocessors;
    properties->l2CacheSize = l2_bytes;
    return cudaSuccess;
  });
}

/// These two also answer where there is no usable driver: 0, or one that is too old.
inline cudaError_t cudaDriverGetVersion(int* version) {
  switch (mtp::emulation::detail::runtime().device) {
    case mtp::emulation::device_state::driver_too_old:
      *version = 11040;
      break;
    case mtp::emulation::device_state::none:
      *version = 0;
      break;
    default:
      *version = mtp::emulation::runtime_version;
  }
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = mtp::emulation::runtime_version;
  return cudaSuccess;
}

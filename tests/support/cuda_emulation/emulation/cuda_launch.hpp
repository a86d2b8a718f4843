// The functions of the CUDA runtime that launch kernels or ask about them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulation/cuda_device.hpp"
#include "emulation/device_heap.hpp"
#include "emulation/launch.hpp"
#include "emulation/streams.hpp"

namespace mtp::emulation {

/// The dynamic shared memory that kernels have asked for in advance.
inline std::map<const void*, std::size_t>& requested_shared_bytes() {
  static std::map<const void*, std::size_t> requests;
  return requests;
}

inline std::size_t shared_bytes_of_kernel(const void* kernel) {
  const auto found = requested_shared_bytes().find(kernel);
  return found == requested_shared_bytes().end() ? shared_bytes_by_default
                                                 : std::max(shared_bytes_by_default, found->second);
}

inline cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  constexpr unsigned max_x = 0x7fffffffu, max_yz = 65535, max_block_z = 64;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > max_x || grid.y > max_yz ||
      grid.z > max_yz || block.x > max_threads || block.y > max_threads || block.z > max_block_z) {
    return cudaErrorInvalidConfiguration;
  }
  const unsigned threads = block.x * block.y * block.z;
  if (threads == 0 || threads > max_threads) {
    return cudaErrorInvalidConfiguration;
  }
  if (!settings().has_code) {
    return cudaErrorNoKernelImageForDevice;
  }
  if (config.dynamicSmemBytes >
      std::min(shared_bytes_of_kernel(kernel), settings().block_shared_bytes)) {
    return cudaErrorInvalidValue;
  }
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id != cudaLaunchAttributeProgrammaticStreamSerialization) {
      return cudaErrorNotSupported;
    }
  }
  return cudaSuccess;
}

/// Whether it may begin before the kernel in front of it has ended.
inline bool begins_early(const cudaLaunchConfig_t& config) {
  bool early = false;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    early = config.attrs[i].val.programmaticStreamSerializationAllowed != 0;
  }
  return early;
}

/// A kernel with its arguments.
template <class... Parameters>
struct bound_kernel {
  void (*kernel)(Parameters...);
  std::tuple<std::decay_t<Parameters>...> arguments;

  static void run(const void* self) {
    const auto& bound = *static_cast<const bound_kernel*>(self);
    std::apply(bound.kernel, bound.arguments);
  }
};

}  // namespace mtp::emulation

/// Throws fault if the kernel breaks a rule. Arguments are copied now.
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config,
                               void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  using namespace mtp::emulation;
  static_assert((std::is_trivially_copyable_v<std::decay_t<Parameters>> && ...),
                "cudaLaunchKernelEx: arguments are copied to the device bit by bit");
  static_assert((sizeof(std::decay_t<Parameters>) + ... + std::size_t{0}) <= 32764,
                "cudaLaunchKernelEx: at most 32764 bytes of arguments");
  return call("cudaLaunchKernelEx", during_capture::allowed, [&] {
    const cudaError_t error = check_launch(*config, reinterpret_cast<const void*>(kernel));
    if (error != cudaSuccess) {
      return error;
    }
    ++detail::runtime().counts.launches;
    const bool early = begins_early(*config);
    detail::runtime().counts.early_launches += early;
    return submit_kernel(
        config->stream,
        [grid = config->gridDim,
         block = config->blockDim,
         shared_bytes = config->dynamicSmemBytes,
         early,
         bound = bound_kernel<Parameters...>{
             kernel, {static_cast<Parameters>(std::forward<Arguments>(arguments))...}}] {
          ++detail::runtime().counts.kernels_run;
          detail::runtime().counts.blocks_run += static_cast<long>(grid.x) * grid.y * grid.z;
          const overlapping_kernel kernel_runs(early);
          run_grid({grid, block, shared_bytes, bound.run, &bound});
          heap().check_guards();
        });
  });
}

template <class T>
cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute attribute, int value) {
  using namespace mtp::emulation;
  return call("cudaFuncSetAttribute", during_capture::allowed, [&] {
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) {
      return cudaSuccess;
    }
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<std::size_t>(value) > settings().block_shared_bytes) {
      return cudaErrorInvalidValue;
    }
    requested_shared_bytes()[reinterpret_cast<const void*>(kernel)] =
        static_cast<std::size_t>(value);
    return cudaSuccess;
  });
}

/// Of these, only what the runtime itself knows.
template <class T>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, T* kernel) {
  using namespace mtp::emulation;
  return call("cudaFuncGetAttributes", during_capture::allowed, [&] {
    if (!settings().has_code) {
      return cudaErrorNoKernelImageForDevice;
    }
    *attributes = {};
    attributes->maxThreadsPerBlock = static_cast<int>(max_threads);
    attributes->maxDynamicSharedSizeBytes =
        static_cast<int>(shared_bytes_of_kernel(reinterpret_cast<const void*>(kernel)));
    attributes->ptxVersion = attributes->binaryVersion =
        10 * settings().compute_major + settings().compute_minor;
    return cudaSuccess;
  });
}

/// As if registers were no limit: nobody knows how many a kernel needs.
template <class T>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks,
                                                          T* kernel,
                                                          int threads,
                                                          std::size_t shared_bytes) {
  using namespace mtp::emulation;
  return call("cudaOccupancyMaxActiveBlocksPerMultiprocessor", during_capture::allowed, [&] {
    if (threads <= 0) {
      return cudaErrorInvalidValue;
    }
    constexpr int warp = static_cast<int>(lanes_per_warp);
    const auto by_shared_memory = static_cast<int>(settings().multiprocessor_shared_bytes /
                                                   (shared_bytes + shared_bytes_of_system));
    const int by_threads = threads_of_multiprocessor / ((threads + warp - 1) / warp * warp);
    const bool fits = threads <= static_cast<int>(max_threads) &&
                      shared_bytes <= shared_bytes_of_kernel(reinterpret_cast<const void*>(kernel));
    *blocks = fits ? std::min({by_shared_memory, by_threads, blocks_of_multiprocessor}) : 0;
    return cudaSuccess;
  });
}

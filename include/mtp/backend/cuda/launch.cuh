// Launches kernels on a context's stream. All launches go through here.
#pragma once

#include <cstddef>
#include <limits>
#include <utility>

#include "mtp/backend/cuda/context.cuh"
#include "mtp/backend/cuda/device.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Shared memory of a block without a request for more.
inline constexpr std::size_t plain_shared_bytes = std::size_t{48} << 10;

/// Shared memory of a block on every device: compute capability 8.6, 8.9 and 12.0 have no more.
inline constexpr std::size_t common_shared_bytes = std::size_t{99} << 10;

/// A number of blocks or threads in CUDA's type.
inline unsigned extent_of(index_t count, const char* function) {
  check(count >= 0 && count <= std::numeric_limits<int>::max(),
        function,
        ": ",
        count,
        " blocks do not fit into one launch");
  return static_cast<unsigned>(count);
}

/// When a kernel begins: after the previous one has ended, or as soon as that one allows it.
enum class begins { in_order, early };

template <class... Parameters, class... Arguments>
void launch_when(cuda_context& context,
                 const char* function,
                 cudaStream_t stream,
                 begins when,
                 dim3 grid,
                 dim3 block,
                 std::size_t shared_bytes,
                 void (*kernel)(Parameters...),
                 Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
  if (shared_bytes > plain_shared_bytes) {
    check(shared_bytes <= static_cast<std::size_t>(context.block_shared_bytes()),
          function,
          ": a block needs ",
          shared_bytes,
          " bytes of shared memory, and this device gives it at most ",
          context.block_shared_bytes());
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               function);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attribute{};
  if (when == begins::early) {
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), function);
}

/// Runs kernel(arguments...) on `grid` blocks of `block` threads; does nothing for no blocks.
/// Throws mtp::error, beginning with the name of the operation, if CUDA refuses the launch or if
/// blocks need more shared memory than the device has.
template <class... Parameters, class... Arguments>
void launch(cuda_context& context,
            const char* function,
            dim3 grid,
            dim3 block,
            std::size_t shared_bytes,
            void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  launch_when(context,
              function,
              context.stream(),
              begins::in_order,
              grid,
              block,
              shared_bytes,
              kernel,
              std::forward<Arguments>(arguments)...);
}

/// The same for a kernel that overlaps as overlap.cuh describes.
template <class... Parameters, class... Arguments>
void launch_overlapped(cuda_context& context,
                       const char* function,
                       const overlap& memory,
                       dim3 grid,
                       dim3 block,
                       std::size_t shared_bytes,
                       void (*kernel)(Parameters...),
                       Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
  const bool early = context.overlaps() && context.unfinished().allow(memory.constants);
  if (!early) {
    context.unfinished().forget();  // they have ended when this one begins
  }
  launch_when(context,
              function,
              context.overlapping_stream(),
              early ? begins::early : begins::in_order,
              grid,
              block,
              shared_bytes,
              kernel,
              std::forward<Arguments>(arguments)...);
  context.unfinished().add(memory);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail

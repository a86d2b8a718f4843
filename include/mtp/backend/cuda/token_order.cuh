// Rows in the order of their tokens, sorted by Thrust. The only file that includes it.
#pragma once

#if !defined(__CUDACC__) && !defined(THRUST_DEVICE_SYSTEM)
#define THRUST_DEVICE_SYSTEM THRUST_DEVICE_SYSTEM_CPP
#endif

#include <thrust/sort.h>
#include <thrust/system_error.h>

#if defined(__CUDACC__)
#include <thrust/system/cuda/execution_policy.h>
#else
#include <thrust/system/cpp/execution_policy.h>
#endif

#include <cstddef>
#include <cstdint>

#include "mtp/backend/cuda/launch.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Bytes that sorting `count` pairs of two 4-byte numbers may take. Thrust keeps a copy of all
/// pairs, and CUB 3.0's radix sort a table of 256 counts for each tile of 6528 pairs or more
/// (dispatch_radix_sort.cuh, InvokeOnesweep) and 8 KiB of counts besides: 8.2 count + 12 KiB. There
/// is room here for tiles of 256 pairs. Where it is not enough, the sort throws.
constexpr index_t sort_bytes(index_t count) {
  return 12 * count + (index_t{1} << 16);
}

/// Hands out one piece of memory, as allocators do, and takes nothing back.
class sort_memory {
 public:
  using value_type = char;

  sort_memory(char* memory, index_t bytes) : memory_(memory), bytes_(bytes) {}

  char* allocate(std::ptrdiff_t bytes) {
    const index_t wanted = round_up(bytes, 256);
    check(wanted <= bytes_ - used_,
          "embedding_backward: the sort of tokens wants ",
          used_ + wanted,
          " bytes, but has ",
          bytes_);
    char* const piece = memory_ + used_;
    used_ += wanted;
    return piece;
  }
  void deallocate(char*, std::size_t) {}

 private:
  char* memory_;
  index_t bytes_;
  index_t used_ = 0;
};

#if defined(__CUDACC__)

/// Sorts the pairs by token; pairs of one token keep their order. Does not wait for the device.
inline void sort_by_token(cuda_context& context,
                          token_t* tokens,     // [N]
                          std::int32_t* rows,  // [N]
                          index_t N) {
  const arena::scope scope(context.workspace());
  sort_memory memory(context.workspace().template take<char>(sort_bytes(N)), sort_bytes(N));
  try {
    thrust::stable_sort_by_key(
        thrust::cuda::par_nosync(memory).on(context.stream()), tokens, tokens + N, rows);
  } catch (const thrust::system_error& failure) {
    fail("embedding_backward: Thrust reports ", failure.what());
  }
}

#else

/// Under emulation, one thread of the device sorts.
template <class Token>
__global__ void sort_by_token_kernel(Token* tokens,       // [N]
                                     std::int32_t* rows,  // [N]
                                     index_t N,
                                     sort_memory memory) {
  thrust::stable_sort_by_key(thrust::cpp::par(memory), tokens, tokens + N, rows);
}

inline void sort_by_token(cuda_context& context,
                          token_t* tokens,     // [N]
                          std::int32_t* rows,  // [N]
                          index_t N) {
  const arena::scope scope(context.workspace());
  launch(context,
         "embedding_backward",
         dim3(1),
         dim3(1),
         0,
         sort_by_token_kernel<token_t>,
         tokens,
         rows,
         N,
         sort_memory(context.workspace().template take<char>(sort_bytes(N)), sort_bytes(N)));
}

#endif

}  // namespace mtp::inline MTP_ABI::cuda_detail

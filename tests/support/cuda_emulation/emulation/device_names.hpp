// CUDA's own names in device code: qualifiers, indices, barriers and warp collectives. Those that
// wait know the place that they are called from.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulation/block.hpp"
#include "emulation/collectives.hpp"
#include "emulation/vector_types.hpp"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

inline const uint3& threadIdx = mtp::emulation::thread_index;
inline const uint3& blockIdx = mtp::emulation::block_index;
inline const dim3& blockDim = mtp::emulation::block_size;
inline const dim3& gridDim = mtp::emulation::grid_size;
inline constexpr int warpSize = 32;

#define MTP_EMULATION_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

// ---- barriers -----------------------------------------------------------------------------------

inline void __syncthreads(MTP_EMULATION_CALLER) {
  mtp::emulation::wait_at_barrier("__syncthreads", false, file, line);
}
inline int __syncthreads_count(int predicate, MTP_EMULATION_CALLER) {
  return static_cast<int>(
      mtp::emulation::wait_at_barrier("__syncthreads_count", predicate != 0, file, line));
}
inline int __syncthreads_or(int predicate, MTP_EMULATION_CALLER) {
  return mtp::emulation::wait_at_barrier("__syncthreads_or", predicate != 0, file, line) != 0;
}
/// Counts those without it: threads that have exited have no say.
inline int __syncthreads_and(int predicate, MTP_EMULATION_CALLER) {
  return mtp::emulation::wait_at_barrier("__syncthreads_and", predicate == 0, file, line) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, MTP_EMULATION_CALLER) {
  using namespace mtp::emulation;
  if (!detail::pass_site(site_kind::warp_barrier, file, line)) {
    lane_request request{
        .execute = execute_meeting, .detail = 0, .mask = mask, .orders_memory = true};
    join_collective("__syncwarp", request, file, line);
  }
}

// ---- shuffles and votes -------------------------------------------------------------------------

namespace mtp::emulation {

enum class shuffle_mode : unsigned { index, up, down, exclusive_or };

/// The lane to read from: the own one where the other would be outside the segment of `width`.
/// PTX ISA, "shfl.sync".
inline unsigned shuffle_source(shuffle_mode mode, unsigned lane, unsigned argument, int width) {
  const auto size = static_cast<unsigned>(width);
  if (size == 0 || size > lanes_per_warp || (size & (size - 1)) != 0) {
    raise_fault("shuffle: width must be a power of two up to 32, but is " + std::to_string(width));
  }
  const unsigned first = lane & ~(size - 1), last = lane | (size - 1);
  switch (mode) {
    case shuffle_mode::index:
      return first | (argument & (size - 1));
    case shuffle_mode::up:
      return argument <= lane - first ? lane - argument : lane;
    case shuffle_mode::down:
      return argument <= last - lane ? lane + argument : lane;
    default: {
      const unsigned other = lane ^ (argument % lanes_per_warp);
      return other <= last ? other : lane;
    }
  }
}

template <class T>
T shuffle(const char* operation,
          shuffle_mode mode,
          unsigned mask,
          T value,
          unsigned argument,
          int width,
          const char* file,
          int line) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "shuffle: values are numbers of 4 or 8 bytes");
  const unsigned lane = this_thread(operation).rank % lanes_per_warp;
  lane_request request{.execute = execute_shuffle,
                       .detail = static_cast<unsigned>(mode) << 8 | unsigned{sizeof(T)},
                       .mask = mask,
                       .source = shuffle_source(mode, lane, argument, width)};
  std::memcpy(&request.value, &value, sizeof(T));
  join_collective(operation, request, file, line);
  std::memcpy(&value, &request.result, sizeof(T));
  return value;
}

inline lane_request vote(const char* operation,
                         unsigned which,
                         unsigned mask,
                         int predicate,
                         const char* file,
                         int line) {
  lane_request request{.execute = execute_ballot, .detail = which, .mask = mask};
  request.value = predicate != 0;
  join_collective(operation, request, file, line);
  return request;
}

}  // namespace mtp::emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, MTP_EMULATION_CALLER) {
  using namespace mtp::emulation;
  return shuffle("__shfl_sync",
                 shuffle_mode::index,
                 mask,
                 value,
                 static_cast<unsigned>(source),
                 width,
                 file,
                 line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, MTP_EMULATION_CALLER) {
  using namespace mtp::emulation;
  return shuffle("__shfl_up_sync", shuffle_mode::up, mask, value, delta, width, file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, MTP_EMULATION_CALLER) {
  using namespace mtp::emulation;
  return shuffle("__shfl_down_sync", shuffle_mode::down, mask, value, delta, width, file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, MTP_EMULATION_CALLER) {
  using namespace mtp::emulation;
  return shuffle("__shfl_xor_sync",
                 shuffle_mode::exclusive_or,
                 mask,
                 value,
                 static_cast<unsigned>(lanes),
                 width,
                 file,
                 line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, MTP_EMULATION_CALLER) {
  return static_cast<unsigned>(
      mtp::emulation::vote("__ballot_sync", 0, mask, predicate, file, line).result);
}
inline int __any_sync(unsigned mask, int predicate, MTP_EMULATION_CALLER) {
  return mtp::emulation::vote("__any_sync", 1, mask, predicate, file, line).result != 0;
}
inline int __all_sync(unsigned mask, int predicate, MTP_EMULATION_CALLER) {
  const auto answer = mtp::emulation::vote("__all_sync", 2, mask, predicate, file, line);
  return answer.result == answer.value;
}

#undef MTP_EMULATION_CALLER

[[noreturn]] inline void __trap() {
  mtp::emulation::raise_fault("__trap");
}

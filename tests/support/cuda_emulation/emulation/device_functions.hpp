// mtp::cuda_detail as device.cuh declares it, executed by the emulation.
#pragma once

#include <cstdint>

#include "emulation/async_copies.hpp"
#include "emulation/bf16.hpp"
#include "emulation/early.hpp"
#include "emulation/matrices.hpp"
#include "emulation/vector_types.hpp"
#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

template <class T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(emulation::shared_of_block());
}

// ---- matrices -----------------------------------------------------------------------------------

inline void mma_m16n8k16(float (&d)[4],
                         const std::uint32_t (&a)[4],
                         const std::uint32_t (&b)[2],
                         const char* file = __builtin_FILE(),
                         int line = __builtin_LINE()) {
  emulation::multiply(d, a, b, file, line);
}

inline void load_matrix_x4(std::uint32_t (&words)[4],
                           const void* row,
                           const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
  emulation::load_matrices<4, false>(words, row, file, line);
}
inline void load_matrix_x4_transposed(std::uint32_t (&words)[4],
                                      const void* row,
                                      const char* file = __builtin_FILE(),
                                      int line = __builtin_LINE()) {
  emulation::load_matrices<4, true>(words, row, file, line);
}
inline void load_matrix_x2(std::uint32_t (&words)[2],
                           const void* row,
                           const char* file = __builtin_FILE(),
                           int line = __builtin_LINE()) {
  emulation::load_matrices<2, false>(words, row, file, line);
}
inline void load_matrix_x2_transposed(std::uint32_t (&words)[2],
                                      const void* row,
                                      const char* file = __builtin_FILE(),
                                      int line = __builtin_LINE()) {
  emulation::load_matrices<2, true>(words, row, file, line);
}

// ---- lanes together ----

inline void converge_warp(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  emulation::lane_request request{
      .execute = emulation::execute_meeting, .detail = 1, .mask = emulation::all_lanes};
  emulation::join_collective("converge_warp", request, file, line);
}

// ---- asynchronous copies ------------------------------------------------------------------------

template <int Bytes>
void copy_async(void* shared, const void* global, bool valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "copy_async: expected 4, 8 or 16 bytes");
  emulation::start_copy<static_cast<unsigned>(Bytes)>(shared, global, valid);
}
inline void copy_async_16(void* shared, const void* global, bool valid) {
  emulation::start_copy<16>(shared, global, valid);
}
inline void copy_async_commit() {
  emulation::commit_copies();
}
template <int Pending>
void copy_async_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  static_assert(Pending >= 0, "copy_async_wait: a number of groups");
  emulation::wait_for_copies(static_cast<unsigned>(Pending), file, line);
}

// ---- neighbours on the stream -------------------------------------------------------------------

inline void wait_for_previous_kernels(const char* file = __builtin_FILE(),
                                      int line = __builtin_LINE()) {
  emulation::wait_for_previous_kernels(file, line);
}
inline void allow_next_kernel() {
  emulation::allow_next_kernel();
}

// ---- numbers ------------------------------------------------------------------------------------

inline std::uint32_t pack_bf16(float low, float high) {
  return emulation::bf16_bits(low) | emulation::bf16_bits(high) << 16;
}

inline float exp2_approximate(float x) {
  const auto flush = [](float value) {
    return value < 0x1p-126f && value > -0x1p-126f ? 0 : value;
  };
  return flush(__builtin_exp2f(flush(x)));
}

// ---- streaming ----------------------------------------------------------------------------------

inline uint4 load_shared_16(const void* shared, bool valid) {
  if (!valid) {
    return {};
  }
  emulation::check_shared("load_shared_16", shared, 16);
  return *static_cast<const uint4*>(shared);
}
inline uint4 load_streaming_16(const void* global, bool valid) {
  if (!valid) {
    return {};
  }
  emulation::check_device_alignment("load_streaming_16", global, 16);
  return *static_cast<const uint4*>(global);
}
inline void store_streaming_16(void* global, uint4 value) {
  emulation::check_device_alignment("store_streaming_16", global, 16);
  *static_cast<uint4*>(global) = value;
}

// ---- memory that host and device share ----------------------------------------------------------

inline std::uint32_t load_acquire_system(const std::uint32_t* word) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
inline void store_release_system(std::uint32_t* word, std::uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

}  // namespace mtp::inline MTP_ABI::cuda_detail

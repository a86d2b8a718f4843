// Device functions beyond C++ and CUDA's own: matrix instructions, asynchronous copies, reductions
// of a warp. The only file with PTX.
//
// An emulated <cuda_runtime.h> brings the same functions for the host, see
// tests/support/cuda_emulation.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "mtp/core/config.hpp"

#if !defined(__CUDACC__) && !defined(MTP_CUDA_EMULATION)
#error mtp: include/mtp/backend/cuda holds device code; compile this file as CUDA, with nvcc.
#endif

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int warp_size = 32;
inline constexpr unsigned all_lanes = 0xffffffffu;

#if defined(__CUDACC__)

/// The dynamic shared memory of the block, aligned to 128 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char memory[];
  return reinterpret_cast<T*>(memory);
}

// ---- matrices -----------------------------------------------------------------------------------

// A fragment is the part of a matrix that one lane holds. Lane 4g + t (g < 8, t < 4) holds two
// neighbouring bf16 elements in each word, the left or upper one in the lower half.

/// d += a b for a [16, 16] and b [16, 8] of bf16 and d [16, 8] of f32, by all lanes of a warp.
///   a[0]: row g, columns 2t and 2t + 1; a[1]: row g + 8; a[2], a[3]: the same rows, columns + 8
///   b[0]: rows 2t and 2t + 1 of column g; b[1]: rows + 8
///   d[0], d[1]: row g, columns 2t and 2t + 1; d[2], d[3]: row g + 8
/// PTX ISA, "mma.m16n8k16".
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4],
                                             const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// An address in shared memory in the form that instructions take.
__device__ __forceinline__ unsigned shared_address(const void* shared) {
  return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}

/// Four matrices [8, 8] of two-byte elements from shared memory, by all lanes of a warp. Lane
/// 8m + i gives the address of row i of matrix m: 16 bytes, aligned to 16. words[m] becomes the
/// fragment of matrix m: the elements 2t and 2t + 1 of row g.
__device__ __forceinline__ void load_matrix_x4(std::uint32_t (&words)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row))
               : "memory");
}

/// The same of the transposed matrices: the elements 2t and 2t + 1 of column g.
__device__ __forceinline__ void load_matrix_x4_transposed(std::uint32_t (&words)[4],
                                                          const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Two matrices; the addresses of lanes 16 to 31 are not used.
__device__ __forceinline__ void load_matrix_x2(std::uint32_t (&words)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrix_x2_transposed(std::uint32_t (&words)[2],
                                                          const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(words[0]), "=r"(words[1])
               : "r"(shared_address(row))
               : "memory");
}

/// Two numbers rounded to bf16, to nearest with ties to even; every NaN becomes 0x7fff.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// ---- lanes together -----------------------------------------------------------------------------

/// Lanes that took different paths continue together, as an instruction with ".aligned" requires.
/// It is called between code that lanes may run one after the other and the next matrix
/// instruction. (A condition on an assignment is a select and does not split lanes.) It does not
/// order memory.
__device__ __forceinline__ void converge_warp() {
  __syncwarp();
}

// ---- asynchronous copies ------------------------------------------------------------------------

// A copy arrives before the wait for its group returns, and then only the thread that started it
// may read it: other threads need a barrier after that wait. Every copy must be waited for.

/// Starts a copy of Bytes (4, 8 or 16) to shared memory, through the L1 cache if Bytes < 16; both
/// addresses are aligned to Bytes. Unless `valid`, it writes zeros and does not read `global`,
/// which must exist nevertheless.
template <int Bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16, "copy_async: expected 4, 8 or 16 bytes");
  const int read = valid ? Bytes : 0;
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global),
                 "r"(read)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)),
                 "l"(global),
                 "n"(Bytes),
                 "r"(read)
                 : "memory");
  }
}
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid) {
  copy_async<16>(shared, global, valid);
}

/// Makes the copies that this thread started since the last call a group, even if there are none.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most the last Pending groups of this thread are in flight.
template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
  static_assert(Pending >= 0, "copy_async_wait: expected a number of groups of at least 0");
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

// ---- numbers and streams ------------------------------------------------------------------------

/// 2^x with a relative error of about 2^-22; subnormal arguments and results are zero.
__device__ __forceinline__ float exp2_approximate(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

/// 16 aligned bytes of shared memory. Unless `valid`, zeros, and `shared` is not read. Uses a
/// predicate and no branch, so that lanes stay together.
__device__ __forceinline__ uint4 load_shared_16(const void* shared, bool valid) {
  uint4 value;
  asm volatile(
      "{\n"
      ".reg .pred valid;\n"
      "setp.ne.b32 valid, %5, 0;\n"
      "mov.b32 %0, 0;\n"
      "mov.b32 %1, 0;\n"
      "mov.b32 %2, 0;\n"
      "mov.b32 %3, 0;\n"
      "@valid ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
      : "r"(shared_address(shared)), "r"(static_cast<int>(valid))
      : "memory");
  return value;
}

/// The same for device memory that nothing writes while the kernel runs and nothing reads again
/// soon.
__device__ __forceinline__ uint4 load_streaming_16(const void* global, bool valid) {
  uint4 value;
  asm("{\n"
      ".reg .pred valid;\n"
      "setp.ne.b32 valid, %5, 0;\n"
      "mov.b32 %0, 0;\n"
      "mov.b32 %1, 0;\n"
      "mov.b32 %2, 0;\n"
      "mov.b32 %3, 0;\n"
      "@valid ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n"
      "}"
      : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
      : "l"(global), "r"(static_cast<int>(valid)));
  return value;
}

/// Stores 16 aligned bytes that nothing reads soon.
__device__ __forceinline__ void store_streaming_16(void* global, uint4 value) {
  asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(global),
               "r"(value.x),
               "r"(value.y),
               "r"(value.z),
               "r"(value.w)
               : "memory");
}

// ---- memory that host and device share ----------------------------------------------------------

/// Loads a word that the host may be writing; later reads see what the host wrote before the word.
__device__ __forceinline__ std::uint32_t load_acquire_system(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

/// Stores a word that the host may be reading; a host that sees it also sees what was written
/// before.
__device__ __forceinline__ void store_release_system(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

// ---- neighbours on the stream -------------------------------------------------------------------

// See overlap.cuh. Before compute capability 9.0, kernels run one after the other.

/// Waits until all previous kernels have ended and their writes are visible. Their results must not
/// be read through a __restrict__ pointer to const: a compiler may load them before the wait.
__device__ __forceinline__ void wait_for_previous_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel begin once every block has called this or has ended.
__device__ __forceinline__ void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif

/// The halves of a pair of bf16, exactly.
__device__ __forceinline__ float unpack_low(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float unpack_high(std::uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

/// The larger one; NaN if one of them is; +0 above -0. So the bits do not depend on the order of
/// the arguments.
__device__ __forceinline__ float maximum(float a, float b) {
  if (a != a || b != b) {
    return __int_as_float(0x7fffffff);
  }
  return a == b ? __int_as_float(__float_as_int(a) & __float_as_int(b)) : fmaxf(a, b);
}
__device__ __forceinline__ double maximum(double a, double b) {
  if (a != a || b != b) {
    return __longlong_as_double(0x7fffffffffffffffll);
  }
  return a == b ? __longlong_as_double(__double_as_longlong(a) & __double_as_longlong(b))
                : fmax(a, b);
}

// ---- reductions of a warp -----------------------------------------------------------------------

// Called by all lanes. After the step for one distance, each lane has combined the values of all
// lanes that differ from it in this bit and higher ones, in the same tree: both partners combine
// the same two numbers, and the operations are commutative. So all lanes get the same bits.

/// The sum over the lanes, for float and double.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(all_lanes, value, distance);
  }
  return value;
}

/// The maximum() over the lanes, for float and double.
template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int distance = warp_size / 2; distance > 0; distance /= 2) {
    value = maximum(value, __shfl_xor_sync(all_lanes, value, distance));
  }
  return value;
}

}  // namespace mtp::inline MTP_ABI::cuda_detail

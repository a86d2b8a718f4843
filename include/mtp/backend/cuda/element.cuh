// Traits of element types for the GPU's instructions, kernels and libraries.
#pragma once

#include <cublasLt.h>

#include <cstdint>

#include "mtp/backend/cuda/device.cuh"
#include "mtp/core/config.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// One specialization for each element type; a type without one does not compile.
///
///     library_type        its name in cuBLASLt
///     compute_type        cuBLASLt's name for products with this accumulator type; only for types
///                         in which arithmetic is done
///     in_pairs            two elements fill a word, and instructions of the device convert them
///                         together, with pack_pair, unpack_low and unpack_high below
///     has_matrix_kernels  there are kernels with matrix instructions for it
template <scalar S>
struct element_traits;

template <>
struct element_traits<double> {
  static constexpr cudaDataType_t library_type = CUDA_R_64F;
  static constexpr cublasComputeType_t compute_type = CUBLAS_COMPUTE_64F;
  static constexpr bool in_pairs = false;
  static constexpr bool has_matrix_kernels = false;
};

template <>
struct element_traits<float> {
  static constexpr cudaDataType_t library_type = CUDA_R_32F;
  static constexpr cublasComputeType_t compute_type = CUBLAS_COMPUTE_32F;
  static constexpr bool in_pairs = false;
  static constexpr bool has_matrix_kernels = false;
};

template <>
struct element_traits<bf16> {
  static constexpr cudaDataType_t library_type = CUDA_R_16BF;
  static constexpr bool in_pairs = true;
  static constexpr bool has_matrix_kernels = true;

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)
  /// Two numbers rounded to nearest in the halves of a word. NaN becomes 0x7fff.
  static __device__ __forceinline__ std::uint32_t pack_pair(float low, float high) {
    return pack_bf16(low, high);
  }
  /// The halves of a word, exactly.
  static __device__ __forceinline__ float unpack_low(std::uint32_t pair) {
    return cuda_detail::unpack_low(pair);
  }
  static __device__ __forceinline__ float unpack_high(std::uint32_t pair) {
    return cuda_detail::unpack_high(pair);
  }
#endif
};

/// Whether elements are converted in pairs. Elements that are not numbers are not converted.
template <class S>
inline constexpr bool in_pairs = false;
template <scalar S>
inline constexpr bool in_pairs<S> = element_traits<S>::in_pairs;

}  // namespace mtp::inline MTP_ABI::cuda_detail

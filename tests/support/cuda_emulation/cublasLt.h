// The part of cublasLt that a row-major library needs: products of column-major matrices, each
// done by plain loops when it is submitted, or recorded where its stream captures.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "cuda_runtime.h"
#include "emulation/blas_product.hpp"
#include "emulation/blas_types.hpp"

namespace mtp::emulation {

/// Every function of cublasLt goes through here.
template <class Body>
cublasStatus_t blas_call(const char* name, const Body& body) {
  const std::lock_guard lock(detail::api_mutex());
  const std::optional<int> wanted = detail::enter_call(name);
  if (detail::runtime().device != device_state::available) {
    return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  if (detail::runtime().sticky_error != cudaSuccess) {
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  return wanted ? static_cast<cublasStatus_t>(*wanted) : body();
}

template <class T, class... Fields>
cublasStatus_t blas_create(const char* name, T** object, Fields... fields) {
  return blas_call(name, [&] {
    if (object == nullptr) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    *object = new T{fields...};
    ++detail::runtime().counts.live_objects;
    return CUBLAS_STATUS_SUCCESS;
  });
}
template <class T>
cublasStatus_t blas_destroy(const char* name, T* object) {
  const cublasStatus_t status = blas_call(name, [&] {
    detail::runtime().counts.live_objects -= object != nullptr ? 1 : 0;
    return object != nullptr ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
  });
  delete object;  // what the host has of it goes also where the device has failed
  return status;
}

/// What an algorithm was chosen for: it serves nothing else.
inline std::uint64_t purpose_of(const blas_product& product) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a over words
  const auto add = [&](std::uint64_t word) { hash = (hash ^ word) * 0x100000001b3u; };
  add(static_cast<std::uint64_t>(product.operation.compute_type));
  add(static_cast<std::uint64_t>(product.operation.transpose_a));
  add(static_cast<std::uint64_t>(product.operation.transpose_b));
  for (const blas_matrix* const x : {&product.a, &product.b, &product.c, &product.d}) {
    add(x->layout.type);
    add(x->layout.rows);
    add(x->layout.columns);
    add(static_cast<std::uint64_t>(x->layout.leading_dimension));
    add(static_cast<std::uint64_t>(x->layout.batches));
  }
  return hash;
}

/// What this emulation keeps in cublasLtMatmulAlgo_t.
enum algorithm_word : unsigned { purpose_word = 0, workspace_word = 1, alignment_words = 2 };

inline bool algorithm_fits(const cublasLtMatmulAlgo_t& algorithm, const blas_product& product) {
  if (algorithm.data[purpose_word] != purpose_of(product) ||
      algorithm.data[workspace_word] > product.workspace_bytes) {
    return false;
  }
  const void* const pointers[] = {product.a.data, product.b.data, product.c.data, product.d.data};
  for (unsigned i = 0; i < 4; ++i) {
    if (!is_aligned(pointers[i], algorithm.data[alignment_words + i])) {
      return false;
    }
  }
  return true;
}

/// Whether settings() let cublasLt do a product of matrices that are so aligned.
inline bool is_declined(const blas_product& product, const std::uint32_t alignments[4]) {
  const std::uint32_t least = settings().product_alignment;
  const blas_matrix* const matrices[] = {&product.a, &product.b, &product.c, &product.d};
  bool aligned = least != 0;
  for (unsigned i = 0; aligned && i < 4; ++i) {
    const auto column = static_cast<std::uint64_t>(matrices[i]->layout.leading_dimension) *
                        bytes_of_type(matrices[i]->layout.type);
    aligned = alignments[i] % least == 0 && column % least == 0;
  }
  return settings().product_refusal != refusal::none && !aligned;
}

}  // namespace mtp::emulation

// ---- handles and descriptors --------------------------------------------------------------------

inline cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  return mtp::emulation::blas_create("cublasLtCreate", handle, 0);
}
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return mtp::emulation::blas_destroy("cublasLtDestroy", handle);
}

inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                               cublasComputeType_t compute_type,
                                               cudaDataType_t scale_type) {
  return mtp::emulation::blas_create("cublasLtMatmulDescCreate",
                                     operation,
                                     static_cast<std::int32_t>(compute_type),
                                     static_cast<std::int32_t>(scale_type));
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  return mtp::emulation::blas_destroy("cublasLtMatmulDescDestroy", operation);
}
inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                                     cublasLtMatmulDescAttributes_t attribute,
                                                     const void* value,
                                                     std::size_t bytes) {
  using namespace mtp::emulation;
  return blas_call("cublasLtMatmulDescSetAttribute", [&] {
    switch (attribute) {
      case CUBLASLT_MATMUL_DESC_TRANSA:
        return set_attribute(operation->transpose_a, value, bytes);
      case CUBLASLT_MATMUL_DESC_TRANSB:
        return set_attribute(operation->transpose_b, value, bytes);
      case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set_attribute(operation->epilogue, value, bytes);
      default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
  });
}

inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout,
                                                 cudaDataType type,
                                                 std::uint64_t rows,
                                                 std::uint64_t columns,
                                                 std::int64_t leading_dimension) {
  return mtp::emulation::blas_create("cublasLtMatrixLayoutCreate",
                                     layout,
                                     static_cast<std::uint32_t>(type),
                                     rows,
                                     columns,
                                     leading_dimension);
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return mtp::emulation::blas_destroy("cublasLtMatrixLayoutDestroy", layout);
}
inline cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                       cublasLtMatrixLayoutAttribute_t attribute,
                                                       const void* value,
                                                       std::size_t bytes) {
  using namespace mtp::emulation;
  return blas_call("cublasLtMatrixLayoutSetAttribute", [&] {
    switch (attribute) {
      case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return set_attribute(layout->type, value, bytes);
      case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return set_attribute(layout->rows, value, bytes);
      case CUBLASLT_MATRIX_LAYOUT_COLS:
        return set_attribute(layout->columns, value, bytes);
      case CUBLASLT_MATRIX_LAYOUT_LD:
        return set_attribute(layout->leading_dimension, value, bytes);
      case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set_attribute(layout->batches, value, bytes);
      case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set_attribute(layout->batch_stride, value, bytes);
      default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
  });
}

inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return mtp::emulation::blas_create("cublasLtMatmulPreferenceCreate", preference);
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return mtp::emulation::blas_destroy("cublasLtMatmulPreferenceDestroy", preference);
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference,
    cublasLtMatmulPreferenceAttributes_t attribute,
    const void* value,
    std::size_t bytes) {
  using namespace mtp::emulation;
  return blas_call("cublasLtMatmulPreferenceSetAttribute", [&] {
    const int matrix = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
      return set_attribute(preference->workspace_bytes, value, bytes);
    }
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
      return set_attribute(preference->reduction_schemes, value, bytes);
    }
    return matrix >= 0 && matrix < 4 ? set_attribute(preference->alignments[matrix], value, bytes)
                                     : CUBLAS_STATUS_NOT_SUPPORTED;
  });
}

// ---- products -----------------------------------------------------------------------------------

/// One algorithm for everything. It asks for a little workspace if it may have any.
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                                     cublasLtMatmulDesc_t operation,
                                                     cublasLtMatrixLayout_t a_layout,
                                                     cublasLtMatrixLayout_t b_layout,
                                                     cublasLtMatrixLayout_t c_layout,
                                                     cublasLtMatrixLayout_t d_layout,
                                                     cublasLtMatmulPreference_t preference,
                                                     int requested,
                                                     cublasLtMatmulHeuristicResult_t results[],
                                                     int* found) {
  using namespace mtp::emulation;
  return blas_call("cublasLtMatmulAlgoGetHeuristic", [&] {
    if (handle == nullptr || requested < 1) {
      return handle == nullptr ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_INVALID_VALUE;
    }
    *found = 0;
    blas_product product{*operation,
                         {*a_layout, nullptr},
                         {*b_layout, nullptr},
                         {*c_layout, nullptr},
                         {*d_layout, nullptr},
                         1,
                         0,
                         nullptr,
                         0};
    if (const cublasStatus_t status = product.check(); status != CUBLAS_STATUS_SUCCESS) {
      return status;
    }
    const refusal how =
        is_declined(product, preference->alignments) ? settings().product_refusal : refusal::none;
    if (how == refusal::not_supported) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (how == refusal::no_algorithm) {
      return CUBLAS_STATUS_SUCCESS;
    }
    constexpr std::uint64_t wanted_workspace = 1024;
    cublasLtMatmulHeuristicResult_t& result = results[0];
    result = {};
    result.workspaceSize = std::min(preference->workspace_bytes, wanted_workspace);
    result.algo.data[purpose_word] = purpose_of(product);
    result.algo.data[workspace_word] = result.workspaceSize;
    std::copy_n(preference->alignments, 4, &result.algo.data[alignment_words]);
    result.state = how == refusal::bad_state ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
  });
}

inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle,
                                     cublasLtMatmulDesc_t operation,
                                     const void* alpha,
                                     const void* a,
                                     cublasLtMatrixLayout_t a_layout,
                                     const void* b,
                                     cublasLtMatrixLayout_t b_layout,
                                     const void* beta,
                                     const void* c,
                                     cublasLtMatrixLayout_t c_layout,
                                     void* d,
                                     cublasLtMatrixLayout_t d_layout,
                                     const cublasLtMatmulAlgo_t* algorithm,
                                     void* workspace,
                                     std::size_t workspace_bytes,
                                     cudaStream_t stream) {
  using namespace mtp::emulation;
  return blas_call("cublasLtMatmul", [&] {
    if (handle == nullptr) {
      return CUBLAS_STATUS_NOT_INITIALIZED;
    }
    const auto scale = [&](const void* value) {
      return operation->scale_type == CUDA_R_64F
                 ? *static_cast<const double*>(value)
                 : static_cast<double>(*static_cast<const float*>(value));
    };
    const auto matrix = [](const void* data, cublasLtMatrixLayout_t layout) {
      return blas_matrix{*layout, static_cast<unsigned char*>(const_cast<void*>(data))};
    };
    blas_product product{*operation,
                         matrix(a, a_layout),
                         matrix(b, b_layout),
                         matrix(c, c_layout),
                         matrix(d, d_layout),
                         scale(alpha),
                         scale(beta),
                         static_cast<unsigned char*>(workspace),
                         workspace_bytes};
    if (const cublasStatus_t status = product.check(); status != CUBLAS_STATUS_SUCCESS) {
      return status;
    }
    if (algorithm != nullptr && !algorithm_fits(*algorithm, product)) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (algorithm != nullptr && settings().product_refusal == refusal::when_run) {
      std::uint32_t alignments[4];
      std::copy_n(&algorithm->data[alignment_words], 4, alignments);
      if (is_declined(product, alignments)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
      }
    }
    if (c == d && (c_layout->leading_dimension != d_layout->leading_dimension ||
                   c_layout->batch_stride != d_layout->batch_stride)) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (algorithm != nullptr) {
      // It leaves the rest alone.
      product.workspace_bytes = algorithm->data[workspace_word];
    }
    ++detail::runtime().counts.products;
    return submit(stream, [product] { product.run(); }) == cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
  });
}

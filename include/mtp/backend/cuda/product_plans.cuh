// The descriptions of products for cuBLASLt, made once for each shape.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>

#include "mtp/backend/cuda/errors.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// A matrix in cuBLASLt's form: column by column.
struct lt_matrix {
  cudaDataType_t type;
  index_t rows;
  index_t columns;
  index_t leading_dimension;
  std::uint32_t alignment;  // of its first element, bytes

  friend auto operator<=>(const lt_matrix&, const lt_matrix&) = default;
};

/// D = alpha op(A) op(B) + beta C: all that the choice of an algorithm depends on.
struct lt_product {
  cublasComputeType_t compute_type;
  cudaDataType_t scale_type;
  cublasOperation_t operation_a;
  cublasOperation_t operation_b;
  lt_matrix a, b, c, d;

  friend auto operator<=>(const lt_product&, const lt_product&) = default;
};

/// Owns an object of cuBLASLt.
template <class Pointer, auto Destroy>
struct lt_deleter {
  void operator()(Pointer object) const { static_cast<void>(Destroy(object)); }
};
template <class Pointer, auto Destroy>
using lt_object = std::unique_ptr<std::remove_pointer_t<Pointer>, lt_deleter<Pointer, Destroy>>;

using lt_layout = lt_object<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using lt_operation = lt_object<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using lt_preference = lt_object<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// A product's description and algorithm, or the fact that the library does not support it.
struct product_plan {
  bool by_library = true;  // else the rest is not used
  lt_operation operation;
  lt_layout a, b, c, d;
  cublasLtMatmulAlgo_t algorithm;
};

/// The plans of a context, one for each different product so far. Finding one again needs no memory
/// and no search for an algorithm. That the library does not support a product is stored as well,
/// so the kernel that computes it, and the order of its sums, stay the same.
class product_plans {
 public:
  product_plan& find(cublasLtHandle_t library,
                     const char* function,
                     const lt_product& product,
                     std::size_t workspace_bytes) {
    auto found = plans_.find(product);
    if (found == plans_.end()) {
      found = plans_.emplace(product, make(library, function, product, workspace_bytes)).first;
    }
    return found->second;
  }

  void clear() { plans_.clear(); }

  /// Whether the library supports a product, from its status: CUBLAS_STATUS_NOT_SUPPORTED is the
  /// answer for types, sizes, strides and alignments without a kernel. Throws for any other
  /// failure.
  static bool is_done(cublasStatus_t status, const char* function) {
    if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
      return false;
    }
    check_cublas(status, function);
    return true;
  }

 private:
  static lt_layout make_layout(const char* function, const lt_matrix& matrix) {
    cublasLtMatrixLayout_t layout = nullptr;
    check_cublas(cublasLtMatrixLayoutCreate(&layout,
                                            matrix.type,
                                            static_cast<std::uint64_t>(matrix.rows),
                                            static_cast<std::uint64_t>(matrix.columns),
                                            matrix.leading_dimension),
                 function);
    return lt_layout(layout);
  }

  static lt_operation make_operation(const char* function, const lt_product& product) {
    cublasLtMatmulDesc_t created = nullptr;
    check_cublas(cublasLtMatmulDescCreate(&created, product.compute_type, product.scale_type),
                 function);
    lt_operation operation(created);
    const std::pair<cublasLtMatmulDescAttributes_t, cublasOperation_t> transposes[] = {
        {CUBLASLT_MATMUL_DESC_TRANSA, product.operation_a},
        {CUBLASLT_MATMUL_DESC_TRANSB, product.operation_b}};
    for (const auto& [attribute, value] : transposes) {
      const auto code = static_cast<std::int32_t>(value);
      check_cublas(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &code, sizeof code),
                   function);
    }
    return operation;
  }

  static lt_preference make_preference(const char* function,
                                       const lt_product& product,
                                       std::size_t workspace_bytes) {
    cublasLtMatmulPreference_t created = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&created), function);
    lt_preference preference(created);
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check_cublas(
          cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
          function);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    // Sums may be split, but their parts are stored in full precision and added in a fixed order;
    // they may not be added in the output, which would round them.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, product.a.alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, product.b.alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, product.c.alignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, product.d.alignment);
    return preference;
  }

  static product_plan make(cublasLtHandle_t library,
                           const char* function,
                           const lt_product& product,
                           std::size_t workspace_bytes) {
    product_plan plan{.by_library = true,
                      .operation = make_operation(function, product),
                      .a = make_layout(function, product.a),
                      .b = make_layout(function, product.b),
                      .c = make_layout(function, product.c),
                      .d = make_layout(function, product.d),
                      .algorithm = {}};
    const lt_preference preference = make_preference(function, product, workspace_bytes);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(library,
                                                                 plan.operation.get(),
                                                                 plan.a.get(),
                                                                 plan.b.get(),
                                                                 plan.c.get(),
                                                                 plan.d.get(),
                                                                 preference.get(),
                                                                 1,
                                                                 &best,
                                                                 &found);
    plan.by_library = is_done(status, function) && found > 0 && is_done(best.state, function);
    plan.algorithm = best.algo;
    return plan;
  }

  std::map<lt_product, product_plan> plans_;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

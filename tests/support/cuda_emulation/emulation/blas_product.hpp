// D = alpha op(A) op(B) + beta C of column-major matrices, by plain loops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "emulation/bf16.hpp"
#include "emulation/blas_types.hpp"
#include "emulation/device_heap.hpp"

namespace mtp::emulation {

inline std::size_t bytes_of_type(std::uint32_t type) {
  return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

/// A layout together with where its elements are.
struct blas_matrix {
  cublasLtMatrixLayoutOpaque_t layout;
  unsigned char* data;

  std::size_t offset(std::int32_t batch, std::uint64_t row, std::uint64_t column) const {
    return static_cast<std::size_t>(batch * layout.batch_stride +
                                    static_cast<std::int64_t>(column) * layout.leading_dimension +
                                    static_cast<std::int64_t>(row)) *
           bytes_of_type(layout.type);
  }

  template <class T>
  T load(std::int32_t batch, std::uint64_t row, std::uint64_t column) const {
    const unsigned char* const at = data + offset(batch, row, column);
    if constexpr (std::is_same_v<T, double>) {
      return *reinterpret_cast<const double*>(at);
    } else {
      return layout.type == CUDA_R_32F ? *reinterpret_cast<const float*>(at)
                                       : bf16_value(*reinterpret_cast<const std::uint16_t*>(at));
    }
  }
  template <class T>
  void store(std::int32_t batch, std::uint64_t row, std::uint64_t column, T value) const {
    unsigned char* const at = data + offset(batch, row, column);
    if constexpr (std::is_same_v<T, double>) {
      *reinterpret_cast<double*>(at) = value;
    } else if (layout.type == CUDA_R_32F) {
      *reinterpret_cast<float*>(at) = value;
    } else {
      *reinterpret_cast<std::uint16_t*>(at) = static_cast<std::uint16_t>(bf16_bits(value));
    }
  }

  void check_is_on_device(const char* name) const {
    const std::int32_t last = layout.batches - 1;
    const std::size_t end =
        offset(last, layout.rows - 1, layout.columns - 1) + bytes_of_type(layout.type);
    // Page-locked memory would do, but over the bus.
    if (layout.batch_stride < 0 || !heap().contains(data, end, memory_kind::device)) {
      throw fault(std::string("cublasLtMatmul: ") + name + " is not within device memory");
    }
  }
};

/// Everything a product needs, by value.
struct blas_product {
  cublasLtMatmulDescOpaque_t operation;
  blas_matrix a, b, c, d;
  double alpha, beta;
  unsigned char* workspace;
  std::size_t workspace_bytes;

  static bool is_transposed(std::int32_t operation) { return operation != CUBLAS_OP_N; }

  std::uint64_t inner_size() const {
    return is_transposed(operation.transpose_a) ? a.layout.rows : a.layout.columns;
  }

  cublasStatus_t check() const {
    const bool in_double = operation.compute_type == CUBLAS_COMPUTE_64F ||
                           operation.compute_type == CUBLAS_COMPUTE_64F_PEDANTIC;
    const std::uint32_t in = a.layout.type, out = d.layout.type;
    const bool types =
        in_double ? in == CUDA_R_64F && out == CUDA_R_64F && operation.scale_type == CUDA_R_64F
                  : operation.scale_type == CUDA_R_32F &&
                        ((in == CUDA_R_32F && out == CUDA_R_32F) ||
                         (in == CUDA_R_16BF && (out == CUDA_R_16BF || out == CUDA_R_32F)));
    if (!types || b.layout.type != in || c.layout.type != out ||
        operation.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
      return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const auto rows = [](const blas_matrix& x, std::int32_t op) {
      return is_transposed(op) ? x.layout.columns : x.layout.rows;
    };
    const auto columns = [](const blas_matrix& x, std::int32_t op) {
      return is_transposed(op) ? x.layout.rows : x.layout.columns;
    };
    const bool sizes = rows(a, operation.transpose_a) == d.layout.rows &&
                       columns(a, operation.transpose_a) == rows(b, operation.transpose_b) &&
                       columns(b, operation.transpose_b) == d.layout.columns &&
                       c.layout.rows == d.layout.rows && c.layout.columns == d.layout.columns;
    for (const blas_matrix* const x : {&a, &b, &c, &d}) {
      if (x->layout.rows == 0 || x->layout.columns == 0 || x->layout.batches < 1 ||
          x->layout.batches != d.layout.batches ||
          x->layout.leading_dimension < static_cast<std::int64_t>(x->layout.rows)) {
        return CUBLAS_STATUS_INVALID_VALUE;
      }
    }
    return sizes ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
  }

  void run() const {
    a.check_is_on_device("A");
    b.check_is_on_device("B");
    d.check_is_on_device("D");
    if (beta != 0) {
      c.check_is_on_device("C");
    }
    if (workspace_bytes != 0) {
      // An algorithm may leave anything there.
      if (!heap().contains(workspace, workspace_bytes, memory_kind::device)) {
        throw fault("cublasLtMatmul: the workspace is not within device memory");
      }
      fill_unseen(workspace, workspace_bytes, poison_byte);
    }
    if (d.layout.type == CUDA_R_64F) {
      multiply<double>();
    } else {
      multiply<float>();
    }
  }

 private:
  /// Sums in T over k in order, scaled at the end. Where beta is zero, C is not read. Where C is D
  /// and of bf16, the product is rounded before it is added, as on Hopper, whose copy engine adds.
  template <class T>
  void multiply() const {
    const std::uint64_t m = d.layout.rows, n = d.layout.columns, k = inner_size();
    std::vector<T> left(m * k), sums(m);  // op(A)^T [k, m] and a column of D
    for (std::int32_t batch = 0; batch < d.layout.batches; ++batch) {
      for (std::uint64_t p = 0; p < k; ++p) {
        for (std::uint64_t i = 0; i < m; ++i) {
          left[p * m + i] = is_transposed(operation.transpose_a) ? a.load<T>(batch, p, i)
                                                                 : a.load<T>(batch, i, p);
        }
      }
      for (std::uint64_t j = 0; j < n; ++j) {
        sums.assign(m, T(0));
        for (std::uint64_t p = 0; p < k; ++p) {
          const T factor = is_transposed(operation.transpose_b) ? b.load<T>(batch, j, p)
                                                                : b.load<T>(batch, p, j);
          for (std::uint64_t i = 0; i < m; ++i) {
            sums[i] += left[p * m + i] * factor;
          }
        }
        for (std::uint64_t i = 0; i < m; ++i) {
          T value = static_cast<T>(alpha) * sums[i];
          if (beta != 0 && c.data == d.data && d.layout.type == CUDA_R_16BF) {
            value = static_cast<T>(
                bf16_value(static_cast<std::uint16_t>(bf16_bits(static_cast<float>(value)))));
          }
          if (beta != 0) {
            value += static_cast<T>(beta) * c.load<T>(batch, i, j);
          }
          d.store(batch, i, j, value);
        }
      }
    }
  }
};

}  // namespace mtp::emulation

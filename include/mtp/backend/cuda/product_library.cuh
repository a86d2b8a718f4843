// Large products by cuBLASLt. It stores matrices column by column and this library row by row, so
// products are transposed: c = a b becomes c^T = b^T a^T, and no element moves.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mtp/backend/cuda/context.cuh"
#include "mtp/backend/cuda/element.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// A factor of a product: x as it is stored, row by row, or its transpose.
template <scalar S>
struct product_factor {
  const S* data;  // [rows, columns] stride (stride, 1)
  index_t stride;
  bool transposed = false;
};

/// c = op(a) op(b) + added, row-major.
///
/// Out is In or accumulate_t<In>; sums have the type accumulate_t<In>. If `added` has no
/// data, nothing is added. It may be c, with the same stride.
template <scalar In, scalar Out>
struct library_product {
  index_t M, N, K;
  product_factor<In> a;  // op(a) [M, K]
  product_factor<In> b;  // op(b) [K, N]
  Out* c;                // [M, N] stride (c_stride, 1)
  index_t c_stride;
  const Out* added = nullptr;  // [M, N] stride (added_stride, 1)
  index_t added_stride = 0;
};

namespace detail {

/// Whether the library can read rows of `columns` elements: none overlaps the next one.
inline bool rows_lie_apart(index_t rows, index_t columns, index_t stride) {
  return rows <= 1 || stride >= columns;
}

/// A row-major matrix as the library sees it: transposed. A single row may claim any stride.
template <class S>
lt_matrix lt_transposed(const S* data, index_t rows, index_t columns, index_t stride) {
  // The largest alignment that kernels of the library can use. A larger value would make the choice
  // of a kernel, and the order of sums, depend on addresses without need.
  constexpr std::uintptr_t best_alignment = 16;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(data) | best_alignment;
  return {.type = element_traits<std::remove_const_t<S>>::library_type,
          .rows = columns,
          .columns = rows,
          .leading_dimension = rows > 1 ? stride : columns,
          .alignment = static_cast<std::uint32_t>(address & -address)};
}

}  // namespace detail

/// Whether the library adds a product to its output without an additional rounding. On Hopper it
/// leaves the addition to the copy engine, which adds numbers of the output's type: the product
/// would be rounded, for example to bf16, before the addition. Seen on an H200 with cuBLASLt 13.1.
template <scalar Out>
inline constexpr bool library_adds_in_place = real<Out>;

/// Whether the library may be asked for the product: nothing is empty, rows do not overlap, and
/// each element is rounded once.
template <scalar In, scalar Out>
bool library_takes(const library_product<In, Out>& p) {
  const auto factor = [](const product_factor<In>& x, index_t rows, index_t columns) {
    return x.transposed ? detail::rows_lie_apart(columns, rows, x.stride)
                        : detail::rows_lie_apart(rows, columns, x.stride);
  };
  return p.M > 0 && p.N > 0 && p.K > 0 && factor(p.a, p.M, p.K) && factor(p.b, p.K, p.N) &&
         detail::rows_lie_apart(p.M, p.N, p.c_stride) &&
         (p.added == nullptr || detail::rows_lie_apart(p.M, p.N, p.added_stride)) &&
         (p.added != p.c || library_adds_in_place<Out>);
}

/// Submits the product to the context's stream, for products that library_takes. Returns false,
/// with nothing submitted, if the library does not support it. That, and the order of sums, depend
/// only on sizes, strides and the alignment of the matrices up to 16 bytes.
template <scalar In, scalar Out>
[[nodiscard]] bool run_library_product(cuda_context& context,
                                       const char* function,
                                       const library_product<In, Out>& p) {
  static_assert(std::is_same_v<Out, In> || std::is_same_v<Out, accumulate_t<In>>,
                "run_library_product: c has the element type of a and b, or that of their sums");
  using Scale = accumulate_t<In>;
  const auto factor = [](const product_factor<In>& x, index_t rows, index_t columns) {
    return x.transposed ? detail::lt_transposed(x.data, columns, rows, x.stride)
                        : detail::lt_transposed(x.data, rows, columns, x.stride);
  };
  const auto operation = [](const product_factor<In>& x) {
    return x.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  const lt_matrix c = detail::lt_transposed(p.c, p.M, p.N, p.c_stride);
  const bool adds = p.added != nullptr;
  const lt_product product{.compute_type = element_traits<Scale>::compute_type,
                           .scale_type = element_traits<Scale>::library_type,
                           .operation_a = operation(p.b),
                           .operation_b = operation(p.a),
                           .a = factor(p.b, p.K, p.N),
                           .b = factor(p.a, p.M, p.K),
                           .c = adds ? detail::lt_transposed(p.added, p.M, p.N, p.added_stride) : c,
                           .d = c};
  product_plan& plan =
      context.plans().find(context.products(), function, product, context.product_bytes());
  if (!plan.by_library) {
    return false;
  }
  const Scale alpha = 1, beta = adds ? 1 : 0;
  plan.by_library = product_plans::is_done(cublasLtMatmul(context.products(),
                                                          plan.operation.get(),
                                                          &alpha,
                                                          p.b.data,
                                                          plan.a.get(),
                                                          p.a.data,
                                                          plan.b.get(),
                                                          &beta,
                                                          adds ? p.added : p.c,
                                                          plan.c.get(),
                                                          p.c,
                                                          plan.d.get(),
                                                          &plan.algorithm,
                                                          context.product_memory(),
                                                          context.product_bytes(),
                                                          context.stream()),
                                           function);
  return plan.by_library;
}

}  // namespace mtp::inline MTP_ABI::cuda_detail

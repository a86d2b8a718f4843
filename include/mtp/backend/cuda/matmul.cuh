// General matrix products on the GPU. Contract: ops/matmul.hpp.
//
// Products that the library can read and that are large enough go to the library. The others, and
// those that the library reports as not supported, are computed by tiles.
#pragma once

#include <type_traits>

#include "mtp/backend/cuda/product_library.cuh"
#include "mtp/backend/cuda/tiled_product.cuh"
#include "mtp/core/view.hpp"
#include "mtp/ops/matmul.hpp"  // update

namespace mtp::inline MTP_ABI::cuda_detail {

struct matmul_policy {
  /// Up to this many rows of c, the bits of a row do not depend on the others.
  static constexpr index_t invariant_rows = 16;
  /// Multiply-adds from which on the library is used; below, a launch takes longer than the work.
  static constexpr index_t library_work = index_t{1} << 20;
};

/// A product by the library, or by tiles if the library does not support it.
template <scalar In, scalar Out>
void run_product(cuda_context& context, const char* function, const library_product<In, Out>& p) {
  if (library_takes(p) && run_library_product(context, function, p)) {
    return;
  }
  const auto factor = [](const product_factor<In>& x) {
    return x.transposed ? strided_matrix<const In>{x.data, 1, x.stride}
                        : strided_matrix<const In>{x.data, x.stride, 1};
  };
  run_tiled_product(context,
                    function,
                    strided_matrix<Out>{p.c, p.c_stride, 1},
                    {p.added, p.added_stride, 1},
                    factor(p.a),
                    factor(p.b),
                    p.M,
                    p.N,
                    p.K);
}

struct cuda_matmul_ops {
  template <class C, class A, class B>
  static void matmul(cuda_context& context, const C& c, const A& a, const B& b, update mode) {
    if (c.empty() || by_library(context, c, a, b, mode)) {
      return;
    }
    using element = typename C::value_type;
    const auto matrix = [](const auto& x) {
      return strided_matrix<typename std::remove_cvref_t<decltype(x)>::element_type>{
          x.data(), x.stride(0), x.stride(1)};
    };
    const bool adds = mode == update::accumulate;
    run_tiled_product(
        context,
        "matmul",
        matrix(c),
        {adds ? static_cast<const element*>(c.data()) : nullptr, c.stride(0), c.stride(1)},
        matrix(a),
        matrix(b),
        c.extent(0),
        c.extent(1),
        a.extent(1));
  }

 private:
  /// Whether the library computes the product.
  template <class C, class A, class B>
  static bool by_library(cuda_context& context, const C& c, const A& a, const B& b, update mode) {
    using Out = typename C::value_type;
    using In = typename A::value_type;
    const index_t M = c.extent(0), N = c.extent(1), K = a.extent(1);
    if constexpr (std::is_same_v<In, typename B::value_type> &&
                  (std::is_same_v<In, Out> || std::is_same_v<accumulate_t<In>, Out>)) {
      if (M <= matmul_policy::invariant_rows || M * N * K < matmul_policy::library_work ||
          !has_rows(a) || !has_rows(b) || !has_rows(c)) {
        return false;
      }
      const bool turned = c.stride(1) != 1;  // then c^T = b^T a^T is row-major
      const auto p = turned ? describe<In, Out>(c.transpose(), b.transpose(), a.transpose(), mode)
                            : describe<In, Out>(c, a, b, mode);
      return library_takes(p) && run_library_product(context, "matmul", p);
    }
    return false;
  }

  /// Whether elements are contiguous along one dimension.
  template <class View>
  static bool has_rows(const View& x) {
    return x.stride(1) == 1 || x.stride(0) == 1;
  }

  template <class In, class Out, class C, class A, class B>
  static library_product<In, Out> describe(const C& c, const A& a, const B& b, update mode) {
    const auto factor = [](const auto& x) {
      const bool transposed = x.stride(1) != 1;
      return product_factor<In>{x.data(), x.stride(transposed ? 1 : 0), transposed};
    };
    return {.M = c.extent(0),
            .N = c.extent(1),
            .K = a.extent(1),
            .a = factor(a),
            .b = factor(b),
            .c = c.data(),
            .c_stride = c.stride(0),
            .added = mode == update::accumulate ? c.data() : nullptr,
            .added_stride = c.stride(0)};
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

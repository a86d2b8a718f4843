// Gated activations on the GPU. Contracts: ops/swiglu.hpp.
//
// Each is a map, bound by memory: swiglu_forward moves 3 N F elements, swiglu_backward 5 N F, and
// the others 3 N C.
#pragma once

#include <cmath>
#include <type_traits>

#include "mtp/backend/cuda/exponential.cuh"
#include "mtp/backend/cuda/map.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// 1 / (1 + exp(-g)): 0 where exp(-g) is infinite. For bf16, the division is the device's own, with
/// a relative error of 2^-22, and gives 0 where the quotient is below 2^-126.
template <class S>
__device__ __forceinline__ accumulate_t<S> sigmoid(accumulate_t<S> g) {
  // Not contracted with the last operation of the exponential.
  if constexpr (approximations_suffice<S>) {
    return __fdividef(1, __fadd_rn(1, exponential<S>(-g)));
  } else if constexpr (std::is_same_v<accumulate_t<S>, double>) {
    return 1 / __dadd_rn(1, exponential<S>(-g));
  } else {
    return 1 / __fadd_rn(1, exponential<S>(-g));
  }
}

/// s (1 + g (1 - s))
template <class A>
__device__ __forceinline__ A silu_slope(A g, A s) {
  return s * std::fma(g, 1 - s, A(1));
}

template <class S>
struct swiglu_forward_function {
  using A = accumulate_t<S>;
  __device__ __forceinline__ A operator()(A g, A u) const { return g * sigmoid<S>(g) * u; }
};

template <class S>
struct swiglu_backward_function {
  using A = accumulate_t<S>;
  __device__ __forceinline__ results<A, 2> operator()(A dy, A g, A u) const {
    const A s = sigmoid<S>(g);
    return {{dy * u * silu_slope(g, s), dy * (g * s)}};
  }
};

template <class S>
struct silu_residual_forward_function {
  using A = accumulate_t<S>;
  __device__ __forceinline__ A operator()(A x, A u) const { return std::fma(u, sigmoid<S>(u), x); }
};

template <class S>
struct silu_residual_backward_function {
  using A = accumulate_t<S>;
  __device__ __forceinline__ A operator()(A dy, A u) const {
    return dy * silu_slope(u, sigmoid<S>(u));
  }
};

struct cuda_swiglu_ops {
  template <scalar S>
  static void swiglu_forward(cuda_context& context,
                             matrix_view<S, cuda> y,
                             matrix_view<const S, cuda> gate_up) {
    const index_t F = y.extent(1);
    map(context,
        "swiglu_forward",
        swiglu_forward_function<S>{},
        0,
        y,
        half(gate_up, 0, F),
        half(gate_up, F, F));
  }

  template <scalar S>
  static void swiglu_backward(cuda_context& context,
                              matrix_view<S, cuda> d_gate_up,
                              matrix_view<const S, cuda> dy,
                              matrix_view<const S, cuda> gate_up) {
    const index_t F = dy.extent(1);
    map<2>(context,
           "swiglu_backward",
           swiglu_backward_function<S>{},
           F,
           half(d_gate_up, 0, F),
           dy,
           half(gate_up, 0, F),
           half(gate_up, F, F));
  }

  template <scalar S>
  static void silu_residual_forward(cuda_context& context,
                                    matrix_view<S, cuda> y,
                                    matrix_view<const S, cuda> x,
                                    matrix_view<const S, cuda> u) {
    map(context, "silu_residual_forward", silu_residual_forward_function<S>{}, 0, y, x, u);
  }

  template <scalar S>
  static void silu_residual_backward(cuda_context& context,
                                     matrix_view<S, cuda> du,
                                     matrix_view<const S, cuda> dy,
                                     matrix_view<const S, cuda> u) {
    map(context, "silu_residual_backward", silu_residual_backward_function<S>{}, 0, du, dy, u);
  }

 private:
  /// Columns first .. first + F - 1.
  template <class Element>
  static matrix_view<Element, cuda> half(const matrix_view<Element, cuda>& gate_up,
                                         index_t first,
                                         index_t F) {
    return {gate_up.data() + first, {gate_up.extent(0), F}, gate_up.strides()};
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

// Linear maps on the GPU. Contracts: ops/linear.hpp.
//
// Few rows go through row_product.cuh, where a row's bits do not depend on their number. More rows,
// and all gradients, go through the product library.
#pragma once

#include <algorithm>
#include <type_traits>

#include "mtp/backend/cuda/column_sums.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/matmul.cuh"
#include "mtp/backend/cuda/row_product.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct linear_policy {
  static constexpr int threads = 256;           // of a block
  static constexpr int bias_lanes = 32;         // neighbouring threads
  static constexpr index_t bias_blocks = 1024;  // that share the rows of y
  static constexpr index_t bias_rows = 128;     // rows of a block
};

/// y[m] = bias for rows blockIdx.y, blockIdx.y + gridDim.y, .. A thread keeps its pack of the bias.
/// Bound by writing M N elements.
template <class S, bool Packed>
__global__ void __launch_bounds__(linear_policy::threads)
    linear_bias_kernel(S* __restrict__ y,  // [M, N] stride (y_row, 1)
                       index_t y_row,
                       const S* __restrict__ bias,  // [N]
                       index_t M,
                       index_t N) {
  const index_t n =
      (static_cast<index_t>(blockIdx.x) * linear_policy::threads + threadIdx.x) * pack<S>::width;
  if (n >= N) {
    return;
  }
  const pack<S> values = load_elements<Packed>(bias, n, N);
  for (index_t m = blockIdx.y; m < M; m += gridDim.y) {
    store_elements<Packed>(y + m * y_row, n, N, values);
  }
}

/// partial[j, n] = sum over the j-th 128 rows of dy[m, n]. A block processes 32 packs of columns:
/// warp i adds rows i, i + 8, .. of them in order, then the warps are added in order. Bound by
/// reading M N elements.
template <class S, bool Packed>
__global__ void __launch_bounds__(linear_policy::threads)
    linear_backward_bias_kernel(accumulate_t<S>* __restrict__ partial,  // [ceil(M / 128), N]
                                const S* __restrict__ dy,               // [M, N] stride (dy_row, 1)
                                index_t dy_row,
                                index_t M,
                                index_t N) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, lanes = linear_policy::bias_lanes;
  constexpr int warps = linear_policy::threads / lanes;
  A* const shared = dynamic_shared<A>();  // [warps, W, lanes]
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int warp = static_cast<int>(threadIdx.x) / lanes;
  const index_t n = (static_cast<index_t>(blockIdx.x) * lanes + lane) * W;
  const index_t begin = static_cast<index_t>(blockIdx.y) * linear_policy::bias_rows;
  const index_t end = begin + linear_policy::bias_rows < M ? begin + linear_policy::bias_rows : M;
  A sums[W] = {};
  if (n < N) {
    for (index_t m = begin + warp; m < end; m += warps) {
      const pack<S> row = load_elements<Packed>(dy + m * dy_row, n, N);
#pragma unroll
      for (int e = 0; e < W; ++e) {
        sums[e] += widen(row.elements[e]);
      }
    }
  }
#pragma unroll
  for (int e = 0; e < W; ++e) {
    shared[(warp * W + e) * lanes + lane] = sums[e];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < lanes * W; i += linear_policy::threads) {
    const index_t column = static_cast<index_t>(blockIdx.x) * lanes * W + i;
    if (column < N) {
      A sum = 0;
      for (int j = 0; j < warps; ++j) {
        sum += shared[(j * W + i % W) * lanes + i / W];
      }
      partial[static_cast<index_t>(blockIdx.y) * N + column] = sum;
    }
  }
}

struct cuda_linear_ops {
  template <class S>
  using matrix = matrix_view<S, cuda>;

  template <scalar Y, scalar S>
  static void linear_forward(cuda_context& context,
                             matrix<Y> y,
                             matrix<const S> x,
                             weight_view<const S, cuda> w) {
    forward<Y, S>(context, "linear_forward", y, x, w, nullptr, 0);
  }

  template <scalar S>
  static void linear_bias_forward(cuda_context& context,
                                  matrix<S> y,
                                  matrix<const S> x,
                                  weight_view<const S, cuda> w,
                                  vector_view<const S, cuda> bias) {
    const char* const name = "linear_bias_forward";
    const index_t M = y.extent(0), N = y.extent(1);
    if (M <= invariant_rows) {
      forward<S, S>(context, name, y, x, w, bias.data(), 0);
      return;
    }
    const arena::scope scope(context.workspace());
    const matrix<S> biases = library_adds_in_place<S> ? y : take_rows<S>(context, M, N);
    constexpr index_t columns = index_t{linear_policy::threads} * pack<S>::width;
    const bool packed = in_packs(biases.data(), biases.stride(0), N) && in_packs(bias.data(), 0, N);
    launch(context,
           name,
           dim3(extent_of(ceil_div(N, columns), name),
                extent_of(std::min(M, linear_policy::bias_blocks), name)),
           dim3(linear_policy::threads),
           0,
           packed ? linear_bias_kernel<S, true> : linear_bias_kernel<S, false>,
           biases.data(),
           biases.stride(0),
           bias.data(),
           M,
           N);
    forward<S, S>(context, name, y, x, w, biases.data(), biases.stride(0));
  }

  template <scalar S>
  static void linear_add_forward(cuda_context& context,
                                 matrix<S> y,
                                 matrix<const S> x,
                                 weight_view<const S, cuda> w,
                                 matrix<const S> residual) {
    const char* const name = "linear_add_forward";
    const arena::scope scope(context.workspace());
    const bool by_library = x.extent(0) > invariant_rows;
    const matrix<const S> added = by_library ? apart(context, name, residual, y) : residual;
    forward<S, S>(context, name, y, x, w, added.data(), added.stride(0));
  }

  template <scalar S>
  static void linear_backward_input(cuda_context& context,
                                    matrix<S> dx,
                                    matrix<const S> dy,
                                    weight_view<const S, cuda> w) {
    backward_input<S>(context, "linear_backward_input", dx, dy, w, nullptr, 0);
  }

  template <scalar S>
  static void linear_add_backward_input(cuda_context& context,
                                        matrix<S> dx,
                                        matrix<const S> dy,
                                        weight_view<const S, cuda> w,
                                        matrix<const S> residual) {
    const char* const name = "linear_add_backward_input";
    const arena::scope scope(context.workspace());
    const matrix<const S> added = apart(context, name, residual, dx);
    backward_input<S>(context, name, dx, dy, w, added.data(), added.stride(0));
  }

  template <scalar S>
  static void linear_backward_weight(cuda_context& context,
                                     weight_view<accumulate_t<S>, cuda> dw,
                                     matrix<const S> dy,
                                     matrix<const S> x) {
    if (dy.extent(0) == 0) {
      return;
    }
    run_product(context,
                "linear_backward_weight",
                library_product<S, accumulate_t<S>>{.M = dw.outputs,
                                                    .N = dw.inputs,
                                                    .K = dy.extent(0),
                                                    .a = {dy.data(), dy.stride(0), true},
                                                    .b = {x.data(), x.stride(0)},
                                                    .c = dw.data,
                                                    .c_stride = dw.inputs,
                                                    .added = dw.data,
                                                    .added_stride = dw.inputs});
  }

  template <scalar S>
  static void linear_backward_bias(cuda_context& context,
                                   vector_view<accumulate_t<S>, cuda> dbias,
                                   matrix<const S> dy) {
    using A = accumulate_t<S>;
    const char* const name = "linear_backward_bias";
    constexpr index_t columns = index_t{linear_policy::bias_lanes} * pack<S>::width;
    const index_t M = dy.extent(0), N = dy.extent(1);
    const index_t parts = ceil_div(M, linear_policy::bias_rows);
    if (parts == 0) {
      return;
    }
    const arena::scope scope(context.workspace());
    A* const partial = context.workspace().template take<A>(parts * N);  // [parts, N]
    launch(context,
           name,
           dim3(extent_of(ceil_div(N, columns), name), extent_of(parts, name)),
           dim3(linear_policy::threads),
           sizeof(A) * linear_policy::threads * pack<S>::width,
           in_packs(dy.data(), dy.stride(0), N) ? linear_backward_bias_kernel<S, true>
                                                : linear_backward_bias_kernel<S, false>,
           partial,
           dy.data(),
           dy.stride(0),
           M,
           N);
    add_column_sums(context, name, dbias.data(), partial, N, parts, N);
  }

  /// The most bytes of workspace that the operations need for `rows` rows and a weight of this
  /// size.
  template <scalar S>
  static constexpr index_t linear_workspace(index_t rows,
                                            index_t outputs,
                                            index_t inputs,
                                            index_t) {
    const index_t parts = ceil_div(rows, linear_policy::bias_rows);
    return std::max(
        arena_bytes(parts * outputs, sizeof(accumulate_t<S>)),
        library_adds_in_place<S> ? 0 : arena_bytes(rows * std::max(outputs, inputs), sizeof(S)));
  }
  /// The most bytes of workspace that the forward operations need.
  template <scalar S>
  static constexpr index_t linear_forward_workspace(index_t rows,
                                                    index_t outputs,
                                                    index_t,
                                                    index_t) {
    const bool by_library = rows > invariant_rows;
    return library_adds_in_place<S> || !by_library ? 0 : arena_bytes(rows * outputs, sizeof(S));
  }

 private:
  /// Rows in the workspace.
  template <scalar S>
  static matrix<S> take_rows(cuda_context& context, index_t rows, index_t columns) {
    return {context.workspace().template take<S>(rows * columns), {rows, columns}};
  }

  /// The term that is added to a product: y itself, or, if that would cost a rounding, a copy in
  /// the workspace.
  template <scalar S>
  static matrix<const S> apart(cuda_context& context,
                               const char* function,
                               matrix<const S> added,
                               matrix<S> y) {
    if (library_adds_in_place<S> || added.data() != y.data() || added.empty()) {
      return added;
    }
    const matrix<S> copied = take_rows<S>(context, added.extent(0), added.extent(1));
    const auto bytes = [](index_t elements) {
      return static_cast<std::size_t>(elements) * sizeof(S);
    };
    check_cuda(cudaMemcpy2DAsync(copied.data(),
                                 bytes(copied.stride(0)),
                                 added.data(),
                                 bytes(added.stride(0)),
                                 bytes(added.extent(1)),
                                 static_cast<std::size_t>(added.extent(0)),
                                 cudaMemcpyDeviceToDevice,
                                 context.stream()),
               function);
    return copied;
  }

  template <scalar Y, scalar S>
  static void forward(cuda_context& context,
                      const char* function,
                      const matrix<Y>& y,
                      const matrix<const S>& x,
                      const weight_view<const S, cuda>& w,
                      const S* init,  // [M, N] stride (init_row, 1), or null
                      index_t init_row) {
    const index_t M = x.extent(0), N = w.outputs, K = w.inputs;
    if (M <= invariant_rows) {
      run_row_product<S, Y>(context,
                            function,
                            y.data(),
                            y.stride(0),
                            init,
                            init_row,
                            x.data(),
                            x.stride(0),
                            M,
                            w.data,
                            N,
                            K);
      return;
    }
    library_product<S, Y> p{.M = M,
                            .N = N,
                            .K = K,
                            .a = {x.data(), x.stride(0)},
                            .b = {w.data, K, true},
                            .c = y.data(),
                            .c_stride = y.stride(0)};
    if constexpr (std::is_same_v<Y, S>) {
      p.added = init;
      p.added_stride = init_row;
    }
    run_product(context, function, p);
  }

  template <scalar S>
  static void backward_input(cuda_context& context,
                             const char* function,
                             const matrix<S>& dx,
                             const matrix<const S>& dy,
                             const weight_view<const S, cuda>& w,
                             const S* residual,  // [M, K] stride (residual_row, 1), or null
                             index_t residual_row) {
    run_product(context,
                function,
                library_product<S, S>{.M = dy.extent(0),
                                      .N = w.inputs,
                                      .K = w.outputs,
                                      .a = {dy.data(), dy.stride(0)},
                                      .b = {w.data, w.inputs},
                                      .c = dx.data(),
                                      .c_stride = dx.stride(0),
                                      .added = residual,
                                      .added_stride = residual_row});
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

// RMSNorm on the GPU. Contracts: ops/rms_norm.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "mtp/backend/cuda/column_sums.cuh"
#include "mtp/backend/cuda/rms_norm_kernels.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The kernel whose threads keep `kept` packs of a row.
template <class S, bool Packed>
auto rms_norm_backward_kernel_for(int kept) {
  return kept == 1   ? rms_norm_backward_kernel<S, Packed, 1>
         : kept == 2 ? rms_norm_backward_kernel<S, Packed, 2>
                     : rms_norm_backward_kernel<S, Packed, 4>;
}

struct cuda_rms_norm_ops {
  template <class S>
  using heads = view<S, dims<3>, cuda>;

  template <scalar S>
  static void rms_norm_forward(cuda_context& context,
                               heads<S> y,
                               matrix_view<accumulate_t<S>, cuda> inv_rms,
                               heads<const S> x,
                               vector_view<const S, cuda> weight,
                               double epsilon) {
    const char* const name = "rms_norm_forward";
    const unsigned rows = rows_of(x, name);
    const int C = row_length(x.extent(2), name);
    const bool packed = is_packed(y) && is_packed(x) && in_packs(weight.data(), 0, C);
    const team_shape teams = team_for(ceil_div(C, pack<S>::width),
                                      rms_norm_policy::forward_packs,
                                      rms_norm_policy::forward_threads);
    launch_overlapped(context,
                      name,
                      {.constants = range_of(weight), .written = {range_of(y), range_of(inv_rms)}},
                      dim3(extent_of(ceil_div(rows, teams.teams), name)),
                      dim3(static_cast<unsigned>(teams.threads())),
                      sizeof(accumulate_t<S>) * team_reduction_size,
                      packed ? rms_norm_forward_kernel<S, true> : rms_norm_forward_kernel<S, false>,
                      head_rows<S>(y),
                      head_values<accumulate_t<S>>(inv_rms),
                      head_rows<const S>(x),
                      weight.data(),
                      rows,
                      C,
                      static_cast<accumulate_t<S>>(epsilon),
                      teams.size);
  }

  template <scalar S>
  static void rms_norm_backward(cuda_context& context,
                                heads<S> dx,
                                vector_view<accumulate_t<S>, cuda> dweight,
                                heads<const S> dy,
                                heads<const S> x,
                                matrix_view<const accumulate_t<S>, cuda> inv_rms,
                                vector_view<const S, cuda> weight,
                                heads<const S> residual) {
    using A = accumulate_t<S>;
    const char* const name = "rms_norm_backward";
    const unsigned rows = rows_of(x, name);
    const int C = row_length(x.extent(2), name);
    if (rows == 0 || C == 0) {
      return;
    }
    using policy = rms_norm_policy;
    const index_t packs = ceil_div(C, pack<S>::width);
    const int kept = policy::backward_packs(packs);
    const team_shape teams = team_for(packs, kept, policy::backward_threads);
    const index_t blocks = std::min(ceil_div(rows, teams.teams), policy::backward_blocks);
    const arena::scope scope(context.workspace());
    A* const partial = dweight.data() != nullptr ? context.workspace().template take<A>(blocks * C)
                                                 : nullptr;  // [blocks, C]
    const bool packed = is_packed(dx) && is_packed(dy) && is_packed(x) &&
                        in_packs(weight.data(), 0, C) &&
                        (residual.data() == nullptr || is_packed(residual));
    if (packs <= policy::most_packs) {
      const auto kernel = packed ? rms_norm_backward_kernel_for<S, true>(kept)
                                 : rms_norm_backward_kernel_for<S, false>(kept);
      const int operands = residual.data() != nullptr ? 3 : 2;
      const auto shared = static_cast<std::size_t>(teams.threads()) *
                              static_cast<std::size_t>(policy::ring_packs * operands) *
                              sizeof(pack<S>) +
                          sizeof(A) * 2 * team_reduction_size;
      launch(context,
             name,
             dim3(extent_of(blocks, name)),
             dim3(static_cast<unsigned>(teams.threads())),
             shared,
             kernel,
             head_rows<S>(dx),
             partial,
             head_rows<const S>(dy),
             head_rows<const S>(x),
             head_values<const A>(inv_rms),
             weight.data(),
             head_rows<const S>(residual),
             rows,
             C,
             teams.size);
    } else {
      if (partial != nullptr) {  // first: dx may be dy
        constexpr int threads = policy::forward_threads;
        launch(context,
               name,
               dim3(extent_of(ceil_div(C, threads), name), extent_of(blocks, name)),
               dim3(threads),
               0,
               rms_norm_backward_weight_kernel<S>,
               partial,
               head_rows<const S>(dy),
               head_rows<const S>(x),
               head_values<const A>(inv_rms),
               rows,
               C);
      }
      launch(
          context,
          name,
          dim3(rows),
          dim3(most_threads),
          sizeof(A) * team_reduction_size,
          packed ? rms_norm_backward_wide_kernel<S, true> : rms_norm_backward_wide_kernel<S, false>,
          head_rows<S>(dx),
          head_rows<const S>(dy),
          head_rows<const S>(x),
          head_values<const A>(inv_rms),
          weight.data(),
          head_rows<const S>(residual),
          C);
    }
    if (partial != nullptr) {
      add_column_sums(context, name, dweight.data(), partial, C, blocks, C);
    }
  }

  /// The most bytes of workspace that row-wise operations (norms, rotations, activations, biases)
  /// need for `rows` rows of at most `columns` elements.
  template <scalar S>
  static constexpr index_t row_workspace(index_t rows, index_t columns, index_t) {
    return arena_bytes(std::min(rows, rms_norm_policy::backward_blocks) * columns,
                       sizeof(accumulate_t<S>));
  }

 private:
  template <class Element>
  static unsigned rows_of(const view<Element, dims<3>, cuda>& x, const char* function) {
    return extent_of(x.extent(0) * x.extent(1), function);
  }
  template <class Element>
  static bool is_packed(const view<Element, dims<3>, cuda>& x) {
    return in_packs(x.data(), x.stride(0), x.extent(2)) &&
           (x.extent(1) <= 1 || x.stride(1) % pack<std::remove_const_t<Element>>::width == 0);
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

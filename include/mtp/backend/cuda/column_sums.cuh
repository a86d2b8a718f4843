// Sums over rows for each column: how partial gradients of norms and biases become one.
#pragma once

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"

namespace mtp::cuda_detail {

/// Threads of a block: 32 columns side by side, 8 groups of rows.
inline constexpr int column_lanes = 32;
inline constexpr int column_groups = 8;

/// sums[c] += sum over r of rows[r, c]. One block for 32 columns; group j adds rows j, j + 8, ...
/// in order, then the groups are added in order: the order of the sum depends on R alone. Reads R C
/// elements.
template <class S, class Sum>
__global__ void __launch_bounds__(column_lanes* column_groups)
    column_sums_kernel(Sum* __restrict__ sums,      // [C]
                       const S* __restrict__ rows,  // [R, C] stride (row_stride, 1)
                       index_t row_stride,
                       index_t R,
                       index_t C) {
  Sum* const shared = dynamic_shared<Sum>();  // [column_groups, column_lanes]
  const int lane = static_cast<int>(threadIdx.x) % column_lanes;
  const int group = static_cast<int>(threadIdx.x) / column_lanes;
  const index_t c = static_cast<index_t>(blockIdx.x) * column_lanes + lane;
  Sum sum = 0;
  if (c < C) {
    for (index_t r = group; r < R; r += column_groups) {
      sum += static_cast<Sum>(widen(rows[r * row_stride + c]));
    }
  }
  shared[group * column_lanes + lane] = sum;
  __syncthreads();
  if (group == 0 && c < C) {
    Sum total = sums[c];
    for (int j = 0; j < column_groups; ++j) {
      total += shared[j * column_lanes + lane];
    }
    sums[c] = total;
  }
}

template <class S, class Sum>
void add_column_sums(cuda_context& context,
                     const char* function,
                     Sum* sums,      // [C]
                     const S* rows,  // [R, C] stride (row_stride, 1)
                     index_t row_stride,
                     index_t R,
                     index_t C) {
  launch(context,
         function,
         dim3(extent_of(ceil_div(C, column_lanes), function)),
         dim3(column_lanes * column_groups),
         sizeof(Sum) * column_lanes * column_groups,
         column_sums_kernel<S, Sum>,
         sums,
         rows,
         row_stride,
         R,
         C);
}

}  // namespace mtp::cuda_detail

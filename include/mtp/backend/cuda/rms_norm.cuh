// RMSNorm on the GPU. Contracts: ops/rms_norm.hpp.
//
// A group of threads takes a row: a warp for narrow rows, a block for wide ones. Rows stay in
// registers between the sum and its use, so forward moves 2 N C elements and backward 3 N C (4 N C
// with a residual): both are bound by memory.
#pragma once

#include <algorithm>
#include <cmath>

#include "mtp/backend/cuda/column_sums.cuh"
#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/reduce_block.cuh"
#include "mtp/core/view.hpp"

namespace mtp::cuda_detail {

struct rms_norm_policy {
  static constexpr int threads = 256;  // of a block
  static constexpr int kept = 4;       // packs of a row that a thread keeps in registers
  /// Rows that add up their part of dweight before it leaves the chip are shared out among this
  /// many groups; fixed, so that the order of the sum is.
  static constexpr index_t backward_groups = 1024;

  template <class S>
  static constexpr index_t widest_row(int group) {
    return index_t{group} * kept * pack<S>::width;
  }
};

/// A row of x [N, H, C]: where it begins.
template <class Element>
struct head_rows {
  Element* data;  // [N, H, C] stride (row, head, 1)
  index_t row;
  index_t head;
  index_t heads;

  explicit head_rows(const view<Element, dims<3>, cuda>& x)
      : data(x.data()), row(x.stride(0)), head(x.stride(1)), heads(x.extent(1)) {}
  __device__ __forceinline__ Element* at(index_t r) const {
    return data + r / heads * row + r % heads * head;
  }
};

/// The sum over the threads of a group; each gets the same bits.
template <int Group, class T>
__device__ __forceinline__ T group_sum(T value, T* shared) {  // [block_reduction_size]
  if constexpr (Group == warp_size) {
    return warp_sum(value);
  } else {
    return block_sum(value, shared);
  }
}

/// Row r is normed by the threads of one group: y = x r weight. Pack p * Group + t belongs to
/// thread t.
template <class S, int Group, bool Packed>
__global__ void __launch_bounds__(rms_norm_policy::threads) rms_norm_forward_kernel(
    head_rows<S> y,
    accumulate_t<S>* __restrict__ inv_rms,  // [N, H] stride (inv_row, inv_head)
    index_t inv_row,
    index_t inv_head,
    head_rows<const S> x,
    const S* __restrict__ weight,  // [C]
    index_t rows,
    index_t C,
    accumulate_t<S> epsilon) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, kept = rms_norm_policy::kept;
  const index_t r = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / Group;
  const index_t first = static_cast<index_t>(threadIdx.x) % Group * W;
  const bool inside = r < rows;  // a whole group is inside or not
  const S* const from = x.at(inside ? r : 0);
  pack<S> row[kept];
  A squares = 0;
#pragma unroll
  for (int p = 0; p < kept; ++p) {
    const index_t c = first + index_t{p} * Group * W;
    if (inside && c < C) {
      row[p] = load_elements<Packed>(from, c, C);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const A value = widen(row[p].elements[i]);
        squares = std::fma(value, value, squares);
      }
    }
  }
  for (index_t c = first + index_t{kept} * Group * W; inside && c < C; c += Group * W) {
    const pack<S> more = load_elements<Packed>(from, c, C);
    for (int i = 0; i < W; ++i) {
      const A value = widen(more.elements[i]);
      squares = std::fma(value, value, squares);
    }
  }
  const A mean = group_sum<Group>(squares, dynamic_shared<A>()) / static_cast<A>(C);
  if (!inside) {
    return;
  }
  const A inverse = A(1) / std::sqrt(mean + epsilon);
  if (first == 0) {
    inv_rms[r / x.heads * inv_row + r % x.heads * inv_head] = inverse;
  }
  const auto write = [&](index_t c, pack<S> values) {
    const pack<S> scale = load_elements<Packed>(weight, c, C);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      values.elements[i] =
          narrow<S>(widen(values.elements[i]) * inverse * widen(scale.elements[i]));
    }
    store_elements<Packed>(y.at(r), c, C, values);
  };
#pragma unroll
  for (int p = 0; p < kept; ++p) {
    const index_t c = first + index_t{p} * Group * W;
    if (c < C) {
      write(c, row[p]);
    }
  }
  for (index_t c = first + index_t{kept} * Group * W; c < C; c += Group * W) {
    write(c, load_elements<Packed>(from, c, C));
  }
}

/// Group j takes rows j, j + groups, ..: dx of each, and in partial[j] the sum of their parts of
/// dweight, which stays in registers until the last row. Rows wider than a group keeps go through
/// rms_norm_backward_weight_kernel for dweight.
template <class S, int Group, bool Packed>
__global__ void __launch_bounds__(rms_norm_policy::threads)
    rms_norm_backward_kernel(head_rows<S> dx,
                             accumulate_t<S>* __restrict__ partial,  // [groups, C], or null
                             head_rows<const S> dy,
                             head_rows<const S> x,
                             const accumulate_t<S>* __restrict__ inv_rms,  // [N, H] stride (.., ..)
                             index_t inv_row,
                             index_t inv_head,
                             const S* __restrict__ weight,  // [C]
                             head_rows<const S> residual,   // data null: none
                             index_t rows,
                             index_t C,
                             index_t groups) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width, kept = rms_norm_policy::kept;
  const index_t group = (static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x) / Group;
  const index_t first = static_cast<index_t>(threadIdx.x) % Group * W;
  A dweight[kept][W] = {};
  // Every group of a block makes the same number of rounds, because the sum is a barrier.
  for (index_t r = group; r - group < rows; r += groups) {
    const bool inside = group < groups && r < rows;
    const index_t place = inside ? r : 0;
    const A inverse = inv_rms[place / x.heads * inv_row + place % x.heads * inv_head];
    pack<S> values[kept], gradients[kept];
    A products = 0;
    const auto add_products = [&](const pack<S>& value, const pack<S>& gradient, index_t c) {
      const pack<S> scale = load_elements<Packed>(weight, c, C);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        products = std::fma(widen(gradient.elements[i]) * widen(scale.elements[i]),
                            widen(value.elements[i]),
                            products);
      }
    };
#pragma unroll
    for (int p = 0; p < kept; ++p) {
      const index_t c = first + index_t{p} * Group * W;
      if (inside && c < C) {
        values[p] = load_elements<Packed>(x.at(r), c, C);
        gradients[p] = load_elements<Packed>(dy.at(r), c, C);
        add_products(values[p], gradients[p], c);
      }
    }
    for (index_t c = first + index_t{kept} * Group * W; inside && c < C; c += Group * W) {
      add_products(load_elements<Packed>(x.at(r), c, C), load_elements<Packed>(dy.at(r), c, C), c);
    }
    const A mean = group_sum<Group>(products, dynamic_shared<A>()) / static_cast<A>(C);
    const A pull = -mean * inverse * inverse * inverse;
    const auto write = [&](index_t c, const pack<S>& value, const pack<S>& gradient) {
      const pack<S> scale = load_elements<Packed>(weight, c, C);
      pack<S> result;
      pack<S> added;
      if (residual.data != nullptr) {
        added = load_elements<Packed>(residual.at(r), c, C);
      }
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const A direct = widen(gradient.elements[i]) * widen(scale.elements[i]) * inverse;
        A sum = std::fma(widen(value.elements[i]), pull, direct);
        if (residual.data != nullptr) {
          sum += widen(added.elements[i]);
        }
        result.elements[i] = narrow<S>(sum);
      }
      store_elements<Packed>(dx.at(r), c, C, result);
    };
    if (inside) {
#pragma unroll
      for (int p = 0; p < kept; ++p) {
        const index_t c = first + index_t{p} * Group * W;
        if (c < C) {
#pragma unroll
          for (int i = 0; i < W; ++i) {
            dweight[p][i] = std::fma(widen(gradients[p].elements[i]),
                                     widen(values[p].elements[i]) * inverse,
                                     dweight[p][i]);
          }
          write(c, values[p], gradients[p]);
        }
      }
      for (index_t c = first + index_t{kept} * Group * W; c < C; c += Group * W) {
        write(c, load_elements<Packed>(x.at(r), c, C), load_elements<Packed>(dy.at(r), c, C));
      }
    }
  }
  if (partial != nullptr && group < groups) {
#pragma unroll
    for (int p = 0; p < kept; ++p) {
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const index_t c = first + index_t{p} * Group * W + i;
        if (c < C) {
          partial[group * C + c] = dweight[p][i];
        }
      }
    }
  }
}

/// partial[j, c] = sum over rows j, j + groups, .. of dy x inv_rms, for rows too wide to be kept.
/// Thread c of group j; reads 2 N C elements once more.
template <class S>
__global__ void __launch_bounds__(rms_norm_policy::threads)
    rms_norm_backward_weight_kernel(accumulate_t<S>* __restrict__ partial,  // [groups, C]
                                    head_rows<const S> dy,
                                    head_rows<const S> x,
                                    const accumulate_t<S>* __restrict__ inv_rms,  // [N, H]
                                    index_t inv_row,
                                    index_t inv_head,
                                    index_t rows,
                                    index_t C,
                                    index_t groups) {
  using A = accumulate_t<S>;
  const index_t c = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const index_t group = blockIdx.y;
  if (c >= C) {
    return;
  }
  A sum = 0;
  for (index_t r = group; r < rows; r += groups) {
    const A inverse = inv_rms[r / x.heads * inv_row + r % x.heads * inv_head];
    sum = std::fma(widen(dy.at(r)[c]), widen(x.at(r)[c]) * inverse, sum);
  }
  partial[group * C + c] = sum;
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
    const index_t rows = x.extent(0) * x.extent(1), C = x.extent(2);
    const bool packed = is_packed(y) && is_packed(x) && in_packs(weight.data(), 0, C);
    for_group<S>(C, packed, [&]<int Group, bool Packed>() {
      launch(context,
             "rms_norm_forward",
             grid_of(rows, Group),
             dim3(rms_norm_policy::threads),
             sizeof(accumulate_t<S>) * block_reduction_size,
             rms_norm_forward_kernel<S, Group, Packed>,
             head_rows<S>(y),
             inv_rms.data(),
             inv_rms.stride(0),
             inv_rms.stride(1),
             head_rows<const S>(x),
             weight.data(),
             rows,
             C,
             static_cast<accumulate_t<S>>(epsilon));
    });
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
    const index_t rows = x.extent(0) * x.extent(1), C = x.extent(2);
    if (rows == 0 || C == 0) {
      return;
    }
    const index_t groups = std::min(rows, rms_norm_policy::backward_groups);
    const arena::scope scope(context.workspace());
    A* const partial = dweight.data() != nullptr ? context.workspace().template take<A>(groups * C)
                                                 : nullptr;  // [groups, C]
    const bool packed = is_packed(dx) && is_packed(dy) && is_packed(x) &&
                        in_packs(weight.data(), 0, C) &&
                        (residual.data() == nullptr || is_packed(residual));
    const bool wide = C > rms_norm_policy::widest_row<S>(rms_norm_policy::threads);
    if (partial != nullptr && wide) {  // first: dx may be dy
      launch(context,
             name,
             dim3(extent_of(ceil_div(C, rms_norm_policy::threads), name), extent_of(groups, name)),
             dim3(rms_norm_policy::threads),
             0,
             rms_norm_backward_weight_kernel<S>,
             partial,
             head_rows<const S>(dy),
             head_rows<const S>(x),
             inv_rms.data(),
             inv_rms.stride(0),
             inv_rms.stride(1),
             rows,
             C,
             groups);
    }
    for_group<S>(C, packed, [&]<int Group, bool Packed>() {
      launch(context,
             name,
             grid_of(groups, Group),
             dim3(rms_norm_policy::threads),
             sizeof(A) * block_reduction_size,
             rms_norm_backward_kernel<S, Group, Packed>,
             head_rows<S>(dx),
             wide ? nullptr : partial,
             head_rows<const S>(dy),
             head_rows<const S>(x),
             inv_rms.data(),
             inv_rms.stride(0),
             inv_rms.stride(1),
             weight.data(),
             head_rows<const S>(residual),
             rows,
             C,
             groups);
    });
    if (partial != nullptr) {
      add_column_sums(context, name, dweight.data(), partial, C, groups, C);
    }
  }

  /// Bytes of workspace that operations row by row (norms, rotations, activations, biases) want for
  /// `rows` rows of at most `columns` elements.
  template <scalar S>
  static constexpr index_t row_workspace(index_t rows, index_t columns, index_t) {
    return arena_bytes(std::min(rows, rms_norm_policy::backward_groups) * columns,
                       sizeof(accumulate_t<S>));
  }

 private:
  template <class Element>
  static bool is_packed(const view<Element, dims<3>, cuda>& x) {
    return in_packs(x.data(), x.stride(0), x.extent(2)) &&
           (x.extent(1) <= 1 || x.stride(1) % pack<std::remove_const_t<Element>>::width == 0);
  }

  static dim3 grid_of(index_t groups, int group) {
    return dim3(extent_of(ceil_div(groups * group, rms_norm_policy::threads), "rms_norm"));
  }

  /// body<Group, Packed>() for the group that suits rows of C elements.
  template <class S, class Body>
  static void for_group(index_t C, bool packed, const Body& body) {
    const bool narrow_rows = C <= rms_norm_policy::widest_row<S>(warp_size);
    if (narrow_rows) {
      packed ? body.template operator()<warp_size, true>()
             : body.template operator()<warp_size, false>();
    } else {
      packed ? body.template operator()<rms_norm_policy::threads, true>()
             : body.template operator()<rms_norm_policy::threads, false>();
    }
  }
};

}  // namespace mtp::cuda_detail

// Linear maps of experts on the GPU. Contracts: ops/grouped_linear.hpp.
//
// Only the device knows how many rows an expert has. Grids are as large as the rows of all experts
// may need at worst, and blocks without rows end at once. Forward, a piece of at most 16 rows is a
// product of decoding (row_product.cuh), so a row's bits do not depend on the others; each piece
// reads its expert's weight, the later ones from the second-level cache. Gradients are products of
// tiles on ordinary cores.
#pragma once

#include "mtp/backend/cuda/row_pieces.cuh"
#include "mtp/backend/cuda/row_product.cuh"
#include "mtp/backend/cuda/tiled_product.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Parts of a product by row: a tile of rows of an expert, and the rows of its weight.
struct parts_by_row {
  expert_pieces<tiled_product_policy::tile> pieces;
  unsigned count;

  explicit parts_by_row(const expert_pieces<tiled_product_policy::tile>& some)
      : pieces(some), count(some.count) {}

  template <class C, class A, class B>
  __device__ __forceinline__ void take(unsigned number,
                                       strided_matrix<C>& c,
                                       strided_matrix<const C>&,
                                       strided_matrix<const A>& a,
                                       strided_matrix<const B>& b,
                                       index_t& M,
                                       index_t&) const {
    const row_piece piece = pieces.find(number);
    c.data += piece.first * c.row;
    a.data += piece.first * a.row;
    b.data += piece.weight_row * b.row;
    M = piece.rows;
  }
};

/// Parts of a product by expert: its rows are the chain of each element of its part of c, of M
/// rows.
struct parts_by_expert {
  const index_t* offsets;  // [count + 1]
  unsigned count;

  template <class C, class A, class B>
  __device__ __forceinline__ void take(unsigned e,
                                       strided_matrix<C>& c,
                                       strided_matrix<const C>& init,
                                       strided_matrix<const A>& a,
                                       strided_matrix<const B>& b,
                                       index_t& M,
                                       index_t& K) const {
    const index_t first = offsets[e];
    c.data += e * M * c.row;
    init = {c.data, c.row, c.column};  // added to: the same registers serve both
    a.data += first * a.column;
    b.data += first * b.row;
    K = offsets[e + 1] - first;
    M = K > 0 ? M : 0;
  }
};

struct cuda_grouped_linear_ops {
  template <class S>
  using matrix = matrix_view<S, cuda>;
  using offsets_view = vector_view<const index_t, cuda>;

  template <scalar S>
  static void grouped_linear_forward(cuda_context& context,
                                     matrix<S> y,
                                     matrix<const S> x,
                                     weight_view<const S, cuda> w,
                                     offsets_view offsets) {
    constexpr index_t most = row_product_policy::max_rows;
    const index_t E = offsets.extent(0) - 1, N = y.extent(1), R = y.extent(0);
    extent_of(R, "grouped_linear_forward");  // rows are numbers of int
    if (R > 0 && N > 0) {
      run_row_product_pieces<S>(context,
                                "grouped_linear_forward",
                                {y.data(), nullptr, y.stride(0), nullptr, 0},
                                x.data(),
                                x.stride(0),
                                expert_pieces<most>(offsets.data(), E, N, R),
                                most,
                                w.data,
                                N,
                                w.inputs);
    }
  }

  template <scalar S>
  static void grouped_linear_backward_input(cuda_context& context,
                                            matrix<S> dx,
                                            matrix<const S> dy,
                                            weight_view<const S, cuda> w,
                                            offsets_view offsets) {
    const char* const name = "grouped_linear_backward_input";
    constexpr int tile = tiled_product_policy::tile;
    const index_t E = offsets.extent(0) - 1, N = dy.extent(1), R = dy.extent(0);
    extent_of(R, name);
    for_pieces(expert_pieces<tile>(offsets.data(), E, N, R), [&](const auto& pieces) {
      run_tiled_product(context,
                        name,
                        strided_matrix<S>{dx.data(), dx.stride(0), 1},
                        {},
                        strided_matrix<const S>{dy.data(), dy.stride(0), 1},
                        strided_matrix<const S>{w.data, w.inputs, 1},
                        tile,
                        w.inputs,
                        N,
                        parts_by_row(pieces));
    });
  }

  template <scalar S>
  static void grouped_linear_backward_weight(cuda_context& context,
                                             weight_view<accumulate_t<S>, cuda> dw,
                                             matrix<const S> dy,
                                             matrix<const S> x,
                                             offsets_view offsets) {
    using A = accumulate_t<S>;
    const index_t E = offsets.extent(0) - 1, N = dy.extent(1);
    check(E <= 65535, "grouped_linear_backward_weight: expected at most 65535 experts, got ", E);
    run_tiled_product(context,
                      "grouped_linear_backward_weight",
                      strided_matrix<A>{dw.data, dw.inputs, 1},
                      strided_matrix<const A>{dw.data, dw.inputs, 1},
                      strided_matrix<const S>{dy.data(), 1, dy.stride(0)},
                      strided_matrix<const S>{x.data(), x.stride(0), 1},
                      N,
                      dw.inputs,
                      dy.extent(0),
                      parts_by_expert{offsets.data(), static_cast<unsigned>(E)});
  }

  /// The most bytes of workspace that the operations need.
  template <scalar S>
  static constexpr index_t grouped_linear_workspace(index_t, index_t, index_t, index_t, index_t) {
    return 0;
  }
  /// The same for the forward operation.
  template <scalar S>
  static constexpr index_t grouped_linear_forward_workspace(
      index_t, index_t, index_t, index_t, index_t) {
    return 0;
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

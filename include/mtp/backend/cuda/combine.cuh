// The combination of hidden state and embedding on the GPU. Contracts: ops/combine.hpp.
//
// The concatenation of the two normed halves is stored for few rows only. For many rows, one half
// at a time is multiplied by its columns of the projection.
#pragma once

#include <algorithm>

#include "mtp/backend/cuda/combine_rows.cuh"
#include "mtp/backend/cuda/embedding.cuh"
#include "mtp/backend/cuda/linear.cuh"
#include "mtp/backend/cuda/rms_norm.cuh"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/ops/combine.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr int combine_threads = 256;

/// to[n, c] = x[n, c] inverse[n] scale[c]: the output of the norm, from the values that it stored.
/// A block processes a row. Bound by moving 2 N C elements.
template <class S, bool Packed>
__global__ void __launch_bounds__(combine_threads) combine_scale_kernel(
    S* __restrict__ to,       // [N, C]
    const S* __restrict__ x,  // [N, C] stride (x_row, 1)
    index_t x_row,
    const accumulate_t<S>* __restrict__ inverse,  // [N] stride (inverse_stride)
    index_t inverse_stride,
    const S* __restrict__ scale,  // [C]
    index_t C) {
  constexpr int W = pack<S>::width;
  const index_t n = blockIdx.x;
  const accumulate_t<S> factor = inverse[n * inverse_stride];
  for (index_t c = index_t{threadIdx.x} * W; c < C; c += index_t{combine_threads} * W) {
    pack<S> values = load_elements<Packed>(x + n * x_row, c, C);
    const pack<S> scales = load_elements<Packed>(scale, c, C);
#pragma unroll
    for (int e = 0; e < W; ++e) {
      values.elements[e] =
          narrow<S>(widen(values.elements[e]) * factor * widen(scales.elements[e]));
    }
    store_elements<Packed>(to + n * C, c, C, values);
  }
}

struct cuda_combine_ops {
  template <scalar S>
  static void combine_forward(cuda_context& context,
                              matrix_view<S, cuda> y,
                              vector_view<accumulate_t<S>, cuda> inv_hidden,
                              vector_view<accumulate_t<S>, cuda> inv_embedding,
                              matrix_view<const S, cuda> hidden,
                              weight_view<const S, cuda> table,
                              vector_view<const token_t, cuda> tokens,
                              vector_view<const S, cuda> hidden_scale,
                              vector_view<const S, cuda> embedding_scale,
                              weight_view<const S, cuda> projection,
                              concat_order order,
                              double epsilon) {
    const bool hidden_first = order == concat_order::hidden_first;
    const index_t N = hidden.extent(0), C = hidden.extent(1);
    if (N <= invariant_rows) {
      forward_few_rows(context,
                       y,
                       combined_rows<S>{.hidden = hidden.data(),
                                        .hidden_row = hidden.stride(0),
                                        .table = table.data,
                                        .tokens = tokens.data(),
                                        .V = table.outputs,
                                        .C = C,
                                        .hidden_scale = hidden_scale.data(),
                                        .embedding_scale = embedding_scale.data(),
                                        .inv_hidden = inv_hidden.data(),
                                        .inv_embedding = inv_embedding.data(),
                                        .inv_hidden_stride = inv_hidden.stride(0),
                                        .inv_embedding_stride = inv_embedding.stride(0),
                                        .epsilon = static_cast<accumulate_t<S>>(epsilon),
                                        .hidden_first = hidden_first,
                                        .first = 0,
                                        .faults = context.faults()},
                       N,
                       projection);
      return;
    }
    const arena::scope scope(context.workspace());
    const matrix_view<S, cuda> normed = take_rows<S>(context, N, C);
    const matrix_view<S, cuda> half =
        library_adds_in_place<S> ? y : take_rows<S>(context, N, y.extent(1));
    norm(context, normed, inv_hidden, hidden, hidden_scale, epsilon);
    add_half<S>(context, half, {nullptr, {0, 0}}, normed, projection, hidden_first);
    cuda_embedding_ops::embedding_forward<S>(context, normed, table, tokens);
    norm(context, normed, inv_embedding, normed, embedding_scale, epsilon);
    add_half<S>(context, y, half, normed, projection, !hidden_first);
  }

  /// `Rows` reads rows of the table, and adds to those of its gradient.
  template <scalar S, class Rows = cuda_embedding_ops>
  static void combine_backward(cuda_context& context,
                               matrix_view<S, cuda> dhidden,
                               vector_view<accumulate_t<S>, cuda> d_hidden_scale,
                               vector_view<accumulate_t<S>, cuda> d_embedding_scale,
                               weight_view<accumulate_t<S>, cuda> dprojection,
                               weight_view<accumulate_t<S>, cuda> dtable,
                               matrix_view<const S, cuda> dy,
                               matrix_view<const S, cuda> hidden,
                               vector_view<const accumulate_t<S>, cuda> inv_hidden,
                               vector_view<const accumulate_t<S>, cuda> inv_embedding,
                               weight_view<const S, cuda> table,
                               vector_view<const token_t, cuda> tokens,
                               vector_view<const S, cuda> hidden_scale,
                               vector_view<const S, cuda> embedding_scale,
                               weight_view<const S, cuda> projection,
                               concat_order order) {
    const bool hidden_first = order == concat_order::hidden_first;
    const index_t N = hidden.extent(0), C = hidden.extent(1);
    if (N == 0) {
      return;
    }
    const arena::scope scope(context.workspace());
    const matrix_view<S, cuda> scratch = take_rows<S>(context, N, C);
    const matrix_view<S, cuda> embedded = take_rows<S>(context, N, C);
    Rows::template embedding_forward<S>(context, embedded, table, tokens);
    backward_half<S>(context,
                     dhidden,
                     d_hidden_scale,
                     dprojection,
                     dy,
                     hidden,
                     inv_hidden,
                     hidden_scale,
                     projection,
                     hidden_first,
                     scratch);
    backward_half<S>(context,
                     scratch,
                     d_embedding_scale,
                     dprojection,
                     dy,
                     embedded,
                     inv_embedding,
                     embedding_scale,
                     projection,
                     !hidden_first,
                     scratch);
    if (dtable.data != nullptr) {
      Rows::template embedding_backward<S>(context, dtable, scratch, tokens);
    }
  }

  /// The most bytes of workspace that these operations need for `rows` rows of width C, projected
  /// to `outputs` elements, and a vocabulary of V tokens.
  template <scalar S>
  static constexpr index_t combine_workspace(
      index_t rows, index_t C, index_t outputs, index_t V, index_t threads) {
    return arena_bytes(rows * C, sizeof(S)) + arena_bytes(rows * std::max(C, outputs), sizeof(S)) +
           cuda_rms_norm_ops::row_workspace<S>(rows, C, threads) +
           cuda_embedding_ops::embedding_workspace<S>(rows, V, C, threads);
  }

 private:
  template <scalar S>
  static matrix_view<S, cuda> take_rows(cuda_context& context, index_t N, index_t C) {
    return {context.workspace().template take<S>(N * C), {N, C}};
  }

  template <scalar S>
  static void forward_few_rows(cuda_context& context,
                               const matrix_view<S, cuda>& y,
                               const combined_rows<S>& rows,
                               index_t N,
                               const weight_view<const S, cuda>& projection) {
    in_pieces(N, row_product_policy::max_rows, [&](index_t first, index_t count) {
      forward_piece<S>(context, y.slice(0, first, count), rows.from(first), count, projection);
    });
  }

  template <scalar S>
  static void forward_piece(cuda_context& context,
                            const matrix_view<S, cuda>& y,
                            const combined_rows<S>& rows,
                            index_t M,
                            const weight_view<const S, cuda>& projection) {
    const char* const name = "combine_forward";
    const index_t outputs = projection.outputs, K = projection.inputs;
    if constexpr (element_traits<S>::has_matrix_kernels) {
      if (M > 0 && K > 0 && outputs > 0 && rows_fit(M, K) && rows.in_packs() &&
          in_packs(projection.data, K, K)) {
        run_row_product_mma(context,
                            name,
                            {y.data(), nullptr, y.stride(0), nullptr, 0},
                            rows,
                            one_piece{static_cast<int>(M)},
                            M,
                            projection.data,
                            outputs,
                            K);
        return;
      }
    }
    const arena::scope scope(context.workspace());
    S* const combined = context.workspace().template take<S>(M * K);  // [M, 2C]
    run_combine_rows(context, name, combined, rows, M);
    run_row_product<S, S>(context,
                          name,
                          y.data(),
                          y.stride(0),
                          nullptr,
                          0,
                          combined,
                          K,
                          M,
                          projection.data,
                          outputs,
                          K);
  }

  template <scalar S>
  static void norm(cuda_context& context,
                   matrix_view<S, cuda> to,                             // [N, C], may be x
                   vector_view<accumulate_t<S>, cuda> inverse,          // [N]
                   std::type_identity_t<matrix_view<const S, cuda>> x,  // [N, C]
                   vector_view<const S, cuda> scale,                    // [C]
                   double epsilon) {
    cuda_rms_norm_ops::rms_norm_forward<S>(context,
                                           mtp::detail::as_heads(to),
                                           mtp::detail::as_column(inverse),
                                           mtp::detail::as_heads(x),
                                           scale,
                                           epsilon);
  }

  /// Columns [0, C) or [C, 2C) of the projection, as a factor.
  template <class S>
  static S* half_of(const weight_view<S, cuda>& projection, bool first) {
    return projection.data + (first ? 0 : projection.inputs / 2);
  }

  /// y = added + normed half^T
  template <scalar S>
  static void add_half(cuda_context& context,
                       const matrix_view<S, cuda>& y,            // [N, C']
                       const matrix_view<const S, cuda>& added,  // [N, C'], or nothing
                       const matrix_view<S, cuda>& normed,       // [N, C]
                       const weight_view<const S, cuda>& projection,
                       bool first) {
    run_product(context,
                "combine_forward",
                library_product<S, S>{.M = y.extent(0),
                                      .N = y.extent(1),
                                      .K = normed.extent(1),
                                      .a = {normed.data(), normed.stride(0)},
                                      .b = {half_of(projection, first), projection.inputs, true},
                                      .c = y.data(),
                                      .c_stride = y.stride(0),
                                      .added = added.data(),
                                      .added_stride = added.stride(0)});
  }

  /// All gradients of one half: dx [N, C] may be scratch [N, C], which first holds the normed rows
  /// and then their gradient.
  template <scalar S>
  static void backward_half(cuda_context& context,
                            const matrix_view<S, cuda>& dx,
                            const vector_view<accumulate_t<S>, cuda>& dscale,
                            const weight_view<accumulate_t<S>, cuda>& dprojection,
                            const matrix_view<const S, cuda>& dy,
                            const matrix_view<const S, cuda>& x,
                            const vector_view<const accumulate_t<S>, cuda>& inverse,
                            const vector_view<const S, cuda>& scale,
                            const weight_view<const S, cuda>& projection,
                            bool first,
                            const matrix_view<S, cuda>& scratch) {
    const char* const name = "combine_backward";
    const index_t N = x.extent(0), C = x.extent(1), outputs = projection.outputs;
    const bool packed = in_packs(x.data(), x.stride(0), C) && in_packs(scratch.data(), C, C) &&
                        in_packs(scale.data(), 0, C);
    launch(context,
           name,
           dim3(extent_of(N, name)),
           dim3(combine_threads),
           0,
           packed ? combine_scale_kernel<S, true> : combine_scale_kernel<S, false>,
           scratch.data(),
           x.data(),
           x.stride(0),
           inverse.data(),
           inverse.stride(0),
           scale.data(),
           C);
    accumulate_t<S>* const dhalf = half_of(dprojection, first);
    run_product(context,
                name,
                library_product<S, accumulate_t<S>>{.M = outputs,
                                                    .N = C,
                                                    .K = N,
                                                    .a = {dy.data(), dy.stride(0), true},
                                                    .b = {scratch.data(), C},
                                                    .c = dhalf,
                                                    .c_stride = 2 * C,
                                                    .added = dhalf,
                                                    .added_stride = 2 * C});
    run_product(context,
                name,
                library_product<S, S>{.M = N,
                                      .N = C,
                                      .K = outputs,
                                      .a = {dy.data(), dy.stride(0)},
                                      .b = {half_of(projection, first), 2 * C},
                                      .c = scratch.data(),
                                      .c_stride = C});
    cuda_rms_norm_ops::rms_norm_backward<S>(
        context,
        mtp::detail::as_heads(dx),
        dscale,
        mtp::detail::as_heads(matrix_view<const S, cuda>(scratch)),
        mtp::detail::as_heads(x),
        mtp::detail::as_column(inverse),
        scale,
        view<const S, dims<3>, cuda>(nullptr, {0, 0, 0}));
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

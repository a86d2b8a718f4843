// The input of an MTP module's projection for few rows: hidden state and embedding, each normed,
// next to each other in shared memory. Contract: ops/combine.hpp.
#pragma once

#include <cmath>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/row_product_mma.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Rows [RMSNorm(hidden[m]) ; RMSNorm(table[tokens[m]])] of 2C elements; the halves are swapped
/// unless hidden_first.
template <class S>
struct combined_rows {
  const S* hidden;  // [M, C] stride (hidden_row, 1)
  index_t hidden_row;
  const S* table;         // [V, C]
  const token_t* tokens;  // [M]
  index_t V;
  index_t C;
  const S* hidden_scale;           // [C]
  const S* embedding_scale;        // [C]
  accumulate_t<S>* inv_hidden;     // [M] stride (inv_hidden_stride)
  accumulate_t<S>* inv_embedding;  // [M] stride (inv_embedding_stride)
  index_t inv_hidden_stride;
  index_t inv_embedding_stride;
  accumulate_t<S> epsilon;
  bool hidden_first;
  index_t first;  // number of the first row, for reports
  fault_record* faults;

  /// If the product norms rows itself, all data can be read 16 bytes at a time, see in_packs.
  static constexpr bool packed = true, packed_only = true;
  bool in_packs() const {
    return cuda_detail::in_packs(hidden, hidden_row, C) && cuda_detail::in_packs(table, C, C) &&
           cuda_detail::in_packs(hidden_scale, 0, C) &&
           cuda_detail::in_packs(embedding_scale, 0, C);
  }

  /// The rows from another first row on.
  combined_rows from(index_t row) const {
    combined_rows rest = *this;
    rest.hidden += row * hidden_row;
    rest.tokens += row;
    rest.inv_hidden += row * inv_hidden_stride;
    rest.inv_embedding += row * inv_embedding_stride;
    rest.first += row;
    return rest;
  }

  __device__ __forceinline__ bool is_hidden(int half) const { return (half == 0) == hidden_first; }

  /// Element c of the row whose norm a half is. Null, which means zeros, if there is no such token.
  __device__ __forceinline__ const S* source(int m, int half, index_t c) const {
    if (is_hidden(half)) {
      return hidden + m * hidden_row + c;
    }
    const token_t token = tokens[m];
    return token >= 0 && token < V ? table + token * C + c : nullptr;
  }
  /// Element k of the two rows next to each other, before the norms.
  __device__ __forceinline__ const S* at(int m, index_t k) const {
    return k < C ? source(m, 0, k) : source(m, 1, k - C);
  }
  __device__ __forceinline__ const S* origin() const { return hidden; }
  __device__ __forceinline__ void finish(S* shared, int M) const;
};

/// A warp norms one row: lane l has its packs l, l + 32, .. in every kernel. read(c) returns the
/// pack at c, with zeros beyond C, and write(c, pack) stores it after the norm. Returns 1 / rms.
template <class S, bool Packed, class Read, class Write>
__device__ __forceinline__ accumulate_t<S> norm_row(const S* scale,  // [C]
                                                    index_t C,
                                                    accumulate_t<S> epsilon,
                                                    const Read& read,
                                                    const Write& write) {
  using A = accumulate_t<S>;
  constexpr int W = pack<S>::width;
  const index_t first = index_t{threadIdx.x} % warp_size * W;
  A squares = 0;
  for (index_t c = first; c < C; c += index_t{warp_size} * W) {
    const pack<S> values = read(c);
#pragma unroll
    for (int e = 0; e < W; ++e) {
      const A value = widen(values.elements[e]);
      squares = std::fma(value, value, squares);
    }
  }
  const A inverse = A(1) / std::sqrt(warp_sum(squares) / static_cast<A>(C) + epsilon);
  for (index_t c = first; c < C; c += index_t{warp_size} * W) {
    pack<S> values = read(c);
    const pack<S> factors = load_elements<Packed>(scale, c, C);
#pragma unroll
    for (int e = 0; e < W; ++e) {
      values.elements[e] =
          narrow<S>(widen(values.elements[e]) * inverse * widen(factors.elements[e]));
    }
    write(c, values);
  }
  return inverse;
}

/// Stores 1 / rms of a row for backward, and a fault for a token that does not exist.
template <class S>
__device__ __forceinline__ void finish_row(const combined_rows<S>& rows,
                                           int m,
                                           int half,
                                           accumulate_t<S> inverse) {
  if (rows.is_hidden(half)) {
    rows.inv_hidden[m * rows.inv_hidden_stride] = inverse;
  } else {
    rows.inv_embedding[m * rows.inv_embedding_stride] = inverse;
    if (rows.source(m, half, 0) == nullptr) {
      report_fault(rows.faults, fault_token, rows.first + m, rows.tokens[m], rows.V);
    }
  }
}

/// Norms the rows in shared memory in place, with a warp for each half of a row. Every block does
/// it for itself; the first one stores the results to keep.
template <class S>
__device__ __forceinline__ void combined_rows<S>::finish(S* shared, int M) const {
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  for (int i = static_cast<int>(threadIdx.x) / warp_size; i < 2 * M; i += warps) {
    const int m = i / 2, half = i % 2;
    const auto place = [&](index_t c) {
      return reinterpret_cast<pack<S>*>(shared +
                                        shared_row_offset(m, static_cast<int>(half * C + c), M));
    };
    const accumulate_t<S> inverse = norm_row<S, true>(
        is_hidden(half) ? hidden_scale : embedding_scale,
        C,
        epsilon,
        [&](index_t c) { return *place(c); },
        [&](index_t c, const pack<S>& values) { *place(c) = values; });
    if (blockIdx.x == 0 && threadIdx.x % warp_size == 0) {
      finish_row(*this, m, half, inverse);
    }
  }
  __syncthreads();
}

inline constexpr int combine_rows_threads = 256;

/// to = the combined rows, with a warp for each half of a row: for element types, widths and
/// alignments that the product does not norm itself. The bits are the same as there. For a few rows
/// its cost is the launch.
template <class S>
__global__ void __launch_bounds__(combine_rows_threads)
    combine_rows_kernel(S* __restrict__ to, combined_rows<S> rows, int M) {  // to [M, 2C]
  const index_t C = rows.C;
  const int i =
      static_cast<int>(blockIdx.x * (combine_rows_threads / warp_size) + threadIdx.x / warp_size);
  if (i >= 2 * M) {
    return;
  }
  const int m = i / 2, half = i % 2;
  const S* const from = rows.source(m, half, 0);
  S* const row = to + (index_t{2} * m + half) * C;
  const auto read = [&](index_t c) {
    return from != nullptr ? load_elements<false>(from, c, C) : pack<S>{};
  };
  const auto write = [&](index_t c, const pack<S>& values) {
    store_elements<false>(row, c, C, values);
  };
  const S* const scale = rows.is_hidden(half) ? rows.hidden_scale : rows.embedding_scale;
  const accumulate_t<S> inverse = norm_row<S, false>(scale, C, rows.epsilon, read, write);
  if (threadIdx.x % warp_size == 0) {
    finish_row(rows, m, half, inverse);
  }
}

template <class S>
void run_combine_rows(cuda_context& context,
                      const char* function,
                      S* to,  // [M, 2C]
                      const combined_rows<S>& rows,
                      index_t M) {
  launch(context,
         function,
         dim3(extent_of(ceil_div(2 * M * warp_size, combine_rows_threads), function)),
         dim3(combine_rows_threads),
         0,
         combine_rows_kernel<S>,
         to,
         rows,
         static_cast<int>(M));
}

}  // namespace mtp::inline MTP_ABI::cuda_detail

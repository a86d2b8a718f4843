// Products with the transpose of a weight for few rows: lanes are rows, and the weight is read as
// it lies in memory.
//
// dx[r, k] = sum over n of dy[r, n] W[n, k], one chain over n from zero on, as the product with
// panels of the transpose has it (product.hpp): the factors of a link change places, which changes
// no bit. Packing rows takes K times fewer steps than transposing W, and is done once for all of W.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/product.hpp"
#include "mtp/backend/cpu/transpose.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Rows that are multiplied at a time: two panels of lanes.
template <real S>
inline constexpr index_t lane_rows = 2 * panel_width<S>;
/// Inputs whose sums stay in the first-level cache while all outputs pass, beside their part of a
/// panel of W: whole tiles, and whole blocks of a transposition.
inline constexpr index_t lane_inputs = 4 * tile_rows;
static_assert(lane_inputs % tile_rows == 0);

/// Elements of scratch for each thread: packed rows of N elements, sums, and a transposed block.
template <real S>
constexpr index_t lane_scratch(index_t N) {
  return lane_rows<S> * (N + lane_inputs) + transposed_rows<S> * panel_width<S>;
}

/// to [rows, count] (=) the transpose of sums [count][row].
template <real S>
inline void write_lanes(matrix_view<S, cpu> to, const S* sums, index_t row, S* block) {
  constexpr index_t size = transposed_rows<S>;
  const index_t rows = to.extent(0), count = to.extent(1);
  for (index_t r = 0; r < rows; r += size) {
    for (index_t k = 0; k < count; k += size) {
      const index_t some = (std::min)(size, rows - r), columns = (std::min)(size, count - k);
      const S* from = block;
      index_t stride = panel_width<S>, step = 1;
      if (columns == size) {
        transpose_block(block, sums + k * row + r, row);
      } else {
        from = sums + k * row + r;
        stride = 1;
        step = row;
      }
      for (index_t i = 0; i < some; ++i) {
        S* const own = to.data() + (r + i) * to.stride(0) + k;
        for (index_t j = 0; j < columns; ++j) {
          own[j] = from[i * stride + j * step];
        }
      }
    }
  }
}

/// Inputs [begin, end) of dx [R, K], of at most lane_rows rows, for panels w of W [N, K]; packed:
/// pack_lanes of dy.  [ceil(R / width)][N][width]
template <real S>
inline void multiply_lanes(matrix_view<S, cpu> dx,
                           const S* packed,
                           const S* w,
                           index_t N,
                           index_t begin,
                           index_t end,
                           S* scratch) {
  constexpr index_t width = panel_width<S>, line = 64 / static_cast<index_t>(sizeof(S));
  const index_t K = dx.extent(1), panels = ceil_div(dx.extent(0), width), row = panels * width;
  S* const sums = scratch;  // [lane_inputs][panels][width]
  S* const block = scratch + lane_inputs * lane_rows<S>;
  for (index_t k = begin; k < end; k += lane_inputs) {
    const index_t count = (std::min)(lane_inputs, end - k);
    for (index_t n = 0; n < N; n += width) {
      const S* const part = w + n * K + k * width;  // [count][width]
      for (index_t i = 0; i < count; i += tile_rows) {
        const index_t rows = (std::min<index_t>)(tile_rows, count - i);
        const rows_of<S> a{part + i * width, width, 1};
        for (index_t next = 0; next < rows * width; next += line) {
          __builtin_prefetch(a.data + width * K + next);  // of the next panel: another page
        }
        for (index_t q = 0; q < panels; ++q) {
          const panels_of<S> c{sums + i * row + q * width, row, width};
          const panels_of<const S> init{n == 0 ? nullptr : c.data, row, width};
          multiply_rows<1, tile_rows>(
              rows, (std::min)(width, N - n), a, packed + (q * N + n) * width, index_t{0}, init, c);
        }
      }
    }
    write_lanes(dx.slice(1, k, count), sums, row, block);
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

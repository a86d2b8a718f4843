// Rows to lanes: from rows in memory to the panels that products read.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mtp/backend/cpu/multiply_tile.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Rows and columns that transpose_block exchanges at once.
template <real S>
inline constexpr index_t transposed_rows = 16;

/// to[j * panel_width + i] = from[i * row + j] for i, j < transposed_rows.
template <real S>
inline void transpose_block(S* to, const S* from, index_t row) {
  for (index_t i = 0; i < transposed_rows<S>; ++i) {
    for (index_t j = 0; j < transposed_rows<S>; ++j) {
      to[j * panel_width<S> + i] = from[i * row + j];
    }
  }
}

#if defined(EIGEN_VECTORIZE_AVX512)
/// In registers. Interleaving row i with row i + 8 rotates the bits of the index of each element by
/// one, and as many times as an index has bits exchange row and column.
template <>
inline void transpose_block(float* to, const float* from, index_t row) {
  constexpr int size = static_cast<int>(transposed_rows<float>);
  static_assert(size == 16);
  alignas(64) static constexpr std::int32_t first[size] = {
      0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  const __m512i low = _mm512_load_si512(first);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(size / 2));
  __m512 rows[size], turned[size];
  unroll<size>([&](int i)
                   __attribute__((always_inline)) { rows[i] = _mm512_loadu_ps(from + i * row); });
  unroll<4>([&](int) __attribute__((always_inline)) {
    unroll<size / 2>([&](int i) __attribute__((always_inline)) {
      turned[2 * i] = _mm512_permutex2var_ps(rows[i], low, rows[i + size / 2]);
      turned[2 * i + 1] = _mm512_permutex2var_ps(rows[i], high, rows[i + size / 2]);
    });
    unroll<size>([&](int i) __attribute__((always_inline)) { rows[i] = turned[i]; });
  });
  unroll<size>([&](int i) __attribute__((always_inline)) {
    _mm512_storeu_ps(to + i * panel_width<float>, rows[i]);
  });
}
#endif

/// [ceil(rows / width)][columns][width]: lanes are rows. Row i of `from` begins at from + i * row;
/// lanes behind the last row become zero.
template <real S>
inline void pack_lanes(S* to, const S* from, index_t row, index_t rows, index_t columns) {
  constexpr index_t width = panel_width<S>, size = transposed_rows<S>;
  static_assert(width % size == 0);
  for (index_t first = 0; first < round_up(rows, width); first += size) {
    S* const lanes_at = to + first / width * width * columns + first % width;
    index_t c = 0;
    for (; c + size <= columns && first + size <= rows; c += size) {
      for (index_t i = size; i < 2 * size; ++i) {  // pieces of rows, which no processor foresees
        __builtin_prefetch(from + (first + i) * row + c);
      }
      transpose_block(lanes_at + c * width, from + first * row + c, row);
    }
    const index_t count = std::clamp<index_t>(rows - first, 0, size);
    for (; c < columns; ++c) {
      for (index_t i = 0; i < count; ++i) {
        lanes_at[c * width + i] = from[(first + i) * row + c];
      }
      std::fill(lanes_at + c * width + count, lanes_at + c * width + size, S{0});
    }
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

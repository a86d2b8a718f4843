// The matrix product of the CPU backend: vector lanes are columns, every element is one chain.
//
// C(i, j) = init(i, j) + sum over p of A(i, p) * B(p, j)
//
// Each C(i, j) is computed as ((init + a0*b0) + a1*b1) + ..., one fused multiply-add after the
// other in the order of p, whatever the tile, the number of rows, the blocks or the threads. That
// is why five rows give bit for bit what one row gives.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "mtp/backend/cpu/multiply_tile.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// One product. `columns` need not be a multiple of the panel width; the tail of the last panel of
/// C is then not written. Packed panels of B are always whole.
template <real Real, class Weight = Real>
struct product {
  index_t rows = 0;
  index_t columns = 0;
  index_t inner_size = 0;
  rows_of<Real> a{};
  const Weight* b = nullptr;
  index_t b_panel = 0;                 // elements from one panel of B to the next
  index_t b_step = panel_width<Real>;  // from one step to the next; otherwise B is packed first
  panels_of<const Real> init{nullptr, 0, 0};
  panels_of<Real> c{nullptr, 0, 0};
  bool copies_rows = false;  // pack rows of A even if they could be read in place

  index_t panels() const { return ceil_div(columns, panel_width<Real>); }
  /// Rows that are a panel apart can be read in place only if the panel has no tail: the elements
  /// after the last column do not belong to B.
  bool packs_b() const {
    constexpr index_t width = panel_width<Real>;
    return b_step != width || (b_panel == width && columns % width != 0);
  }
  bool packs_a() const { return a.step != 1 || copies_rows; }
};

/// Whether the rows that a tile reads together fall into few sets of the first-level cache and
/// evict each other.
template <real Real>
constexpr bool rows_collide(index_t row) {
  constexpr index_t bytes_of_a_way = 4096;
  return row * static_cast<index_t>(sizeof(Real)) % (bytes_of_a_way / 2) == 0;
}

// Rows of A, in place or packed, that stay in the second-level cache while all panels pass; steps
// that keep a panel in the first-level cache.
inline constexpr index_t block_rows = 96;
inline constexpr index_t packed_rows = 384;
template <real Real>
inline constexpr index_t block_inner_size = 1024 / static_cast<index_t>(sizeof(Real));

/// Elements of scratch that multiply_block needs for each thread: packed rows of A and one packed
/// panel of B.
template <real Real>
inline constexpr index_t product_scratch = (packed_rows + panel_width<Real>)*block_inner_size<Real>;

/// The tail of the last panel, computed in a whole panel on the stack.
template <int MaxRows, real Real, class Weight>
inline void multiply_tail(index_t rows,
                          index_t valid,
                          index_t inner_size,
                          const rows_of<Real>& a,
                          const Weight* b,
                          index_t b_panel,
                          const panels_of<const Real>& init,
                          const panels_of<Real>& c) {
  constexpr index_t width = panel_width<Real>;
  alignas(64) Real padded[static_cast<std::size_t>(tile_rows * width)] = {};
  const panels_of<Real> whole{padded, width, width};
  panels_of<const Real> start{nullptr, 0, 0};
  if (init.data != nullptr) {
    for (index_t r = 0; r < rows; ++r) {
      std::copy_n(init.data + r * init.row, valid, padded + r * width);
    }
    start = {padded, width, width};
  }
  multiply_rows<1, MaxRows>(rows, inner_size, a, b, b_panel, start, whole);
  for (index_t r = 0; r < rows; ++r) {
    std::copy_n(padded + r * width, valid, c.data + r * c.row);
  }
}

/// Neighbouring panels that are multiplied at once for so few rows, if accumulators suffice: enough
/// chains for one row, and not more than that for several, because every panel is a stream of its
/// own from memory.
constexpr index_t neighbours(index_t rows) {
  return std::clamp<index_t>(tile_rows / rows, 1, rows == 1 ? 4 : 2);
}

/// `Panels` neighbouring panels at once for few rows: enough chains in flight to hide the latency
/// of a multiply-add, and enough streams to keep the memory busy.
template <int Panels, real Real, class Weight>
inline void multiply_few_rows(const product<Real, Weight>& p,
                              index_t row,
                              index_t rows,
                              index_t panel_begin,
                              index_t panel_end) {
  constexpr index_t width = panel_width<Real>;
  constexpr int most_rows = tile_rows / Panels;
  const rows_of<Real> a{p.a.data + row * p.a.row, p.a.row, p.a.step};
  const index_t whole_end = (std::min)(panel_end, p.columns / width);
  const auto init_at = [&](index_t panel) {
    return p.init.data != nullptr ? p.init.at(row, panel) : p.init;
  };
  index_t j = panel_begin;
  for (; j + Panels <= whole_end; j += Panels) {
    multiply_rows<Panels, most_rows>(
        rows, p.inner_size, a, p.b + j * p.b_panel, p.b_panel, init_at(j), p.c.at(row, j));
  }
  if constexpr (Panels > 2) {
    multiply_few_rows<2>(p, row, rows, j, panel_end);
    return;
  }
  for (; j < whole_end; ++j) {
    multiply_rows<1, most_rows>(
        rows, p.inner_size, a, p.b + j * p.b_panel, p.b_panel, init_at(j), p.c.at(row, j));
  }
  if (j < panel_end) {
    multiply_tail<most_rows>(rows,
                             p.columns - j * width,
                             p.inner_size,
                             a,
                             p.b + j * p.b_panel,
                             p.b_panel,
                             init_at(j),
                             p.c.at(row, j));
  }
}

/// [tile][inner_size][tile_rows]: the part of A that one tile reads is contiguous. A is read in the
/// order of its memory: row after row, or one step of all rows after the other if neighbouring rows
/// are neighbours in memory.
template <real Real>
inline void pack_rows(Real* to, rows_of<Real> a, index_t rows, index_t inner_size) {
  const auto place = [&](index_t i, index_t d) {
    return to + i / tile_rows * tile_rows * inner_size + d * tile_rows + i % tile_rows;
  };
  if (a.step == 1) {
    for (index_t i = 0; i < rows; ++i) {
      const Real* const from = a.data + i * a.row;
      Real* const column = place(i, 0);
      for (index_t d = 0; d < inner_size; ++d) {
        column[d * tile_rows] = from[d];
      }
    }
    return;
  }
  for (index_t d = 0; d < inner_size; ++d) {
    const Real* from = a.data + d * a.step;
    index_t i = 0;
    for (; i + tile_rows <= rows && a.row == 1; i += tile_rows) {
      std::memcpy(place(i, d), from + i, tile_rows * sizeof(Real));
    }
    for (; i < rows; ++i) {
      *place(i, d) = from[i * a.row];
    }
  }
}

/// Packs one panel of B in whole packets; columns from `valid` on become zero.
template <real Real>
inline void pack_panel(
    Real* to, const Real* from, index_t step, index_t valid, index_t inner_size) {
  constexpr index_t width = panel_width<Real>;
  if (valid == width) {
    for (index_t d = 0; d < inner_size; ++d) {
      std::memcpy(to + d * width, from + d * step, static_cast<std::size_t>(width) * sizeof(Real));
    }
  } else {
    for (index_t d = 0; d < inner_size; ++d) {
      std::copy_n(from + d * step, valid, to + d * width);
      std::fill_n(to + d * width + valid, width - valid, Real{0});
    }
  }
}

/// Multiplies rows [row_begin, row_end) by panels [panel_begin, panel_end), on one thread.
/// `scratch` holds product_scratch elements; it is not accessed if neither A nor B needs packing.
template <real Real, class Weight>
inline void multiply_block(const product<Real, Weight>& p,
                           index_t row_begin,
                           index_t row_end,
                           index_t panel_begin,
                           index_t panel_end,
                           Real* scratch) {
  constexpr index_t width = panel_width<Real>;
  const index_t rows = row_end - row_begin;
  const bool pack_a = p.packs_a();
  const bool pack_b = p.packs_b();
  if ((rows <= tile_rows && !pack_a && !pack_b) || p.inner_size == 0) {
    for (index_t i = row_begin; i < row_end; i += tile_rows) {
      const index_t count = (std::min<index_t>)(tile_rows, row_end - i);
      switch (neighbours(count)) {
        case 4:
          multiply_few_rows<4>(p, i, count, panel_begin, panel_end);
          break;
        case 2:
          multiply_few_rows<2>(p, i, count, panel_begin, panel_end);
          break;
        default:
          multiply_few_rows<1>(p, i, count, panel_begin, panel_end);
      }
    }
    return;
  }
  const index_t step_rows = pack_a ? packed_rows : block_rows;
  Real* const packed_b = pack_b ? scratch + packed_rows * block_inner_size<Real> : nullptr;
  for (index_t block = row_begin; block < row_end; block += step_rows) {
    const index_t block_end = (std::min)(block + step_rows, row_end);
    for (index_t k = 0; k < p.inner_size; k += block_inner_size<Real>) {
      const index_t inner_size = (std::min)(block_inner_size<Real>, p.inner_size - k);
      if (pack_a) {
        pack_rows<Real>(scratch,
                        {p.a.data + block * p.a.row + k * p.a.step, p.a.row, p.a.step},
                        block_end - block,
                        inner_size);
      }
      for (index_t j = panel_begin; j < panel_end; ++j) {
        const index_t valid = (std::min)(width, p.columns - j * width);
        const Weight* b = p.b + j * p.b_panel + k * p.b_step;
        if constexpr (std::is_same_v<Weight, Real>) {
          if (pack_b) {
            pack_panel(packed_b, b, p.b_step, valid, inner_size);
            b = packed_b;
          }
        }
        for (index_t i = block; i < block_end; i += tile_rows) {
          const index_t count = (std::min<index_t>)(tile_rows, block_end - i);
          const rows_of<Real> a =
              pack_a ? rows_of<Real>{scratch + (i - block) * inner_size, 1, tile_rows}
                     : rows_of<Real>{p.a.data + i * p.a.row + k, p.a.row, 1};
          const panels_of<Real> c = p.c.at(i, j);
          panels_of<const Real> init{c.data, c.row, c.panel};
          if (k == 0) {
            init = p.init.data != nullptr ? p.init.at(i, j) : p.init;
          }
          if (valid == width) {
            multiply_rows<1, tile_rows>(count, inner_size, a, b, p.b_panel, init, c);
          } else {
            multiply_tail<tile_rows>(count, valid, inner_size, a, b, p.b_panel, init, c);
          }
        }
      }
    }
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

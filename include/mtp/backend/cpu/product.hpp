// The one matrix product of the CPU backend: vector lanes are columns, every element is one chain.
//
// C(i, j) = init(i, j) + sum over p of A(i, p) * B(p, j)
//
// Each C(i, j) is computed as ((init + a0*b0) + a1*b1) + ..., one fused multiply-add after the
// other in the order of p, whatever the tile, the number of rows, the blocking or the threads. That
// is the whole reason why five rows give bit for bit what one row gives.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Columns of a panel: 128 bytes of the type that sums are kept in.
template <scalar Scalar>
inline constexpr index_t panel_width = 128 / static_cast<index_t>(sizeof(accumulate_t<Scalar>));

/// Packets that a tile covers of a panel at a time.
template <real Real>
inline constexpr int tile_packets = 2;

// Accumulators are rows x 2 packets; the rest of the register file holds B and the broadcast of A.
#if defined(__AVX512F__)
inline constexpr int tile_rows = 12;  // 24 of 32 registers
#else
inline constexpr int tile_rows = 6;  // 12 of 16 registers
#endif

/// How far ahead a tile of few rows asks for B, which it reads once and from far away: 4 KB of each
/// panel. Whole tiles find B in the cache.
inline constexpr index_t prefetch_steps = 32;

/// A(i, p) = data[i * row + p * step].
template <class Scalar>
struct rows_of {
  const Scalar* data;
  index_t row;
  index_t step;
};

/// C(i, j) = data[i * row + (j / panel_width) * panel + j % panel_width].
template <class Scalar>
struct panels_of {
  Scalar* data;
  index_t row;
  index_t panel;

  static panels_of row_major(Scalar* data, index_t row) {
    return {data, row, panel_width<std::remove_const_t<Scalar>>};
  }
  panels_of at(index_t i, index_t j_panel) const {
    return {data + i * row + j_panel * panel, row, panel};
  }
};

/// body(0), body(1), ..., with the number as a compile-time constant.
template <int Count, class Body>
inline __attribute__((always_inline)) void unroll(Body&& body) {
  [&]<std::size_t... Index>(std::index_sequence<Index...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, static_cast<int>(Index)>{}), ...);
  }
  (std::make_index_sequence<static_cast<std::size_t>(Count)>{});
}

/// What a tile does after the steps that all its rows share. `rectangle`: nothing. `triangle`: row
/// r takes r more steps, as the rows of causal attention do; no row is touched by a step that is
/// not its own, not even by a multiplication with zero.
enum class tile_shape { rectangle, triangle };

/// `Rows` rows times `Panels` whole panels of C over `depth` steps. B is packed: panel q starts at
/// b + q * b_panel and holds panel_width values per step. init.data may be null: zero.
///
/// Arguments come by reference and are read number by number. By value, g++ copies them in pairs
/// that straddle what was just written, and each such read waits until the tile before this one has
/// reached the cache: an eighth of the time of a training step.
template <tile_shape Shape, int Rows, int Panels, real Real, class Weight>
inline void multiply_tile(index_t depth,
                          const rows_of<Real>& a,
                          const Weight* b,
                          index_t b_panel,
                          const panels_of<const Real>& init,
                          const panels_of<Real>& c) {
  constexpr index_t width = lanes<Real>;
  constexpr int packets = tile_packets<Real>;
  constexpr int columns = Panels * packets;
  for (index_t sub = 0; sub < panel_width<Real>; sub += packets * width) {
    packet<Real> sum[Rows][columns];
    const auto offset = [&](int column, index_t panel) {
      return (column / packets) * panel + sub + (column % packets) * width;
    };
    const auto for_tile = [&]<std::size_t... Index>(std::index_sequence<Index...>, auto&& body)
        __attribute__((always_inline)) {
      (body(std::integral_constant<int, static_cast<int>(Index) / columns>{},
            std::integral_constant<int, static_cast<int>(Index) % columns>{}),
       ...);
    };
    constexpr auto tile = std::make_index_sequence<static_cast<std::size_t>(Rows * columns)>{};
    if (init.data != nullptr) {
      for_tile(tile, [&](auto r, auto q) {
        sum[r][q] = load<Real>(init.data + r * init.row + offset(q, init.panel));
      });
    } else {
      for_tile(tile, [&](auto r, auto q) { sum[r][q] = broadcast<Real>(Real{0}); });
    }
    const Real* a_step = a.data;
    const index_t a_row = a.row, a_depth = a.step;
    const Weight* b_step = b;
    for (index_t p = 0; p < depth; ++p) {
      packet<Real> right[columns];
      unroll<columns>([&](auto q) __attribute__((always_inline)) {
        if constexpr (Rows < tile_rows) {
          __builtin_prefetch(b_step + offset(q, b_panel) + prefetch_steps * panel_width<Real>);
        }
        right[q] = load<Real>(b_step + offset(q, b_panel));
      });
      for_tile(
          tile, [&](auto r, auto q) __attribute__((always_inline)) {
            sum[r][q] = multiply_add(broadcast<Real>(a_step[r * a_row]), right[q], sum[r][q]);
          });
      a_step += a_depth;
      b_step += panel_width<Real>;
    }
    if constexpr (Shape == tile_shape::triangle) {
      unroll<Rows - 1>([&](auto step) __attribute__((always_inline)) {
        packet<Real> right[columns];
        unroll<columns>([&](auto q) __attribute__((always_inline)) {
          right[q] = load<Real>(b_step + offset(q, b_panel));
        });
        for_tile(
            tile, [&](auto r, auto q) __attribute__((always_inline)) {
              if constexpr (std::remove_reference_t<decltype(r)>::value >
                            std::remove_reference_t<decltype(step)>::value) {
                sum[r][q] = multiply_add(broadcast<Real>(a_step[r * a_row]), right[q], sum[r][q]);
              }
            });
        a_step += a_depth;
        b_step += panel_width<Real>;
      });
    }
    Real* const c_data = c.data;
    const index_t c_row = c.row, c_panel = c.panel;
    for_tile(tile, [&](auto r, auto q) {
      store<Real>(c_data + r * c_row + offset(q, c_panel), sum[r][q]);
    });
  }
}

/// Calls multiply_tile for a number of rows known at run time, 1 <= rows <= tile_rows.
template <int Panels,
          int MaxRows,
          tile_shape Shape = tile_shape::rectangle,
          real Real,
          class Weight>
inline void multiply_rows(index_t rows,
                          index_t depth,
                          const rows_of<Real>& a,
                          const Weight* b,
                          index_t b_panel,
                          const panels_of<const Real>& init,
                          const panels_of<Real>& c) {
  using function = void (*)(index_t,
                            const rows_of<Real>&,
                            const Weight*,
                            index_t,
                            const panels_of<const Real>&,
                            const panels_of<Real>&);
  static constexpr auto table = []<std::size_t... Row>(std::index_sequence<Row...>) {
    return std::array<function, sizeof...(Row)>{
        &multiply_tile<Shape, static_cast<int>(Row) + 1, Panels, Real, Weight>...};
  }
  (std::make_index_sequence<static_cast<std::size_t>(MaxRows)>{});
  table[static_cast<std::size_t>(rows - 1)](depth, a, b, b_panel, init, c);
}

/// One product. `columns` need not be a multiple of the panel width: the tail of the last panel of
/// C is then not written. Packed panels of B are always whole.
template <real Real, class Weight = Real>
struct product {
  index_t rows = 0;
  index_t columns = 0;
  index_t depth = 0;
  rows_of<Real> a{};
  const Weight* b = nullptr;
  index_t b_panel = 0;                 // elements from one panel of B to the next
  index_t b_step = panel_width<Real>;  // and from one step to the next; else B is packed on the way
  panels_of<const Real> init{nullptr, 0, 0};
  panels_of<Real> c{nullptr, 0, 0};
  bool copies_rows = false;  // pack rows of A even where they could be read as they lie

  index_t panels() const { return ceil_div(columns, panel_width<Real>); }
  /// Rows that lie a panel apart can be read as they are only if the panel has no tail: beyond the
  /// last column stands what is not B's.
  bool packs_b() const {
    constexpr index_t width = panel_width<Real>;
    return b_step != width || (b_panel == width && columns % width != 0);
  }
  bool packs_a() const { return a.step != 1 || copies_rows; }
};

/// Whether the rows that a tile reads side by side meet in few sets of the first-level cache and
/// drive each other out.
template <real Real>
constexpr bool rows_collide(index_t row) {
  constexpr index_t bytes_of_a_way = 4096;
  return row * static_cast<index_t>(sizeof(Real)) % (bytes_of_a_way / 2) == 0;
}

// Rows of A that stay in the second-level cache while all panels pass, as they lie and packed;
// steps that keep a panel in the first-level cache.
inline constexpr index_t block_rows = 96;
inline constexpr index_t packed_rows = 384;
template <real Real>
inline constexpr index_t block_depth = 1024 / static_cast<index_t>(sizeof(Real));

/// Elements of scratch that multiply_block wants for each thread: packed rows of A, one packed
/// panel of B.
template <real Real>
inline constexpr index_t product_scratch = (packed_rows + panel_width<Real>)*block_depth<Real>;

/// The tail of the last panel: through a whole panel on the stack.
template <int MaxRows, real Real, class Weight>
inline void multiply_tail(index_t rows,
                          index_t valid,
                          index_t depth,
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
  multiply_rows<1, MaxRows>(rows, depth, a, b, b_panel, start, whole);
  for (index_t r = 0; r < rows; ++r) {
    std::copy_n(padded + r * width, valid, c.data + r * c.row);
  }
}

/// Neighbouring panels that are multiplied at once with so few rows: as many as have accumulators.
constexpr index_t neighbours(index_t rows) {
  return std::clamp<index_t>(tile_rows / rows, 1, 4);
}

/// `Panels` neighbouring panels at once for few rows, so that enough chains are in flight to hide
/// the latency of a multiply-add and enough streams to keep the memory busy.
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
        rows, p.depth, a, p.b + j * p.b_panel, p.b_panel, init_at(j), p.c.at(row, j));
  }
  for (; j < whole_end; ++j) {
    multiply_rows<1, most_rows>(
        rows, p.depth, a, p.b + j * p.b_panel, p.b_panel, init_at(j), p.c.at(row, j));
  }
  if (j < panel_end) {
    multiply_tail<most_rows>(rows,
                             p.columns - j * width,
                             p.depth,
                             a,
                             p.b + j * p.b_panel,
                             p.b_panel,
                             init_at(j),
                             p.c.at(row, j));
  }
}

/// [tile][depth][tile_rows]: what one tile reads of A lies in one piece. A is read in the order in
/// which it lies: row after row, or one step of all rows after the other where neighbouring rows
/// are neighbours in memory.
template <real Real>
inline void pack_rows(Real* to, rows_of<Real> a, index_t rows, index_t depth) {
  const auto place = [&](index_t i, index_t d) {
    return to + i / tile_rows * tile_rows * depth + d * tile_rows + i % tile_rows;
  };
  if (a.step == 1) {
    for (index_t i = 0; i < rows; ++i) {
      const Real* const from = a.data + i * a.row;
      Real* const column = place(i, 0);
      for (index_t d = 0; d < depth; ++d) {
        column[d * tile_rows] = from[d];
      }
    }
    return;
  }
  for (index_t d = 0; d < depth; ++d) {
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

/// One panel of B in whole packets; columns beyond `valid` become zero.
template <real Real>
inline void pack_panel(Real* to, const Real* from, index_t step, index_t valid, index_t depth) {
  constexpr index_t width = panel_width<Real>;
  if (valid == width) {
    for (index_t d = 0; d < depth; ++d) {
      std::memcpy(to + d * width, from + d * step, static_cast<std::size_t>(width) * sizeof(Real));
    }
  } else {
    for (index_t d = 0; d < depth; ++d) {
      std::copy_n(from + d * step, valid, to + d * width);
      std::fill_n(to + d * width + valid, width - valid, Real{0});
    }
  }
}

/// Rows [row_begin, row_end) of panels [panel_begin, panel_end), by one thread. `scratch` holds
/// product_scratch elements; it is not read or written if neither A nor B needs packing.
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
  if ((rows <= tile_rows && !pack_a && !pack_b) || p.depth == 0) {
    for (index_t i = row_begin; i < row_end; i += tile_rows) {
      const index_t count = (std::min<index_t>)(tile_rows, row_end - i);
      switch (neighbours(count)) {
        case 4:
          multiply_few_rows<4>(p, i, count, panel_begin, panel_end);
          break;
        case 3:
          multiply_few_rows<3>(p, i, count, panel_begin, panel_end);
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
  Real* const packed_b = pack_b ? scratch + packed_rows * block_depth<Real> : nullptr;
  for (index_t block = row_begin; block < row_end; block += step_rows) {
    const index_t block_end = (std::min)(block + step_rows, row_end);
    for (index_t k = 0; k < p.depth; k += block_depth<Real>) {
      const index_t depth = (std::min)(block_depth<Real>, p.depth - k);
      if (pack_a) {
        pack_rows<Real>(scratch,
                        {p.a.data + block * p.a.row + k * p.a.step, p.a.row, p.a.step},
                        block_end - block,
                        depth);
      }
      for (index_t j = panel_begin; j < panel_end; ++j) {
        const index_t valid = (std::min)(width, p.columns - j * width);
        const Weight* b = p.b + j * p.b_panel + k * p.b_step;
        if constexpr (std::is_same_v<Weight, Real>) {
          if (pack_b) {
            pack_panel(packed_b, b, p.b_step, valid, depth);
            b = packed_b;
          }
        }
        for (index_t i = block; i < block_end; i += tile_rows) {
          const index_t count = (std::min<index_t>)(tile_rows, block_end - i);
          const rows_of<Real> a = pack_a
                                      ? rows_of<Real>{scratch + (i - block) * depth, 1, tile_rows}
                                      : rows_of<Real>{p.a.data + i * p.a.row + k, p.a.row, 1};
          const panels_of<Real> c = p.c.at(i, j);
          panels_of<const Real> init{c.data, c.row, c.panel};
          if (k == 0) {
            init = p.init.data != nullptr ? p.init.at(i, j) : p.init;
          }
          if (valid == width) {
            multiply_rows<1, tile_rows>(count, depth, a, b, p.b_panel, init, c);
          } else {
            multiply_tail<tile_rows>(count, valid, depth, a, b, p.b_panel, init, c);
          }
        }
      }
    }
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

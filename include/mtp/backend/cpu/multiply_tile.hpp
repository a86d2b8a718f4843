// The innermost loop of products: a tile of rows times panels of columns, in registers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/tile_step.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Packets of a panel that a tile covers at a time.
template <real Real>
inline constexpr int tile_packets = 2;

// Accumulators are rows x 2 packets; the rest of the register file holds B and the broadcast of A.
#if defined(__AVX512F__)
inline constexpr int tile_rows = 12;  // 24 of 32 registers
#else
inline constexpr int tile_rows = 6;  // 12 of 16 registers
#endif

/// How far ahead a tile of few rows prefetches B, which it reads once and from memory: 4 KB of each
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

/// Calls body(0), body(1), ..., body(Count - 1). The body takes an `int` and is inlined always, so
/// the number is a constant in it at any level of optimization but none: one function for all
/// calls, where a std::integral_constant would make one for each.
template <int Count, class Body>
inline __attribute__((always_inline)) void unroll(const Body& body) {
  [&]<int... Index>(std::integer_sequence<int, Index...>) __attribute__((always_inline)) {
    (body(Index), ...);
  }
  (std::make_integer_sequence<int, Count>{});
}

/// Calls body(row, column) for each of Rows x Columns, in the same way.
template <int Rows, int Columns, class Body>
inline __attribute__((always_inline)) void unroll(const Body& body) {
  [&]<int... Index>(std::integer_sequence<int, Index...>) __attribute__((always_inline)) {
    (body(Index / Columns, Index % Columns), ...);
  }
  (std::make_integer_sequence<int, Rows * Columns>{});
}

/// The steps of a tile after those that all its rows share. `rectangle`: none. `triangle`: row r
/// takes r more steps, like the rows of causal attention. No step that is not its own touches a
/// row, not even by a multiplication with zero.
enum class tile_shape { rectangle, triangle };

/// `Rows` rows times `Panels` whole panels of C. Each element is a chain of `inner_size` links. B
/// is packed: panel q starts at b + q * b_panel and holds panel_width values per link. init.data
/// may be null: zero.
///
/// Arguments are passed by reference and read number by number. By value, g++ copies them in pairs
/// that overlap numbers just written, and each such read waits until the previous tile has reached
/// the cache: an eighth of the time of a training step.
template <tile_shape Shape, int Rows, int Panels, scalar Left, class Weight, scalar Result>
inline void multiply_tile(index_t inner_size,
                          const rows_of<Left>& a,
                          const Weight* b,
                          index_t b_panel,
                          const panels_of<const Result>& init,
                          const panels_of<Result>& c) {
  using Real = accumulate_t<Left>;
  using step = tile_step<Left, Weight>;
  constexpr index_t b_stride = step::links * panel_width<Left>;  // elements of B in a step
  constexpr index_t width = lanes<Real>;
  constexpr int packets = tile_packets<Real>;
  constexpr int columns = Panels * packets;
  for (index_t sub = 0; sub < panel_width<Real>; sub += packets * width) {
    packet<Real> sum[Rows][columns];
    const auto offset = [&](int column, index_t panel) __attribute__((always_inline)) {
      return (column / packets) * panel + sub + (column % packets) * width;
    };
    if (init.data != nullptr) {
      unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
        sum[r][q] = load<Real>(init.data + r * init.row + offset(q, init.panel));
      });
    } else {
      unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
        sum[r][q] = broadcast<Real>(Real{0});
      });
    }
    const Left* a_step = a.data;
    const index_t a_row = a.row, a_stride = a.step * step::links;
    const Weight* b_step = b;
    const Weight* ahead = b + prefetch_steps * b_stride;
    const index_t steps = inner_size / step::links;
    const index_t last_steps = (std::max<index_t>)(steps - prefetch_steps, 0);
    for (index_t p = 0; p < steps; ++p) {
      if (Rows < tile_rows && p == last_steps) {
        ahead +=
            (Panels - 1) * b_panel;  // these panels have come: the first steps of the next ones
      }
      typename step::right right[columns];
      unroll<columns>([&](int q) __attribute__((always_inline)) {
        if constexpr (Rows < tile_rows) {
          __builtin_prefetch(ahead + (q / packets) * b_panel +
                             step::links * (sub + (q % packets) * width));
        }
        right[q] = step::read(b_step + (q / packets) * b_panel, sub + (q % packets) * width);
        if constexpr (Rows > 1 && (Rows < tile_rows || step::links > 1)) {
          keep_in_register(right[q]);
        }
      });
      unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
        step::add(sum[r][q], a_step + r * a_row, right[q]);
      });
      a_step += a_stride;
      b_step += b_stride;
      ahead += b_stride;
    }
    if constexpr (step::links == 2) {
      if (inner_size % 2 != 0) {
        unroll<columns>([&](int q) __attribute__((always_inline)) {
          const auto right =
              step::read_last(b_step + (q / packets) * b_panel, sub + (q % packets) * width);
          unroll<Rows>([&](int r) __attribute__((always_inline)) {
            step::add(sum[r][q], pair_of(a_step[r * a_row]), right);
          });
        });
      }
    }
    if constexpr (Shape == tile_shape::triangle) {
      static_assert(step::links == 1, "multiply_tile: a row of a triangle ends after any link");
      unroll<Rows - 1>([&](int extra) __attribute__((always_inline)) {
        typename step::right right[columns];
        unroll<columns>([&](int q) __attribute__((always_inline)) {
          right[q] = step::read(b_step + (q / packets) * b_panel, sub + (q % packets) * width);
        });
        unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
          if (r > extra) {
            step::add(sum[r][q], a_step + r * a_row, right[q]);
          }
        });
        a_step += a_stride;
        b_step += b_stride;
      });
    }
    Result* const c_data = c.data;
    const index_t c_row = c.row, c_panel = c.panel;
    unroll<Rows, columns>([&](int r, int q) __attribute__((always_inline)) {
      step::write(c_data + r * c_row + offset(q, c_panel), sum[r][q]);
    });
  }
}

/// Calls multiply_tile for a number of rows known at run time, 1 <= rows <= tile_rows.
template <int Panels,
          int MaxRows,
          tile_shape Shape = tile_shape::rectangle,
          scalar Left,
          class Weight,
          scalar Result>
inline void multiply_rows(index_t rows,
                          index_t inner_size,
                          const rows_of<Left>& a,
                          const Weight* b,
                          index_t b_panel,
                          const panels_of<const Result>& init,
                          const panels_of<Result>& c) {
  using function = void (*)(index_t,
                            const rows_of<Left>&,
                            const Weight*,
                            index_t,
                            const panels_of<const Result>&,
                            const panels_of<Result>&);
  static constexpr auto table = []<std::size_t... Row>(std::index_sequence<Row...>) {
    return std::array<function, sizeof...(Row)>{
        &multiply_tile<Shape, static_cast<int>(Row) + 1, Panels, Left, Weight, Result>...};
  }
  (std::make_index_sequence<static_cast<std::size_t>(MaxRows)>{});
  table[static_cast<std::size_t>(rows - 1)](inner_size, a, b, b_panel, init, c);
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

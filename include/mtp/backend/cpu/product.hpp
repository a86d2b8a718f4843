// The matrix product of the CPU backend: vector lanes are columns, every element is one chain.
//
// C(i, j) = init(i, j) + sum over p of A(i, p) * B(p, j)
//
// Each C(i, j) is computed as ((init + a0*b0) + a1*b1) + ..., one fused multiply-add after the
// other in the order of p, whatever the tile, the number of rows, the blocks or the threads. That
// is why five rows give bit for bit what one row gives. With A and B in bf16, neighbours are
// swapped, as the instruction for them does: ((init + a1*b1) + a0*b0) + ..., and an odd number ends
// with a pair whose other half is zero.
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
template <scalar Left, class Weight = Left, scalar Result = accumulate_t<Left>>
struct product {
  using left_type = Left;
  using result_type = Result;

  index_t rows = 0;
  index_t columns = 0;
  index_t inner_size = 0;
  rows_of<Left> a{};
  const Weight* b = nullptr;
  index_t b_panel = 0;                 // elements from one panel of B to the next
  index_t b_step = panel_width<Left>;  // from one link to the next; otherwise B is packed first
  panels_of<const Result> init{nullptr, 0, 0};
  panels_of<Result> c{nullptr, 0, 0};
  bool copies_rows = false;  // pack rows of A even if they could be read in place

  index_t panels() const { return ceil_div(columns, panel_width<Left>); }
  /// Rows that are a panel apart can be read in place only if the panel has no tail: the elements
  /// after the last column do not belong to B.
  bool packs_b() const {
    constexpr index_t width = panel_width<Left>;
    return b_step != width || (b_panel == width && columns % width != 0);
  }
  bool packs_a() const { return a.step != 1 || copies_rows; }
};

/// Whether the rows that a tile reads together fall into few sets of the first-level cache and
/// evict each other.
template <scalar Left>
constexpr bool rows_collide(index_t row) {
  constexpr index_t bytes_of_a_way = 4096;
  return row * static_cast<index_t>(sizeof(Left)) % (bytes_of_a_way / 2) == 0;
}

// Rows of A, in place or packed, that stay in the second-level cache while all panels pass; links
// of a chain between two visits of C. With AVX-512 a block of packed rows takes 768 KB of a cache
// that has 1 MB or more, and a panel is read from it as well; otherwise a panel stays in the
// first-level cache.
inline constexpr index_t block_rows = 96;
inline constexpr index_t packed_rows = 384;
#if defined(__AVX512F__)
inline constexpr index_t block_bytes = 2048;
#else
inline constexpr index_t block_bytes = 1024;
#endif
template <scalar Left>
inline constexpr index_t block_inner_size = block_bytes /
                                            static_cast<index_t>(sizeof(accumulate_t<Left>));
/// The same where A lies in rows. A step of bf16 takes so long that its row of a panel comes from
/// the second-level cache in time, and C need not hold sums between blocks of links: half as many
/// rows with twice as many links fit into the cache as well.
template <scalar Left>
inline constexpr index_t inner_size_of_rows = block_inner_size<Left>;
template <>
inline constexpr index_t inner_size_of_rows<bf16> =
    2 * packed_rows / block_rows* block_inner_size<bf16>;

/// Elements of scratch that multiply_block needs for each thread: packed rows of A and one packed
/// panel of B.
template <scalar Left>
inline constexpr index_t product_scratch = (packed_rows + panel_width<Left>)*block_inner_size<Left>;

/// The tail of the last panel, computed in a whole panel on the stack.
template <int MaxRows, scalar Left, class Weight, scalar Result>
inline void multiply_tail(index_t rows,
                          index_t valid,
                          index_t inner_size,
                          const rows_of<Left>& a,
                          const Weight* b,
                          index_t b_panel,
                          const panels_of<const Result>& init,
                          const panels_of<Result>& c) {
  constexpr index_t width = panel_width<Left>;
  alignas(64) Result padded[static_cast<std::size_t>(tile_rows * width)] = {};
  const panels_of<Result> whole{padded, width, width};
  panels_of<const Result> start{nullptr, 0, 0};
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
template <int Panels, scalar Left, class Weight, scalar Result>
inline void multiply_few_rows(const product<Left, Weight, Result>& p,
                              index_t row,
                              index_t rows,
                              index_t panel_begin,
                              index_t panel_end) {
  constexpr index_t width = panel_width<Left>;
  constexpr int most_rows = tile_rows / Panels;
  const rows_of<Left> a{p.a.data + row * p.a.row, p.a.row, p.a.step};
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

/// Links of a chain that a step of a tile adds: neighbours in packed rows.
template <scalar Left>
inline constexpr index_t links_of = tile_step<Left, Left>::links;

/// Steps that pack_rows writes of a tile before it goes on to the next one.
inline constexpr index_t steps_packed_at_once = 16;

/// [tile][steps][tile_rows][links]: the part of A that one tile reads is contiguous. The last step
/// may be incomplete. A is read in the order of its memory: row after row, or some steps of all
/// rows after the other if neighbouring rows are neighbours in memory.
template <scalar Left>
inline void pack_rows(Left* to, rows_of<Left> a, index_t rows, index_t inner_size) {
  constexpr index_t links = links_of<Left>;
  const index_t steps = ceil_div(inner_size, links);
  const auto place = [&](index_t i, index_t step) {
    return to + (i / tile_rows * tile_rows * steps + step * tile_rows + i % tile_rows) * links;
  };
  if (a.step == 1) {
    for (index_t i = 0; i < rows; ++i) {
      const Left* const from = a.data + i * a.row;
      Left* const column = place(i, 0);
      index_t step = 0;
      for (; step < inner_size / links; ++step) {
        std::memcpy(static_cast<void*>(column + step * tile_rows * links),
                    from + step * links,
                    links * sizeof(Left));
      }
      for (; step < steps; ++step) {
        column[step * tile_rows * links] = from[step * links];
      }
    }
    return;
  }
  // Some steps of one tile after the other: tiles lie whole pages apart, so that writing one step
  // of all of them would use the same few places of the cache for all.
  for (index_t begin = 0; begin < steps; begin += steps_packed_at_once) {
    const index_t end = (std::min)(begin + steps_packed_at_once, steps);
    for (index_t tile = 0; tile < rows; tile += tile_rows) {
      const index_t valid = (std::min<index_t>)(tile_rows, rows - tile);
      for (index_t step = begin; step < end; ++step) {
        const Left* const from = a.data + tile * a.row + step * links * a.step;
        const index_t count = (std::min)(links, inner_size - step * links);
        Left* const at = place(tile, step);
        if (valid == tile_rows && a.row == 1 && count == links) {
          if constexpr (links == 1) {
            std::memcpy(static_cast<void*>(at), from, tile_rows * sizeof(Left));
          } else {
            interleave<tile_rows>(at, from, from + a.step);
          }
          continue;
        }
        for (index_t i = 0; i < valid; ++i) {
          for (index_t link = 0; link < count; ++link) {
            at[i * links + link] = from[i * a.row + link * a.step];
          }
        }
      }
    }
  }
}

/// Packs one panel of B in whole packets; columns from `valid` on become zero.
template <scalar Left>
inline void pack_panel(
    Left* to, const Left* from, index_t step, index_t valid, index_t inner_size) {
  constexpr index_t width = panel_width<Left>;
  if (valid == width) {
    for (index_t d = 0; d < inner_size; ++d) {
      std::memcpy(static_cast<void*>(to + d * width),
                  from + d * step,
                  static_cast<std::size_t>(width) * sizeof(Left));
    }
  } else {
    for (index_t d = 0; d < inner_size; ++d) {
      std::copy_n(from + d * step, valid, to + d * width);
      std::fill_n(to + d * width + valid, width - valid, Left(0));
    }
  }
}

/// Panels whose sums are kept apart at a time where C has no room for them.
inline constexpr index_t panels_of_sums = 4;

/// Sums that multiply_block needs for each thread, for chains of `inner_size` links.
template <scalar Left, scalar Result>
constexpr index_t product_sums(index_t inner_size) {
  const bool apart = !std::is_same_v<Result, accumulate_t<Left>>;
  return apart && inner_size > block_inner_size<Left>
             ? block_rows * panels_of_sums * panel_width<Left>
             : 0;
}

template <scalar Left, class Weight, scalar Result>
void multiply_in_sums(const product<Left, Weight, Result>& p,
                      index_t row_begin,
                      index_t row_end,
                      index_t panel_begin,
                      index_t panel_end,
                      Left* scratch,
                      accumulate_t<Left>* sums);

/// Multiplies rows [row_begin, row_end) by panels [panel_begin, panel_end), on one thread.
/// `scratch` holds product_scratch elements; it is not accessed if neither A nor B needs packing.
/// `sums` holds product_sums elements.
template <scalar Left, class Weight, scalar Result>
inline void multiply_block(const product<Left, Weight, Result>& p,
                           index_t row_begin,
                           index_t row_end,
                           index_t panel_begin,
                           index_t panel_end,
                           Left* scratch,
                           accumulate_t<Left>* sums = nullptr) {
  constexpr index_t width = panel_width<Left>;
  constexpr index_t links = links_of<Left>;
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
  const bool in_columns = p.a.step != 1 || pack_b;
  const index_t step_inner = in_columns ? block_inner_size<Left> : inner_size_of_rows<Left>;
  index_t step_rows = pack_a && (links == 1 || in_columns) ? packed_rows : block_rows;
  if (links == 2 && !in_columns && p.inner_size > step_inner / 2) {
    step_rows = block_rows / 2;  // of more links
  }
  if constexpr (!std::is_same_v<Result, accumulate_t<Left>>) {
    if (p.inner_size > step_inner) {
      multiply_in_sums(p, row_begin, row_end, panel_begin, panel_end, scratch, sums);
      return;
    }
  }
  Left* const packed_b = pack_b ? scratch + packed_rows * block_inner_size<Left> : nullptr;
  for (index_t block = row_begin; block < row_end; block += step_rows) {
    const index_t block_end = (std::min)(block + step_rows, row_end);
    for (index_t k = 0; k < p.inner_size; k += step_inner) {
      const index_t inner_size = (std::min)(step_inner, p.inner_size - k);
      if (pack_a) {
        pack_rows<Left>(scratch,
                        {p.a.data + block * p.a.row + k * p.a.step, p.a.row, p.a.step},
                        block_end - block,
                        inner_size);
      }
      for (index_t j = panel_begin; j < panel_end; ++j) {
        const index_t valid = (std::min)(width, p.columns - j * width);
        const Weight* b = p.b + j * p.b_panel + k * p.b_step;
        if constexpr (std::is_same_v<Weight, Left>) {
          if (pack_b) {
            pack_panel(packed_b, b, p.b_step, valid, inner_size);
            b = packed_b;
          }
        }
        for (index_t i = block; i < block_end; i += tile_rows) {
          const index_t count = (std::min<index_t>)(tile_rows, block_end - i);
          const rows_of<Left> a =
              pack_a ? rows_of<Left>{scratch + (i - block) * round_up(inner_size, links),
                                     links,
                                     tile_rows}
                     : rows_of<Left>{p.a.data + i * p.a.row + k, p.a.row, 1};
          const panels_of<Result> c = p.c.at(i, j);
          panels_of<const Result> init{c.data, c.row, c.panel};
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

/// The same if C cannot hold what has been added up between two blocks of links: a few panels at a
/// time, which start from C's and are rounded to it in the end.
template <scalar Left, class Weight, scalar Result>
inline void multiply_in_sums(const product<Left, Weight, Result>& p,
                             index_t row_begin,
                             index_t row_end,
                             index_t panel_begin,
                             index_t panel_end,
                             Left* scratch,
                             accumulate_t<Left>* sums) {
  constexpr index_t width = panel_width<Left>;
  for (index_t i = row_begin; i < row_end; i += block_rows) {
    const index_t rows = (std::min)(block_rows, row_end - i);
    for (index_t j = panel_begin; j < panel_end; j += panels_of_sums) {
      product<Left, Weight> part;
      part.rows = rows;
      part.columns =
          (std::min)((std::min)(panel_end - j, panels_of_sums) * width, p.columns - j * width);
      part.inner_size = p.inner_size;
      part.a = {p.a.data + i * p.a.row, p.a.row, p.a.step};
      part.b = p.b + j * p.b_panel;
      part.b_panel = p.b_panel;
      part.b_step = p.b_step;
      part.c = panels_of<accumulate_t<Left>>::row_major(sums, panels_of_sums * width);
      part.copies_rows = p.copies_rows;
      const auto each_row = [&](const auto& body) {
        for (index_t r = 0; r < rows; ++r) {
          for (index_t first = 0; first < part.columns; first += width) {
            const index_t count = (std::min)(width, part.columns - first);
            body(sums + r * part.c.row + first, r, j + first / width, count);
          }
        }
      };
      if (p.init.data != nullptr) {
        part.init = {part.c.data, part.c.row, part.c.panel};
        each_row([&](accumulate_t<Left>* to, index_t r, index_t panel, index_t count) {
          convert_row(to, p.init.at(i + r, panel).data, count);
        });
      }
      multiply_block(part, 0, rows, index_t{0}, part.panels(), scratch);
      each_row([&](const accumulate_t<Left>* from, index_t r, index_t panel, index_t count) {
        convert_row(p.c.at(i + r, panel).data, from, count);
      });
    }
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

// Causal attention of a few neighbouring rows over packed keys and values: the one place that
// computes it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

#include "mtp/backend/cpu/product.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/transpose.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Keys and values of one key/value head, for `capacity` positions:
///   keys   [capacity / width][E][width]   lanes are positions: a score is one chain over e
///   values [V / width][capacity][width]   lanes are e: an output is one chain over positions
/// with capacity and V, the width of values, rounded up to whole panels.
template <scalar S>
struct packed_head {
  S* keys;
  S* values;
  index_t capacity;
  index_t head_dim;
  index_t value_dim;

  static constexpr index_t width = panel_width<S>;

  static constexpr index_t keys_storage(index_t positions, index_t head_width) {
    return round_up(positions, width) * head_width;
  }
  static constexpr index_t values_storage(index_t positions, index_t value_width) {
    return positions * round_up(value_width, width);
  }
  static constexpr index_t storage(index_t positions, index_t head_width, index_t value_width) {
    return keys_storage(positions, head_width) + values_storage(positions, value_width);
  }
  static constexpr index_t storage(index_t positions, index_t head_width) {
    return storage(positions, head_width, head_width);
  }

  packed_head(S* data, index_t positions, index_t head_width, index_t value_width)
      : keys(data),
        values(data + keys_storage(positions, head_width)),
        capacity(positions),
        head_dim(head_width),
        value_dim(value_width) {}
  packed_head(S* data, index_t positions, index_t head_width)
      : packed_head(data, positions, head_width, head_width) {}

  template <real Real>
  void write(index_t position, const Real* key, const Real* value) const {
    S* to = keys + position / width * width * head_dim + position % width;
    for (index_t e = 0; e < head_dim; ++e) {
      to[e * width] = static_cast<S>(key[e]);
    }
    for (index_t e = 0; e < value_dim; e += width) {
      S* lane = values + (e / width * capacity + position) * width;
      const index_t count = (std::min)(width, value_dim - e);
      for (index_t l = 0; l < count; ++l) {
        lane[l] = static_cast<S>(value[e + l]);
      }
      std::fill(lane + count, lane + width, S(0));
    }
  }

  /// Writes positions 0 .. count - 1, whose keys and values are rows in memory.
  void write_all(
      index_t count, const S* key, index_t key_row, const S* value, index_t value_row) const {
    pack_lanes(keys, key, key_row, count, head_dim);
    for (index_t e = 0; e < value_dim; e += width) {
      pack_panel(
          values + e * capacity, value + e, value_row, (std::min)(width, value_dim - e), count);
    }
  }

  /// What stands at position `to` becomes (=) what stands at `from`.
  void move(index_t to, index_t from) const {
    const auto key = [&](index_t position) {
      return keys + position / width * width * head_dim + position % width;
    };
    for (index_t e = 0; e < head_dim; ++e) {
      key(to)[e * width] = key(from)[e * width];
    }
    for (index_t e = 0; e < value_dim; e += width) {
      std::copy_n(values + (e / width * capacity + from) * width,
                  width,
                  values + (e / width * capacity + to) * width);
    }
  }
};

/// Elements of scratch that attend wants: scores and outputs of a tile.
template <real S>
constexpr index_t attend_scratch(index_t length, index_t value_dim) {
  return tile_rows * (round_up(length, panel_width<S>) + round_up(value_dim, panel_width<S>));
}

/// out[r] = softmax over s <= first + r of (q[r] . k[s] * scale) times v[s], for r in [0, rows),
/// rows <= tile_rows. maximum[r], inverse[r]: the largest score and the inverse of the sum of
/// exponentials; may be null.
///
/// The bits of row r depend on q[r] and positions 0 .. first + r alone: scores are separate lanes,
/// the softmax goes in whole packets from position 0, and the product with v ends in a triangle.
template <real S, scalar Stored>
inline void attend(const packed_head<Stored>& head,
                   index_t rows,
                   index_t first,
                   S scale,
                   const S* q,
                   index_t q_row,
                   S* out,
                   index_t out_row,
                   S* maximum,
                   S* inverse,
                   index_t statistics_row,
                   S* scratch) {
  constexpr index_t width = panel_width<S>;
  const index_t E = head.head_dim, V = head.value_dim;
  const index_t score_row = round_up(first + rows, width);
  const index_t out_width = round_up(V, width);
  S* const scores = scratch;
  S* const sums = scratch + rows * score_row;

  product<S, Stored> qk;
  qk.rows = rows;
  qk.columns = score_row;
  qk.inner_size = E;
  qk.a = {q, q_row, 1};
  qk.b = head.keys;
  qk.b_panel = E * width;
  qk.c = panels_of<S>::row_major(scores, score_row);
  multiply_block(qk, 0, rows, 0, score_row / width, static_cast<S*>(nullptr));

  S inverses[static_cast<std::size_t>(tile_rows)];
  for (index_t r = 0; r < rows; ++r) {
    const index_t count = first + r + 1;
    S* const row = scores + r * score_row;
    std::fill(row + count, row + round_up(count, lanes<S>), -std::numeric_limits<S>::infinity());
    auto largest = load<S>(row);
    for (index_t s = lanes<S>; s < count; s += lanes<S>) {
      largest = mtp::cpu_detail::maximum(largest, load<S>(row + s));
    }
    const S peak = maximum_of_lanes<S>(largest) * scale;
    const auto shift = broadcast<S>(-peak);
    const auto factor = broadcast<S>(scale);
    auto sum = broadcast<S>(S{0});
    index_t s = 0;
    for (; s + lanes<S> <= count; s += lanes<S>) {
      const auto p = exponential<S>(multiply_add(load<S>(row + s), factor, shift));
      store<S>(row + s, p);
      sum = add(sum, p);
    }
    if (s < count) {
      store<S>(row + s, exponential<S>(multiply_add(load<S>(row + s), factor, shift)));
      std::fill(row + count, row + s + lanes<S>, S{0});
      sum = add(sum, load<S>(row + s));
    }
    inverses[r] = S{1} / sum_of_lanes<S>(sum);
    if (maximum != nullptr) {
      maximum[r * statistics_row] = peak;
      inverse[r * statistics_row] = inverses[r];
    }
  }

  for (index_t e = 0; e < out_width; e += width) {
    multiply_rows<1, tile_rows, tile_shape::triangle>(
        rows,
        first + 1,
        rows_of<S>{scores, score_row, 1},
        static_cast<const Stored*>(head.values + e * head.capacity),
        index_t{0},
        panels_of<const S>{nullptr, 0, 0},
        panels_of<S>::row_major(sums + e, out_width));
  }
  for (index_t r = 0; r < rows; ++r) {
    const auto factor = broadcast<S>(inverses[r]);
    const S* from = sums + r * out_width;
    for_each_packet<S>(
        V, [&](auto read, auto write) { write(out + r * out_row, multiply(read(from), factor)); });
  }
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

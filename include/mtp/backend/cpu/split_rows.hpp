// Rows of activations in 16 bits, as two parts of 8.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "mtp/backend/cpu/quantize.hpp"
#include "mtp/core/arena.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Rows x[M, K] as integers with a scale for each row and group of 128 inputs:
///
///     scale = largest |x| of the group / 32512,   r = round(x (32512 / largest)) = 256 high + low
///
/// where high is from -127 to 127, and low from -128 to 127. The parts are rows of their own, one
/// after the other. A group with an element that is not finite has the scale NaN, one of tiny
/// numbers the scale 0; the integers of both are 0.
struct split_rows {
  static constexpr index_t parts = 2;          // the high one first
  static constexpr std::int32_t most = 32512;  // 127 * 256
  std::int8_t* numbers;                        // [M][parts][groups * 128]
  float* scales;                               // [M][groups]
  std::int32_t* starts;  // -128 sum of a part, where its dot products begin  [M][parts][groups]
  index_t groups;

  /// Takes the memory of `rows` rows.
  template <class Arena>
  static constexpr split_rows make(Arena& arena, index_t rows, index_t inputs) {
    const index_t groups = ceil_div(inputs, group_inputs);
    return {arena.template take<std::int8_t>(rows * parts * groups * group_inputs),
            arena.template take<float>(rows * groups),
            arena.template take<std::int32_t>(rows * parts * groups),
            groups};
  }

  /// The rows from `row` on.
  split_rows from(index_t row) const {
    return {numbers + row * parts * stride(),
            scales + row * groups,
            starts + row * parts * groups,
            groups};
  }

  /// Bytes from one part to the next.
  index_t stride() const { return groups * group_inputs; }

  /// Row `row` becomes x [inputs].
  template <scalar S>
  void set(index_t row, const S* x, index_t inputs) const {
    for (index_t group = 0; group < groups; ++group) {
      const index_t first = group * group_inputs;
      const index_t count = (std::min)(group_inputs, inputs - first);
      alignas(64) float values[static_cast<std::size_t>(group_inputs)] = {};
      for (index_t k = 0; k < count; ++k) {
        values[k] = static_cast<float>(x[first + k]);
      }
      set_group(row, group, values);
    }
  }

 private:
  void set_group(index_t row, index_t group, const float* values) const {
    std::int8_t* const high = numbers + row * parts * stride() + group * group_inputs;
    std::int8_t* const low = high + stride();
    float& scale = scales[row * groups + group];
    std::int32_t* const start = starts + row * parts * groups + group;
    std::uint32_t largest_bits = 0;  // those of numbers without a sign are in order, NaN last
    for (index_t k = 0; k < group_inputs; ++k) {
      largest_bits =
          (std::max)(largest_bits, std::bit_cast<std::uint32_t>(values[k]) & 0x7fffffffu);
    }
    const auto largest = std::bit_cast<float>(largest_bits);
    const bool is_finite = largest_bits < 0x7f800000u;
    if (!is_finite || largest < smallest_in_group) {
      std::fill_n(high, group_inputs, std::int8_t{0});
      std::fill_n(low, group_inputs, std::int8_t{0});
      scale = is_finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      start[0] = start[groups] = 0;
      return;
    }
    // Products of f32 are exact in f64, so it does not matter whether the compiler fuses the sum.
    // Adding `shift` rounds to the nearest integer.
    constexpr double shift = 0x1.8p52;
    const auto inverse = static_cast<double>(most / largest);
    std::int32_t high_sum = 0, low_sum = 0;
    for (index_t k = 0; k < group_inputs; ++k) {
      const auto number =
          static_cast<std::int32_t>(static_cast<double>(values[k]) * inverse + shift - shift);
      const std::int32_t upper = (number + 128) >> 8, lower = number - 256 * upper;
      high[k] = static_cast<std::int8_t>(upper);
      low[k] = static_cast<std::int8_t>(lower);
      high_sum += upper;
      low_sum += lower;
    }
    scale = largest / most;
    start[0] = -weight_bias * high_sum;
    start[groups] = -weight_bias * low_sum;
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

// Rows of activations in 8 bits.
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
///     scale = largest |x| of the group / 127,   q = round(x (127 / largest))
///
/// A group with an element that is not finite has the scale NaN, one of tiny numbers the scale 0;
/// the integers of both are 0.
struct quantized_rows {
  std::int8_t* numbers;  // [M][groups * 128]
  float* scales;         // [M][groups]
  std::int32_t* starts;  // -128 sum(q), where the sum of a group begins  [M][groups]
  index_t groups;

  /// Takes the memory of `rows` rows.
  template <class Arena>
  static constexpr quantized_rows make(Arena& arena, index_t rows, index_t inputs) {
    const index_t groups = ceil_div(inputs, group_inputs);
    return {arena.template take<std::int8_t>(rows * groups * group_inputs),
            arena.template take<float>(rows * groups),
            arena.template take<std::int32_t>(rows * groups),
            groups};
  }

  /// The rows from `row` on.
  quantized_rows from(index_t row) const {
    return {numbers + row * groups * group_inputs,
            scales + row * groups,
            starts + row * groups,
            groups};
  }

  /// Bytes from one row to the next.
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
      set_group(row * groups + group, values);
    }
  }

 private:
  void set_group(index_t group, const float* values) const {
    std::int8_t* const to = numbers + group * group_inputs;
    std::uint32_t largest_bits = 0;  // those of numbers without a sign are in order, NaN last
    for (index_t k = 0; k < group_inputs; ++k) {
      largest_bits =
          (std::max)(largest_bits, std::bit_cast<std::uint32_t>(values[k]) & 0x7fffffffu);
    }
    const auto largest = std::bit_cast<float>(largest_bits);
    const bool is_finite = largest_bits < 0x7f800000u;
    if (!is_finite || largest < smallest_in_group) {
      std::fill_n(to, group_inputs, std::int8_t{0});
      scales[group] = is_finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      starts[group] = 0;
      return;
    }
    // Products of f32 are exact in f64, so it does not matter whether the compiler fuses the sum.
    // Adding `shift` rounds to the nearest integer.
    constexpr double shift = 0x1.8p52;
    const auto inverse = static_cast<double>(127 / largest);
    std::int32_t sum = 0;
    for (index_t k = 0; k < group_inputs; ++k) {
      const auto number =
          static_cast<std::int32_t>(static_cast<double>(values[k]) * inverse + shift - shift);
      to[k] = static_cast<std::int8_t>(number);
      sum += number;
    }
    scales[group] = largest / 127;
    starts[group] = -weight_bias * sum;
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

// Where the numbers and scales of weights in 8 bits lie on the CPU.
#pragma once

#include <algorithm>
#include <cstddef>

#include "mtp/backend/cpu/multiply_tile.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Inputs that share a scale.
inline constexpr index_t group_inputs = 128;
/// Integers are stored with this added, because dot products want one operand without a sign.
inline constexpr int weight_bias = 128;

/// Integers with scales of quantize_weight, four inputs of an output at a time, as one lane of a
/// dot product takes them.
struct int8_numbers {
  using scale = bf16;
  static constexpr index_t dot_inputs = 4;
  static constexpr int zero = weight_bias;
};
/// Numbers of FP8 with the scales of a file, two inputs at a time, as products of bf16 take them.
struct e4m3_numbers {
  using scale = float;
  static constexpr index_t dot_inputs = 2;
  static constexpr int zero = 0;
};

/// Panels of as many outputs as those of f32. A panel is one stream of bytes: for each group of
/// inputs [inputs / dot_inputs][32][dot_inputs] bytes, then 32 scales. The last group is padded to
/// a multiple of dot_inputs; padding has the number zero, that of outputs also the scale zero.
template <class Numbers>
struct panel_layout {
  static constexpr index_t width = panel_width<float>;
  static constexpr index_t dot_inputs = Numbers::dot_inputs;
  static constexpr auto scale_bytes = static_cast<index_t>(sizeof(typename Numbers::scale));
  static constexpr int zero = Numbers::zero;  // the byte of the number zero
  index_t outputs;
  index_t inputs;

  constexpr index_t groups() const { return ceil_div(inputs, group_inputs); }
  constexpr index_t panels() const { return ceil_div(outputs, width); }
  /// Inputs of a group.
  constexpr index_t inputs_of(index_t group) const {
    return (std::min)(group_inputs, inputs - group * group_inputs);
  }
  /// The same, padded.
  constexpr index_t padded_inputs(index_t group) const {
    return round_up(inputs_of(group), dot_inputs);
  }
  constexpr index_t panel_bytes() const {
    return width * (round_up(inputs, dot_inputs) + groups() * scale_bytes);
  }
  constexpr index_t bytes() const { return panels() * panel_bytes(); }
  /// Where a group of a panel begins.
  constexpr index_t group_offset(index_t panel, index_t group) const {
    return panel * panel_bytes() + width * group * (group_inputs + scale_bytes);
  }
  /// Where the number of one input of the group is, from there.
  static constexpr index_t number_offset(index_t output, index_t input_of_group) {
    return (input_of_group / dot_inputs * width + output % width) * dot_inputs +
           input_of_group % dot_inputs;
  }
  /// Where the scale of an output is, from there.
  constexpr index_t scale_offset(index_t output, index_t group) const {
    return width * padded_inputs(group) + output % width * scale_bytes;
  }
};

using quantized_layout = panel_layout<int8_numbers>;
using e4m3_layout = panel_layout<e4m3_numbers>;

/// The layout of 128 outputs of a weight in e4m3_transposed, which has one such block after the
/// other: the inputs of the weight are its outputs.
constexpr e4m3_layout transposed_block(index_t inputs) {
  return {inputs, group_inputs};
}

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

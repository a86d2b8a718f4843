// Weights in 8 bits on the CPU: their layout, and how they are made. Contracts: ops/quantize.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/multiply_tile.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Inputs that share a scale.
inline constexpr index_t group_inputs = 128;
/// Inputs of an output that are contiguous: what one lane of a dot product takes at a time.
inline constexpr index_t dot_inputs = 4;
/// Numbers are stored with this added, because dot products want one operand without a sign.
inline constexpr int weight_bias = 128;
/// A group none of whose elements is larger counts as zeros, so that no scale is subnormal.
inline constexpr float smallest_in_group = 0x1p-100f;

/// Panels of as many outputs as those of f32. A panel is one stream of bytes: for each group of
/// inputs [inputs / 4][32][4] bytes, then 32 scales in bf16. The last group is padded to a multiple
/// of 4 inputs; padding has the number zero, that of outputs also the scale zero.
struct quantized_layout {
  static constexpr index_t width = panel_width<float>;
  index_t outputs;
  index_t inputs;

  constexpr index_t groups() const { return ceil_div(inputs, group_inputs); }
  constexpr index_t panels() const { return ceil_div(outputs, width); }
  /// Inputs of a group, padded.
  constexpr index_t padded_inputs(index_t group) const {
    return round_up((std::min)(group_inputs, inputs - group * group_inputs), dot_inputs);
  }
  constexpr index_t panel_bytes() const {
    constexpr auto scale = static_cast<index_t>(sizeof(bf16));
    return width * (round_up(inputs, dot_inputs) + groups() * scale);
  }
  constexpr index_t bytes() const { return panels() * panel_bytes(); }
  /// Where a group of a panel begins.
  constexpr index_t group_offset(index_t panel, index_t group) const {
    return panel * panel_bytes() +
           width * group * (group_inputs + static_cast<index_t>(sizeof(bf16)));
  }
  /// Where the number of one input of the group is, from there.
  static constexpr index_t number_offset(index_t output, index_t input_of_group) {
    return (input_of_group / dot_inputs * width + output % width) * dot_inputs +
           input_of_group % dot_inputs;
  }
  /// Where the scale of an output is, from there.
  constexpr index_t scale_offset(index_t output, index_t group) const {
    return width * padded_inputs(group) + output % width * static_cast<index_t>(sizeof(bf16));
  }
};

/// The least bf16 that is not below a number: nothing that is divided by it exceeds 127.
inline bf16 rounded_up(double value) {
  const bf16 nearest(static_cast<float>(value));
  return static_cast<double>(nearest) < value
             ? bf16::from_bits(static_cast<std::uint16_t>(nearest.bits() + 1))
             : nearest;
}

struct cpu_quantize_ops {
  /// Bytes of a weight.
  static constexpr index_t quantized_weight_bytes(index_t outputs, index_t inputs) {
    return quantized_layout{outputs, inputs}.bytes();
  }

  template <scalar S>
  requires std::same_as < accumulate_t<S>,
  float > static void quantize_weight(cpu_context& context,
                                      vector_view<std::byte, cpu> to,
                                      weight_view<const S, cpu> w) {
    const quantized_layout at{w.outputs, w.inputs};
    context.parallel(at.panels(), [&](index_t panel, int) {
      for (index_t group = 0; group < at.groups(); ++group) {
        std::byte* const bytes = to.data() + at.group_offset(panel, group);
        const index_t first = group * group_inputs;
        const index_t count = (std::min)(group_inputs, w.inputs - first);
        std::memset(
            bytes, weight_bias, static_cast<std::size_t>(at.width * at.padded_inputs(group)));
        for (index_t lane = 0; lane < at.width; ++lane) {
          const index_t output = panel * at.width + lane;
          const bf16 scale = output < w.outputs ? group_scale(w, output, first, count) : bf16(0.0f);
          std::memcpy(bytes + at.scale_offset(lane, group), &scale, sizeof(scale));
          if (!(static_cast<float>(scale) > 0)) {
            continue;
          }
          for (index_t k = 0; k < count; ++k) {
            const double number = std::nearbyint(static_cast<double>(w(output, first + k)) /
                                                 static_cast<double>(scale));
            bytes[at.number_offset(lane, k)] =
                static_cast<std::byte>(static_cast<int>(number) + weight_bias);
          }
        }
      }
    });
  }

  template <scalar S>
  requires std::same_as < accumulate_t<S>,
  float > static void quantized_rows(cpu_context& context,
                                     vector_view<std::byte, cpu> to,
                                     weight_view<const S, cpu> w,
                                     vector_view<const index_t, cpu> rows) {
    const quantized_layout from{w.outputs, w.inputs};
    const quantized_layout at{rows.extent(0), w.inputs};
    context.parallel(at.panels(), [&](index_t panel, int) {
      for (index_t group = 0; group < at.groups(); ++group) {
        std::byte* const bytes = to.data() + at.group_offset(panel, group);
        const index_t padded = at.padded_inputs(group);
        std::memset(bytes, weight_bias, static_cast<std::size_t>(at.width * padded));
        std::memset(bytes + at.scale_offset(0, group),
                    0,
                    static_cast<std::size_t>(at.width) * sizeof(bf16));
        const index_t count = (std::min)(at.width, rows.extent(0) - panel * at.width);
        for (index_t lane = 0; lane < count; ++lane) {
          const index_t row = rows(panel * at.width + lane);
          const std::byte* const source = w.quantized + from.group_offset(row / at.width, group);
          for (index_t k = 0; k < padded; k += dot_inputs) {
            std::memcpy(bytes + at.number_offset(lane, k),
                        source + from.number_offset(row, k),
                        static_cast<std::size_t>(dot_inputs));
          }
          std::memcpy(bytes + at.scale_offset(lane, group),
                      source + from.scale_offset(row, group),
                      sizeof(bf16));
        }
      }
    });
  }

 private:
  /// The largest element of a group over 127; 0 where all are tiny, NaN where one is not finite.
  template <scalar S>
  static bf16 group_scale(weight_view<const S, cpu> w,
                          index_t output,
                          index_t first,
                          index_t count) {
    float largest = 0;
    for (index_t k = 0; k < count; ++k) {
      const float element = std::abs(static_cast<float>(w(output, first + k)));
      if (!(element <= (std::numeric_limits<float>::max)())) {
        return bf16(std::numeric_limits<float>::quiet_NaN());
      }
      largest = (std::max)(largest, element);
    }
    return largest < smallest_in_group ? bf16(0.0f)
                                       : rounded_up(static_cast<double>(largest) / 127);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

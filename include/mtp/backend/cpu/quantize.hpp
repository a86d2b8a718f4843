// Weights in 8 bits on the CPU: how they are made. Contracts: ops/quantize.hpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/quantized_layout.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// A group none of whose elements is larger counts as zeros, so that no scale is subnormal.
inline constexpr float smallest_in_group = 0x1p-100f;

/// The least bf16 that is not below a number: nothing that is divided by it exceeds 127.
inline bf16 rounded_up(double value) {
  const bf16 nearest(static_cast<float>(value));
  return static_cast<double>(nearest) < value
             ? bf16::from_bits(static_cast<std::uint16_t>(nearest.bits() + 1))
             : nearest;
}

struct cpu_quantize_ops {
  /// Bytes of a weight.
  static constexpr index_t quantized_weight_bytes(
      index_t outputs, index_t inputs, quantized_format format = quantized_format::int8) {
    switch (format) {
      case quantized_format::int8:
        return quantized_layout{outputs, inputs}.bytes();
      case quantized_format::e4m3:
        return e4m3_layout{outputs, inputs}.bytes();
      default:
        return ceil_div(outputs, group_inputs) * transposed_block(inputs).bytes();
    }
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
    if (w.format == quantized_format::int8) {
      copy_rows<quantized_layout>(context, to.data(), w, rows);
    } else {
      copy_rows<e4m3_layout>(context, to.data(), w, rows);
    }
  }

  /// Writes one output of a weight in e4m3; the other bytes stay as they are. The scale of a group
  /// with a number that is NaN becomes NaN, so that products need not look for such numbers.
  static void set_e4m3_output(std::byte* to,
                              index_t outputs,
                              index_t inputs,
                              index_t output,
                              const std::uint8_t* numbers,
                              const float* scales,
                              quantized_format format) {
    if (format == quantized_format::e4m3_transposed) {
      set_transposed_output(to, inputs, output, numbers, scales);
      return;
    }
    const e4m3_layout at{outputs, inputs};
    for (index_t group = 0; group < at.groups(); ++group) {
      std::byte* const bytes = to + at.group_offset(output / at.width, group);
      const index_t first = group * group_inputs;
      const index_t count = (std::min)(group_inputs, inputs - first);
      float scale = scales[group];
      for (index_t k = 0; k < count; ++k) {
        const std::uint8_t number = numbers[first + k];
        bytes[at.number_offset(output, k)] = static_cast<std::byte>(number);
        if (is_nan_of_e4m3(number)) {
          scale = std::numeric_limits<float>::quiet_NaN();
        }
      }
      std::memcpy(bytes + at.scale_offset(output, group), &scale, sizeof(scale));
    }
  }

 private:
  static bool is_nan_of_e4m3(std::uint8_t number) { return (number & 0x7f) == 0x7f; }

  /// The same for one output of a block of 128: it is an input of the transposed block, whose
  /// scales other threads may be about to write as well. They are zero before.
  static void set_transposed_output(std::byte* to,
                                    index_t inputs,
                                    index_t output,
                                    const std::uint8_t* numbers,
                                    const float* scales) {
    const e4m3_layout at = transposed_block(inputs);
    std::byte* const block = to + output / group_inputs * at.bytes();
    const index_t column = output % group_inputs;
    for (index_t k = 0; k < inputs; ++k) {
      std::byte* const bytes = block + at.group_offset(k / at.width, 0);
      bytes[at.number_offset(k, column)] = static_cast<std::byte>(numbers[k]);
      std::atomic_ref<float> scale(*reinterpret_cast<float*>(bytes + at.scale_offset(k, 0)));
      if (is_nan_of_e4m3(numbers[k])) {
        scale.store(std::numeric_limits<float>::quiet_NaN(), std::memory_order_relaxed);
      } else if (float none = 0; column == 0) {
        scale.compare_exchange_strong(none, scales[k / group_inputs], std::memory_order_relaxed);
      }
    }
  }

  template <class Layout, class S>
  static void copy_rows(cpu_context& context,
                        std::byte* to,
                        weight_view<const S, cpu> w,
                        vector_view<const index_t, cpu> rows) {
    constexpr auto scale_bytes = static_cast<std::size_t>(Layout::scale_bytes);
    const Layout from{w.outputs, w.inputs};
    const Layout at{rows.extent(0), w.inputs};
    context.parallel(at.panels(), [&](index_t panel, int) {
      for (index_t group = 0; group < at.groups(); ++group) {
        std::byte* const bytes = to + at.group_offset(panel, group);
        const index_t padded = at.padded_inputs(group);
        std::memset(bytes, Layout::zero, static_cast<std::size_t>(at.width * padded));
        std::memset(
            bytes + at.scale_offset(0, group), 0, static_cast<std::size_t>(at.width) * scale_bytes);
        const index_t count = (std::min)(at.width, rows.extent(0) - panel * at.width);
        for (index_t lane = 0; lane < count; ++lane) {
          const index_t row = rows(panel * at.width + lane);
          const std::byte* const source = w.quantized + from.group_offset(row / at.width, group);
          for (index_t k = 0; k < padded; k += Layout::dot_inputs) {
            std::memcpy(bytes + at.number_offset(lane, k),
                        source + from.number_offset(row, k),
                        static_cast<std::size_t>(Layout::dot_inputs));
          }
          std::memcpy(bytes + at.scale_offset(lane, group),
                      source + from.scale_offset(row, group),
                      scale_bytes);
        }
      }
    });
  }

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

// Weights in 8 bits, for inference: how they are made. Linear maps read them forward, see
// ops/linear.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/supported.hpp"

namespace mtp::inline MTP_ABI {

/// Bytes of a weight in 8 bits; see quantize_weight and set_e4m3_output.
template <class Backend>
constexpr index_t quantized_weight_bytes(index_t outputs,
                                         index_t inputs,
                                         quantized_format format = quantized_format::int8) {
  static_assert(
      requires { ops_of<Backend>::quantized_weight_bytes(outputs, inputs, format); },
      "quantized_weight_bytes: the backend has no weights in 8 bits");
  return ops_of<Backend>::quantized_weight_bytes(outputs, inputs, format);
}

/// Inputs of an output that share a scale, in either format.
inline constexpr index_t scaled_inputs = 128;

/// Writes output n of a weight in FP8, of numbers in e4m3 (1 sign, 4 bits of exponent, 3 of
/// mantissa, bias 7; Micikevicius et al. 2022, arXiv 2209.05433, table 1) as DeepSeek-V3's
/// checkpoints have them (arXiv 2412.19437, section 3.3.2), with a scale for each group g of 128
/// inputs:
///
///     W[n, k] = numbers[k] scales[k / 128]
///
/// The bytes `to` are those of all outputs, all zero before the first is written; numbers [K],
/// scales [ceil(K / 128)]. A linear map multiplies its rows as they are:
///
///     y[m, n] = start + sum over g of (sum over k in g of numbers[n, k] x[m, k]) scales[n, g]
///
/// where the inner sum is the chain that linear_forward has for rows of this type, from zero on,
/// and the outer one a chain of fused multiply-adds in f32. So a row has the same bits among any
/// number of rows. Outputs with a number that is NaN, as 0x7f and 0xff are, become NaN.
///
/// In e4m3_transposed the weight is for head_linear_backward_input, which adds over outputs: a
/// scale belongs to an input and a block of 128 outputs, whose number must be a multiple of 128.
/// The scales of a block are those that are given with its first output; the outputs of a block of
/// a checkpoint have the same. Inputs with a number that is NaN become NaN.
///
/// Threads may write different outputs at a time. Throws mtp::error unless `to` has
/// quantized_weight_bytes(N, K, format) elements, output is in [0, N), 128 divides N where it must,
/// and the others are as long as they must be; nothing has changed then.
template <class Backend>
void set_e4m3_output(vector_view<std::byte, Backend> to,
                     index_t outputs,
                     index_t inputs,
                     index_t output,
                     std::span<const std::uint8_t> numbers,
                     std::span<const float> scales,
                     quantized_format format = quantized_format::e4m3) {
  check(format == quantized_format::e4m3 ||
            (format == quantized_format::e4m3_transposed && outputs % scaled_inputs == 0),
        "set_e4m3_output: expected the format e4m3, or e4m3_transposed with a multiple of ",
        scaled_inputs,
        " outputs, got ",
        outputs);
  detail::check_shape("set_e4m3_output",
                      "to",
                      to,
                      dims<1>{quantized_weight_bytes<Backend>(outputs, inputs, format)});
  check(output >= 0 && output < outputs,
        "set_e4m3_output: expected an output in [0, ",
        outputs,
        "), got ",
        output);
  check(static_cast<index_t>(numbers.size()) == inputs &&
            static_cast<index_t>(scales.size()) == ceil_div(inputs, scaled_inputs),
        "set_e4m3_output: expected ",
        inputs,
        " numbers and ",
        ceil_div(inputs, scaled_inputs),
        " scales, got ",
        numbers.size(),
        " and ",
        scales.size());
  ops_of<Backend>::set_e4m3_output(
      to.data(), outputs, inputs, output, numbers.data(), scales.data(), format);
}

/// Writes a weight in 8 bits, with a scale for each output and group g of 128 inputs:
///
///     s[n, g] = max over k in g of |W[n, k]| / 127, rounded up to bf16
///     q[n, k] = round(W[n, k] / s[n, g]), from -127 to 127
///
/// to (=), w [N, K]. A group of elements below 2^-100 is all zero; one with an element that is not
/// finite has the scale NaN. A linear map quantizes its rows x[m] to 16 bits, likewise for each row
/// and group:
///
///     t[m, g] = max over k in g of |x[m, k]| / 32512, in f32
///     r[m, k] = round(x[m, k] / t[m, g]), from -32512 to 32512
///     y[m, n] = start + sum over g of float(sum over k in g of q[n, k] r[m, k]) (s[n, g] t[m, g])
///
/// where sums within a group are exact and the sum over groups is one chain of fused multiply-adds
/// in f32. So a row has the same bits among any number of rows. A row with an element that is not
/// finite becomes NaN. Weights are quantized as by Dettmers et al. 2022, LLM.int8(), arXiv
/// 2208.07339, section 2, with groups of inputs.
///
/// A weight_view with these bytes is a weight of linear maps, forward; its other elements may be
/// missing. Elements are f32 or bf16. Throws mtp::error unless `to` has quantized_weight_bytes(N,
/// K) elements; nothing has changed then.
template <class S, class Backend>
void quantize_weight(context<Backend>& context,
                     vector_view<std::byte, Backend> to,
                     weight_view<S, Backend> w) {
  const std::type_identity_t<weight_view<const S, Backend>> source(w);
  detail::check_elements("quantize_weight", "w", source, w.outputs, w.inputs);
  detail::check_shape(
      "quantize_weight", "to", to, dims<1>{quantized_weight_bytes<Backend>(w.outputs, w.inputs)});
  MTP_DISPATCH(quantize_weight, context, to, source);
}

/// Some rows of a weight in 8 bits, with the same numbers and scales: to (=) has the outputs
/// rows[r] of w, in its format.  rows [R]. Throws mtp::error unless `to` has
/// quantized_weight_bytes(R, K, w.format) elements and w is in 8 bits. Rows must lie in [0, N).
template <class S, class Backend>
void quantized_rows(context<Backend>& context,
                    vector_view<std::byte, Backend> to,
                    weight_view<S, Backend> w,
                    std::type_identity_t<vector_view<const index_t, Backend>> rows) {
  const std::type_identity_t<weight_view<const S, Backend>> source(w);
  check(w.quantized != nullptr && w.format != quantized_format::e4m3_transposed,
        "quantized_rows: expected a weight in 8 bits, output by output");
  detail::check_shape("quantized_rows",
                      "to",
                      to,
                      dims<1>{quantized_weight_bytes<Backend>(rows.extent(0), w.inputs, w.format)});
  MTP_DISPATCH(quantized_rows, context, to, source, rows);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(quantize_weight,
              as_operand,
              "expected (context, to, w), of one backend, `to` a writable view of bytes and w a "
              "weight_view")
MTP_OPERATION(quantized_rows,
              as_operand,
              "expected (context, to, w, rows [R]), of one backend, `to` a writable view of bytes, "
              "w a weight_view and rows of index_t")
/// @endcond

/// Whether a backend has weights in 8 bits beside elements of S.
template <class Backend, scalar S>
inline constexpr bool has_quantized_weights = supported<op::quantize_weight,
                                                        Backend,
                                                        vector_view<std::byte, Backend>,
                                                        weight_view<const S, Backend>>;

}  // namespace mtp::inline MTP_ABI

// Weights in 8 bits, for inference: how they are made. Linear maps read them forward, see
// ops/linear.hpp.
#pragma once

#include <cstddef>

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/supported.hpp"

namespace mtp::inline MTP_ABI {

/// Bytes of a weight in 8 bits; see quantize_weight.
template <class Backend>
constexpr index_t quantized_weight_bytes(index_t outputs, index_t inputs) {
  static_assert(
      requires { ops_of<Backend>::quantized_weight_bytes(outputs, inputs); },
      "quantized_weight_bytes: the backend has no weights in 8 bits");
  return ops_of<Backend>::quantized_weight_bytes(outputs, inputs);
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
/// rows[r] of w.  rows [R]. Throws mtp::error unless `to` has quantized_weight_bytes(R, K) elements
/// and w is in 8 bits. Rows must lie in [0, N).
template <class S, class Backend>
void quantized_rows(context<Backend>& context,
                    vector_view<std::byte, Backend> to,
                    weight_view<S, Backend> w,
                    std::type_identity_t<vector_view<const index_t, Backend>> rows) {
  const std::type_identity_t<weight_view<const S, Backend>> source(w);
  check(w.quantized != nullptr, "quantized_rows: expected a weight in 8 bits");
  detail::check_shape("quantized_rows",
                      "to",
                      to,
                      dims<1>{quantized_weight_bytes<Backend>(rows.extent(0), w.inputs)});
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

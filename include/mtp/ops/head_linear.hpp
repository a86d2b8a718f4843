// Linear maps of heads: each head of a row has a matrix of its own, all of them parts of one
// weight.
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// w [H N, K] has a part for each of the heads of `outputs` [M, H, N] and `inputs` [M, H, K]. It is
/// in elements or, if the backend reads it so, in FP8 in the form that is for the operation.
template <class Outputs, class Inputs, class Weight>
void check_head_linear(const char* function,
                       const Outputs& outputs,
                       const Inputs& inputs,
                       const Weight& w,
                       bool in_fp8) {
  const index_t H = outputs.extent(1), N = outputs.extent(2);
  check(inputs.extent(0) == outputs.extent(0) && inputs.extent(1) == H,
        function,
        ": expected as many rows and heads on both sides, got ",
        inputs.shape(),
        " and ",
        outputs.shape());
  check_weight(function, "w", w, H * N, inputs.extent(2));
  check(w.data != nullptr || w.quantized == nullptr || in_fp8,
        function,
        ": w exists in 8 bits alone, in a format that is not read here");
  check(!in_fp8 || w.format == quantized_format::e4m3 || N % scaled_inputs == 0,
        function,
        ": expected a multiple of ",
        scaled_inputs,
        " outputs of a head of a weight in e4m3_transposed, got ",
        N);
  check(H <= 1 || Weight::splits_at(N),
        function,
        ": the layout of weights cannot be split every ",
        N,
        " outputs; a multiple of 64 can");
}

}  // namespace detail

/// y[m, h, n] = sum over k of W[h N + n, k] x[m, h, k]      y [M, H, N], x [M, H, K], W [H N, K]
///
/// Row-invariant, with the chains of linear_forward on the CPU, also by a weight in FP8
/// (set_e4m3_output). Rows and heads may be strided; y must not overlap x. Throws mtp::error on
/// wrong shapes, for a weight in 8 bits of another format, and where the layout of weights cannot
/// be split every N outputs (weight_view::splits_at).
template <scalar S, class Backend>
void head_linear_forward(context<Backend>& context,
                         view<S, dims<3>, Backend> y,
                         in_heads<S, Backend> x,
                         in_weight<S, Backend> w) {
  using ops = ops_of<Backend>;
  constexpr bool has_fp8 = requires {
    ops::quantized_head_linear_forward(context, y, x, w);
  };
  const bool in_fp8 = has_fp8 && w.quantized != nullptr && w.format == quantized_format::e4m3;
  detail::check_head_linear("head_linear_forward", y, x, w, in_fp8);
  detail::check_rows("head_linear_forward", "y", y);
  detail::check_rows("head_linear_forward", "x", x);
  if constexpr (has_fp8) {
    if (in_fp8) {
      detail::in_default_environment([&] { ops::quantized_head_linear_forward(context, y, x, w); });
      return;
    }
  }
  MTP_DISPATCH(head_linear_forward, context, y, x, w);
}

/// dx[m, h, k] = sum over n of dy[m, h, n] W[h N + n, k]    dx [M, H, K], dy [M, H, N], W [H N, K]
///
/// The product with the transposed matrix of each head: the gradient of head_linear_forward by x,
/// and what takes queries of latent attention to the latents. Row-invariant; on the CPU with the
/// chains of linear_backward_input. By a weight in e4m3_transposed (set_e4m3_output), with N a
/// multiple of 128,
///
///     dx[m, h, k] = sum over b of s[b, k] (sum over n in b of numbers[h N + n, k] dy[m, h, n])
///
/// with blocks b of 128 outputs, where the sums are chains as set_e4m3_output has them. dx must not
/// overlap dy. Throws as head_linear_forward does.
template <scalar S, class Backend>
void head_linear_backward_input(context<Backend>& context,
                                view<S, dims<3>, Backend> dx,
                                in_heads<S, Backend> dy,
                                in_weight<S, Backend> w) {
  using ops = ops_of<Backend>;
  constexpr bool has_fp8 = requires {
    ops::quantized_head_linear_backward_input(context, dx, dy, w);
  };
  const bool in_fp8 =
      has_fp8 && w.quantized != nullptr && w.format == quantized_format::e4m3_transposed;
  detail::check_head_linear("head_linear_backward_input", dy, dx, w, in_fp8);
  detail::check_rows("head_linear_backward_input", "dx", dx);
  detail::check_rows("head_linear_backward_input", "dy", dy);
  if constexpr (has_fp8) {
    if (in_fp8) {
      detail::in_default_environment(
          [&] { ops::quantized_head_linear_backward_input(context, dx, dy, w); });
      return;
    }
  }
  MTP_DISPATCH(head_linear_backward_input, context, dx, dy, w);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    head_linear_forward,
    as_dynamic_operand,
    "expected (context, y [M, H, N], x [M, H, K], w [H N, K]), of one backend and element "
    "type, y writable")
MTP_OPERATION(head_linear_backward_input,
              as_dynamic_operand,
              "expected (context, dx [M, H, K], dy [M, H, N], w [H N, K]), of one backend and "
              "element type, dx writable")
/// @endcond

}  // namespace mtp::inline MTP_ABI

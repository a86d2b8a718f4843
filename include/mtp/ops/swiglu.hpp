// Gated activations: SwiGLU (Shazeer 2020, arXiv 2002.05202, eq. 6) and the residual SiLU of Medusa
// heads.
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// y[n, f] = silu(g[n, f]) * u[n, f],  silu(g) = g / (1 + exp(-g))
///
/// gate_up [N, 2F]: g in columns 0..F-1, u in columns F..2F-1; y [N, F]. Throws mtp::error on wrong
/// shapes.
template <scalar S, class Backend>
void swiglu_forward(context<Backend>& context,
                    matrix_view<S, Backend> y,
                    in_matrix<S, Backend> gate_up) {
  detail::check_shape("swiglu_forward", "gate_up", gate_up, {y.extent(0), 2 * y.extent(1)});
  detail::check_rows("swiglu_forward", "y", y);
  detail::check_rows("swiglu_forward", "gate_up", gate_up);
  MTP_DISPATCH(swiglu_forward, context, y, gate_up);
}

/// dg = dy u silu'(g),  du = dy silu(g),  silu'(g) = s (1 + g (1 - s)) with s = 1 / (1 + exp(-g))
///
/// d_gate_up (=), gate_up [N, 2F], dy [N, F]. d_gate_up may be gate_up. Throws mtp::error on wrong
/// shapes.
template <scalar S, class Backend>
void swiglu_backward(context<Backend>& context,
                     matrix_view<S, Backend> d_gate_up,
                     in_matrix<S, Backend> dy,
                     in_matrix<S, Backend> gate_up) {
  detail::check_shape("swiglu_backward", "gate_up", gate_up, {dy.extent(0), 2 * dy.extent(1)});
  detail::check_shape("swiglu_backward", "d_gate_up", d_gate_up, gate_up.shape());
  detail::check_rows("swiglu_backward", "d_gate_up", d_gate_up);
  detail::check_rows("swiglu_backward", "dy", dy);
  detail::check_rows("swiglu_backward", "gate_up", gate_up);
  MTP_DISPATCH(swiglu_backward, context, d_gate_up, dy, gate_up);
}

/// y = x + silu(u), element by element (Medusa, arXiv 2401.10774, section 2.1.1). All [N, C]; y may
/// be x. Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void silu_residual_forward(context<Backend>& context,
                           matrix_view<S, Backend> y,
                           in_matrix<S, Backend> x,
                           in_matrix<S, Backend> u) {
  detail::check_shape("silu_residual_forward", "x", x, y.shape());
  detail::check_shape("silu_residual_forward", "u", u, y.shape());
  detail::check_rows("silu_residual_forward", "y", y);
  detail::check_rows("silu_residual_forward", "x", x);
  detail::check_rows("silu_residual_forward", "u", u);
  MTP_DISPATCH(silu_residual_forward, context, y, x, u);
}

/// du = dy silu'(u); the gradient of x is dy itself. All [N, C]; du may be u.
/// Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void silu_residual_backward(context<Backend>& context,
                            matrix_view<S, Backend> du,
                            in_matrix<S, Backend> dy,
                            in_matrix<S, Backend> u) {
  detail::check_shape("silu_residual_backward", "dy", dy, du.shape());
  detail::check_shape("silu_residual_backward", "u", u, du.shape());
  detail::check_rows("silu_residual_backward", "du", du);
  detail::check_rows("silu_residual_backward", "dy", dy);
  detail::check_rows("silu_residual_backward", "u", u);
  MTP_DISPATCH(silu_residual_backward, context, du, dy, u);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(swiglu_forward,
              as_dynamic_operand,
              "expected (context, y [N, F], gate_up [N, 2F]), dynamic views of one backend and "
              "element type, y writable")
MTP_OPERATION(swiglu_backward,
              as_dynamic_operand,
              "expected (context, d_gate_up [N, 2F], dy [N, F], gate_up [N, 2F]), dynamic views of "
              "one backend and element type, d_gate_up writable")
MTP_OPERATION(
    silu_residual_forward,
    as_dynamic_operand,
    "expected (context, y, x, u), dynamic views [N, C] of one backend and element type, y writable")
MTP_OPERATION(silu_residual_backward,
              as_dynamic_operand,
              "expected (context, du, dy, u), dynamic views [N, C] of one backend and element "
              "type, du writable")
/// @endcond

}  // namespace mtp::inline MTP_ABI

// Root-mean-square normalization (Zhang and Sennrich 2019, arXiv 1910.07467, eq. 4).
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// y[n, h, c] = x[n, h, c] * r[n, h] * weight[c],  r[n, h] = 1 / sqrt(mean over c of x[n, h, c]^2 +
/// epsilon)
///
/// x, y [N, H, C], rows may be strided; weight [C]; inv_rms [N, H] receives r, which backward
/// reads, in accumulate_t of the elements. y may be x. Row-invariant. Throws mtp::error on wrong
/// shapes.
template <scalar S, class Backend>
void rms_norm_forward(context<Backend>& context,
                      view<S, dims<3>, Backend> y,
                      out_sums<S, Backend> inv_rms,
                      in_heads<S, Backend> x,
                      in_vector<S, Backend> weight,
                      double epsilon) {
  detail::check_shape("rms_norm_forward", "y", y, x.shape());
  detail::check_shape("rms_norm_forward", "inv_rms", inv_rms, {x.extent(0), x.extent(1)});
  detail::check_shape("rms_norm_forward", "weight", weight, dims<1>{x.extent(2)});
  detail::check_rows("rms_norm_forward", "y", y);
  detail::check_rows("rms_norm_forward", "x", x);
  detail::check_rows("rms_norm_forward", "weight", weight);
  MTP_DISPATCH(rms_norm_forward, context, y, inv_rms, x, weight, epsilon);
}

/// The same for rows that are not divided into heads: x, y [N, C], inv_rms [N].
template <scalar S, class Backend>
void rms_norm_forward(context<Backend>& context,
                      matrix_view<S, Backend> y,
                      out_vector<accumulate_t<S>, Backend> inv_rms,
                      in_matrix<S, Backend> x,
                      in_vector<S, Backend> weight,
                      double epsilon) {
  rms_norm_forward(context,
                   detail::as_heads(y),
                   detail::as_column(inv_rms),
                   detail::as_heads(x),
                   weight,
                   epsilon);
}

/// The gradients of rms_norm_forward. Within a row (n, h), with r = inv_rms[n, h]:
///
///     dx[c]       = residual[c] + r (dy[c] weight[c] - x[c] r^2 m)
///     m           = mean over c of dy[c] weight[c] x[c]
///     dweight[c] += sum over n, h of dy[c] x[c] r
///
/// Shapes as in forward; residual [N, H, C], or no data for zero. dx may be residual or dy. The
/// order of the sum for dweight depends on the shapes only. If dweight has no data, it is not
/// computed. Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void rms_norm_backward(context<Backend>& context,
                       view<S, dims<3>, Backend> dx,
                       out_vector<accumulate_t<S>, Backend> dweight,
                       in_heads<S, Backend> dy,
                       in_heads<S, Backend> x,
                       in_sums<S, Backend> inv_rms,
                       in_vector<S, Backend> weight,
                       in_heads<S, Backend> residual) {
  detail::check_shape("rms_norm_backward", "dx", dx, x.shape());
  detail::check_shape("rms_norm_backward", "dy", dy, x.shape());
  detail::check_shape("rms_norm_backward", "dweight", dweight, dims<1>{x.extent(2)});
  detail::check_shape("rms_norm_backward", "inv_rms", inv_rms, {x.extent(0), x.extent(1)});
  detail::check_shape("rms_norm_backward", "weight", weight, dims<1>{x.extent(2)});
  if (residual.data() != nullptr) {
    detail::check_shape("rms_norm_backward", "residual", residual, x.shape());
    detail::check_rows("rms_norm_backward", "residual", residual);
  }
  detail::check_rows("rms_norm_backward", "dx", dx);
  detail::check_rows("rms_norm_backward", "dy", dy);
  detail::check_rows("rms_norm_backward", "x", x);
  detail::check_rows("rms_norm_backward", "weight", weight);
  detail::check_rows("rms_norm_backward", "dweight", dweight);
  MTP_DISPATCH(rms_norm_backward, context, dx, dweight, dy, x, inv_rms, weight, residual);
}

/// The same for rows that are not divided into heads.
template <scalar S, class Backend>
void rms_norm_backward(context<Backend>& context,
                       matrix_view<S, Backend> dx,
                       out_vector<accumulate_t<S>, Backend> dweight,
                       in_matrix<S, Backend> dy,
                       in_matrix<S, Backend> x,
                       in_vector<accumulate_t<S>, Backend> inv_rms,
                       in_vector<S, Backend> weight,
                       in_matrix<S, Backend> residual) {
  rms_norm_backward(context,
                    detail::as_heads(dx),
                    dweight,
                    detail::as_heads(dy),
                    detail::as_heads(x),
                    detail::as_column(inv_rms),
                    weight,
                    detail::as_heads(residual));
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    rms_norm_forward,
    as_dynamic_operand,
    "expected (context, y, inv_rms, x, weight [C], epsilon), of one backend, y, x and weight "
    "of one element type, inv_rms of its accumulator type")
MTP_OPERATION(
    rms_norm_backward,
    as_dynamic_operand,
    "expected (context, dx, dweight [C], dy, x, inv_rms, weight [C], residual), of one backend, "
    "dweight and inv_rms of the accumulator type, the others of one element type")
/// @endcond

}  // namespace mtp::inline MTP_ABI

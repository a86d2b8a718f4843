// Linear maps of experts: each group of neighbouring rows goes through a matrix of its own.
//
// The matrices of E experts, each with N outputs, are one weight of E N outputs. Rows
// offsets[e] .. offsets[e + 1] - 1 belong to expert e (ops/expert_rows.hpp); in memory of a device
// the host does not look at them.
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Checks what the three operations have in common.
template <class Weight, class Offsets>
void check_groups(const char* function,
                  const char* name,
                  const Weight& w,
                  const Offsets& offsets,
                  index_t rows,
                  index_t N) {
  const index_t E = offsets.extent(0) - 1;
  check(E > 0, function, ": expected offsets of at least one expert");
  check(w.outputs == E * N && (E == 1 || w.splits_at(N)),
        function,
        ": expected ",
        name,
        " with ",
        N,
        " outputs for each of ",
        E,
        " experts, a number at which its layout can be split, got ",
        w.outputs,
        " in all");
  check_rows(function, "offsets", offsets);
  if constexpr (backend_traits<typename Offsets::backend_type>::is_host_memory) {
    index_t last = 0;
    for (index_t e = 0; e <= E; ++e) {
      check(offsets(e) >= last && (e > 0 || offsets(e) == 0) && (e < E || offsets(e) == rows),
            function,
            ": expected ascending offsets from 0 to ",
            rows,
            ", got ",
            offsets(e),
            " at ",
            e);
      last = offsets(e);
    }
  }
}

}  // namespace detail

/// y[r, n] = sum over k of W[e N + n, k] x[r, k],  e the expert of row r
///
/// y [R, N], x [R, K], W [E N, K], offsets [E + 1]. A row has the bits that linear_forward gives it
/// alone with its expert's part of W, in any grouping and with any number of threads; also by a
/// weight in 8 bits (ops/quantize.hpp). y must not overlap x. Throws mtp::error on wrong shapes and
/// offsets.
template <scalar S, class Backend>
void grouped_linear_forward(context<Backend>& context,
                            matrix_view<S, Backend> y,
                            in_matrix<S, Backend> x,
                            in_weight<S, Backend> w,
                            in_positions<Backend> offsets) {
  const char* const name = "grouped_linear_forward";
  detail::check_groups(name, "w", w, offsets, y.extent(0), y.extent(1));
  detail::check_shape(name, "x", x, {y.extent(0), w.inputs});
  detail::check_rows(name, "y", y);
  detail::check_rows(name, "x", x);
  if (detail::grouped_linear_quantized(context, y, x, w, offsets)) {
    return;
  }
  MTP_DISPATCH(grouped_linear_forward, context, y, x, w, offsets);
}

/// dx[r, k] = sum over n of dy[r, n] W[e N + n, k],  e the expert of row r
///
/// dx [R, K], dy [R, N]; else as grouped_linear_forward. On the CPU a row has the bits that
/// linear_backward_input gives it.
template <scalar S, class Backend>
void grouped_linear_backward_input(context<Backend>& context,
                                   matrix_view<S, Backend> dx,
                                   in_matrix<S, Backend> dy,
                                   in_weight<S, Backend> w,
                                   in_positions<Backend> offsets) {
  const char* const name = "grouped_linear_backward_input";
  detail::check_groups(name, "w", w, offsets, dy.extent(0), dy.extent(1));
  detail::check_shape(name, "dx", dx, {dy.extent(0), w.inputs});
  detail::check_elements(name, "w", w, w.outputs, w.inputs);
  detail::check_rows(name, "dx", dx);
  detail::check_rows(name, "dy", dy);
  MTP_DISPATCH(grouped_linear_backward_input, context, dx, dy, w, offsets);
}

/// dW[e N + n, k] += sum over the rows r of expert e of dy[r, n] x[r, k]
///
/// dW [E N, K] holds accumulate_t of the elements, dy [R, N], x [R, K]. The matrix of an expert
/// without rows stays as it is. On the CPU an expert's part has the bits that
/// linear_backward_weight gives it for its rows; on every backend the order of a sum depends on the
/// offsets only. Throws mtp::error on wrong shapes and offsets.
template <class G, class S, detail::matrix_shape Shape, class Backend>
detail::void_if<detail::sums_of<G, S>> grouped_linear_backward_weight(
    context<Backend>& context,
    weight_view<G, Backend> dw,
    view<S, Shape, Backend> dy_rows,
    in_matrix<std::remove_const_t<S>, Backend> x,
    in_positions<Backend> offsets) {
  static_assert(detail::sums_of<G, S>,
                "grouped_linear_backward_weight: dw must hold elements of the accumulator type of "
                "dy");
  const char* const name = "grouped_linear_backward_weight";
  const detail::in_matrix_of<S, Backend> dy(dy_rows);
  detail::check_groups(name, "dw", dw, offsets, dy.extent(0), dy.extent(1));
  detail::check_shape(name, "x", x, {dy.extent(0), dw.inputs});
  detail::check_rows(name, "dy", dy);
  detail::check_rows(name, "x", x);
  MTP_DISPATCH(grouped_linear_backward_weight, context, dw, dy, x, offsets);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    grouped_linear_forward,
    as_dynamic_operand,
    "expected (context, y [R, N], x [R, K], w, offsets [E + 1] index_t), dynamic views of "
    "one backend and element type, y writable")
MTP_OPERATION(grouped_linear_backward_input,
              as_dynamic_operand,
              "expected (context, dx [R, K], dy [R, N], w, offsets [E + 1] index_t), dynamic views "
              "of one backend and element type, dx writable")
MTP_OPERATION(grouped_linear_backward_weight,
              as_dynamic_operand,
              "expected (context, dw, dy [R, N], x [R, K], offsets [E + 1] index_t), of one "
              "backend, x of dy's element type")
/// @endcond

}  // namespace mtp::inline MTP_ABI

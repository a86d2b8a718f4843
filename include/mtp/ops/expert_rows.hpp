// Rows on their way to experts and back: sorted by expert, so that each expert sees neighbours.
//
// A row n of x goes to k experts; pair n k + j is its j-th. Sorting the N k pairs by expert gives
// each a place among R = N k rows.
#pragma once

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Checks numbers that the host can see. `name` [..] must lie in [0, end).
template <class View>
void check_numbers(const char* function, const char* name, const View& numbers, index_t end) {
  if constexpr (backend_traits<typename View::backend_type>::is_host_memory) {
    for (index_t n = 0; n < numbers.extent(0); ++n) {
      for (index_t j = 0; j < numbers.extent(1); ++j) {
        check(numbers(n, j) >= 0 && numbers(n, j) < end,
              function,
              ": ",
              name,
              " [",
              n,
              ", ",
              j,
              "] is ",
              numbers(n, j),
              ", which does not lie in [0, ",
              end,
              ")");
      }
    }
  }
}

}  // namespace detail

/// The pairs in the order of their experts, and where each is (a stable counting sort):
///
///     offsets[e] = how many pairs have an expert below e               0 <= e <= E
///     pairs[r]   = n k + j,  rows[n, j] = r,  experts[n, j] = e   for offsets[e] <= r < offsets[e
///     + 1]
///
/// with the pairs of an expert in ascending order. offsets [E + 1], pairs [N k], rows, experts
/// [N, k]. Throws mtp::error on wrong shapes and on an expert outside [0, E), with nothing changed;
/// on a device such a one counts as the nearest.
template <class Backend>
void group_rows(context<Backend>& context,
                vector_view<index_t, Backend> offsets,
                std::type_identity_t<vector_view<index_t, Backend>> pairs,
                std::type_identity_t<matrix_view<index_t, Backend>> rows,
                std::type_identity_t<matrix_view<const index_t, Backend>> experts) {
  const char* const name = "group_rows";
  check(offsets.extent(0) >= 2, name, ": expected offsets of at least one expert");
  detail::check_shape(name, "pairs", pairs, dims<1>{experts.count()});
  detail::check_shape(name, "rows", rows, experts.shape());
  detail::check_rows(name, "offsets", offsets);
  detail::check_rows(name, "pairs", pairs);
  detail::check_rows(name, "rows", rows);
  detail::check_rows(name, "experts", experts);
  detail::check_numbers(name, "experts", experts, offsets.extent(0) - 1);
  MTP_DISPATCH(group_rows, context, offsets, pairs, rows, experts);
}

/// counts[e] += offsets[e + 1] - offsets[e]            counts [E], offsets [E + 1] of group_rows
///
/// Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void add_group_sizes(context<Backend>& context,
                     vector_view<S, Backend> counts,
                     in_positions<Backend> offsets) {
  const char* const name = "add_group_sizes";
  detail::check_shape(name, "offsets", offsets, dims<1>{counts.extent(0) + 1});
  detail::check_rows(name, "counts", counts);
  detail::check_rows(name, "offsets", offsets);
  MTP_DISPATCH(add_group_sizes, context, counts, offsets);
}

/// y[r, c] = x[pairs[r] / k, c]          y [R, C], x [N, C], pairs [R] of group_rows, R = N k
///
/// Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void gather_rows(context<Backend>& context,
                 matrix_view<S, Backend> y,
                 in_matrix<S, Backend> x,
                 in_positions<Backend> pairs) {
  const char* const name = "gather_rows";
  detail::check_shape(name, "y", y, {pairs.extent(0), x.extent(1)});
  check(x.extent(0) == 0 ? y.extent(0) == 0 : y.extent(0) % x.extent(0) == 0,
        name,
        ": expected as many pairs for each of the ",
        x.extent(0),
        " rows of x, got ",
        y.extent(0));
  detail::check_rows(name, "y", y);
  detail::check_rows(name, "x", x);
  detail::check_rows(name, "pairs", pairs);
  MTP_DISPATCH(gather_rows, context, y, x, pairs);
}

/// y[n, c] = residual[n, c] + sum over j = 0 .. k - 1, in this order, of
///           weights[n, j] x[rows[n, j], c]
///
/// y, residual [N, C], x [R, C], rows [N, k] of group_rows, weights [N, k] in accumulate_t of the
/// elements, or without data: then all are 1, which makes it the gradient of gather_rows. Sums are
/// rounded once. y may be residual. A row has the same bits whatever stands beside it. Throws
/// mtp::error on wrong shapes.
template <scalar S, class Backend>
void scatter_rows(context<Backend>& context,
                  matrix_view<S, Backend> y,
                  in_matrix<S, Backend> residual,
                  in_matrix<S, Backend> x,
                  std::type_identity_t<matrix_view<const index_t, Backend>> rows,
                  in_sums<S, Backend> weights) {
  const char* const name = "scatter_rows";
  detail::check_shape(name, "residual", residual, y.shape());
  detail::check_shape(name, "rows", rows, {y.extent(0), rows.extent(1)});
  detail::check_shape(name, "x", x, {rows.count(), y.extent(1)});
  if (weights.data() != nullptr) {
    detail::check_shape(name, "weights", weights, rows.shape());
  }
  detail::check_rows(name, "y", y);
  detail::check_rows(name, "residual", residual);
  detail::check_rows(name, "x", x);
  detail::check_rows(name, "rows", rows);
  detail::check_rows(name, "weights", weights);
  MTP_DISPATCH(scatter_rows, context, y, residual, x, rows, weights);
}

/// dx[rows[n, j], c] = weights[n, j] dy[n, c],  dweights[n, j] = sum over c of dy[n, c] x[rows[n,
/// j], c]
///
/// of scatter_rows; the gradient of residual is dy itself. dx (=), x [R, C], dweights (=), weights,
/// rows [N, k], dy [N, C]. Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void scatter_rows_backward(context<Backend>& context,
                           matrix_view<S, Backend> dx,
                           out_sums<S, Backend> dweights,
                           in_matrix<S, Backend> dy,
                           in_matrix<S, Backend> x,
                           std::type_identity_t<matrix_view<const index_t, Backend>> rows,
                           in_sums<S, Backend> weights) {
  const char* const name = "scatter_rows_backward";
  detail::check_shape(name, "rows", rows, {dy.extent(0), rows.extent(1)});
  detail::check_shape(name, "x", x, {rows.count(), dy.extent(1)});
  detail::check_shape(name, "dx", dx, x.shape());
  detail::check_shape(name, "weights", weights, rows.shape());
  detail::check_shape(name, "dweights", dweights, rows.shape());
  detail::check_rows(name, "dx", dx);
  detail::check_rows(name, "dweights", dweights);
  detail::check_rows(name, "dy", dy);
  detail::check_rows(name, "x", x);
  detail::check_rows(name, "rows", rows);
  detail::check_rows(name, "weights", weights);
  MTP_DISPATCH(scatter_rows_backward, context, dx, dweights, dy, x, rows, weights);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    group_rows,
    as_dynamic_operand,
    "expected (context, offsets [E + 1], pairs [N k], rows [N, k], experts [N, k]), views "
    "of index_t and of one backend, all but experts writable")
MTP_OPERATION(add_group_sizes,
              as_dynamic_operand,
              "expected (context, counts [E], offsets [E + 1] index_t), views of one backend, "
              "counts writable")
MTP_OPERATION(gather_rows,
              as_dynamic_operand,
              "expected (context, y [R, C], x [N, C], pairs [R] index_t), dynamic views of one "
              "backend, x of y's element type, y writable")
MTP_OPERATION(
    scatter_rows,
    as_dynamic_operand,
    "expected (context, y [N, C], residual [N, C], x [R, C], rows [N, k] index_t, weights "
    "[N, k] of the accumulator type), dynamic views of one backend, y writable")
MTP_OPERATION(scatter_rows_backward,
              as_dynamic_operand,
              "expected (context, dx [R, C], dweights [N, k] of the accumulator type, dy [N, C], x "
              "[R, C], rows [N, k] index_t, weights [N, k]), dynamic views of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI

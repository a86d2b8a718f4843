// Sums over the ranks that compute one model together.
#pragma once

#include "mtp/core/tensor_group.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// With x_r the values of rank r of the R ranks that the context has joined (tensor_group):
///
///     values[i] = ((0 + x_0[i]) + x_1[i]) + .. + x_(R-1)[i]                       values [N]
///
/// in accumulate_t of the elements, rounded once. All ranks get the same bits, with any engine and
/// any number of threads. The elements must be contiguous. Each rank sends 2 (R - 1) / R N
/// elements. Throws mtp::error unless the context has joined ranks, and as their engine does.
template <scalar S, class Backend>
void sum_over_ranks(context<Backend>& context, vector_view<S, Backend> values) {
  static_cast<void>(detail::ranks_of("sum_over_ranks", context));
  detail::check_rows("sum_over_ranks", "values", values);
  MTP_DISPATCH(sum_over_ranks, context, values);
}

/// The same for rows without gaps.  rows [N, C]
template <scalar S, class Backend>
void sum_over_ranks(context<Backend>& context, matrix_view<S, Backend> rows) {
  detail::check_rows("sum_over_ranks", "rows", rows);
  check(rows.extent(0) <= 1 || rows.stride(0) == rows.extent(1),
        "sum_over_ranks: expected rows without gaps, one every ",
        rows.extent(1),
        " elements, got one every ",
        rows.stride(0));
  sum_over_ranks(context, vector_view<S, Backend>(rows.data(), dims<1>{rows.count()}));
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(sum_over_ranks,
              as_dynamic_operand,
              "expected (context, values [N] or rows [N, C]), of one backend, writable")
/// @endcond

}  // namespace mtp::inline MTP_ABI

// Fills parameters with random numbers.
#pragma once

#include <cmath>

#include "mtp/core/random.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// W[n, k] = deviation * random.normal(n K + k)                 W [N, K]
///
/// An element depends only on the stream and on its index in row-major order: not on the backend's
/// layout, on threads or on other elements. Padding is not written. The product is computed in f64,
/// rounded to accumulate_t and then to W's element type. Backends differ as far as their logarithms
/// and cosines do: in f64 by at most 8 * 2^-52 of an element, in other types by at most one unit in
/// the last place, and that in about one of 10^8 elements of f32. Throws mtp::error unless
/// deviation is finite and not negative; W is then unchanged.
template <scalar S, class Backend>
void fill_normal(context<Backend>& context,
                 weight_view<S, Backend> w,
                 double deviation,
                 const random_stream& random) {
  check(std::isfinite(deviation) && deviation >= 0,
        "fill_normal: expected a deviation that is finite and not negative, got ",
        deviation);
  MTP_DISPATCH(fill_normal, context, w, deviation, random);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(
    fill_normal,
    as_operand,
    "expected (context, w, deviation, random stream), context and w of one backend, w writable")
/// @endcond

}  // namespace mtp::inline MTP_ABI

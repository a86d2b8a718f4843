// Random numbers into parameters.
#pragma once

#include <cmath>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/random.hpp"
#include "mtp/ops/detail.hpp"

namespace mtp::inline MTP_ABI {

/// W[n, k] = deviation * random.normal(n K + k)                 W [N, K]
///
/// An element depends on the stream and on its place in row-major order alone: not on the layout of
/// the backend, on threads or on other elements. Padding is not written. The product is computed in
/// f64, rounded to accumulate_t and then to W's element type. Backends differ as far as their
/// logarithms and cosines do: f64 by at most 8 * 2^-52 of an element, other types by at most one
/// unit in the last place, and that in about one of 10^8 elements of f32. Throws mtp::error unless
/// deviation is finite and not negative; W is then untouched.
template <scalar S, class Backend>
void fill_normal(context<Backend>& context,
                 weight_view<S, Backend> w,
                 double deviation,
                 const random_stream& random) {
  check(std::isfinite(deviation) && deviation >= 0,
        "fill_normal: expected a deviation that is finite and not negative, got ",
        deviation);
  static_assert(
      requires { ops_of<Backend>::fill_normal(context, w, deviation, random); },
      "fill_normal: the backend has no such operation for these arguments");
  detail::in_default_environment(
      [&] { ops_of<Backend>::fill_normal(context, w, deviation, random); });
}

/// @cond
// What calls are told that fit no operation above.
template <class Call = void>
void fill_normal(detail::any, detail::any, detail::any, detail::any) {
  static_assert(detail::never<Call>,
                "fill_normal: expected (context, w, deviation, random stream), context and w of "
                "one backend, w writable");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI

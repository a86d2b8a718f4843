// Tensors that come from a copy or a formula. These functions allocate what they return.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/config.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// A contiguous copy of x, with its shape and on its backend. Allocates it.
template <class X, class Shape, class Backend>
[[nodiscard(
    "clone: the operand itself stays as it is")]] tensor<std::remove_const_t<X>, Shape, Backend>
clone(context<Backend>& context, view<X, Shape, Backend> x) {
  tensor<std::remove_const_t<X>, Shape, Backend> y(x.shape());  // x's shape
  copy(context, y.view(), x);
  return y;
}

namespace detail {

/// The type in which a range is computed: exact for integers, double for the rest.
template <class Element>
using range_number = std::conditional_t<std::is_integral_v<Element>, index_t, double>;

/// Number of elements in [first, last) or (last, first], `step` apart.
inline index_t range_count(double first, double last, double step) {
  check(std::isfinite(first) && std::isfinite(last) && std::isfinite(step) && step != 0,
        "arange: expected finite numbers and a step that is not 0, got ",
        first,
        ", ",
        last,
        " and ",
        step);
  const double count = std::ceil((last - first) / step);
  check(count < 0x1p62, "arange: ", count, " elements are too many");
  return count > 0 ? static_cast<index_t>(count) : 0;
}
inline index_t range_count(index_t first, index_t last, index_t step) {
  check(step != 0, "arange: the step must not be 0");
  // The distance between two 64-bit numbers fits into 64 bits without a sign.
  const auto distance = [](index_t from, index_t to) {
    return static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from);
  };
  if (step > 0 ? first >= last : first <= last) {
    return 0;
  }
  const std::uint64_t way = step > 0 ? distance(first, last) : distance(last, first);
  const std::uint64_t stride = step > 0 ? static_cast<std::uint64_t>(step) : distance(step, 0);
  const std::uint64_t count = (way - 1) / stride + 1;
  check(count <= static_cast<std::uint64_t>((std::numeric_limits<index_t>::max)()),
        "arange: ",
        count,
        " elements are too many");
  return static_cast<index_t>(count);
}

/// arange, see below.
template <class Element, class Backend>
tensor<Element, dims<1>, Backend> make_range(range_number<Element> first,
                                             range_number<Element> last,
                                             range_number<Element> step) {
  const index_t count = range_count(first, last, step);
  // Element i before rounding. Integers are computed modulo 2^64: intermediate results may overflow
  // where the element does not.
  const auto at = [&](index_t i) {
    if constexpr (std::is_integral_v<Element>) {
      return static_cast<index_t>(static_cast<std::uint64_t>(first) +
                                  static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(step));
    } else {
      return first + static_cast<double>(i) * step;
    }
  };
  if constexpr (std::is_integral_v<Element>) {
    if (count > 0) {
      check(std::in_range<Element>(first) && std::in_range<Element>(at(count - 1)),
            "arange: the elements cannot hold ",
            first,
            " to ",
            at(count - 1));
    }
  }
  std::vector<Element> elements(static_cast<std::size_t>(count));
  for (index_t i = 0; i < count; ++i) {
    if constexpr (std::is_integral_v<Element>) {
      elements[static_cast<std::size_t>(i)] = static_cast<Element>(at(i));
    } else {
      elements[static_cast<std::size_t>(i)] =
          static_cast<Element>(static_cast<accumulate_t<Element>>(at(i)));
    }
  }
  return {dims<1>(count), std::span<const Element>(elements)};
}

}  // namespace detail

/// A tensor of rank 1 with first, first + step, .. up to, but without, `last`. Allocates it.
///
/// Element i is first + i step, computed in double and rounded once; for integers exactly. Empty if
/// `last` lies on the other side of `first`. Throws mtp::error for a step of 0, for
/// numbers that are not finite, and for an integer that the element type cannot hold.
///
///     arange<float, mtp::cpu>(0, 1, 0.25)    // 0, 0.25, 0.5, 0.75
template <class Element, class Backend>
[[nodiscard]] tensor<Element, dims<1>, Backend> arange(
    std::type_identity_t<detail::range_number<Element>> first,
    std::type_identity_t<detail::range_number<Element>> last,
    std::type_identity_t<detail::range_number<Element>> step = 1) {
  static_assert(scalar<Element> || (std::is_integral_v<Element> && !std::same_as<Element, bool>),
                "arange: elements must be f64, f32, bf16 or integers");
  return detail::in_default_environment(
      [&] { return detail::make_range<Element, Backend>(first, last, step); });
}

/// @cond
// Tensors for views.
MTP_TAKES_TENSORS(clone, as_operand)
/// @endcond

}  // namespace mtp::inline MTP_ABI

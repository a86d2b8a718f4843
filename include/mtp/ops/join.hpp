// Joins several tensors to one.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

template <class X>
using view_of = std::remove_cvref_t<decltype(as_operand(std::declval<X>()))>;

/// The types of the first of some operands.
template <class First, class...>
using first_view = view_of<First>;

template <class First, class... Rest>
inline constexpr bool alike =
    ((std::same_as<typename view_of<First>::value_type, typename view_of<Rest>::value_type> &&
      std::same_as<typename view_of<First>::backend_type, typename view_of<Rest>::backend_type> &&
      view_of<First>::rank == view_of<Rest>::rank) &&
     ...);

/// `shape` with another size in one dimension, and with one more dimension.
template <int Rank>
dims<Rank> with_size(const dims<Rank>& shape, int dimension, index_t size) {
  auto sizes = shape.sizes();
  sizes[static_cast<std::size_t>(dimension)] = size;
  return dims<Rank>(sizes);
}
template <int Rank>
dims<Rank + 1> with_dimension(const std::array<index_t, static_cast<std::size_t>(Rank)>& shape,
                              int dimension,
                              index_t size) {
  std::array<index_t, static_cast<std::size_t>(Rank + 1)> sizes{};
  for (int d = 0, from = 0; d <= Rank; ++d) {
    sizes[static_cast<std::size_t>(d)] =
        d == dimension ? size : shape[static_cast<std::size_t>(from++)];
  }
  return dims<Rank + 1>(sizes);
}

}  // namespace detail

/// Copies the parts into y, one after the other along `axis`:
///
///     y[.., first_p + i, ..] = part_p[.., i, ..]     first_p: sum of the sizes before part p
///
/// y and the parts have one element type, backend and rank. Their sizes are equal except along the
/// axis, where y has the sum of the parts' sizes. y must not overlap a part. Throws mtp::error on
/// wrong shapes, before anything is written.
template <class Context, detail::operand Y, detail::operand... Parts>
void concatenate(Context& context, Y&& y, int axis, const Parts&... parts) {
  static_assert(sizeof...(Parts) > 0, "concatenate: expected at least one part");
  static_assert(detail::alike<Y, Parts...>,
                "concatenate: y and the parts must have one element type, backend and rank");
  static_assert(detail::may_be_result<Y&&>,
                "concatenate: y receives the result, so it must be a variable that is not const");
  const auto to = detail::as_operand(std::forward<Y>(y));
  constexpr int rank = detail::view_of<Y>::rank;
  check(axis >= 0 && axis < rank, "concatenate: expected an axis in [0, ", rank, "), got ", axis);
  index_t total = 0;
  const auto measure = [&](const auto& part) {
    const dims<rank> expected =
        detail::with_size<rank>(dims<rank>(to.shape().sizes()), axis, part.extent(axis));
    check(part.shape() == expected,
          "concatenate: expected parts of shape ",
          expected,
          ", got ",
          part.shape());
    total += part.extent(axis);
  };
  (measure(detail::as_operand(parts)), ...);
  check(total == to.extent(axis),
        "concatenate: expected y of size ",
        total,
        " in dimension ",
        axis,
        ", got shape ",
        to.shape());
  index_t first = 0;
  const auto place = [&](const auto& part) {
    copy(context, to.slice(axis, first, part.extent(axis)), part);
    first += part.extent(axis);
  };
  (place(detail::as_operand(parts)), ...);
}

/// The same as a new tensor of dims<rank>, which it allocates.
template <class Context, detail::operand First, detail::operand... Rest>
[[nodiscard("concatenate: the parts stay as they are")]] auto concatenate(Context& context,
                                                                          int axis,
                                                                          const First& first,
                                                                          const Rest&... rest) {
  static_assert(detail::alike<First, Rest...>,
                "concatenate: the parts must have one element type, backend and rank");
  using view_type = detail::view_of<const First&>;
  constexpr int rank = view_type::rank;
  check(axis >= 0 && axis < rank, "concatenate: expected an axis in [0, ", rank, "), got ", axis);
  const index_t size = (first.extent(axis) + ... + rest.extent(axis));
  tensor<typename view_type::value_type, dims<rank>, typename view_type::backend_type> y(
      detail::with_size<rank>(dims<rank>(first.shape().sizes()), axis, size));  // the sum of parts
  concatenate(context, y, axis, first, rest...);
  return y;
}

/// Copies the parts into y along a new dimension `axis`:
///
///     y[.., p, ..] = part_p[..]                      p is index `axis`
///
/// The parts have one shape, element type and backend; y has one more dimension. y must not overlap
/// a part. Throws mtp::error on wrong shapes, before anything is written.
template <class Context, detail::operand Y, detail::operand First, detail::operand... Rest>
void stack(Context& context, Y&& y, int axis, const First& first, const Rest&... rest) {
  static_assert(detail::alike<First, Rest...>,
                "stack: the parts must have one element type, backend and rank");
  static_assert(detail::may_be_result<Y&&>,
                "stack: y receives the result, so it must be a variable that is not const");
  constexpr int rank = detail::view_of<const First&>::rank;
  const auto to = detail::as_operand(std::forward<Y>(y));
  static_assert(detail::view_of<Y>::rank == rank + 1,
                "stack: y must have one dimension more than the parts");
  check(axis >= 0 && axis <= rank, "stack: expected an axis in [0, ", rank + 1, "), got ", axis);
  const auto expected = detail::with_dimension<rank>(
      first.shape().sizes(), axis, static_cast<index_t>(1 + sizeof...(rest)));
  check(to.shape() == expected, "stack: expected y of shape ", expected, ", got ", to.shape());
  [[maybe_unused]] const auto measure = [&](const auto& part) {
    check(part.shape() == first.shape(),
          "stack: expected parts of shape ",
          first.shape(),
          ", got ",
          part.shape());
  };
  (measure(rest), ...);
  index_t at = 0;
  const auto place = [&](const auto& part) { copy(context, to.select(axis, at++), part); };
  place(detail::as_operand(first));
  (place(detail::as_operand(rest)), ...);
}

/// The same as a new tensor of dims<rank + 1>, which it allocates.
template <class Context, detail::operand First, detail::operand... Rest>
[[nodiscard("stack: the parts stay as they are")]] auto stack(Context& context,
                                                              int axis,
                                                              const First& first,
                                                              const Rest&... rest) {
  using view_type = detail::view_of<const First&>;
  constexpr int rank = view_type::rank;
  check(axis >= 0 && axis <= rank, "stack: expected an axis in [0, ", rank + 1, "), got ", axis);
  tensor<typename view_type::value_type, dims<rank + 1>, typename view_type::backend_type> y(
      detail::with_dimension<rank>(first.shape().sizes(),
                                   axis,
                                   static_cast<index_t>(1 + sizeof...(rest))));  // one more
  stack(context, y, axis, first, rest...);
  return y;
}

}  // namespace mtp::inline MTP_ABI

// Comparison of tensors and views, on the host.
#pragma once

#include <cmath>
#include <concepts>
#include <cstring>
#include <type_traits>
#include <utility>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Calls function(x, ..) with views that the host reads. Tensors on a device are copied first.
template <class Function, class X>
decltype(auto) with_host_view(const X& x, const Function& function) {
  using backend = typename std::remove_cvref_t<decltype(as_operand(x))>::backend_type;
  if constexpr (host_accessible<backend>) {
    return function(as_operand(x));
  } else {
    static_assert(is_tensor<X>,
                  "host: the elements of a view lie on a device; copy it into a tensor with "
                  "mtp::clone(context, view)");
    const auto elements = detail::copied(x);
    using element = const typename X::value_type;
    return function(view<element, typename X::shape_type, host_memory>(elements.get(), x.shape()));
  }
}

/// Calls function(element of a, element of b) for each index in row-major order until it returns
/// false. Returns whether it never did.
template <class Function, class A, class B>
bool holds_everywhere(const A& a, const B& b, const Function& function) {
  const index_t columns = A::rank > 0 ? a.extent(A::rank - 1) : 1;
  for (index_t row = 0; columns > 0 && row < a.count() / columns; ++row) {
    index_t at_a = 0, at_b = 0, rest = row;
    for (int d = A::rank - 2; d >= 0; --d) {
      at_a += rest % a.extent(d) * a.stride(d);
      at_b += rest % a.extent(d) * b.stride(d);
      rest /= a.extent(d);
    }
    for (index_t c = 0; c < columns; ++c) {
      if (!function(a.data()[at_a], b.data()[at_b])) {
        return false;
      }
      if constexpr (A::rank > 0) {
        at_a += a.stride(A::rank - 1);
        at_b += b.stride(A::rank - 1);
      }
    }
  }
  return true;
}

template <class X>
using element_of = typename std::remove_cvref_t<X>::value_type;

}  // namespace detail

/// Whether a and b have the same shape and the same bits: 0 and -0 differ, and a NaN equals a NaN
/// of the same bits. all_close compares values.
///
/// Takes tensors and views of one element type. Tensors on a device are copied to the host first; a
/// view of a device cannot be.
template <detail::operand A, detail::operand B>
requires std::same_as<detail::element_of<A>, detail::element_of<B>>
bool operator==(const A& a, const B& b) {
  if constexpr (A::shape_type::rank != B::shape_type::rank) {
    return false;
  } else {
    return a.shape() == b.shape() && detail::with_host_view(a, [&](const auto& left) {
             return detail::with_host_view(b, [&](const auto& right) {
               return detail::holds_everywhere(left, right, [](const auto& u, const auto& v) {
                 return std::memcmp(&u, &v, sizeof(u)) == 0;
               });
             });
           });
  }
}

/// Whether |a[i] - b[i]| <= absolute + relative |b[i]| for each i
///
/// b is the expected value. False where either is NaN; an infinity is close to itself only.
/// Elements are f64, f32 or bf16, and the two types may differ; the comparison is computed in
/// double. Tensors on a device are copied to the host. Throws mtp::error for shapes that differ and
/// for a tolerance that is negative or not a number.
template <detail::operand A, detail::operand B>
bool all_close(const A& a, const B& b, double relative = 1e-5, double absolute = 1e-8) {
  const detail::default_environment scope;
  static_assert(scalar<detail::element_of<A>> && scalar<detail::element_of<B>>,
                "all_close: elements must be f64, f32 or bf16; compare others with ==");
  static_assert(A::shape_type::rank == B::shape_type::rank,
                "all_close: a and b must have the same number of dimensions");
  check(relative >= 0 && absolute >= 0,
        "all_close: tolerances must not be negative, got ",
        relative,
        " and ",
        absolute);
  check(a.shape() == b.shape(), "all_close: expected b of shape ", a.shape(), ", got ", b.shape());
  return detail::with_host_view(a, [&](const auto& left) {
    return detail::with_host_view(b, [&](const auto& right) {
      return detail::holds_everywhere(left, right, [&](auto u, auto v) {
        const double actual = static_cast<double>(u), expected = static_cast<double>(v);
        return actual == expected ||
               (std::isfinite(actual) && std::isfinite(expected) &&
                std::abs(actual - expected) <= absolute + relative * std::abs(expected));
      });
    });
  });
}

}  // namespace mtp::inline MTP_ABI

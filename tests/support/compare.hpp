// Comparisons that a NaN, an infinity or a missing element cannot pass, and that say where they
// failed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::test {

/// The outcome of a comparison. `CHECK(within(...))` prints it on failure.
struct comparison {
  index_t count = 0;   ///< elements compared
  index_t faults = 0;  ///< elements outside their bound
  double ratio = 0;    ///< largest |actual - expected| / bound; infinite for what is not a number
  std::string message;

  explicit operator bool() const { return faults == 0; }
  friend std::ostream& operator<<(std::ostream& out, const comparison& result) {
    return out << result.message;
  }
};

/// All elements of a view in row-major order.
template <class Element, class Shape, class Backend>
std::vector<std::remove_const_t<Element>> elements(const view<Element, Shape, Backend>& x) {
  std::vector<std::remove_const_t<Element>> all;
  all.reserve(static_cast<std::size_t>(x.count()));
  for (index_t i = 0; i < x.count(); ++i) {
    index_t offset = 0, rest = i;
    for (int d = Shape::rank - 1; d >= 0; --d) {
      offset += rest % x.extent(d) * x.stride(d);
      rest /= x.extent(d);
    }
    all.push_back(x.data()[offset]);
  }
  return all;
}

/// The same, exactly, as double.
template <class Element, class Shape, class Backend>
std::vector<double> values(const view<Element, Shape, Backend>& x) {
  std::vector<double> all;
  for (const auto element : elements(x)) {
    all.push_back(static_cast<double>(element));
  }
  return all;
}

namespace detail {

/// "7 = [1, 2]", where the shape is known.
inline std::string place(index_t index, const std::vector<index_t>& sizes) {
  std::ostringstream out;
  out << index;
  if (!sizes.empty()) {
    std::string coordinates;
    for (std::size_t d = sizes.size(); d-- > 0;) {
      coordinates =
          std::to_string(index % sizes[d]) + (coordinates.empty() ? "" : ", ") + coordinates;
      index /= sizes[d];
    }
    out << " = [" << coordinates << ']';
  }
  return out.str();
}

inline comparison different_counts(std::size_t actual, std::size_t expected) {
  comparison result{
      .count = static_cast<index_t>(expected), .faults = 1, .ratio = HUGE_VAL, .message = {}};
  result.message =
      "expected " + std::to_string(expected) + " elements, got " + std::to_string(actual);
  return result;
}

inline comparison compare(const std::vector<double>& actual,
                          const std::vector<double>& expected,
                          const std::vector<double>& bound,
                          const std::vector<index_t>& sizes) {
  if (actual.size() != expected.size() || bound.size() != expected.size()) {
    return different_counts(std::min(actual.size(), bound.size()), expected.size());
  }
  comparison result{
      .count = static_cast<index_t>(expected.size()), .faults = 0, .ratio = 0, .message = {}};
  std::size_t worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    // Negated, and with a finite bound: comparisons with NaN are false, and everything is below
    // infinity.
    const bool fault = !(difference <= bound[i] && std::isfinite(bound[i]));
    const double quotient = difference == 0 ? 0 : difference / bound[i];
    const double ratio = std::isfinite(quotient) && std::isfinite(bound[i]) ? quotient : HUGE_VAL;
    result.faults += fault ? 1 : 0;
    if (ratio > result.ratio) {
      result.ratio = ratio;
      worst = i;
    }
  }
  std::ostringstream out;
  out.precision(9);
  out << result.faults << " of " << result.count << " elements outside their bound";
  if (!expected.empty()) {
    out << "; worst at " << place(static_cast<index_t>(worst), sizes) << ": " << actual[worst]
        << ", expected " << expected[worst] << " +- " << bound[worst] << ", ratio " << result.ratio;
  }
  result.message = out.str();
  return result;
}

template <class View>
std::vector<index_t> sizes_of(const View& x) {
  return {x.shape().sizes().begin(), x.shape().sizes().end()};
}

inline std::vector<double> everywhere(double bound, std::size_t count) {
  return std::vector<double>(count, bound);
}

}  // namespace detail

/// |actual - expected| <= bound for every element: one bound for all or one for each. Not for
/// values that are expected to be infinite or NaN, see same_bits.
inline comparison within(const std::vector<double>& actual,
                         const std::vector<double>& expected,
                         const std::vector<double>& bound) {
  return detail::compare(actual, expected, bound, {});
}
inline comparison within(const std::vector<double>& actual,
                         const std::vector<double>& expected,
                         double bound) {
  return within(actual, expected, detail::everywhere(bound, expected.size()));
}
template <class Element, class Shape, class Backend>
comparison within(const view<Element, Shape, Backend>& actual,
                  const std::vector<double>& expected,
                  const std::vector<double>& bound) {
  return detail::compare(values(actual), expected, bound, detail::sizes_of(actual));
}
template <class Element, class Shape, class Backend>
comparison within(const view<Element, Shape, Backend>& actual,
                  const std::vector<double>& expected,
                  double bound) {
  return within(actual, expected, detail::everywhere(bound, expected.size()));
}

/// Every element has the same bits: NaN equals the same NaN, and 0 differs from -0.
template <class Element>
comparison same_bits(const std::vector<Element>& actual,
                     const std::vector<Element>& expected,
                     const std::vector<index_t>& sizes = {}) {
  static_assert(std::is_trivially_copyable_v<Element>, "same_bits: elements must have plain bits");
  if (actual.size() != expected.size()) {
    return detail::different_counts(actual.size(), expected.size());
  }
  comparison result{
      .count = static_cast<index_t>(expected.size()), .faults = 0, .ratio = 0, .message = {}};
  std::size_t first = 0;
  for (std::size_t i = expected.size(); i-- > 0;) {
    if (std::memcmp(&actual[i], &expected[i], sizeof(Element)) != 0) {
      ++result.faults;
      first = i;
    }
  }
  std::ostringstream out;
  out.precision(17);
  out << result.faults << " of " << result.count << " elements differ in their bits";
  if (result.faults > 0) {
    result.ratio = HUGE_VAL;
    out << "; first at " << detail::place(static_cast<index_t>(first), sizes) << ": "
        << static_cast<double>(actual[first]) << ", expected "
        << static_cast<double>(expected[first]);
  }
  result.message = out.str();
  return result;
}
template <class A, class ShapeA, class B, class ShapeB, class Backend>
comparison same_bits(const view<A, ShapeA, Backend>& actual,
                     const view<B, ShapeB, Backend>& expected) {
  return same_bits(elements(actual), elements(expected), detail::sizes_of(actual));
}

}  // namespace mtp::test

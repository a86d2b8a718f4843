// Elementwise operations on the CPU: contiguous views as one long row, others row by row.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Elements of one task: enough to be worth a task, few enough to share.
inline constexpr index_t elements_per_task = 16384;

/// A stored element in the type of arithmetic.
template <class Element>
inline auto widen(Element value) {
  if constexpr (scalar<Element>) {
    return static_cast<accumulate_t<Element>>(value);
  } else {
    return value;
  }
}

/// A computed value in the type of storage, converted via the accumulator type: f64 becomes bf16
/// via f32.
template <class Element, class Value>
inline Element narrow(Value value) {
  if constexpr (storage_scalar<Element>) {
    return Element(static_cast<accumulate_t<Element>>(value));
  } else {
    return static_cast<Element>(value);
  }
}

/// The offset of element number `index` of the first `dimensions` dimensions, in row-major order.
template <class View>
inline index_t leading_offset(const View& x, int dimensions, index_t index) {
  index_t offset = 0;
  for (int d = dimensions - 1; d >= 0; --d) {
    offset += index % x.extent(d) * x.stride(d);
    index /= x.extent(d);
  }
  return offset;
}

/// Whether an index of dimension d - 1 follows the `columns` elements of the one before it, which
/// are contiguous.
template <class View>
inline bool follows(const View& x, int d, index_t columns) {
  return x.stride(View::rank - 1) == 1 && x.stride(d - 1) == columns;
}

/// A line of elements, `step` apart.
template <class Element>
struct line {
  Element* data;
  index_t step;
};

/// y[i] = function(x[i]...) on stored elements.
template <class Function, class Y, class... X>
inline void map_line(index_t count, const Function& function, line<Y> y, line<const X>... x) {
  if (y.step == 1 && ((x.step == 1) && ...)) {
    for (index_t i = 0; i < count; ++i) {
      y.data[i] = function(x.data[i]...);
    }
  } else {
    for (index_t i = 0; i < count; ++i) {
      y.data[i * y.step] = function(x.data[i * x.step]...);
    }
  }
}

/// map_line over whole views of one shape, shared among the threads.
template <class Function, class Y, class... X>
inline void map(cpu_context& context, const Function& function, const Y& y, const X&... x) {
  using element = typename Y::value_type;
  if constexpr (Y::rank == 0) {
    *y.data() = function(*x.data()...);
  } else if (!y.empty()) {
    // Dimensions that are contiguous in all views are one.
    int leading = Y::rank - 1;
    index_t columns = y.extent(leading);
    while (leading > 0 && follows(y, leading, columns) && (follows(x, leading, columns) && ...)) {
      columns *= y.extent(--leading);
    }
    const index_t rows = y.count() / columns;
    const index_t pieces = ceil_div(columns, elements_per_task);                // of one row
    const index_t group = (std::max<index_t>)(1, elements_per_task / columns);  // rows in one task
    context.parallel(ceil_div(rows, group) * pieces, [&](index_t task, int) {
      const index_t first = task % pieces * elements_per_task;
      const index_t count = (std::min)(elements_per_task, columns - first);
      const index_t row_end = (std::min)(rows, (task / pieces + 1) * group);
      for (index_t row = task / pieces * group; row < row_end; ++row) {
        const auto line_of = [&]<class View>(const View& view) {
          const index_t step = view.stride(View::rank - 1);
          const index_t offset = leading_offset(view, leading, row);
          return line<typename View::element_type>{view.data() + offset + first * step, step};
        };
        map_line<Function, element, typename X::value_type...>(
            count, function, line_of(y), line_of(x)...);
      }
    });
  }
}

/// The same with the function on widened elements, its result rounded to y's element type.
template <class Function, class Y, class... X>
inline void map_values(cpu_context& context, const Function& function, const Y& y, const X&... x) {
  using element = typename Y::value_type;
  map(
      context,
      [&function](auto... value) { return narrow<element>(function(widen(value)...)); },
      y,
      x...);
}

/// a * b + c as one instruction where there is one. Explicit, because a compiler that fuses by
/// itself may do so in the vectorized part of a loop and not in its tail.
template <real Real>
inline Real fused(Real a, Real b, Real c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

struct cpu_elementwise_ops {
  template <class Y, class Value>
  static void fill(cpu_context& context, const Y& y, Value value) {
    const auto element = narrow<typename Y::value_type>(value);
    map(
        context, [element] { return element; }, y);
  }

  template <class Y, class X>
  static void copy(cpu_context& context, const Y& y, const X& x) {
    using to = typename Y::value_type;
    if constexpr (std::same_as<to, typename X::value_type>) {
      map(
          context, [](auto value) { return value; }, y, x);
    } else {
      map_values(
          context, [](auto value) { return value; }, y, x);
    }
  }

  template <class Y, class A, class B>
  static void add(cpu_context& context, const Y& y, const A& a, const B& b) {
    map_values(
        context, [](auto left, auto right) { return left + right; }, y, a, b);
  }
  template <class Y, class A, class B>
  static void subtract(cpu_context& context, const Y& y, const A& a, const B& b) {
    map_values(
        context, [](auto left, auto right) { return left - right; }, y, a, b);
  }
  template <class Y, class A, class B>
  static void multiply(cpu_context& context, const Y& y, const A& a, const B& b) {
    map_values(
        context, [](auto left, auto right) { return left * right; }, y, a, b);
  }
  template <class Y, class A, class B>
  static void divide(cpu_context& context, const Y& y, const A& a, const B& b) {
    map_values(
        context, [](auto left, auto right) { return left / right; }, y, a, b);
  }

  template <class Y, class X, class Value>
  static void scale(cpu_context& context, const Y& y, const X& x, Value factor) {
    map_values(
        context, [factor](Value value) { return factor * value; }, y, x);
  }

  template <class Y, class X, class Value>
  static void axpy(cpu_context& context, const Y& y, Value factor, const X& x) {
    const auto function = [factor](Value sum, Value value) { return fused(factor, value, sum); };
    const view<const typename Y::value_type, typename Y::shape_type, cpu> start = y;
    map_values(context, function, y, start, x);
  }

  template <class Y, class X, class Function>
  static void transform(cpu_context& context, const Y& y, const X& x, const Function& function) {
    map_values(context, function, y, x);
  }
  template <class Y, class A, class B, class Function>
  static void transform(
      cpu_context& context, const Y& y, const A& a, const B& b, const Function& function) {
    map_values(context, function, y, a, b);
  }

  template <class Y, class C, class A, class B>
  static void where(cpu_context& context, const Y& y, const C& condition, const A& a, const B& b) {
    map(
        context,
        [](auto chosen, auto left, auto right) {
          return chosen != decltype(widen(chosen)){} ? left : right;
        },
        y,
        condition,
        a,
        b);
  }

  template <class Y, class X, class R>
  static void broadcast_add(cpu_context& context, const Y& y, const X& x, const R& row) {
    typename X::strides_type strides{};  // zero but for the last: every row is the same one
    strides.back() = row.stride(0);
    add(context, y, x, X{row.data(), x.shape(), strides});
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

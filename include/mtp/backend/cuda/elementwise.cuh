// Elementwise operations on the GPU. Contracts: ops/elementwise.hpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mtp/backend/cuda/map.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

struct identity_function {
  template <class T>
  __device__ __forceinline__ T operator()(T value) const {
    return value;
  }
};
struct add_function {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct subtract_function {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a - b;
  }
};
struct multiply_function {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a * b;
  }
};
struct divide_function {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a / b;
  }
};
template <class T>
struct constant_function {
  T value;
  __device__ __forceinline__ T operator()() const { return value; }
};
template <class T>
struct scale_function {
  T factor;
  __device__ __forceinline__ T operator()(T value) const { return factor * value; }
};
template <class T>
struct axpy_function {
  T factor;
  __device__ __forceinline__ T operator()(T sum, T value) const {
    return std::fma(factor, value, sum);
  }
};

struct choose_function {
  static constexpr int blocks = 3;  // four views' addresses do not fit into 64 registers on 9.0
  template <class C, class T>
  __device__ __forceinline__ T operator()(C condition, T a, T b) const {
    return condition != C{} ? a : b;
  }
};

/// A number with as many bits as an element. It is the type for moving elements without arithmetic,
/// so element types of one size share a kernel and keep their bits.
template <class Element>
using bits_of = std::conditional_t<
    sizeof(Element) == 1,
    std::uint8_t,
    std::conditional_t<sizeof(Element) == 2,
                       std::uint16_t,
                       std::conditional_t<sizeof(Element) == 4, std::uint32_t, std::uint64_t>>>;

struct cuda_elementwise_ops {
  template <class Y, class Value>
  static void fill(cuda_context& context, const Y& y, Value value) {
    using element = typename Y::value_type;
    using bits = bits_of<element>;
    const constant_function<bits> function{__builtin_bit_cast(bits, narrow<element>(value))};
    map(context, "fill", function, 0, as_bits(y));
  }

  template <class Y, class X>
  static void copy(cuda_context& context, const Y& y, const X& x) {
    if constexpr (std::is_same_v<typename Y::value_type, typename X::value_type>) {
      map(context, "copy", identity_function{}, 0, as_bits(y), as_bits(x));
    } else {
      map(context, "copy", identity_function{}, 0, y, x);
    }
  }

  template <class Y, class A, class B>
  static void add(cuda_context& context, const Y& y, const A& a, const B& b) {
    map(context, "add", add_function{}, 0, y, a, b);
  }
  template <class Y, class A, class B>
  static void subtract(cuda_context& context, const Y& y, const A& a, const B& b) {
    map(context, "subtract", subtract_function{}, 0, y, a, b);
  }
  template <class Y, class A, class B>
  static void multiply(cuda_context& context, const Y& y, const A& a, const B& b) {
    map(context, "multiply", multiply_function{}, 0, y, a, b);
  }
  template <class Y, class A, class B>
  static void divide(cuda_context& context, const Y& y, const A& a, const B& b) {
    map(context, "divide", divide_function{}, 0, y, a, b);
  }

  template <class Y, class X, class Value>
  static void scale(cuda_context& context, const Y& y, const X& x, Value factor) {
    map(context, "scale", scale_function<Value>{factor}, 0, y, x);
  }

  template <class Y, class X, class Value>
  static void axpy(cuda_context& context, const Y& y, Value factor, const X& x) {
    map(context, "axpy", axpy_function<Value>{factor}, 0, y, y, x);
  }

  template <class Y, class X, class Function>
  static void transform(cuda_context& context, const Y& y, const X& x, const Function& function) {
    check_function<Function>();
    map(context, "transform", function, 0, y, x);
  }
  template <class Y, class A, class B, class Function>
  static void transform(
      cuda_context& context, const Y& y, const A& a, const B& b, const Function& function) {
    check_function<Function>();
    map(context, "transform", function, 0, y, a, b);
  }

  template <class Y, class C, class A, class B>
  static void where(cuda_context& context, const Y& y, const C& condition, const A& a, const B& b) {
    map(context, "where", choose_function{}, 0, as_bits(y), condition, as_bits(a), as_bits(b));
  }

  template <class Y, class X, class R>
  static void broadcast_add(cuda_context& context, const Y& y, const X& x, const R& row) {
    typename X::strides_type strides{};  // zero but for the last: every row is the same one
    strides.back() = row.stride(0);
    map(context, "broadcast_add", add_function{}, 0, y, x, X{row.data(), x.shape(), strides});
  }

 private:
  template <class Function>
  static void check_function() {
    static_assert(std::is_trivially_copyable_v<Function>,
                  "transform: the function is copied to the device bit by bit");
  }

  /// The same elements as plain bits.
  template <class Element, class Shape>
  static auto as_bits(const view<Element, Shape, cuda>& x) {
    static_assert(sizeof(Element) <= 8, "cuda: elements have at most 8 bytes");
    using bits = bits_of<Element>;
    using as_const = std::conditional_t<std::is_const_v<Element>, const bits, bits>;
    return view<as_const, Shape, cuda>(
        reinterpret_cast<as_const*>(x.data()), x.shape(), x.strides());
  }
};

}  // namespace mtp::inline MTP_ABI::cuda_detail

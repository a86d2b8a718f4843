// Functions of one element, by name.
//
// Each function has two forms. `exp(context, y, x)` writes y[i] = exp(x[i]) and allocates nothing;
// y and x are views or tensors of one shape and element type (f64, f32 or bf16), and y may be x.
// `exp(context, x)` allocates the result, a contiguous tensor of x's shape. Results are computed in
// accumulate_t by the backend's own mathematical functions and rounded once, so bits may differ
// between backends and C libraries. Arguments outside a function's domain give NaN. Shapes that
// differ throw mtp::error before anything is written.
//
// For any other function there is transform, in ops/elementwise.hpp.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>

#include "mtp/core/config.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

struct abs_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::abs(x);
  }
};
struct exp_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::exp(x);
  }
};
struct expm1_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::expm1(x);
  }
};
struct log_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::log(x);
  }
};
struct log1p_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::log1p(x);
  }
};
struct sqrt_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::sqrt(x);
  }
};
struct square_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return x * x;
  }
};
struct reciprocal_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return 1 / x;
  }
};
struct negate_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return -x;
  }
};
struct sin_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::sin(x);
  }
};
struct cos_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::cos(x);
  }
};
struct tanh_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::tanh(x);
  }
};
struct sigmoid_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return 1 / (1 + std::exp(-x));
  }
};
struct relu_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return x > 0 || x != x ? x : A(0);
  }
};
struct erf_function {
  template <real A>
  MTP_HOST_DEVICE A operator()(A x) const {
    return std::erf(x);
  }
};

/// y[i] = function(x[i]), where y and x are operands
template <class Function, class Context, class Y, class X>
void apply_function(const char* name, Context& context, Y&& y, const X& x) {
  static_assert(may_be_result<Y&&>,
                "mtp: y receives the result, so it must be a variable that is not const");
  const auto to = as_operand(std::forward<Y>(y));
  const auto from = as_operand(x);
  check_same_shape(name, "x", from, to);
  static_assert(same_element<typename std::remove_cvref_t<decltype(to)>::value_type,
                             typename std::remove_cvref_t<decltype(from)>::element_type>,
                "mtp: y and x must have one element type; convert elements with mtp::copy");
  transform(context, to, from, Function{});
}

/// The same as a new tensor.
template <class Function, class Context, class X>
auto applied_function(const char* name, Context& context, const X& x) {
  const auto from = as_operand(x);
  using view_type = std::remove_cvref_t<decltype(from)>;
  tensor<typename view_type::value_type,
         typename view_type::shape_type,
         typename view_type::backend_type>
      y(from.shape());  // x's shape
  apply_function<Function>(name, context, y, from);
  return y;
}

}  // namespace detail

/// y[i] = |x[i]|
template <class Context, detail::operand Y, detail::operand X>
void abs(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::abs_function>("abs", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("abs: the operand itself stays as it is")]] auto abs(Context& context, const X& x) {
  return detail::applied_function<detail::abs_function>("abs", context, x);
}

/// y[i] = e^x[i]
template <class Context, detail::operand Y, detail::operand X>
void exp(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::exp_function>("exp", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("exp: the operand itself stays as it is")]] auto exp(Context& context, const X& x) {
  return detail::applied_function<detail::exp_function>("exp", context, x);
}

/// y[i] = e^x[i] - 1, without loss near 0
template <class Context, detail::operand Y, detail::operand X>
void expm1(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::expm1_function>("expm1", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("expm1: the operand itself stays as it is")]] auto expm1(Context& context, const X& x) {
  return detail::applied_function<detail::expm1_function>("expm1", context, x);
}

/// y[i] = the natural logarithm of x[i]; NaN below 0
template <class Context, detail::operand Y, detail::operand X>
void log(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::log_function>("log", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("log: the operand itself stays as it is")]] auto log(Context& context, const X& x) {
  return detail::applied_function<detail::log_function>("log", context, x);
}

/// y[i] = log(1 + x[i]), without loss near 0
template <class Context, detail::operand Y, detail::operand X>
void log1p(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::log1p_function>("log1p", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("log1p: the operand itself stays as it is")]] auto log1p(Context& context, const X& x) {
  return detail::applied_function<detail::log1p_function>("log1p", context, x);
}

/// y[i] = the square root of x[i]; NaN below 0
template <class Context, detail::operand Y, detail::operand X>
void sqrt(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::sqrt_function>("sqrt", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("sqrt: the operand itself stays as it is")]] auto sqrt(Context& context, const X& x) {
  return detail::applied_function<detail::sqrt_function>("sqrt", context, x);
}

/// y[i] = x[i] x[i]
template <class Context, detail::operand Y, detail::operand X>
void square(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::square_function>("square", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("square: the operand itself stays as it is")]] auto square(Context& context,
                                                                       const X& x) {
  return detail::applied_function<detail::square_function>("square", context, x);
}

/// y[i] = 1 / x[i]
template <class Context, detail::operand Y, detail::operand X>
void reciprocal(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::reciprocal_function>("reciprocal", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("reciprocal: the operand itself stays as it is")]] auto reciprocal(Context& context,
                                                                               const X& x) {
  return detail::applied_function<detail::reciprocal_function>("reciprocal", context, x);
}

/// y[i] = -x[i]
template <class Context, detail::operand Y, detail::operand X>
void negate(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::negate_function>("negate", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("negate: the operand itself stays as it is")]] auto negate(Context& context,
                                                                       const X& x) {
  return detail::applied_function<detail::negate_function>("negate", context, x);
}

/// y[i] = the sine of x[i], in radians
template <class Context, detail::operand Y, detail::operand X>
void sin(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::sin_function>("sin", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("sin: the operand itself stays as it is")]] auto sin(Context& context, const X& x) {
  return detail::applied_function<detail::sin_function>("sin", context, x);
}

/// y[i] = the cosine of x[i], in radians
template <class Context, detail::operand Y, detail::operand X>
void cos(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::cos_function>("cos", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("cos: the operand itself stays as it is")]] auto cos(Context& context, const X& x) {
  return detail::applied_function<detail::cos_function>("cos", context, x);
}

/// y[i] = the hyperbolic tangent of x[i]
template <class Context, detail::operand Y, detail::operand X>
void tanh(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::tanh_function>("tanh", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("tanh: the operand itself stays as it is")]] auto tanh(Context& context, const X& x) {
  return detail::applied_function<detail::tanh_function>("tanh", context, x);
}

/// y[i] = 1 / (1 + e^-x[i])
template <class Context, detail::operand Y, detail::operand X>
void sigmoid(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::sigmoid_function>("sigmoid", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("sigmoid: the operand itself stays as it is")]] auto sigmoid(Context& context,
                                                                         const X& x) {
  return detail::applied_function<detail::sigmoid_function>("sigmoid", context, x);
}

/// y[i] = x[i] above 0, else 0; NaN stays
template <class Context, detail::operand Y, detail::operand X>
void relu(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::relu_function>("relu", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("relu: the operand itself stays as it is")]] auto relu(Context& context, const X& x) {
  return detail::applied_function<detail::relu_function>("relu", context, x);
}

/// y[i] = the error function of x[i]
template <class Context, detail::operand Y, detail::operand X>
void erf(Context& context, Y&& y, const X& x) {
  detail::apply_function<detail::erf_function>("erf", context, std::forward<Y>(y), x);
}
/// The same, in a new tensor.
template <class Context, detail::operand X>
[[nodiscard("erf: the operand itself stays as it is")]] auto erf(Context& context, const X& x) {
  return detail::applied_function<detail::erf_function>("erf", context, x);
}

}  // namespace mtp::inline MTP_ABI

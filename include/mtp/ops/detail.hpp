// Shared by the operations: argument types that do not take part in deduction, and checks.
#pragma once

#include <type_traits>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/ops/view_checks.hpp"

namespace mtp::inline MTP_ABI {

// Argument types of operations. The first view of a call determines element type and backend. The
// other arguments convert to these, so a view with static sizes or of mutable elements may be
// passed where a dynamic or const one is expected.

/// A vector that an operation reads. A view of rank 1 converts to it, const or not; another
/// argument determines S and Backend.
template <class S, class Backend>
using in_vector = std::type_identity_t<vector_view<const S, Backend>>;
/// A vector that an operation writes.
template <class S, class Backend>
using out_vector = std::type_identity_t<vector_view<S, Backend>>;
/// A matrix that an operation reads.
template <class S, class Backend>
using in_matrix = std::type_identity_t<matrix_view<const S, Backend>>;
/// A matrix that an operation writes.
template <class S, class Backend>
using out_matrix = std::type_identity_t<matrix_view<S, Backend>>;
/// Rows of heads that an operation reads.  [N, heads, E]
template <class S, class Backend>
using in_heads = std::type_identity_t<view<const S, dims<3>, Backend>>;
/// Rows of heads that an operation writes.  [N, heads, E]
template <class S, class Backend>
using out_heads = std::type_identity_t<view<S, dims<3>, Backend>>;
/// A weight that an operation reads.
template <class S, class Backend>
using in_weight = std::type_identity_t<weight_view<const S, Backend>>;
/// A weight, or the gradient of one, that an operation writes.
template <class S, class Backend>
using out_weight = std::type_identity_t<weight_view<S, Backend>>;
/// Tokens that an operation reads.
template <class Backend>
using in_tokens = std::type_identity_t<vector_view<const token_t, Backend>>;
/// Tokens that an operation writes.
template <class Backend>
using out_tokens = std::type_identity_t<vector_view<token_t, Backend>>;
/// Positions of rows in their sequence.
template <class Backend>
using in_positions = std::type_identity_t<vector_view<const index_t, Backend>>;
/// A matrix of numbers in the accumulator type of S.
template <class S, class Backend>
using in_sums = in_matrix<accumulate_t<std::remove_const_t<S>>, Backend>;
/// The same for an output.
template <class S, class Backend>
using out_sums = out_matrix<accumulate_t<std::remove_const_t<S>>, Backend>;

namespace detail {

/// The shape of a vector or matrix; its sizes may be static.
template <class Shape>
concept vector_shape = extents_type<Shape> && Shape::rank == 1;
template <class Shape>
concept matrix_shape = extents_type<Shape> && Shape::rank == 2;

/// An element type of a view that is read.
template <class S>
concept scalar_or_const = scalar<std::remove_const_t<S>>;

/// G is the accumulator type of S: the type of gradients of parameters.
template <class G, class S>
inline constexpr bool sums_of = [] {
  if constexpr (scalar<std::remove_const_t<S>>) {
    return std::is_same_v<G, accumulate_t<std::remove_const_t<S>>>;
  } else {
    return false;
  }
}();

/// The result of a product may keep the accumulator type.
template <class Y, class S>
inline constexpr bool result_of = std::is_same_v<Y, std::remove_const_t<S>> || sums_of<Y, S>;

template <class S, class Backend>
using in_matrix_of = matrix_view<const std::remove_const_t<S>, Backend>;

template <class View>
void check_shape(const char* function,
                 const char* name,
                 const View& actual,
                 const typename View::shape_type& expected) {
  check(actual.shape() == expected,
        function,
        ": expected ",
        name,
        " of shape ",
        expected,
        ", got ",
        actual.shape());
}

/// Checks that the elements of a row are contiguous.
template <class View>
void check_rows(const char* function, const char* name, const View& rows) {
  check(rows.stride(View::rank - 1) == 1 || rows.extent(View::rank - 1) <= 1,
        function,
        ": the last dimension of ",
        name,
        " must have stride 1, got ",
        rows.stride(View::rank - 1));
}

/// [N, C] seen as [N, 1, C].
template <class Element, class Backend>
view<Element, dims<3>, Backend> as_heads(const matrix_view<Element, Backend>& rows) {
  return {rows.data(), {rows.extent(0), 1, rows.extent(1)}, {rows.stride(0), 0, rows.stride(1)}};
}

/// [N] seen as [N, 1].
template <class Element, class Backend>
matrix_view<Element, Backend> as_column(const vector_view<Element, Backend>& values) {
  return {values.data(), {values.extent(0), 1}, {values.stride(0), 0}};
}

template <class Weight>
void check_weight(
    const char* function, const char* name, const Weight& weight, index_t outputs, index_t inputs) {
  check(weight.outputs == outputs && weight.inputs == inputs,
        function,
        ": expected ",
        name,
        " of shape [",
        outputs,
        ", ",
        inputs,
        "], got [",
        weight.outputs,
        ", ",
        weight.inputs,
        "]");
}

/// The same for a weight that the operation reads element by element.
template <class Weight>
void check_elements(
    const char* function, const char* name, const Weight& weight, index_t outputs, index_t inputs) {
  check_weight(function, name, weight, outputs, inputs);
  check(weight.data != nullptr || weight.quantized == nullptr,
        function,
        ": ",
        name,
        " exists in 8 bits alone, which linear maps read forward and nothing else does");
}

/// Refuses a weight whose blocks are transposed, which linear maps do not read.
template <class Weight>
void check_by_outputs(const Weight& w) {
  check(w.quantized == nullptr || w.format != quantized_format::e4m3_transposed,
        "linear map: expected a weight in elements, int8 or e4m3, got one in e4m3_transposed, "
        "which head_linear_backward_input alone reads");
}

/// Whether the weight is in 8 bits; then the backend has carried out the linear map, from the rows
/// of `start` on, start_stride apart, if there are any.
template <class Y, class S, class Backend>
bool linear_quantized(context<Backend>& context,
                      const matrix_view<Y, Backend>& y,
                      const matrix_view<const S, Backend>& x,
                      const weight_view<const S, Backend>& w,
                      const S* start = nullptr,
                      index_t start_stride = 0) {
  using ops = ops_of<Backend>;
  if constexpr (requires {
                  ops::quantized_linear_forward(context, y, x, w, start, start_stride);
                }) {
    if (w.quantized != nullptr) {
      check_by_outputs(w);
      in_default_environment(
          [&] { ops::quantized_linear_forward(context, y, x, w, start, start_stride); });
      return true;
    }
  }
  return false;
}

/// The same of the linear map of experts.
template <class S, class Backend>
bool grouped_linear_quantized(context<Backend>& context,
                              const matrix_view<S, Backend>& y,
                              const matrix_view<const S, Backend>& x,
                              const weight_view<const S, Backend>& w,
                              const vector_view<const index_t, Backend>& offsets) {
  using ops = ops_of<Backend>;
  if constexpr (requires { ops::quantized_grouped_linear_forward(context, y, x, w, offsets); }) {
    if (w.quantized != nullptr) {
      check_by_outputs(w);
      in_default_environment(
          [&] { ops::quantized_grouped_linear_forward(context, y, x, w, offsets); });
      return true;
    }
  }
  return false;
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI

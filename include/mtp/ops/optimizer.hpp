// An update by AdamW, and the sum of squares of all gradients.
#pragma once

#include <cstdint>
#include <type_traits>

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// On the CPU, a sum of squares adds the sums of pieces of this many elements, in their order: who
/// adds the sums of such pieces in this order has the bits of the whole.
inline constexpr index_t sum_of_squares_piece = 1 << 14;

/// result[0] = sum of squares of all elements of x [P]; result [1]. The sum has type double, and
/// its order depends on P only, not on threads. NaN or infinity among the elements reaches the
/// result.
template <detail::scalar_or_const S, detail::vector_shape Shape, class Backend>
void sum_of_squares(context<Backend>& context,
                    out_vector<double, Backend> result,
                    view<S, Shape, Backend> x) {
  using element = std::remove_const_t<S>;
  detail::check_shape("sum_of_squares", "result", result, dims<1>{1});
  detail::check_rows("sum_of_squares", "x", x);
  MTP_DISPATCH(sum_of_squares, context, result, in_vector<element, Backend>(x));
}

/// The scalar arguments of adamw_update.
struct adamw_coefficients {
  double learning_rate;   ///< of this step
  double beta1;           ///< decay of the first moments
  double beta2;           ///< decay of the second moments
  double epsilon;         ///< added to the root of the second moment
  double weight_decay;    ///< in ranges that decay
  double gradient_scale;  ///< factor of every gradient, for clipping
  double correction1;     ///< 1 - beta1^step
  double correction2;     ///< 1 - beta2^step
};

/// Elements [begin, begin + count) of the arrays of an update.
struct adamw_range {
  index_t begin;        ///< first element
  std::int32_t count;   ///< how many elements
  std::int32_t decays;  ///< 1: the weights shrink, 0: they do not
};

/// The most elements that one range has.
inline constexpr index_t adamw_range_elements = 16384;

/// With g = gradient_scale * gradient[p], for every p of every range (Loshchilov and Hutter 2019,
/// arXiv 1711.05101, algorithm 2):
///
///     first[p]  = beta1 first[p]  + (1 - beta1) g
///     second[p] = beta2 second[p] + (1 - beta2) g^2
///     delta     = (first[p] / correction1) / (sqrt(second[p] / correction2) + epsilon),
///                 0 where second[p] is infinite: g^2 did not fit into its type
///     master[p] -= learning_rate (weight_decay master[p] + delta)
///     value[p]  = master[p], rounded to value's element type
///
/// If a value is not its rounded master, the program has changed it since the last update. Then
/// master[p] = value[p] comes first.
///
/// All arrays [P], contiguous; master, moments and gradients in accumulate_t of value's elements.
/// If that is the element type itself, master is value. Epsilon is positive in that type. A second
/// moment below the smallest normal number counts as 0. Ranges [R] lie within [0, P), do not
/// overlap, and have at most adamw_range_elements elements each. One launch updates all parameters.
template <scalar S, detail::vector_shape Shape, class Backend>
void adamw_update(context<Backend>& context,
                  view<S, Shape, Backend> value,
                  out_vector<accumulate_t<S>, Backend> master,
                  out_vector<accumulate_t<S>, Backend> first,
                  out_vector<accumulate_t<S>, Backend> second,
                  in_vector<accumulate_t<S>, Backend> gradient,
                  std::type_identity_t<vector_view<const adamw_range, Backend>> ranges,
                  const adamw_coefficients& coefficients) {
  const out_vector<S, Backend> values(value);
  const auto check_array = [&](const char* name, const auto& array) {
    detail::check_shape("adamw_update", name, array, values.shape());
    detail::check_rows("adamw_update", name, array);
  };
  check_array("master", master);
  check_array("first", first);
  check_array("second", second);
  check_array("gradient", gradient);
  detail::check_rows("adamw_update", "value", values);
  detail::check_rows("adamw_update", "ranges", ranges);
  if constexpr (backend_traits<Backend>::is_host_memory) {
    for (index_t r = 0; r < ranges.extent(0); ++r) {
      check(ranges(r).begin >= 0 && ranges(r).count >= 0 &&
                ranges(r).count <= adamw_range_elements &&
                ranges(r).count <= values.extent(0) - ranges(r).begin,
            "adamw_update: range ",
            r,
            ", ",
            ranges(r).count,
            " elements from ",
            ranges(r).begin,
            " on, must lie in [0, ",
            values.extent(0),
            ") and have at most ",
            adamw_range_elements);
    }
  }
  if constexpr (std::is_same_v<S, accumulate_t<S>>) {
    check(master.data() == values.data(),
          "adamw_update: expected master to be value, because both have one element type");
  }
  MTP_DISPATCH(
      adamw_update, context, values, master, first, second, gradient, ranges, coefficients);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(sum_of_squares,
              as_operand,
              "expected (context, result [1], x [P]), views of one backend, of double and of f64, "
              "f32 or bf16")
MTP_OPERATION(
    adamw_update,
    as_operand,
    "expected (context, value, master, first, second, gradient, ranges, coefficients), of one "
    "backend, master to gradient of the accumulator type of value")
/// @endcond

}  // namespace mtp::inline MTP_ABI

#include "mtp/core/operand.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/matmul.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/softmax.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::test::core_operand_cases {

namespace {

using matrix = tensor<float, dims<2>, cpu>;

matrix ones(index_t rows, index_t columns) {
  matrix made(dims<2>(rows, columns));  // [rows, columns]
  for (index_t i = 0; i < made.count(); ++i) {
    made.data()[i] = 1;
  }
  return made;
}

template <class From, class To>
concept converts = std::convertible_to<From, To>;

}  // namespace

TEST_CASE("operations take tensors where they take views") {
  cpu_context context({.threads = 1});
  const matrix a(dims<2>(2, 2), {1, 2, 3, 4});  // [2, 2]
  matrix b(dims<2>(2, 2), {1, 0, 1, 1});        // [2, 2]
  matrix y(dims<2>(2, 2));                      // [2, 2]
  matmul(context, y, a, b);
  CHECK(y.to_host() == std::vector<float>{3, 2, 7, 4});
  matmul(context, y, a, b, update::accumulate);
  CHECK(y.to_host() == std::vector<float>{6, 4, 14, 8});
  add(context, y, a, b);
  CHECK(y.to_host() == std::vector<float>{2, 2, 4, 5});
  add(context, y.view(), a, b.view().transpose());
  CHECK(y.to_host() == std::vector<float>{2, 3, 3, 5});
  softmax_forward(context, y, y);
  CHECK(y(0, 0) + y(0, 1) == doctest::Approx(1));
}

TEST_CASE("numbers reach operations on tensors as they would reach those on views") {
  cpu_context context({.threads = 1});
  tensor<float, extents<2>, cpu> x({}, {1, 2});   // [2]
  tensor<token_t, extents<2>, cpu> tokens;        // [2]
  tensor<double, extents<2>, cpu> d({}, {1, 2});  // [2]
  scale(context, x, x, 2);
  axpy(context, x, 0.5, x);
  CHECK(x.to_host() == std::vector<float>{3, 6});
  scale(context, d, d, 0.1);
  CHECK(d.to_host() == std::vector<double>{0.1, 0.2});
  fill(context, tokens, 7);
  CHECK(tokens.to_host() == std::vector<token_t>{7, 7});
  transform(context, x, x, [](float element) { return -element; });
  CHECK(x.to_host() == std::vector<float>{-3, -6});
  static_assert(!std::convertible_to<mtp::detail::number<double>, index_t>);
  static_assert(std::convertible_to<mtp::detail::number<int>, double>);
}

TEST_CASE("a linear map takes tensors of static sizes, and a weight") {
  cpu_context context({.threads = 1});
  std::vector<float> storage(
      static_cast<std::size_t>(backend_traits<cpu>::weight_storage<float>(2, 3)));
  const weight_view<float, cpu> w(storage.data(), 2, 3);  // [2, 3]
  for (index_t k = 0; k < 3; ++k) {
    w(0, k) = static_cast<float>(k);
    w(1, k) = 1;
  }
  const tensor<float, extents<1, 3>, cpu> x({}, {1, 2, 3});  // [1, 3]
  tensor<float, extents<1, 2>, cpu> y;                       // [1, 2]
  linear_forward(context, y, x, w);
  CHECK(y.to_host() == std::vector<float>{8, 6});
}

TEST_CASE("operations on views of dynamic sizes take tensors of static ones") {
  cpu_context context({.threads = 1});
  const tensor<float, extents<1, 4>, cpu> gate_up({}, {0, 0, 5, 5});  // [1, 4]
  tensor<float, extents<1, 2>, cpu> y({}, {9, 9});                    // [1, 2]
  swiglu_forward(context, y, gate_up);
  CHECK(y.to_host() == std::vector<float>{0, 0});
  const tensor<float, extents<1, 1, 2>, cpu> x({}, {3, 4});  // [1, 1, 2]
  const tensor<float, extents<2>, cpu> weight({}, {1, 2});   // [2]
  tensor<float, extents<1, 1, 2>, cpu> normed;               // [1, 1, 2]
  tensor<float, extents<1, 1>, cpu> inv_rms;                 // [1, 1]
  rms_norm_forward(context, normed, inv_rms, x, weight, 0);
  CHECK(normed(0, 0, 1) == doctest::Approx(8 / 3.5355339));
}

TEST_CASE("a temporary tensor is read and never written") {
  cpu_context context({.threads = 1});
  matrix y(dims<2>(1, 2));  // [1, 2]
  add(context, y, ones(1, 2), ones(1, 2));
  CHECK(y.to_host() == std::vector<float>{2, 2});
  static_assert(converts<matrix&, matrix_view<float, cpu>>);
  static_assert(converts<matrix&, matrix_view<const float, cpu>>);
  static_assert(converts<matrix, matrix_view<const float, cpu>>);
  static_assert(!converts<matrix, matrix_view<float, cpu>>);
  static_assert(!converts<const matrix&, matrix_view<float, cpu>>);
}

TEST_CASE("a tensor of static sizes stands for a view of dynamic ones, and the reverse") {
  using static_matrix = tensor<float, extents<2, 3>, cpu>;
  static_matrix x;                                  // [2, 3]
  matrix y(dims<2>(2, 3));                          // [2, 3]
  const matrix_view<const float, cpu> read = x;     // [2, 3]
  const matrix_view<float, cpu> write(x);           // [2, 3]
  const view<float, extents<2, 3>, cpu> sized = y;  // [2, 3]
  write(1, 2) = 5;
  sized(0, 1) = 3;
  CHECK(read(1, 2) == 5);
  CHECK(y(0, 1) == 3);
  static_assert(!converts<static_matrix&, vector_view<float, cpu>>);
  static_assert(!converts<static_matrix&, matrix_view<double, cpu>>);
  CHECK_THROWS_WITH_AS(static_cast<void>(view<float, extents<2, 4>, cpu>(y)),
                       "extents: size 1 is fixed to 4, got 3",
                       error);
}

TEST_CASE("reductions take tensors") {
  cpu_context context({.threads = 1});
  const tensor<float, extents<2, 2>, cpu> x({}, {1, 2, 3, 5});  // [2, 2]
  tensor<float, extents<2>, cpu> rows;                          // [2]
  tensor<index_t, extents<>, cpu> largest;                      // []
  sum(context, rows, x);
  argmax(context, largest, x);
  CHECK(rows.to_host() == std::vector<float>{3, 8});
  CHECK(largest() == 3);
}

}  // namespace mtp::test::core_operand_cases

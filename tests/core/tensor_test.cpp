#include "mtp/core/tensor.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::core_tensor_cases {

TEST_CASE("a tensor starts as zeros, aligned for the widest vector") {
  const tensor<float, dims<2>, cpu> x(dims<2>(5, 7));  // [5, 7]
  for (const float element : x.to_host()) {
    CHECK(element == 0);
  }
  CHECK(reinterpret_cast<std::uintptr_t>(x.data()) % 64 == 0);
  CHECK(x.count() == 35);
}

TEST_CASE("a tensor of static shape needs no arguments") {
  tensor<double, extents<2, 3>, cpu> x;  // [2, 3]
  x(1, 2) = 5;
  CHECK(x.to_host() == std::vector<double>{0, 0, 0, 0, 0, 5});
}

TEST_CASE("a tensor takes its elements in row-major order") {
  const tensor<float, dims<2>, cpu> x(dims<2>(2, 2), {1, 2, 3, 4});  // [2, 2]
  CHECK(x(1, 0) == 3);
  CHECK(x.view()(0, 1) == 2);
  CHECK_THROWS_WITH_AS((tensor<float, dims<2>, cpu>(dims<2>(2, 2), {1, 2, 3})),
                       "tensor: expected 4 elements for shape [2, 2], got 3",
                       error);
}

TEST_CASE("nested braces are the elements, never a shape") {
  tensor<float, dims<2>, cpu> x{{1, 2}, {3, 4}, {5, 6}};  // [3, 2]
  CHECK(x.shape() == dims<2>(3, 2));
  CHECK(x.to_host() == std::vector<float>{1, 2, 3, 4, 5, 6});
  x = {{7, 8}};
  CHECK(x.shape() == dims<2>(1, 2));
  CHECK(x.to_host() == std::vector<float>{7, 8});
  const tensor<token_t, dims<1>, cpu> tokens{4, 5, 6};  // [3]
  CHECK(tokens.to_host() == std::vector<token_t>{4, 5, 6});
  const tensor<bf16, dims<2>, cpu> halves{{1.5f, 2}, {3, -4}};  // [2, 2]
  CHECK(halves.to_host() == std::vector<bf16>{bf16(1.5f), bf16(2.0f), bf16(3.0f), bf16(-4.0f)});
  const tensor<double, dims<3>, cpu> deep{{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}};  // [2, 2, 2]
  CHECK(deep.shape() == dims<3>(2, 2, 2));
  CHECK(deep(1, 0, 1) == 6);
  const tensor<float, extents<2, dynamic>, cpu> mixed{{1, 2, 3}, {4, 5, 6}};  // [2, 3]
  CHECK(mixed(1, 2) == 6);
  CHECK(tensor<float, dims<2>, cpu>{{}, {}}.shape() == dims<2>(2, 0));

  // In parentheses, or by its type, a shape is a shape.
  CHECK(tensor<float, dims<2>, cpu>({2, 3}).shape() == dims<2>(2, 3));
  CHECK(tensor<float, dims<2>, cpu>{dims<2>(2, 3)}.shape() == dims<2>(2, 3));
  CHECK(tensor<float, dims<2>, cpu>{dims<2>(1, 2), {3, 4}}.to_host() == std::vector<float>{3, 4});
  CHECK_THROWS_WITH_AS(
      (tensor<float, dims<2>, cpu>{{2, 2}, {1, 2, 3, 4}}),
      "tensor: expected rows of one length, got 2 and 4 elements; nested braces hold elements, so "
      "write a shape by its type: tensor(dims<2>(2, 3), {..})",
      error);
  CHECK_THROWS_WITH_AS(
      (tensor<float, extents<2, 2>, cpu>{{1, 2}}), "extents: size 0 is fixed to 2, got 1", error);
}

TEST_CASE("truth values come to the host as they are") {
  const tensor<bool, dims<2>, cpu> x(dims<2>(2, 2), {true, false, false, true});  // [2, 2]
  CHECK(x.to_host() == std::vector<bool>{true, false, false, true});
  CHECK(x.to<cpu>().to_host() == x.to_host());
  CHECK((tensor<bool, dims<1>, cpu>(dims<1>(0)).to_host().empty()));
}

TEST_CASE("elements whose bytes do not fit into 64 bits throw before memory is asked for") {
  using cpu_buffer = buffer<float, cpu>;
  CHECK_THROWS_WITH_AS(cpu_buffer(index_t{1} << 62),
                       "buffer: 4611686018427387904 elements of 4 bytes do not fit into memory",
                       error);
  CHECK_THROWS_AS(cpu_buffer{std::numeric_limits<index_t>::max()}, error);
  using matrix = tensor<float, dims<2>, cpu>;
  CHECK_THROWS_AS(matrix(dims<2>(index_t{1} << 31, index_t{1} << 31)), error);
}

TEST_CASE("a tensor moves, and does not copy") {
  using matrix = tensor<float, dims<2>, cpu>;
  static_assert(!std::is_copy_constructible_v<matrix> &&
                std::is_nothrow_move_constructible_v<matrix>);
  matrix x(dims<2>(1, 2), {8, 9});  // [1, 2]
  const float* elements = x.data();
  matrix y = std::move(x);  // [1, 2]
  CHECK(y.data() == elements);
  matrix z(dims<2>(3, 3));  // [3, 3], then [1, 2]
  z = std::move(y);
  CHECK(z.data() == elements);
  CHECK(z.shape() == dims<2>(1, 2));
}

TEST_CASE("a tensor without elements has no memory and works") {
  tensor<float, dims<2>, cpu> x(dims<2>(0, 4));  // [0, 4]
  CHECK(x.data() == nullptr);
  CHECK(x.view().empty());
  CHECK(x.to_host().empty());
}

TEST_CASE("at gives an element, and throws where there is none") {
  tensor<float, extents<2, 2>, cpu> x({}, {1, 2, 3, 4});  // [2, 2]
  x.at(1, 0) = 7;
  CHECK(std::as_const(x).at(1, 0) == 7);
  CHECK_THROWS_WITH_AS(
      x.at(0, 2),
      "view::at: index 2 of dimension 1 does not lie in [0, 2), the shape is [2, 2]",
      error);
}

TEST_CASE("a tensor in the host's memory is a range of its elements") {
  tensor<float, dims<2>, cpu> x(dims<2>(2, 2));  // [2, 2]
  float next = 0;
  for (float& element : x) {
    element = next++;
  }
  CHECK(std::vector<float>(std::as_const(x).begin(), std::as_const(x).end()) ==
        std::vector<float>{0, 1, 2, 3});
  const tensor<float, dims<2>, cpu> nothing(dims<2>(0, 4));  // [0, 4]
  CHECK(nothing.begin() == nothing.end());
}

TEST_CASE("a tensor converts to views, with and without const") {
  tensor<float, extents<2>, cpu> x({}, {1, 2});         // [2]
  const vector_view<const float, cpu> read = x.view();  // [2]
  const view<float, extents<2>, cpu> write = x;         // [2]
  write(1) = 7;
  CHECK(read(1) == 7);
}

}  // namespace mtp::test::core_tensor_cases

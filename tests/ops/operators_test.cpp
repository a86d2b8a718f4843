#include "mtp/ops/operators.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <type_traits>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"

namespace mtp::test::ops_operators_cases {

namespace {

using matrix = tensor<float, extents<2, 2>, cpu>;

matrix numbers() {
  return matrix({}, {1, 2, 3, 4});
}

}  // namespace

TEST_CASE("operators give the bits of the operations, in a new tensor") {
  cpu_context context({.threads = 3});
  const guarded<float, 2, cpu> a(dims<2>(130, 257), uniform(130 * 257, 81));            // [N, C]
  const guarded<float, 2, cpu> b(dims<2>(130, 257), {1, 130}, uniform(130 * 257, 82));  // [N, C]
  guarded<float, 2, cpu> y(dims<2>(130, 257));                                          // [N, C]
  const auto check_one = [&](const auto& operation, const auto& operate) {
    operation(y.view());
    const auto made = operate(a.view(), b.view());  // [N, C]
    static_assert(std::is_same_v<decltype(made), const tensor<float, dims<2>, cpu>>);
    CHECK(same_bits(made.view(), y.view()));
  };
  check_one([&](auto to) { add(context, to, a.view(), b.view()); }, std::plus<>());
  check_one([&](auto to) { subtract(context, to, a.view(), b.view()); }, std::minus<>());
  check_one([&](auto to) { multiply(context, to, a.view(), b.view()); }, std::multiplies<>());
  check_one([&](auto to) { divide(context, to, a.view(), b.view()); }, std::divides<>());
}

TEST_CASE("operators keep static shapes, broadcast, and take temporaries") {
  const matrix x = numbers();                              // [2, 2]
  const tensor<float, extents<2>, cpu> row({}, {10, 20});  // [2]
  const auto twice = x + x;                                // [2, 2]
  static_assert(std::is_same_v<decltype(twice), const matrix>);
  CHECK(twice.to_host() == std::vector<float>{2, 4, 6, 8});
  CHECK((x + row).to_host() == std::vector<float>{11, 22, 13, 24});
  CHECK((row - x).to_host() == std::vector<float>{9, 18, 7, 16});
  CHECK((numbers() * numbers() - numbers()).to_host() == std::vector<float>{0, 2, 6, 12});
  CHECK((x.view().select(1, 0) + x.view().select(1, 1)).to_host() == std::vector<float>{3, 7});
  CHECK((x + x.view().transpose()).to_host() == std::vector<float>{2, 5, 5, 8});
}

TEST_CASE("a number may stand on either side") {
  const matrix x = numbers();  // [2, 2]
  CHECK((x + 1).to_host() == std::vector<float>{2, 3, 4, 5});
  CHECK((1 - x).to_host() == std::vector<float>{0, -1, -2, -3});
  CHECK((x * 0.5).to_host() == std::vector<float>{0.5, 1, 1.5, 2});
  CHECK((12 / x).to_host() == std::vector<float>{12, 6, 4, 3});
  CHECK((-x).to_host() == std::vector<float>{-1, -2, -3, -4});
  const tensor<bf16, extents<1>, cpu> small({}, {bf16(3.0f)});  // [1]
  CHECK((small * 2).to_host().at(0) == 6);
}

TEST_CASE("compound assignment works in place, on tensors and on parts of them") {
  matrix x = numbers();  // [2, 2]
  const float* const before = x.data();
  x += 1;
  x *= x;
  CHECK(x.data() == before);
  CHECK(x.to_host() == std::vector<float>{4, 9, 16, 25});
  x.view().select(0, 1) -= x.view().select(0, 0);
  CHECK(x.to_host() == std::vector<float>{4, 9, 12, 16});
  (x /= 2) += 0.5f;
  CHECK(x.to_host() == std::vector<float>{2.5, 5, 6.5, 8.5});
}

TEST_CASE("operations without a result argument give new tensors, with the context's threads") {
  cpu_context context({.threads = 2});
  const matrix x = numbers();                              // [2, 2]
  const tensor<float, extents<2>, cpu> row({}, {10, 20});  // [2]
  CHECK(add(context, x, row).to_host() == std::vector<float>{11, 22, 13, 24});
  CHECK(subtract(context, x, x).to_host() == std::vector<float>{0, 0, 0, 0});
  CHECK(multiply(context, row.view(), x).to_host() == std::vector<float>{10, 40, 30, 80});
  CHECK(divide(context, x, x).to_host() == std::vector<float>{1, 1, 1, 1});
}

TEST_CASE("shapes that do not go together are refused, and nothing changes") {
  matrix x = numbers();                                 // [2, 2]
  const tensor<float, dims<1>, cpu> three(dims<1>(3));  // [3]
  CHECK_THROWS_WITH_AS(
      static_cast<void>(x + three),
      "broadcast_shape: [2, 2] and [3] differ, and neither size is 1, in dimension 1 "
      "of the result",
      error);
  CHECK_THROWS_AS(x += three, error);
  tensor<float, dims<1>, cpu> one(dims<1>(1));  // [1]
  CHECK_THROWS_AS(one += three, error);
  CHECK(x.to_host() == numbers().to_host());
}

}  // namespace mtp::test::ops_operators_cases

#include "mtp/core/equality.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::core_equality_cases {

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

using vector = tensor<float, dims<1>, cpu>;

vector of(float element) {
  return {dims<1>(1), {element}};
}

bool close(float a, float b, double relative = 0, double absolute = 0) {
  return all_close(of(a), of(b), relative, absolute);
}

}  // namespace

TEST_CASE("== compares shapes and bits") {
  const tensor<float, dims<2>, cpu> x(dims<2>(2, 2), {1, 2, 3, 4});         // [2, 2]
  const tensor<float, extents<2, 2>, cpu> same({}, {1, 2, 3, 4});           // [2, 2]
  const tensor<float, extents<2, 2>, cpu> other({}, {1, 2, 3, 5});          // [2, 2]
  const tensor<float, extents<4>, cpu> flat({}, {1, 2, 3, 4});              // [4]
  const tensor<float, dims<2>, cpu> long_one(dims<2>(1, 4), {1, 2, 3, 4});  // [1, 4]
  CHECK((x == same));
  CHECK((x == same.view()));
  CHECK((x != other));
  CHECK((x != flat));
  CHECK((x != long_one));
  CHECK((x.view().transpose() != x));
  CHECK((x.view().transpose().transpose() == x));
  CHECK((x.view().select(1, 1) == same.view().select(1, 1)));
}

TEST_CASE("== tells zeros apart, and a NaN equals itself") {
  CHECK((of(0.0f) != of(-0.0f)));
  CHECK((of(not_a_number) == of(not_a_number)));
  CHECK((of(not_a_number) != of(-not_a_number)));
  CHECK((of(1) != of(std::nextafter(1.0f, 2.0f))));
}

TEST_CASE("== holds for tensors without elements of one shape, and sees rank 0") {
  const tensor<float, dims<2>, cpu> x(dims<2>(0, 3)), y(dims<2>(0, 3)), z(dims<2>(3, 0));  // empty
  CHECK((x == y));
  CHECK((x != z));
  const tensor<double, extents<>, cpu> one({}, {5.0}), two({}, {6.0});  // []
  CHECK((one == one.view()));
  CHECK((one != two));
}

TEST_CASE("== compares integers and bf16") {
  const tensor<token_t, extents<2>, cpu> a({}, {1, 2}), b({}, {1, 3});  // [2]
  CHECK((a == a));
  CHECK((a != b));
  const tensor<bf16, extents<1>, cpu> c({}, {bf16(1.5f)}), d({}, {bf16(-1.5f)});  // [1]
  CHECK((c == c));
  CHECK((c != d));
}

TEST_CASE("all_close lets through what lies within the tolerances, and nothing beyond") {
  CHECK(close(1.5f, 1, 0, 0.5));
  CHECK(close(0.5f, 1, 0, 0.5));
  CHECK(!close(1.5f, 1, 0, 0.49));
  CHECK(close(12, 8, 0.5, 0));
  CHECK(!close(8, 12, 0.25, 0));
  CHECK(close(9, 12, 0.25, 0));
  CHECK(close(13, 8, 0.5, 1));
  CHECK(!close(13.5f, 8, 0.5, 1));
  CHECK(close(3, 3));
  const tensor<float, extents<3>, cpu> a({}, {1, 2, 3}), b({}, {1, 2, 4});  // [3]
  CHECK(!all_close(a, b));
  CHECK(all_close(a, b.view(), 0, 1));
}

TEST_CASE("all_close rejects NaN, and lets an infinity equal itself alone") {
  CHECK(!close(not_a_number, not_a_number, 1, 1));
  CHECK(!close(not_a_number, 1, 1, 1));
  CHECK(!close(1, not_a_number, 1, 1));
  CHECK(close(inf, inf));
  CHECK(!close(inf, -inf, 1, 1));
  CHECK(!close(inf, 1, 1, std::numeric_limits<double>::infinity()));
  CHECK(!close(1, inf, 1, 1));
}

TEST_CASE("all_close refuses tolerances and shapes without sense") {
  CHECK_THROWS_WITH_AS(static_cast<void>(close(1, 1, -1, 0)),
                       "all_close: tolerances must not be negative, got -1 and 0",
                       error);
  CHECK_THROWS_AS(static_cast<void>(close(1, 1, 0, not_a_number)), error);
  const tensor<float, dims<1>, cpu> longer(dims<1>(2));  // [2]
  CHECK_THROWS_WITH_AS(static_cast<void>(all_close(of(1), longer)),
                       "all_close: expected b of shape [1], got [2]",
                       error);
}

TEST_CASE("all_close compares across element types") {
  const tensor<double, extents<1>, cpu> exact({}, {0.1});         // [1]
  const tensor<bf16, extents<1>, cpu> rounded({}, {bf16(0.1f)});  // [1]
  CHECK(all_close(rounded, exact, 0x1p-8, 0));
  CHECK(!all_close(rounded, exact, 0x1p-12, 0));
}

}  // namespace mtp::test::core_equality_cases

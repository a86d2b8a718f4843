#include "mtp/ops/elementwise.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/random.hpp"
#include "support/reference/elementwise.hpp"
#include "support/tolerance.hpp"

using namespace mtp;
using test::guarded;
using test::layout;
using test::same_bits;
using test::stored_bound;
using test::unit_roundoff;
using test::values;
using test::within;

namespace {

// Contiguous, with gaps, transposed, and more elements than one task handles.
const std::vector<layout>& layouts() {
  static const std::vector<layout> all{{{1, 1}, {1, 1}},
                                       {{3, 7}, {7, 1}},
                                       {{3, 7}, {11, 1}},
                                       {{5, 4}, {1, 5}},
                                       {{4, 3}, {6, 2}},
                                       {{0, 5}, {5, 1}},
                                       {{5, 0}, {0, 1}},
                                       {{17, 33}, {33, 1}},
                                       {{3, 17000}, {17000, 1}},
                                       {{2, 17001}, {17010, 1}},
                                       {{9000, 3}, {4, 1}}};
  return all;
}

/// The bound of each element after one rounding in the arithmetic type and one when it is stored.
template <class S>
std::vector<double> rounded_twice(const std::vector<double>& expected) {
  std::vector<double> bound;
  for (const double value : expected) {
    const double once = unit_roundoff<accumulate_t<S>> * std::abs(value);
    // The reference is rounded to double as well.
    bound.push_back(stored_bound<S>(value, once + 0x1p-53 * std::abs(value)));
  }
  return bound;
}

}  // namespace

TEST_CASE_TEMPLATE("add, subtract, multiply and divide match the reference in any layout",
                   S,
                   double,
                   float,
                   bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2> a(shape, strides, test::uniform(shape.count(), 1));   // [N, C]
    const guarded<S, 2> b(shape, test::uniform(shape.count(), 2, 0.5, 1.5));  // [N, C]
    const auto left = values(a.view()), right = values(b.view());
    const auto check_one = [&](auto operation, auto function) {
      guarded<S, 2> y(shape, strides);  // [N, C]
      operation(y.view());
      const auto expected = reference::elementwise(function, left, right);
      CHECK(within(y.view(), expected, rounded_twice<S>(expected)));
      CHECK(y.intact());
    };
    check_one([&](auto y) { add(context, y, a.view(), b.view()); }, std::plus<double>());
    check_one([&](auto y) { subtract(context, y, a.view(), b.view()); }, std::minus<double>());
    check_one([&](auto y) { multiply(context, y, a.view(), b.view()); }, std::multiplies<double>());
    check_one([&](auto y) { divide(context, y, a.view(), b.view()); }, std::divides<double>());
  }
}

TEST_CASE_TEMPLATE("scale and axpy match the reference in any layout", S, double, float, bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  constexpr accumulate_t<S> factor = -1.75;
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2> x(shape, strides, test::uniform(shape.count(), 3));  // [N, C]
    const auto right = values(x.view());
    guarded<S, 2> y(shape);  // [N, C]
    scale(context, y.view(), x.view(), factor);
    const auto product = [](double, double value) { return factor * value; };
    const auto scaled = reference::elementwise(product, right, right);
    CHECK(within(y.view(), scaled, rounded_twice<S>(scaled)));
    CHECK(y.intact());

    guarded<S, 2> sum(shape, strides, test::uniform(shape.count(), 4));  // [N, C]
    const auto start = values(sum.view());
    axpy(context, sum.view(), factor, x.view());
    const auto expected = reference::elementwise(
        [](double old, double value) { return old + factor * value; }, start, right);
    std::vector<double> bound;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double magnitude = std::abs(start[i]) + std::abs(factor * right[i]);
      bound.push_back(stored_bound<S>(
          expected[i], test::dot_bound(2, unit_roundoff<accumulate_t<S>>, magnitude)));
    }
    CHECK(within(sum.view(), expected, bound));
    CHECK(sum.intact());
  }
}

TEST_CASE_TEMPLATE("fill writes every element and nothing else", S, double, float, bf16) {
  cpu_context context({.threads = 3, .workspace_bytes = 0});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    guarded<S, 2> y(shape, strides);  // [N, C]
    fill(context, y.view(), accumulate_t<S>{2.5});
    CHECK(within(y.view(), std::vector<double>(static_cast<std::size_t>(shape.count()), 2.5), 0.0));
    CHECK(y.intact());
  }
}

TEST_CASE("fill and copy also serve tokens") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  guarded<token_t, 1> x(dims<1>(5)), y(dims<1>(5));  // [5]
  fill(context, x.view(), 17);
  copy(context, y.view(), x.view());
  CHECK(values(y.view()) == std::vector<double>(5, 17.0));
  CHECK(y.intact());
}

TEST_CASE_TEMPLATE("copy keeps the bits of equal types and rounds to others, in any layout",
                   S,
                   double,
                   float,
                   bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2> x(shape, strides, test::uniform(shape.count(), 5));  // [N, C]
    const auto check_to = [&]<class To>(To) {
      guarded<To, 2> y(shape);  // [N, C]
      copy(context, y.view(), x.view());
      std::vector<To> expected;
      for (const S element : test::elements(x.view())) {
        expected.push_back(test::stored<To>(static_cast<double>(element)));
      }
      CHECK(same_bits(test::elements(y.view()), expected));
      CHECK(y.intact());
    };
    check_to(double{});
    check_to(float{});
    check_to(bf16(0.0f));
  }
}

TEST_CASE("copy of one type keeps NaN bits and the sign of zero") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  tensor<bf16, dims<1>, cpu> x(
      dims<1>(3),
      {bf16::from_bits(0x7f81), bf16::from_bits(0x8000), bf16::from_bits(0xffff)});  // [3]
  tensor<bf16, dims<1>, cpu> y(dims<1>(3));                                          // [3]
  copy(context, y.view(), x.view());
  CHECK(same_bits(y.view(), x.view()));
}

TEST_CASE("transform applies the function to every element, whatever its types") {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  const dims<3> shape(3, 5, 7);
  const guarded<bf16, 3> a(shape, test::uniform(shape.count(), 6));  // [3, 5, 7]
  const guarded<float, 3> b(
      shape, {50, 8, 1}, test::uniform(shape.count(), 7));  // [3, 5, 7] stride (50, 8, 1)
  const auto left = values(a.view()), right = values(b.view());
  guarded<float, 3> y(shape);  // [3, 5, 7]
  transform(context, y.view(), a.view(), [](float value) { return value > 0 ? value : 0; });
  CHECK(within(y.view(),
               reference::elementwise([](double u, double) { return u > 0 ? u : 0; }, left, left),
               0.0));
  transform(context, y.view(), a.view(), b.view(), [](float u, float v) { return u > v ? u : v; });
  CHECK(
      within(y.view(),
             reference::elementwise([](double u, double v) { return std::max(u, v); }, left, right),
             0.0));
  CHECK(y.intact());
}

TEST_CASE_TEMPLATE("broadcast_add adds the row to every row", S, double, float, bf16) {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  for (const layout& each : layouts()) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const index_t C = shape[1];
    const guarded<S, 2> x(shape, strides, test::uniform(shape.count(), 8));  // [N, C]
    const guarded<S, 1> row(dims<1>(C), {2}, test::uniform(C, 9));           // [C] stride (2)
    guarded<S, 2> y(shape);                                                  // [N, C]
    broadcast_add(context, y.view(), x.view(), row.view());
    const auto left = values(x.view());
    const auto right = left.empty() ? left : reference::repeated(values(row.view()), left.size());
    const auto expected = reference::elementwise(std::plus<double>(), left, right);
    CHECK(within(y.view(), expected, rounded_twice<S>(expected)));
    CHECK(y.intact());
  }
}

TEST_CASE("an output may be an input") {
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  guarded<float, 1> x(dims<1>(20001), test::uniform(20001, 10));  // [20001]
  const auto before = values(x.view());
  add(context, x.view(), x.view(), x.view());
  CHECK(within(x.view(), reference::elementwise(std::plus<double>(), before, before), 0.0));
  axpy(context, x.view(), -0.5f, x.view());
  CHECK(within(x.view(), before, 0.0));
}

TEST_CASE("views of rank 0 and 4 work") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  guarded<float, 0> one(dims<0>{}, std::vector<double>{3});  // []
  scale(context, one.view(), one.view(), 2.0f);
  CHECK(one.view()() == 6);
  CHECK(one.intact());
  const dims<4> shape(2, 3, 2, 5);
  const guarded<float, 4> x(
      shape, {100, 1, 50, 7}, test::uniform(60, 11));  // [2, 3, 2, 5] stride (100, 1, 50, 7)
  guarded<float, 4> y(shape);                          // [2, 3, 2, 5]
  copy(context, y.view(), x.view());
  CHECK(same_bits(y.view(), x.view()));
}

TEST_CASE("results do not depend on where an element stands or on the number of threads") {
  const index_t N = 40003;
  const guarded<float, 1> x(dims<1>(N), test::uniform(N, 12));  // [N]
  const auto start = test::uniform(N, 13);
  cpu_context one({.threads = 1, .workspace_bytes = 0});
  guarded<float, 1> expected(dims<1>(N), start);  // [N]
  axpy(one, expected.view(), 0.3f, x.view());
  for (int threads = 2; threads <= 4; ++threads) {
    cpu_context several({.threads = threads, .workspace_bytes = 0});
    guarded<float, 1> y(dims<1>(N), start);  // [N]
    axpy(several, y.view(), 0.3f, x.view());
    CHECK(same_bits(y.view(), expected.view()));
  }
  guarded<float, 1> pieces(dims<1>(N), start);  // [N]
  for (index_t first = 0, count = 1; first < N;
       first += count, count = std::min(count + 1, N - first)) {
    axpy(one, pieces.view().slice(0, first, count), 0.3f, x.view().slice(0, first, count));
  }
  CHECK(same_bits(pieces.view(), expected.view()));
}

TEST_CASE("shapes that differ throw and leave the output alone") {
  cpu_context context({.threads = 1, .workspace_bytes = 0});
  guarded<float, 2> y(dims<2>(2, 3));                                   // [2, 3]
  const guarded<float, 2> x(dims<2>(2, 3), test::uniform(6, 14));       // [2, 3]
  const guarded<float, 2> turned(dims<2>(3, 2), test::uniform(6, 15));  // [3, 2]
  const guarded<float, 1> row(dims<1>(2), test::uniform(2, 16));        // [2]
  CHECK_THROWS_WITH_AS(add(context, y.view(), x.view(), turned.view()),
                       "add: expected b of shape [2, 3], got [3, 2]",
                       error);
  CHECK_THROWS_AS(add(context, y.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(subtract(context, y.view(), x.view(), turned.view()), error);
  CHECK_THROWS_AS(multiply(context, y.view(), x.view(), turned.view()), error);
  CHECK_THROWS_AS(divide(context, y.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(copy(context, y.view(), turned.view()), error);
  CHECK_THROWS_AS(scale(context, y.view(), turned.view(), 1.0f), error);
  CHECK_THROWS_AS(axpy(context, y.view(), 1.0f, turned.view()), error);
  CHECK_THROWS_AS(transform(context, y.view(), turned.view(), std::negate<float>()), error);
  CHECK_THROWS_AS(transform(context, y.view(), x.view(), turned.view(), std::plus<float>()), error);
  CHECK_THROWS_WITH_AS(broadcast_add(context, y.view(), x.view(), row.view()),
                       "broadcast_add: expected row of shape [3], got [2]",
                       error);
  CHECK(y.untouched());
}

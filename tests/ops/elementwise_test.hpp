// Elementwise operations against the reference. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "mtp/core/config.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/ops/elementwise.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/layout.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/elementwise.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::elementwise {

// Contiguous, with gaps, transposed, and more elements than one task or block handles; rows that
// begin where a pack may, with and without a rest behind their last pack.
inline const layout layouts[] = {{{1, 1}, {1, 1}},
                                 {{3, 7}, {7, 1}},
                                 {{3, 7}, {11, 1}},
                                 {{5, 4}, {1, 5}},
                                 {{4, 3}, {6, 2}},
                                 {{0, 5}, {5, 1}},
                                 {{5, 0}, {0, 1}},
                                 {{17, 33}, {33, 1}},
                                 {{6, 24}, {40, 1}},
                                 {{5, 29}, {32, 1}},
                                 {{3, 17000}, {17000, 1}},
                                 {{2, 17001}, {17010, 1}},
                                 {{2, 9003}, {9008, 1}},
                                 {{9000, 3}, {4, 1}}};

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

TEST_CASE_TEMPLATE_DEFINE("add, subtract, multiply and divide match the reference in any layout",
                          Case,
                          binary_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2, B> a(shape, strides, uniform(shape.count(), 1));   // [N, C]
    const guarded<S, 2, B> b(shape, uniform(shape.count(), 2, 0.5, 1.5));  // [N, C]
    const auto left = values(a.view()), right = values(b.view());
    const auto check_one = [&](auto operation, auto function) {
      for (const bool contiguous : {false, true}) {
        guarded<S, 2, B> y(shape,
                           contiguous ? view<S, dims<2>, B>::row_major(shape) : strides);  // [N, C]
        operation(y.view());
        const auto expected = reference::elementwise(function, left, right);
        CHECK(within(y.view(), expected, rounded_twice<S>(expected)));
        CHECK(y.intact());
      }
    };
    check_one([&](auto y) { add(context, y, a.view(), b.view()); }, std::plus<double>());
    check_one([&](auto y) { subtract(context, y, a.view(), b.view()); }, std::minus<double>());
    check_one([&](auto y) { multiply(context, y, a.view(), b.view()); }, std::multiplies<double>());
    check_one([&](auto y) { divide(context, y, a.view(), b.view()); }, std::divides<double>());
  }
}

TEST_CASE_TEMPLATE_DEFINE("scale and axpy match the reference in any layout", Case, scaled_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  constexpr accumulate_t<S> factor = -1.75;
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2, B> x(shape, strides, uniform(shape.count(), 3));  // [N, C]
    const auto right = values(x.view());
    guarded<S, 2, B> y(shape);  // [N, C]
    scale(context, y.view(), x.view(), factor);
    const auto product = [](double, double value) { return factor * value; };
    const auto scaled = reference::elementwise(product, right, right);
    CHECK(within(y.view(), scaled, rounded_twice<S>(scaled)));
    CHECK(y.intact());

    guarded<S, 2, B> sum(shape, strides, uniform(shape.count(), 4));  // [N, C]
    const auto start = values(sum.view());
    axpy(context, sum.view(), factor, x.view());
    const auto expected = reference::elementwise(
        [](double old, double value) { return old + factor * value; }, start, right);
    std::vector<double> bound;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double magnitude = std::abs(start[i]) + std::abs(factor * right[i]);
      bound.push_back(
          stored_bound<S>(expected[i], dot_bound(2, unit_roundoff<accumulate_t<S>>, magnitude)));
    }
    CHECK(within(sum.view(), expected, bound));
    CHECK(sum.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("fill writes every element and nothing else", Case, filled) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    CAPTURE(shape);
    guarded<S, 2, B> y(shape, each.strides);  // [N, C]
    fill(context, y.view(), accumulate_t<S>{2.5});
    CHECK(within(y.view(), std::vector<double>(static_cast<std::size_t>(shape.count()), 2.5), 0.0));
    CHECK(y.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("fill and copy also serve tokens and other integers", Case, integers) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const auto check_one = [&]<class Integer>(Integer number) {
    for (const index_t count : {5, 64, 1001}) {
      guarded<Integer, 1, B> x(dims<1>{count}), y(dims<1>{count}, {3});  // [count], y stride (3)
      fill(context, x.view(), number);
      copy(context, y.view(), x.view());
      const std::vector<Integer> expected(static_cast<std::size_t>(count), number);
      CHECK(elements(x.view()) == expected);
      CHECK(elements(y.view()) == expected);
      CHECK(x.intact());
      CHECK(y.intact());
    }
  };
  check_one(token_t{17});
  check_one(index_t{-3'000'000'000'000});
  check_one(std::int16_t{-1234});
  check_one(std::uint8_t{200});
}

TEST_CASE_TEMPLATE_DEFINE("copy keeps the bits of equal types and rounds to others, in any layout",
                          Case,
                          copied) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2, B> x(shape, strides, uniform(shape.count(), 5));  // [N, C]
    const auto check_to = [&]<class To>(To) {
      for (const bool contiguous : {false, true}) {
        guarded<To, 2, B> y(
            shape, contiguous ? view<To, dims<2>, B>::row_major(shape) : strides);  // [N, C]
        copy(context, y.view(), x.view());
        std::vector<To> expected;
        for (const S element : elements(x.view())) {
          expected.push_back(stored<To>(static_cast<double>(element)));
        }
        CHECK(same_bits(elements(y.view()), expected));
        CHECK(y.intact());
      }
    };
    check_to(double{});
    check_to(float{});
    check_to(bf16(0.0f));
  }
}

// Numbers between two neighbours of bf16, just beside the middle and at both ends of the range.
TEST_CASE_TEMPLATE_DEFINE("copy to bf16 rounds to nearest, ties to even, and overflows to infinity",
                          Case,
                          rounded_copies) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  std::vector<double> numbers;
  for (const double sign : {1.0, -1.0}) {
    for (const double number : {1.0 + 0x1p-8,
                                1.0 + 0x3p-8,
                                1.0 + 0x1p-8 + 0x1p-20,
                                1.0 + 0x1p-8 - 0x1p-20,
                                0x1p-133,
                                0x1p-134,
                                0x1.8p-133,
                                0x1.fep127,
                                0x1.fefffep127,
                                0x1.ffp127,
                                0.0}) {
      numbers.push_back(sign * number);
    }
  }
  const auto count = static_cast<index_t>(numbers.size());
  for (const index_t step : {1, 2}) {
    const guarded<float, 1, B> x(dims<1>{count}, {step}, numbers);  // [count] stride (step)
    guarded<bf16, 1, B> y(dims<1>{count});                          // [count]
    copy(context, y.view(), x.view());
    std::vector<bf16> expected;
    for (const double number : numbers) {
      expected.push_back(bf16(static_cast<float>(number)));
    }
    CHECK(same_bits(elements(y.view()), expected));
  }
}

TEST_CASE_TEMPLATE_DEFINE("copy of one type keeps NaN bits and the sign of zero",
                          Case,
                          copied_bits) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  guarded<bf16, 1, B> x(dims<1>(11)), y(dims<1>(11));  // [11]
  for (index_t i = 0; i < 11; ++i) {
    x.view()(i) = bf16::from_bits(i % 3 == 0 ? 0x7f81 : i % 3 == 1 ? 0x8000 : 0xffff);
  }
  copy(context, y.view(), x.view());
  CHECK(same_bits(y.view(), x.view()));
}

struct positive_part {
  MTP_HOST_DEVICE float operator()(float value) const { return value > 0 ? value : 0; }
};
struct larger_one {
  MTP_HOST_DEVICE float operator()(float u, float v) const { return u > v ? u : v; }
};
struct times_plus {
  double factor, summand;
  MTP_HOST_DEVICE double operator()(float u) const { return factor * double{u} + summand; }
};

TEST_CASE_TEMPLATE_DEFINE("transform applies the function to every element, whatever its types",
                          Case,
                          transformed) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const dims<3> shape(3, 5, 7);
  const guarded<bf16, 3, B> a(shape, uniform(shape.count(), 6));  // [3, 5, 7]
  const guarded<float, 3, B> b(
      shape, {50, 8, 1}, uniform(shape.count(), 7));  // [3, 5, 7] stride (50, 8, 1)
  const auto left = values(a.view()), right = values(b.view());
  guarded<float, 3, B> y(shape);  // [3, 5, 7]
  transform(context, y.view(), a.view(), positive_part{});
  CHECK(within(y.view(),
               reference::elementwise([](double u, double) { return u > 0 ? u : 0; }, left, left),
               0.0));
  transform(context, y.view(), a.view(), b.view(), larger_one{});
  CHECK(
      within(y.view(),
             reference::elementwise([](double u, double v) { return std::max(u, v); }, left, right),
             0.0));
  CHECK(y.intact());
  guarded<double, 3, B> z(shape, {1, 3, 15});  // [3, 5, 7] stride (1, 3, 15)
  transform(context, z.view(), a.view(), times_plus{.factor = 0.25, .summand = 3});
  CHECK(within(z.view(),
               reference::elementwise([](double u, double) { return 0.25 * u + 3; }, left, left),
               0.0));
  CHECK(z.intact());
}

TEST_CASE_TEMPLATE_DEFINE("broadcast_add adds the row to every row", Case, broadcast) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const index_t C = shape[1];
    const guarded<S, 2, B> x(shape, strides, uniform(shape.count(), 8));  // [N, C]
    for (const index_t step : {1, 2}) {
      const guarded<S, 1, B> row(dims<1>(C), {step}, uniform(C, 9));  // [C] stride (step)
      guarded<S, 2, B> y(shape);                                      // [N, C]
      broadcast_add(context, y.view(), x.view(), row.view());
      const auto left = values(x.view());
      const auto right = left.empty() ? left : reference::repeated(values(row.view()), left.size());
      const auto expected = reference::elementwise(std::plus<double>(), left, right);
      CHECK(within(y.view(), expected, rounded_twice<S>(expected)));
      CHECK(y.intact());
    }
  }
}

/// The view of `x`'s elements that has the last `rank` of its sizes.
template <int Rank, class Element, class Backend>
view<const Element, dims<Rank>, Backend> last_dimensions(
    const view<const Element, dims<3>, Backend>& x) {
  std::array<index_t, static_cast<std::size_t>(Rank)> sizes{}, strides{};
  for (int d = 0; d < Rank; ++d) {
    sizes[static_cast<std::size_t>(d)] = x.extent(3 - Rank + d);
    strides[static_cast<std::size_t>(d)] = x.stride(3 - Rank + d);
  }
  return {x.data(), dims<Rank>(sizes), strides};
}

/// Elements of x as often as y wants them, one index at a time.
template <class Element, class Backend>
std::vector<double> spread(const view<const Element, dims<3>, Backend>& x, const dims<3>& y) {
  std::vector<double> all;
  for (index_t i = 0; i < y[0]; ++i) {
    for (index_t j = 0; j < y[1]; ++j) {
      for (index_t k = 0; k < y[2]; ++k) {
        all.push_back(static_cast<double>(
            x(x.extent(0) == 1 ? 0 : i, x.extent(1) == 1 ? 0 : j, x.extent(2) == 1 ? 0 : k)));
      }
    }
  }
  return all;
}

TEST_CASE_TEMPLATE_DEFINE("operands broadcast to the shape of the result, whatever their own",
                          Case,
                          broadcast_operands) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  const dims<3> results[] = {
      {2, 3, 5}, {1, 1, 1}, {4, 1, 33}, {3, 17, 16}, {1, 3, 9001}, {2, 0, 3}};
  for (const dims<3>& shape : some_of<B>(results)) {
    CAPTURE(shape);
    for (unsigned ones = 0; ones < 64; ++ones) {  // which sizes of a and b are 1
      CAPTURE(ones);
      const auto sizes_of = [&](unsigned bits) {
        return dims<3>((bits & 1) != 0 ? 1 : shape[0],
                       (bits & 2) != 0 ? 1 : shape[1],
                       (bits & 4) != 0 ? 1 : shape[2]);
      };
      const dims<3> shape_a = sizes_of(ones), shape_b = sizes_of(ones >> 3);
      const guarded<S, 3, B> a(shape_a, uniform(shape_a.count(), 21));            // a's sizes
      const guarded<S, 3, B> b(shape_b, uniform(shape_b.count(), 22, 0.5, 1.5));  // b's sizes
      const auto left = spread(a.view(), shape), right = spread(b.view(), shape);
      const auto check_one = [&](auto operation, auto function) {
        guarded<S, 3, B> y(shape);  // y's sizes
        operation(y.view());
        const auto expected = reference::elementwise(function, left, right);
        REQUIRE(within(y.view(), expected, rounded_twice<S>(expected)));
        REQUIRE(y.intact());
      };
      check_one([&](auto y) { subtract(context, y, a.view(), b.view()); }, std::minus<double>());
      if (ones % 8 == ones / 8) {
        check_one([&](auto y) { add(context, y, a.view(), b.view()); }, std::plus<double>());
        check_one([&](auto y) { multiply(context, y, a.view(), b.view()); },
                  std::multiplies<double>());
        check_one([&](auto y) { divide(context, y, a.view(), b.view()); }, std::divides<double>());
      }
      if ((ones & 1) != 0) {                               // what is 1 in front may be missing
        const auto matrix = last_dimensions<2>(a.view());  // a's last two sizes
        check_one([&](auto y) { subtract(context, y, matrix, b.view()); }, std::minus<double>());
        check_one([&](auto y) { add(context, y, b.view(), matrix); }, std::plus<double>());
      }
      if ((ones & 7) == 7) {
        const auto number = last_dimensions<0>(a.view());  // []
        check_one([&](auto y) { subtract(context, y, number, b.view()); }, std::minus<double>());
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a result may be its own operand beside one that broadcasts",
                          Case,
                          broadcast_in_place) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  guarded<float, 2, B> x(dims<2>(70, 300), uniform(21000, 23));        // [70, 300]
  const guarded<float, 2, B> column(dims<2>(70, 1), uniform(70, 24));  // [70, 1]
  const auto before = values(x.view());
  std::vector<double> repeated;
  for (const double element : values(column.view())) {
    repeated.insert(repeated.end(), 300, element);
  }
  subtract(context, x.view(), x.view(), column.view());
  const auto expected = reference::elementwise(std::minus<double>(), before, repeated);
  CHECK(within(x.view(), expected, rounded_twice<float>(expected)));
  CHECK(x.intact());
}

TEST_CASE_TEMPLATE_DEFINE("transform broadcasts its two inputs", Case, broadcast_transform) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const guarded<float, 2, B> a(dims<2>(7, 1), uniform(7, 25));  // [7, 1]
  const guarded<float, 1, B> b(dims<1>(9), uniform(9, 26));     // [9]
  guarded<float, 2, B> y(dims<2>(7, 9));                        // [7, 9]
  transform(context, y.view(), a.view(), b.view(), larger_one{});
  for (index_t i = 0; i < 7; ++i) {
    for (index_t j = 0; j < 9; ++j) {
      REQUIRE(y.view()(i, j) == std::max(a.view()(i, 0), b.view()(j)));
    }
  }
  CHECK(y.intact());
}

TEST_CASE_TEMPLATE_DEFINE("where takes each element from one of two, bits and all", Case, chosen) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const layout& each : some_of<B>(layouts)) {
    const auto& shape = each.shape;
    const auto& strides = each.strides;
    CAPTURE(shape);
    const guarded<S, 2, B> a(shape, strides, uniform(shape.count(), 27));  // [N, C]
    const guarded<S, 1, B> b(dims<1>(shape[1]), uniform(shape[1], 28));    // [C]
    guarded<std::uint8_t, 2, B> flags(shape);                              // [N, C]
    guarded<S, 2, B> numbers(shape, strides, uniform(shape.count(), 29));  // [N, C]
    for (index_t n = 0; n < shape[0]; ++n) {
      for (index_t c = 0; c < shape[1]; ++c) {
        flags.view()(n, c) = (n + 2 * c) % 3 == 0 ? 200 : 0;
        if ((n + c) % 2 == 0) {
          numbers.view()(n, c) = stored<S>(n % 2 == 0 ? 0.0 : -0.0);
        }
      }
    }
    const auto check_one = [&](const auto& condition) {
      guarded<S, 2, B> y(shape, strides);  // [N, C]
      where(context, y.view(), condition, a.view(), b.view());
      std::vector<S> expected;
      for (index_t n = 0; n < shape[0]; ++n) {
        for (index_t c = 0; c < shape[1]; ++c) {
          expected.push_back(static_cast<double>(condition(n, c)) != 0 ? a.view()(n, c)
                                                                       : b.view()(c));
        }
      }
      CHECK(same_bits(elements(y.view()), expected));
      CHECK(y.intact());
    };
    check_one(flags.view());
    check_one(numbers.view());
  }
}

TEST_CASE_TEMPLATE_DEFINE("where keeps NaN bits, takes NaN for true, and broadcasts a condition",
                          Case,
                          chosen_bits) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  guarded<bf16, 2, B> a(dims<2>(3, 4)), b(dims<2>(3, 4)), y(dims<2>(3, 4));  // [3, 4]
  guarded<float, 2, B> condition(dims<2>(3, 1));                             // [3, 1]
  for (index_t n = 0; n < 3; ++n) {
    for (index_t c = 0; c < 4; ++c) {
      a.view()(n, c) = bf16::from_bits(0x7f81);
      b.view()(n, c) = bf16::from_bits(0x8000);
    }
  }
  condition.view()(0, 0) = std::numeric_limits<float>::quiet_NaN();
  condition.view()(1, 0) = 0;
  condition.view()(2, 0) = std::numeric_limits<float>::denorm_min();
  where(context, y.view(), condition.view(), a.view(), b.view());
  testing<B>::settle();
  CHECK(same_bits(y.view().select(0, 0), a.view().select(0, 0)));
  CHECK(same_bits(y.view().select(0, 1), b.view().select(0, 1)));
  CHECK(same_bits(y.view().select(0, 2), a.view().select(0, 2)));
  const guarded<token_t, 0, B> yes(dims<0>{}, std::vector<double>{1});  // []
  where(context, y.view(), yes.view(), b.view(), a.view());
  CHECK(same_bits(y.view(), b.view()));
}

TEST_CASE_TEMPLATE_DEFINE("an output may be an input", Case, in_place) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  guarded<float, 1, B> x(dims<1>(20001), uniform(20001, 10));  // [20001]
  const auto before = values(x.view());
  add(context, x.view(), x.view(), x.view());
  CHECK(within(x.view(), reference::elementwise(std::plus<double>(), before, before), 0.0));
  axpy(context, x.view(), -0.5f, x.view());
  CHECK(within(x.view(), before, 0.0));
  CHECK(x.intact());
}

TEST_CASE_TEMPLATE_DEFINE("views of rank 0, 4 and 8 work", Case, ranks) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  guarded<S, 0, B> one(dims<0>{}, std::vector<double>{3});  // []
  scale(context, one.view(), one.view(), accumulate_t<S>(2));
  CHECK(static_cast<double>(one.view()()) == 6);
  CHECK(one.intact());
  const dims<4> shape(2, 3, 2, 5);
  const guarded<S, 4, B> x(
      shape, {100, 1, 50, 7}, uniform(60, 11));  // [2, 3, 2, 5] stride (100, 1, 50, 7)
  guarded<S, 4, B> y(shape);                     // [2, 3, 2, 5]
  copy(context, y.view(), x.view());
  CHECK(same_bits(y.view(), x.view()));
  CHECK(y.intact());
  const dims<8> many(2, 1, 3, 2, 1, 2, 3, 8);
  const guarded<S, 8, B> from(many, uniform(many.count(), 17));     // [many]
  guarded<S, 8, B> to(many, {1600, 7, 480, 3200, 5, 240, 80, 10});  // [many]
  guarded<S, 8, B> back(many);                                      // [many]
  copy(context, to.view(), from.view());
  copy(context, back.view(), to.view());
  CHECK(same_bits(to.view(), from.view()));
  CHECK(same_bits(back.view(), from.view()));
  CHECK(to.intact());
}

// What the model copies: the heads of queries, keys and values within their rows.
TEST_CASE_TEMPLATE_DEFINE("copies between parts of rows reach their elements and no other",
                          Case,
                          parts_of_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const index_t E : {1, 6, 16, 64}) {
    const index_t N = 37, H = 3, all = 5;
    const guarded<S, 3, B> x(dims<3>{N, all, E}, uniform(N * all * E, 18));  // [N, all, E]
    guarded<S, 3, B> y(dims<3>{N, all, E}), z(dims<3>{N, H, E});  // [N, all, E], [N, H, E]
    copy(context, y.view().slice(1, 1, H), x.view().slice(1, 2, H));
    copy(context, z.view(), y.view().slice(1, 1, H));
    CHECK(same_bits(z.view(), x.view().slice(1, 2, H)));
    CHECK(same_bits(y.view().slice(1, 1, H), z.view()));
    for (const index_t h : {0, 4}) {
      for (const S element : elements(y.view().select(1, h))) {
        CHECK(std::isnan(static_cast<double>(element)));
      }
    }
    CHECK(y.intact());
    CHECK(z.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("results do not depend on where an element stands or who computes it",
                          Case,
                          invariance) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const index_t N = 40003;
  const accumulate_t<S> factor = static_cast<accumulate_t<S>>(0.3);
  const guarded<S, 1, B> x(dims<1>(N), uniform(N, 12));  // [N]
  const auto start = uniform(N, 13);
  auto one = testing<B>::make_context(0);
  guarded<S, 1, B> expected(dims<1>(N), start);  // [N]
  axpy(one, expected.view(), factor, x.view());
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    guarded<S, 1, B> y(dims<1>(N), start);  // [N]
    axpy(context, y.view(), factor, x.view());
    CHECK(same_bits(y.view(), expected.view()));
  });
  guarded<S, 1, B> pieces(dims<1>(N), start);  // [N]
  for (index_t first = 0, count = 1; first < N;
       first += count, count = std::min(count + 1, N - first)) {
    axpy(one, pieces.view().slice(0, first, count), factor, x.view().slice(0, first, count));
  }
  CHECK(same_bits(pieces.view(), expected.view()));
  CHECK(pieces.intact());
}

TEST_CASE_TEMPLATE_DEFINE("shapes that differ throw and leave the output alone", Case, rejections) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  guarded<float, 2, B> y(dims<2>(2, 3));                             // [2, 3]
  const guarded<float, 2, B> x(dims<2>(2, 3), uniform(6, 14));       // [2, 3]
  const guarded<float, 2, B> turned(dims<2>(3, 2), uniform(6, 15));  // [3, 2]
  const guarded<float, 1, B> row(dims<1>(2), uniform(2, 16));        // [2]
  CHECK_THROWS_WITH_AS(
      add(context, y.view(), x.view(), turned.view()),
      "add: expected b of shape [2, 3], or of one that broadcasts to it, got [3, 2]",
      error);
  CHECK_THROWS_AS(add(context, y.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(subtract(context, y.view(), x.view(), turned.view()), error);
  CHECK_THROWS_AS(multiply(context, y.view(), x.view(), turned.view()), error);
  CHECK_THROWS_AS(divide(context, y.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(copy(context, y.view(), turned.view()), error);
  CHECK_THROWS_AS(scale(context, y.view(), turned.view(), 1.0f), error);
  CHECK_THROWS_AS(axpy(context, y.view(), 1.0f, turned.view()), error);
  CHECK_THROWS_AS(transform(context, y.view(), turned.view(), positive_part{}), error);
  CHECK_THROWS_AS(transform(context, y.view(), x.view(), turned.view(), larger_one{}), error);
  CHECK_THROWS_WITH_AS(
      where(context, y.view(), row.view(), x.view(), x.view()),
      "where: expected condition of shape [2, 3], or of one that broadcasts to it, "
      "got [2]",
      error);
  CHECK_THROWS_AS(where(context, y.view(), x.view(), turned.view(), x.view()), error);
  CHECK_THROWS_AS(where(context, y.view(), x.view(), x.view(), turned.view()), error);
  CHECK_THROWS_WITH_AS(broadcast_add(context, y.view(), x.view(), row.view()),
                       "broadcast_add: expected row of shape [3], got [2]",
                       error);
  CHECK(y.untouched());
}

TEST_CASE_TEMPLATE_APPLY(binary_values, cases);
TEST_CASE_TEMPLATE_APPLY(scaled_values, cases);
TEST_CASE_TEMPLATE_APPLY(filled, cases);
TEST_CASE_TEMPLATE_APPLY(integers, one_case);
TEST_CASE_TEMPLATE_APPLY(copied, cases);
TEST_CASE_TEMPLATE_APPLY(rounded_copies, one_case);
TEST_CASE_TEMPLATE_APPLY(copied_bits, one_case);
TEST_CASE_TEMPLATE_APPLY(transformed, one_case);
TEST_CASE_TEMPLATE_APPLY(broadcast, cases);
TEST_CASE_TEMPLATE_APPLY(broadcast_operands, cases);
TEST_CASE_TEMPLATE_APPLY(broadcast_in_place, one_case);
TEST_CASE_TEMPLATE_APPLY(broadcast_transform, one_case);
TEST_CASE_TEMPLATE_APPLY(chosen, cases);
TEST_CASE_TEMPLATE_APPLY(chosen_bits, one_case);
TEST_CASE_TEMPLATE_APPLY(in_place, one_case);
TEST_CASE_TEMPLATE_APPLY(ranks, cases);
TEST_CASE_TEMPLATE_APPLY(parts_of_rows, cases);
TEST_CASE_TEMPLATE_APPLY(invariance, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::elementwise

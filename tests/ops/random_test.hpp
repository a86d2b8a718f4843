// Random numbers in weights against the reference, and against the host's. Who includes this says
// for which cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/ops/random.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/normal_bound.hpp"
#include "support/reference/random.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::random {

struct shape {
  index_t N, K;
};
inline constexpr shape shapes[] = {
    {1, 1}, {3, 7}, {16, 5}, {17, 33}, {0, 5}, {5, 0}, {1, 20000}, {20000, 1}, {301, 129}};

/// Of all 64 bits each.
inline random_stream stream_of(std::uint64_t number) {
  return {mtp::seed{0x299f31d0a4093822 + number}, 0x0370734413198a2e};
}

/// Elements NaN, padding zero.
template <class S, class B>
guarded_weight<S, B> unwritten_weight(const shape& size) {
  return {size.N,
          size.K,
          std::vector<double>(static_cast<std::size_t>(size.N * size.K),
                              std::numeric_limits<double>::quiet_NaN())};
}

// Of the radius: the angle is rounded twice, by 2^-51 each; logarithm and root are wrong by one
// unit of 2^-53 each, the cosine by two, three products by half a one.
inline constexpr double of_the_radius = 0x1p-50 + 16 * 0x1p-53;

TEST_CASE_TEMPLATE_DEFINE("fill_normal draws by Box and Muller at places in row-major order",
                          Case,
                          normal_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  std::uint64_t number = 0;
  for (const shape& size : some_of<B>(shapes)) {
    CAPTURE(size.N);
    CAPTURE(size.K);
    constexpr double deviation = 0.37;
    const random_stream random = stream_of(number++);
    auto w = unwritten_weight<S, B>(size);  // [N, K]
    fill_normal(context, w.view(), deviation, random);
    testing<B>::settle();
    std::vector<double> expected, bound;
    for (const auto& each : reference::normal(random, size.N * size.K)) {
      expected.push_back(deviation * each.value);
      const double exact = deviation * each.radius * of_the_radius;
      const double summed = exact + unit_roundoff<accumulate_t<S>> * std::abs(expected.back());
      bound.push_back(stored_bound<S>(expected.back(), summed));
    }
    CHECK(within(w.rows().elements, expected, bound));
    CHECK(w.padding_is_zero());
    CHECK(w.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("fill_normal gives the host's numbers, on a GPU up to the last place",
                          Case,
                          normal_of_the_host) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  const shape size{301, 331};
  constexpr double deviation = 0.02;
  const random_stream random = stream_of(100);
  auto w = unwritten_weight<S, B>(size);  // [N, K]
  fill_normal(context, w.view(), deviation, random);
  testing<B>::settle();
  const auto actual = w.rows().elements;
  std::vector<double> expected, bound;
  index_t different = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const auto sum = static_cast<accumulate_t<S>>(deviation * random.normal(i));
    expected.push_back(static_cast<double>(static_cast<S>(sum)));
    bound.push_back(normal_bound<S>(expected.back()));
    different += actual[i] != expected.back();
  }
  CHECK(within(actual, expected, bound));
  // Numbers of f64 that lie so close to a border between two of f32 are one of 10^8.
  CHECK((std::is_same_v<S, double> || different <= 1));
}

TEST_CASE_TEMPLATE_DEFINE("fill_normal draws the same bits however it is computed",
                          Case,
                          normal_ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  std::vector<S> expected;
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    auto w = unwritten_weight<S, B>({129, 301});  // [N, K]
    fill_normal(context, w.view(), 1.5, stream_of(7));
    testing<B>::settle();
    if (expected.empty()) {
      expected = w.storage();
    }
    CHECK(same_bits(w.storage(), expected));
  });
}

TEST_CASE_TEMPLATE_DEFINE("fill_normal refuses deviations that no distribution has",
                          Case,
                          normal_refusals) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (const double deviation : {-1e-30, HUGE_VAL, std::numeric_limits<double>::quiet_NaN()}) {
    auto w = unwritten_weight<S, B>({3, 5});  // [N, K]
    CHECK_THROWS_WITH_AS(
        fill_normal(context, w.view(), deviation, stream_of(0)),
        doctest::Contains("fill_normal: expected a deviation that is finite and not negative"),
        mtp::error);
    CHECK(w.untouched());
  }
  auto w = unwritten_weight<S, B>({3, 5});  // [N, K]
  fill_normal(context, w.view(), 0, stream_of(0));
  testing<B>::settle();
  CHECK(within(w.rows().elements, std::vector<double>(15, 0.0), 0.0));
}

TEST_CASE_TEMPLATE_APPLY(normal_values, cases);
TEST_CASE_TEMPLATE_APPLY(normal_of_the_host, cases);
TEST_CASE_TEMPLATE_APPLY(normal_ways, cases);
TEST_CASE_TEMPLATE_APPLY(normal_refusals, cases);

}  // namespace mtp::test::random

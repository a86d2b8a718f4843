// The tests' own instruments: what they accept, what they reject, and what they report.
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::core_compare_cases {

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

bool accepts(double actual, double expected, double bound) {
  return static_cast<bool>(within(std::vector{actual}, std::vector{expected}, bound));
}

}  // namespace

TEST_CASE("within accepts what lies within the bound, and nothing beyond") {
  CHECK(accepts(5, 5, 0));
  CHECK(accepts(5.5, 5, 0.5));
  CHECK(accepts(4.5, 5, 0.5));
  CHECK(!accepts(5.51, 5, 0.5));
  CHECK(!accepts(4.49, 5, 0.5));
}

TEST_CASE("within rejects NaN and infinity wherever they stand") {
  for (const double bad : {not_a_number, inf, -inf}) {
    CAPTURE(bad);
    CHECK(!accepts(bad, 5, 1));
    CHECK(!accepts(5, bad, 1));
    CHECK(!accepts(bad, bad, 1));
    CHECK(!accepts(bad, 5, inf));
    CHECK(!accepts(5, 5, bad));
    CHECK(within(std::vector{bad}, std::vector{5.0}, 1.0).ratio == inf);
  }
}

TEST_CASE("within rejects a negative bound, the wrong sign and the wrong size") {
  CHECK(!accepts(5, 5, -1));
  CHECK(!accepts(-5, 5, 1));
  CHECK(!accepts(-500, -5, 1));
  CHECK(!accepts(-5, -500, 1));
}

TEST_CASE("within rejects another number of elements") {
  const std::vector<double> none, one{1}, two{1, 1};
  CHECK(!within(one, two, 1.0));
  CHECK(!within(two, one, 1.0));
  CHECK(!within(none, one, 1.0));
  CHECK(!within(one, none, 1.0));
  CHECK(!within(two, two, one));
}

TEST_CASE("within accepts nothing compared with nothing, and says so") {
  const comparison result = within(std::vector<double>{}, std::vector<double>{}, 0.0);
  CHECK(result);
  CHECK(result.count == 0);
}

TEST_CASE("within reports how many, where, which values and how far") {
  std::vector<float> memory{0, 1, 2, 3, 14, 5.5f};
  const view<float, dims<2>, cpu> x(memory.data(), dims<2>(2, 3));  // [2, 3]
  const comparison result = within(x, {0, 1, 2, 3, 4, 5}, 0.25);
  CHECK(!result);
  CHECK(result.count == 6);
  CHECK(result.faults == 2);
  CHECK(result.ratio == 40);
  CHECK(
      result.message ==
      "2 of 6 elements outside their bound; worst at 4 = [1, 1]: 14, expected 4 +- 0.25, ratio 40");
}

TEST_CASE("within takes NaN for the worst of all elements") {
  const comparison result =
      within(std::vector{1.0, not_a_number, 900.0}, std::vector{1.0, 1.0, 1.0}, 1.0);
  CHECK(result.faults == 2);
  CHECK(result.message.find("worst at 1: nan") != std::string::npos);
}

TEST_CASE("same_bits distinguishes zeros, NaN and neighbours") {
  CHECK(same_bits(std::vector{1.0f, -0.0f}, std::vector{1.0f, -0.0f}));
  CHECK(!same_bits(std::vector{0.0f}, std::vector{-0.0f}));
  CHECK(same_bits(std::vector{not_a_number}, std::vector{not_a_number}));
  CHECK(!same_bits(std::vector{not_a_number}, std::vector{-not_a_number}));
  CHECK(!same_bits(std::vector{1.0f}, std::vector{std::nextafter(1.0f, 2.0f)}));
  CHECK(!same_bits(std::vector{1.0f}, std::vector{1.0f, 2.0f}));
  CHECK(same_bits(std::vector<float>{}, std::vector<float>{}));
  const comparison result = same_bits(std::vector{1, 2, 9, 9}, std::vector{1, 2, 3, 4}, {2, 2});
  CHECK(result.faults == 2);
  CHECK(result.message ==
        "2 of 4 elements differ in their bits; first at 2 = [1, 0]: 9, expected 3");
}

TEST_CASE("bounds grow with the number of roundings and hold for a worst case") {
  CHECK(dot_bound(10, unit_roundoff<float>, 1) < dot_bound(100, unit_roundoff<float>, 1));
  CHECK(dot_bound(10, unit_roundoff<float>, 0) == 0);
  CHECK(stored_bound<bf16>(1, 0) >= 0x1p-8);
  // 1 + u + u + ... loses every u: the error after k additions is k u.
  float sum = 1;
  for (int i = 0; i < 1000; ++i) {
    sum += 0x1p-24f;
  }
  const double exact = 1 + 1000 * 0x1p-24;
  CHECK(std::abs(sum - exact) <= sum_bound(1001, unit_roundoff<float>, exact));
  CHECK(std::abs(sum - exact) > sum_bound(1001, unit_roundoff<float>, exact) / 2);
}

TEST_CASE("a guarded tensor notices writes outside, and reads give NaN there") {
  guarded<float, 2, cpu> x(dims<2>(2, 3), {5, 1});  // [2, 3] stride (5, 1)
  CHECK(x.intact());
  CHECK(x.untouched());
  for (const index_t inside : {0, 2, 5, 7}) {
    x.view().data()[inside] = 1;
    CHECK(x.intact());
    CHECK(!x.untouched());
  }
  for (const index_t outside : {-64, -1, 3, 4, 8, 71}) {
    CAPTURE(outside);
    guarded<float, 2, cpu> fresh(dims<2>(2, 3), {5, 1});  // [2, 3] stride (5, 1)
    CHECK(std::isnan(fresh.view().data()[outside]));
    fresh.view().data()[outside] = std::numeric_limits<float>::quiet_NaN();
    CHECK(!fresh.intact());
  }
}

TEST_CASE_TEMPLATE(
    "a guarded tensor starts with elements that no comparison accepts", S, double, float, bf16) {
  guarded<S, 1, cpu> x(dims<1>(3));  // [3]
  CHECK(within(x.view(), {0, 0, 0}, 1e30).faults == 3);
  x.set({1, 2, 3});
  CHECK(within(x.view(), {1, 2, 3}, 0.0));
  CHECK(x.untouched());
  CHECK_THROWS_AS(x.set({1, 2}), error);
}

TEST_CASE("a guarded tensor without elements is all guard") {
  guarded<double, 2, cpu> x(dims<2>(0, 3));  // [0, 3]
  CHECK(x.view().empty());
  CHECK(x.intact());
}

TEST_CASE("gradient_matches accepts the right gradient and rejects small mistakes") {
  const auto f = [](std::span<const double> x) {
    return std::sin(x[0]) * std::exp(x[1]) + x[2] * x[2] * x[0];
  };
  const std::vector<double> x{0.7, -0.3, 1.9};
  const std::vector<double> gradient{std::cos(x[0]) * std::exp(x[1]) + x[2] * x[2],
                                     std::sin(x[0]) * std::exp(x[1]),
                                     2 * x[2] * x[0]};
  const comparison right = gradient_matches(f, x, gradient);
  CHECK(right);
  CHECK(right.count == 6);
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (const double factor : {1 + 1e-6, -1.0, 0.0, 2.0}) {
      auto wrong = gradient;
      wrong[i] *= factor;
      CHECK(!gradient_matches(f, x, wrong));
      CHECK(!gradient_matches(f, x, wrong, {.all_coordinates = 0}));
    }
  }
  CHECK(!gradient_matches(f, x, {1, 2}));
  CHECK(!gradient_matches(f, x, {not_a_number, gradient[1], gradient[2]}));
}

TEST_CASE("gradient_matches grants the error that it is told") {
  const auto f = [](std::span<const double> x) {
    return std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  };
  CHECK(!gradient_matches(f, {1, 2}, {2.001, 4}));
  CHECK(gradient_matches(f, {1, 2}, {2.001, 4}, {.error = 0.0011}));
}

}  // namespace mtp::test::core_compare_cases

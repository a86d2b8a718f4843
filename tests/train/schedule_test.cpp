// Learning rates and the weight of the deeper losses, step by step.
#include "mtp/train/schedule.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "mtp/model/heads/head.hpp"

namespace mtp::test::train_schedule_cases {

/// Kinds from outside, one with a lambda of its own.
inline constexpr head_kind with_lambda{.name = "with lambda"};
inline constexpr head_kind without_lambda{.name = "without lambda"};

}  // namespace mtp::test::train_schedule_cases

template <>
struct mtp::head_traits<mtp::test::train_schedule_cases::with_lambda> {
  static constexpr mtp::lambda_factors default_lambda{0.5, 0.25, 0.75};
};
template <>
struct mtp::head_traits<mtp::test::train_schedule_cases::without_lambda> {};

namespace mtp::test::train_schedule_cases {

namespace {

constexpr learning_rate_schedule usual{
    .peak = 2e-3, .floor = 0.25, .warmup_steps = 8, .total_steps = 48};

TEST_CASE("warm-up rises in equal steps and ends with the peak") {
  for (index_t step = 0; step < 8; ++step) {
    CAPTURE(step);
    CHECK(usual.at(step) ==
          doctest::Approx(2e-3 * static_cast<double>(step + 1) / 8).epsilon(1e-14));
  }
  CHECK(usual.at(7) == 2e-3);
}

TEST_CASE("behind warm-up the rate follows half a cosine down to the floor") {
  CHECK(usual.at(8) == 2e-3);
  CHECK(usual.at(28) == doctest::Approx((2e-3 + 5e-4) / 2).epsilon(1e-12));
  CHECK(usual.at(48) == doctest::Approx(5e-4).epsilon(1e-12));
  for (index_t step = 8; step <= 48; ++step) {
    CAPTURE(step);
    const double angle = std::numbers::pi / 2 * static_cast<double>(step - 8) / 40;
    const double share = std::cos(angle) * std::cos(angle);
    CHECK(usual.at(step) == doctest::Approx(5e-4 + 1.5e-3 * share).epsilon(1e-12));
    CHECK(usual.at(step + 1) <= usual.at(step));
  }
}

TEST_CASE("the rate stays at the floor behind the last step") {
  for (const index_t step : {48, 49, 100, 1'000'000'000}) {
    CAPTURE(step);
    CHECK(usual.at(step) == doctest::Approx(5e-4).epsilon(1e-12));
  }
}

TEST_CASE("without warm-up the first step has the peak") {
  constexpr learning_rate_schedule schedule{
      .peak = 1, .floor = 0.1, .warmup_steps = 0, .total_steps = 10};
  CHECK(schedule.at(0) == 1);
  CHECK(schedule.at(1) < 1);
}

TEST_CASE("equal peak and floor give a constant rate") {
  constexpr learning_rate_schedule schedule{
      .peak = 0.5, .floor = 1, .warmup_steps = 0, .total_steps = 10};
  for (index_t step = 0; step < 20; ++step) {
    CHECK(schedule.at(step) == 0.5);
  }
}

TEST_CASE("a warm-up that is as long as the run or longer gives finite rates up to the peak") {
  for (const index_t total : {1, 5, 10}) {
    const learning_rate_schedule schedule{
        .peak = 1, .floor = 0.1, .warmup_steps = 10, .total_steps = total};
    CHECK(schedule.at(0) == 0.1);
    CHECK(schedule.at(4) == 0.5);
    CHECK(schedule.at(9) == 1);
    CHECK(schedule.at(11) == doctest::Approx(0.1));
  }
}

TEST_CASE("the floor is a share of the peak, however small that is") {
  constexpr learning_rate_schedule fine_tuning{.peak = 1e-6, .total_steps = 100};
  for (index_t step = 0; step < 120; ++step) {
    CAPTURE(step);
    CHECK(fine_tuning.at(step) <= 1e-6);
    CHECK(fine_tuning.at(step) >= 0.99e-7);
  }
  CHECK(fine_tuning.at(100) == doctest::Approx(1e-7));
}

TEST_CASE("a schedule that falls without an end is refused, a constant one needs none") {
  constexpr learning_rate_schedule forgotten{.peak = 1e-2};
  CHECK_THROWS_WITH_AS(forgotten.at(0),
                       "learning_rate_schedule: a learning rate that falls needs total_steps to "
                       "fall over; a constant one is learning_rate_schedule::constant(rate)",
                       error);
  constexpr auto constant = learning_rate_schedule::constant(0.3);
  for (const index_t step : {index_t{0}, index_t{1}, index_t{1000}, index_t{1} << 62}) {
    CHECK(constant.at(step) == 0.3);
  }
  CHECK(learning_rate_schedule{.peak = 0}.at(7) == 0);  // falls nowhere
  constexpr learning_rate_schedule warm{.peak = 1, .floor = 1, .warmup_steps = 4};
  CHECK(warm.at(0) == 0.25);
  CHECK(warm.at(3) == 1);
  CHECK(warm.at(400) == 1);
}

TEST_CASE("the rate of a width falls as 1 / width from GPT-3's, behind a warm-up of 40 steps") {
  const auto peak_of = [](index_t width) { return learning_rate_schedule::of_width(width).at(40); };
  CHECK(peak_of(768) == doctest::Approx(6e-4));
  CHECK(peak_of(1536) == doctest::Approx(3e-4));
  CHECK(peak_of(4096) == doctest::Approx(1.125e-4));
  CHECK(peak_of(64) == 5e-3);  // narrow models have the same
  CHECK(peak_of(1) == 5e-3);
  constexpr learning_rate_schedule usual_width = learning_rate_schedule::of_width(768);
  CHECK(usual_width.at(0) == doctest::Approx(6e-4 / 40));
  CHECK(usual_width.at(19) == doctest::Approx(3e-4));
  for (const index_t step : {39, 40, 41, 1000, 1'000'000'000}) {
    CHECK(usual_width.at(step) == usual_width.peak);
  }
}

TEST_CASE("numbers that make no schedule are refused, the last step there is has a rate") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr index_t most = std::numeric_limits<index_t>::max();
  const auto refused = [](const learning_rate_schedule& schedule) {
    try {
      schedule.at(3);
    } catch (const error&) {
      return true;
    }
    return false;
  };
  CHECK(refused({.peak = nan, .total_steps = 10}));
  CHECK(refused({.peak = -1, .total_steps = 10}));
  CHECK(refused({.floor = nan, .total_steps = 10}));
  CHECK(refused({.floor = 1.5, .total_steps = 10}));
  CHECK(refused({.floor = -0.1, .total_steps = 10}));
  CHECK(refused({.warmup_steps = -1, .total_steps = 10}));
  CHECK(refused({.total_steps = -1}));
  const learning_rate_schedule longest{.warmup_steps = most, .total_steps = most};
  CHECK(longest.at(most - 1) <= 1e-3);
  CHECK(learning_rate_schedule{.total_steps = most}.at(most) == doctest::Approx(1e-4));
}

TEST_CASE("lambda is that of DeepSeek-V3 unless told otherwise") {
  constexpr lambda_schedule schedule;
  // 10 of 14.8 T tokens.
  CHECK(schedule.at(0, 14800) == 0.3);
  CHECK(schedule.at(9999, 14800) == 0.3);
  CHECK(schedule.at(10001, 14800) == 0.1);
  CHECK(schedule.at(14800, 14800) == 0.1);
}

TEST_CASE("lambda changes at its share of the run, the first step behind it included") {
  constexpr lambda_schedule schedule{.first = 2, .second = 1, .switch_at = 0.5};
  CHECK(schedule.at(0, 8) == 2);
  CHECK(schedule.at(3, 8) == 2);
  CHECK(schedule.at(4, 8) == 1);
  CHECK(schedule.at(7, 8) == 1);
  CHECK(schedule.at(100, 8) == 1);
}

TEST_CASE("a constant lambda is the same within the run, and lambda of an empty run is finite") {
  constexpr auto schedule = lambda_schedule::constant(0.7);
  for (const index_t step : {0, 1, 9, 10, 1000}) {
    CHECK(schedule.at(step, 10) == 0.7);
  }
  CHECK(lambda_schedule{}.at(0, 0) == 0.3);
  CHECK(lambda_schedule{}.at(1000, 0) == 0.3);  // without an end, no share of it is behind
}

TEST_CASE("lambda of a head kind is what its traits say, also of kinds from outside, and else 1") {
  const auto is = [](const lambda_schedule& schedule, double first, double second, double at) {
    return schedule.first == first && schedule.second == second && schedule.switch_at == at &&
           !schedule.own;
  };
  CHECK(is(lambda_schedule::of<head_kind::sequential>(), 0.3, 0.1, 10.0 / 14.8));
  CHECK(is(lambda_schedule::of<head_kind::recurrent>(), 0.3, 0.1, 10.0 / 14.8));
  CHECK(is(lambda_schedule::of<head_kind::parallel>(), 1, 1, 1));
  CHECK(is(lambda_schedule::of<head_kind::independent>(), 1, 1, 1));
  CHECK(is(lambda_schedule::of<head_kind::shared_logit>(), 1, 1, 1));
  CHECK(is(lambda_schedule::of<head_kind::none>(), 1, 1, 1));
  CHECK(is(lambda_schedule::of<with_lambda>(), 0.5, 0.25, 0.75));
  CHECK(is(lambda_schedule::of<without_lambda>(), 1, 1, 1));
}

}  // namespace

}  // namespace mtp::test::train_schedule_cases

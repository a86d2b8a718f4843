// Schedules of one's own: names, shared functions, and values that are refused.
#include "mtp/train/own_schedule.hpp"

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "mtp/train/schedule.hpp"

namespace mtp::test::train_own_schedule_cases {

namespace {

template <class Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const error& problem) {
    return problem.what();
  }
  return "";
}

double half_of(index_t step) {
  return static_cast<double>(step) / 2;
}

TEST_CASE("any function of the step is a schedule: lambdas, functions, numbers of any type") {
  const double slope = 0.25;
  const own_schedule line("line", [=](index_t step) { return slope * static_cast<double>(step); });
  static_assert(std::is_same_v<decltype(line), const own_schedule<double>>);
  CHECK(line.at(0) == 0);
  CHECK(line.at(6) == 1.5);
  CHECK(line.name() == "line");
  CHECK(own_schedule("function", half_of).at(3) == 1.5);
  CHECK(own_schedule("pointer", &half_of).at(3) == 1.5);
  CHECK(own_schedule("std::function", std::function<double(index_t)>(half_of)).at(3) == 1.5);
  const own_schedule whole("integers", [](index_t step) { return step; });
  static_assert(std::is_same_v<decltype(whole), const own_schedule<double>>);
  CHECK(whole.at(7) == 7);
  CHECK(own_schedule(std::string("float"), [](index_t) { return 0.5f; }).at(1) == 0.5);
  const own_schedule weights("weights", [](index_t step) {
    return std::array<double, 2>{1, static_cast<double>(step)};
  });
  static_assert(std::is_same_v<decltype(weights), const own_schedule<std::array<double, 2>>>);
  CHECK(weights.at(9) == std::array<double, 2>{1, 9});
}

TEST_CASE("copies share the function, and the last one destroys it") {
  auto alive = std::make_shared<int>(3);
  {
    own_schedule<double> copy;
    CHECK_FALSE(copy);
    {
      const own_schedule made("captured", [alive](index_t) { return *alive; });
      CHECK(made);
      CHECK(alive.use_count() == 2);
      copy = made;
      const own_schedule<double> another = copy;
      CHECK(alive.use_count() == 2);
      CHECK(another.at(0) == 3);
    }
    CHECK(alive.use_count() == 2);
    CHECK(copy.at(0) == 3);
    own_schedule<double> moved = std::move(copy);
    CHECK_FALSE(copy);
    auto& self = moved;
    moved = self;
    CHECK(moved.at(0) == 3);
    moved = own_schedule("other", half_of);
    CHECK(alive.use_count() == 1);
    CHECK(moved.name() == "other");
  }
  CHECK(alive.use_count() == 1);
}

TEST_CASE("an own schedule wants a name that a file can hold, and a function") {
  CHECK(refusal([] { own_schedule("", half_of); }) ==
        "own_schedule: expected a name, which checkpoints hold, got an empty one");
  for (const char* name : {"two\nlines", "\xff", "tab\t", "\x7f"}) {
    CHECK(refusal([=] { own_schedule(name, half_of); }) ==
          "own_schedule: expected a name of printable ASCII characters, got \"" +
              std::string(name) + '"');
  }
  CHECK(refusal([] { own_schedule(" ~", half_of); }).empty());
  CHECK(refusal([] { own_schedule("a", static_cast<double (*)(index_t)>(nullptr)); }) ==
        "own_schedule: expected a function for \"a\", got none");
  CHECK(refusal([] { own_schedule("b", std::function<double(index_t)>()); }) ==
        "own_schedule: expected a function for \"b\", got none");
}

TEST_CASE("values that are negative or not finite are refused with step and value") {
  const double infinity = std::numeric_limits<double>::infinity();
  const own_schedule line("1 - step", [](index_t step) { return 1 - static_cast<double>(step); });
  CHECK(line.at(1) == 0);
  CHECK(refusal([&] { static_cast<void>(line.at(3)); }) ==
        "own_schedule \"1 - step\": expected a finite value of at least 0, got -2 at step 3");
  for (const double value : {-1e-300, infinity, std::numeric_limits<double>::quiet_NaN()}) {
    CAPTURE(value);
    const own_schedule wrong("wrong", [=](index_t) { return value; });
    CHECK_THROWS_AS(static_cast<void>(wrong.at(0)), error);
    const own_schedule second("second", [=](index_t) {
      return std::array<double, 3>{1, value, 1};
    });
    CHECK_THROWS_AS(static_cast<void>(second.at(0)), error);
  }
  const own_schedule weights("deeper", [](index_t) { return std::array<double, 2>{1, -0.5}; });
  CHECK(refusal([&] { static_cast<void>(weights.at(12)); }) ==
        "own_schedule \"deeper\": expected a finite value of at least 0 for depth 1, got -0.5 at "
        "step 12");
}

TEST_CASE("learning rate and lambda are own schedules where they are given one") {
  const learning_rate_schedule rate = own_schedule("half", half_of);
  CHECK(rate.at(5) == 2.5);
  rate.validate("here");
  lambda_schedule lambda = own_schedule("half", half_of);
  CHECK(lambda.at(5, 0) == 2.5);
  CHECK(lambda.at(5, 10) == 2.5);
  lambda = {};
  CHECK(lambda.at(5, 0) == 0.3);
  // What has no effect is refused; the length of the run has one, on lambda.
  learning_rate_schedule beside = rate;
  beside.total_steps = 10;
  CHECK(refusal([&] { beside.validate("here"); }).empty());
  for (const auto& change : {+[](learning_rate_schedule& r) { r.peak = 1e-2; },
                             +[](learning_rate_schedule& r) { r.floor = 1; },
                             +[](learning_rate_schedule& r) { r.warmup_steps = 1; }}) {
    learning_rate_schedule wrong = rate;
    change(wrong);
    CHECK(refusal([&] { wrong.validate("here"); }) ==
          "here: peak, floor and warmup_steps have no effect beside the own schedule \"half\" of "
          "the learning rate: leave them out");
  }
  lambda_schedule wrong = lambda_schedule::constant(0.5);
  wrong.own = own_schedule("half", half_of);
  CHECK(refusal([&] { wrong.validate("here"); }) ==
        "here: first, second and switch_at have no effect beside the own schedule \"half\" of "
        "lambda: leave them out");
}

}  // namespace

}  // namespace mtp::test::train_own_schedule_cases

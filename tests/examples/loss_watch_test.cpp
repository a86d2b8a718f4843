// Curves that explode and curves that do not.
#include "train_and_generate/loss_watch.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "mtp/core/random.hpp"

namespace examples_loss_watch_cases {

using example::loss_watch;

constexpr long warmup = 20;

/// A rate that rises for `warmup` steps and then falls.
double rate_of(long step) {
  return step <= warmup ? static_cast<double>(step)
                        : warmup * std::exp(-1e-3 * static_cast<double>(step));
}

/// The step at which something is said about a curve, counted from 1; 0: never.
long said_at(long steps,
             const std::function<double(long)>& loss,
             const std::function<double(long)>& rate = rate_of) {
  loss_watch watch;
  long at = 0;
  for (long step = 1; step <= steps; ++step) {
    const std::string sentence = watch.look_at(step, loss(step), rate(step), false);
    if (sentence.empty()) continue;
    CHECK(at == 0);  // once
    CHECK(sentence == watch.sentence());
    CHECK(sentence.find("the loss explodes: at step " + std::to_string(step)) == 0);
    CHECK(sentence.find("; a lower --learning-rate may help") != sentence.npos);
    at = step;
  }
  CHECK(watch.sentence().empty() == (at == 0));
  return at;
}

double falling(long step) {
  return 1.5 + 4 * std::exp(-0.01 * static_cast<double>(step));
}

/// Normal noise of the given deviation.
double noise(long step, double deviation) {
  const mtp::random_stream random(mtp::seed{3}, 1);
  double sum = -6;
  for (std::uint64_t i = 0; i < 12; ++i) {
    sum += static_cast<double>(random.below(12 * static_cast<std::uint64_t>(step) + i, 1 << 20)) /
           (1 << 20);
  }
  return deviation * sum;
}

TEST_CASE("a loss that falls, with the noise of small batches, is nothing to speak of") {
  CHECK(said_at(100'000, [](long step) { return falling(step) + noise(step, 0.4); }) == 0);
  CHECK(said_at(2000, [](long step) {
          const auto at = static_cast<double>(step);
          return falling(step) + 0.9 * std::sin(1.7 * at) + 0.05 * std::cos(0.01 * at);
        }) == 0);
  // Larger vocabularies have larger losses, and larger noise.
  CHECK(said_at(20'000, [](long step) { return 3 * falling(step) + noise(step, 0.8); }) == 0);
}

TEST_CASE("a warm-up that throws a model off is left alone if it comes back by itself") {
  for (const long first : {2L, 4L, 15L}) {
    CAPTURE(first);
    CHECK(said_at(500, [=](long step) {
            return step >= first && step < warmup ? 30.0 : falling(step);
          }) == 0);
  }
  CHECK(
      said_at(500, [](long step) {  // as a large model did: up at once, down for hundreds of steps
        return 5.6 + 14 * std::exp(-0.35 * static_cast<double>(step - 1)) * (step > 1);
      }) == 0);
}

TEST_CASE("a loss that explodes within the warm-up and stays is said soon behind it") {
  const long at = said_at(100, [](long step) { return step < 5 ? 5.5 : 9.0; });
  CHECK(at > warmup);
  CHECK(at <= warmup + 6);
}

TEST_CASE("single steps explode nothing, however high; a few in a row do") {
  CHECK(said_at(2000, [](long step) { return step % 25 == 0 ? 1e6 : falling(step); }) == 0);
  const long at = said_at(2000, [](long step) { return step >= 1000 ? 1e6 : falling(step); });
  CHECK(at >= 1004);
  CHECK(at <= 1006);
}

TEST_CASE("a loss that explodes is said, once and soon, a slow rise when it has become large") {
  const auto up = [](long step) {
    return step < 100 ? 2.5 : 2.5 + 0.5 * static_cast<double>(step - 99);
  };
  const long at = said_at(200, up);
  CHECK(at >= 104);
  CHECK(at <= 112);
  loss_watch watch;
  for (long step = 1; step <= 200; ++step) {
    watch.look_at(step, up(step), rate_of(step), false);
  }
  CHECK(watch.sentence().find("nats per byte, after 2.50 before") != std::string::npos);
  const long slow = said_at(3000, [](long step) {
    return falling(step) + (step > 1000 ? 2e-3 * static_cast<double>(step - 1000) : 0);
  });
  CHECK(slow > 1500);
  CHECK(slow < 2000);
}

TEST_CASE("runs of few steps and of a constant rate are watched from the sixth step on") {
  const auto constant = [](long) { return 1e-3; };
  CHECK(said_at(
            10, [](long step) { return step == 1 ? 5.6 : 20.0; }, constant) == 6);
  CHECK(said_at(
            10, [](long step) { return step == 1 ? 5.6 : 5.9; }, constant) == 0);
}

TEST_CASE("a step that is not a number is said, once, also within the warm-up") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool skipped : {false, true}) {
    loss_watch watch;
    CHECK(watch.look_at(1, 5.5, 1, false).empty());
    CHECK(watch.look_at(2, skipped ? 5.5 : nan, 2, skipped) ==
          "loss or gradients of step 2 are not finite: it was skipped; a lower --learning-rate may "
          "help");
    CHECK(watch.look_at(3, nan, 3, true).empty());
    CHECK(watch.look_at(4, 50, 4, false).empty());
    CHECK(watch.sentence().find("step 2 ") != std::string::npos);
  }
}

}  // namespace examples_loss_watch_cases

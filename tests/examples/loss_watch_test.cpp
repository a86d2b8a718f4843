#include "train_and_generate/loss_watch.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

namespace examples_loss_watch_cases {

using example::loss_watch;

TEST_CASE("a loss that falls, with noise, is nothing to speak of") {
  loss_watch watch;
  for (int step = 1; step <= 2000; ++step) {
    const double noise = 0.9 * std::sin(1.7 * step) + 0.05 * std::cos(0.01 * step);
    CHECK(watch.look_at(step, 1.5 + 4 * std::exp(-0.01 * step) + noise, false).empty());
  }
  CHECK(watch.sentence().empty());
}

TEST_CASE("a loss that explodes is said, once and soon") {
  loss_watch watch;
  long said_at = 0;
  for (int step = 1; step <= 200; ++step) {
    const std::string sentence = watch.look_at(step, step < 100 ? 2.5 : 2.5 + step - 99, false);
    if (sentence.empty()) continue;
    CHECK(said_at == 0);
    said_at = step;
    CHECK(sentence == watch.sentence());
    CHECK(sentence.find("the loss explodes: at step ") == 0);
    CHECK(sentence.find("nats per byte, after 2.50 before") != sentence.npos);
    CHECK(sentence.find("--learning-rate") != sentence.npos);
  }
  CHECK(said_at >= 100);
  CHECK(said_at <= 106);
}

TEST_CASE("a step that is not a number is said, once") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool skipped : {false, true}) {
    loss_watch watch;
    CHECK(watch.look_at(1, 5.5, false).empty());
    CHECK(watch.look_at(2, skipped ? 5.5 : nan, skipped) ==
          "loss or gradients of step 2 are not finite: it was skipped; a lower --learning-rate may "
          "help");
    CHECK(watch.look_at(3, nan, true).empty());
    CHECK(watch.look_at(4, 50, false).empty());
    CHECK(watch.sentence().find("step 2 ") != std::string::npos);
  }
}

}  // namespace examples_loss_watch_cases

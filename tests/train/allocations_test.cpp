// A steady training step asks for no memory: every allocation of this executable is counted.
#include <doctest/doctest.h>

#include <string>

#include "support/allocations.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_allocations_cases {

namespace {

template <model_config Config>
void check_silent() {
  for (const int threads : {1, 2}) {
    INFO(std::string(name_of(Config.head)), ", ", threads, " threads");
    small_setup<Config> setup;
    setup.threads = threads;
    setup.options.accumulation = 2;
    small_run<Config> run(setup);
    run.advance(2);
    const long before = allocations;
    for (int step = 0; step < 3; ++step) {
      run.training.step();
    }
    const long after = allocations;
    CHECK(after - before == 0);
    CHECK(run.training.state().step == 5);
    CHECK(run.training.state().skipped == 0);
  }
}

}  // namespace

TEST_CASE("allocations of every kind are counted") {
  check_allocations_are_counted();
}

TEST_CASE("a steady step allocates nothing, whatever the head") {
  check_silent<tiny_config(head_kind::none, 0)>();
  check_silent<flipped_config(head_kind::sequential, 2)>();
  check_silent<tiny_config(head_kind::recurrent, 2)>();
  check_silent<tiny_config(head_kind::parallel, 2)>();
  check_silent<tiny_config(head_kind::independent, 2)>();
  check_silent<tiny_config(head_kind::shared_logit, 2)>();
}

TEST_CASE("a skipped step allocates nothing") {
  small_run<tiny_config(head_kind::none, 0)> run;
  run.advance(2);
  const long before = allocations;
  const bool skipped = run.poisoned_step().skipped;
  const long after = allocations;
  CHECK(skipped);
  CHECK(after - before == 0);
}

}  // namespace mtp::test::train_allocations_cases

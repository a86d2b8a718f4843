// Ranks that train together: what they must agree about, steps that all of them skip, and sums in
// another order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "train/ranks.hpp"

namespace mtp::test::train_ranks_faults_cases {

namespace {

constexpr model_config usual = rank_config(head_kind::sequential, 1);
using usual_run = group_run<usual, float>;

/// Calls step() with a parameter that is NaN for the while.
template <class Run>
auto poisoned_step(Run& run) {
  float& victim = run.model.values().data()[run.model.layout.trunk.norm.offset];
  const float healthy = victim;
  victim = std::numeric_limits<float>::quiet_NaN();
  const auto report = run.training.step();
  victim = healthy;
  return report;
}

/// What three ranks say whose setups are changed by their rank.
std::vector<std::string> refusals(const std::function<void(rank_setup<usual>&, int)>& change) {
  std::vector<std::string> messages(3);
  run_ranks(3, [&](thread_communicator& group) {
    rank_setup<usual> setup;
    change(setup, group.rank());
    try {
      const usual_run run(setup, group);
    } catch (const error& problem) {
      messages[static_cast<std::size_t>(group.rank())] = problem.what();
    }
  });
  return messages;
}

}  // namespace

TEST_CASE("a step with NaN on one rank is skipped by all, and changes nothing") {
  rank_setup<usual> setup;
  setup.options.accumulation = 5;
  single_run<usual, float> alone(setup);
  rank_result<usual, float> expected(alone.model.layout.storage);
  for (int step = 0; step < 6; ++step) {
    if (step == 2 || step == 3) {
      CHECK(poisoned_step(alone).skipped);
    } else {
      alone.training.step();
    }
  }
  expected.take(alone.training, true);
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    setup.options.sharding = sharding;
    rank_result<usual, float> result(alone.model.layout.storage);
    std::vector<int> skipped(3);
    run_ranks(3, [&](thread_communicator& group) {
      usual_run run(setup, group);
      for (int step = 0; step < 6; ++step) {
        const bool poisoned = (step == 2 || step == 3) && group.rank() == step - 1;
        const auto report = poisoned ? poisoned_step(run) : run.training.step();
        skipped[static_cast<std::size_t>(group.rank())] += report.skipped ? 1 : 0;
        if (step == 2) {
          CHECK(report.skipped);
          CHECK(std::isnan(report.loss.total));
        }
      }
      CHECK(run.training.state().skipped == 2);
      CHECK(run.training.optimizer().updates() == 4);
      if (group.rank() == 0 || sharding == optimizer_sharding::zero1) {
        result.take(run.training, group.rank() == 0);
      }
    });
    CHECK(skipped == std::vector<int>{2, 2, 2});
    check_same(result, expected);
  }
}

TEST_CASE("ranks that were started with different things are told which, all of them") {
  CHECK(refusals([](auto&, int) {}) == std::vector<std::string>(3));
  const std::pair<std::string, std::function<void(rank_setup<usual>&)>> changes[] = {
      {"run.batch is \"1\" on rank 0 and \"2\" on rank 1", [](auto& s) { s.options.batch = 2; }},
      {"run.clip_norm is", [](auto& s) { s.options.clip_norm = 3; }},
      {"run.data.text is", [](auto& s) { s.text[77] ^= 1; }},
      {"run.data.mask is",
       [](auto& s) {
         s.mask.assign(600, 1);
         s.mask[5] = 0;
       }},
      {"options.sharding is", [](auto& s) { s.options.sharding = optimizer_sharding::zero1; }},
      {"options.reduction is", [](auto& s) { s.options.reduction = reduction_order::engine; }},
      {"options.bucket_elements is", [](auto& s) { s.options.bucket_elements = 5; }},
  };
  for (const auto& [expected, change] : changes) {
    const auto messages = refusals([&change = change](auto& setup, int rank) {
      if (rank == 1) change(setup);
    });
    for (const std::string& message : messages) {
      CAPTURE(message);
      CHECK(message.find(expected) != std::string::npos);
    }
  }
}

TEST_CASE("ranks whose models have other parameters are refused") {
  std::vector<std::string> messages(2);
  run_ranks(2, [&](thread_communicator& group) {
    const rank_setup<usual> setup;
    cpu_context context({.threads = 1});
    const dataset<> data(
        setup.text, {}, {.window = group_trainer<usual, float>::window_of(setup.options.length)});
    language_model<usual, cpu> model(context, seed{7});
    if (group.rank() == 1) model.values().data()[9] += 1;
    try {
      const group_trainer<usual, float> made(context, model, data, setup.options, group);
    } catch (const error& problem) {
      messages[static_cast<std::size_t>(group.rank())] = problem.what();
    }
  });
  for (const std::string& message : messages) {
    CHECK(message.find("model.parameters is") != std::string::npos);
  }
}

TEST_CASE("more ranks than passes, and buckets without elements, are refused") {
  for (const std::string& message :
       refusals([](auto&setup, int) { setup.options.accumulation = 2; })) {
    CHECK(message ==
          "trainer: expected at most as many ranks as a step has passes (accumulation 2), got 3");
  }
  for (const std::string& message :
       refusals([](auto&setup, int) { setup.options.bucket_elements = 0; })) {
    CHECK(message == "trainer: expected positive bucket_elements, got 0");
  }
}

TEST_CASE("what one rank refuses, all ranks throw at once, with its number") {
  const std::pair<std::string, std::function<void(rank_setup<usual>&)>> changes[] = {
      {"expected at most as many ranks as a step has passes (accumulation 2), got 3",
       [](auto& s) { s.options.accumulation = 2; }},
      {"expected positive bucket_elements, got 0", [](auto& s) { s.options.bucket_elements = 0; }},
      {"expected a positive batch, got 0", [](auto& s) { s.options.batch = 0; }},
      {"the schedule has no steps",
       [](auto& s) {
         s.options.weights = own_schedule(
             "none", [](index_t) -> depth_weights<1> { fail("the schedule has no steps"); });
       }},
  };
  for (const auto& [expected, change] : changes) {
    const auto messages = refusals([&change = change](auto& setup, int rank) {
      if (rank == 1) change(setup);
    });
    for (const std::string& message : messages) {
      CAPTURE(message);
      CHECK(message.starts_with("rank 1 of 3: "));
      CHECK(message.ends_with(expected));
    }
  }
}

TEST_CASE("a rank whose text is all held out, or has no memory, is named by all") {
  std::vector<std::string> messages(3);
  const auto made = [&](const auto& change) {
    run_ranks(3, [&](thread_communicator& group) {
      const rank_setup<usual> setup;
      cpu_context context({.threads = 1});
      using trainer_type = group_trainer<usual, float>;
      dataset_options of{.window = trainer_type::window_of(setup.options.length)};
      auto options = setup.options;
      if (group.rank() == 2) change(of, options);
      const dataset<> data(setup.text, {}, of);
      language_model<usual, cpu> model(context, seed{7});
      std::string& message = messages[static_cast<std::size_t>(group.rank())];
      message.clear();
      try {
        const trainer_type training(context, model, data, options, group);
      } catch (const error& problem) {
        message = problem.what();
      }
      group.barrier();  // the group can be used
    });
  };
  made([](auto& of, auto&) { of.validation_share = 1; });
  for (const std::string& message : messages) {
    CAPTURE(message);
    CHECK(message.starts_with("rank 2 of 3: trainer: all of the dataset's text is held out"));
  }
  made([](auto&, auto& options) { options.length = 9; });
  for (const std::string& message : messages) {
    CAPTURE(message);
    CHECK(message.starts_with("rank 2 of 3: trainer: expected a dataset with windows of"));
  }
  made([](auto&, auto& options) { options.batch = index_t{1} << 40; });
  for (const std::string& message : messages) {
    CAPTURE(message);
    CHECK(message.starts_with("rank 2 of 3: "));
  }
}

TEST_CASE("a rank that throws in a step ends the others") {
  rank_setup<usual> setup;
  setup.options.accumulation = 4;
  std::string message;
  std::vector<int> ended(3);
  try {
    run_ranks(3, [&](thread_communicator& group) {
      auto own = setup;
      own.options.weights = own_schedule("ends", [&](index_t step) {
        check(step < 2 || group.rank() != 1, "the schedule has ended");
        return depth_weights<1>{1, 1};
      });
      usual_run run(own, group);
      try {
        while (run.training.state().step < 5) run.training.step();
      } catch (const error&) {
        ended[static_cast<std::size_t>(group.rank())] = 1;
        throw;
      }
    });
  } catch (const error& problem) {
    message = problem.what();
  }
  CHECK(ended == std::vector<int>{1, 1, 1});
  CHECK(message.find("the schedule has ended") != std::string::npos);
}

TEST_CASE("sums in the order of the engine are the same up to rounding, and alike on all ranks") {
  rank_setup<usual> setup;
  setup.options.accumulation = 5;
  setup.options.clip_norm = 0;
  const auto expected = train_alone<usual, double>(setup, 2);
  setup.options.reduction = reduction_order::engine;
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    setup.options.sharding = sharding;
    const auto result = train_on<usual, double>(3, setup, 2);
    CHECK(within(result.first, expected.first, 1e-12));
    CHECK(result.reports[1][1] == doctest::Approx(expected.reports[1][1]).epsilon(1e-9));
    CHECK(result.reports[0][2] == doctest::Approx(expected.reports[0][2]).epsilon(1e-12));
  }
}

TEST_CASE("a shard holds its own moments alone") {
  rank_setup<usual> setup;
  setup.options.accumulation = 4;
  setup.options.sharding = optimizer_sharding::zero1;
  std::vector<index_t> held(3);
  run_ranks(3, [&](thread_communicator& group) {
    usual_run run(setup, group);
    held[static_cast<std::size_t>(group.rank())] = run.training.optimizer().first().count();
  });
  const shards parts(language_model<usual, cpu>::layout.storage, 3, 1 << 14);
  for (int rank = 0; rank < 3; ++rank) {
    CHECK(held[static_cast<std::size_t>(rank)] == parts.size(rank));
  }
}

}  // namespace mtp::test::train_ranks_faults_cases

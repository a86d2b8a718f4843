// Held-out text through stages: losses of one process, bit by bit.
#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_validation_cases {

namespace {

template <int Depth>
std::vector<double> numbers_of(const loss_report<Depth>& report) {
  std::vector<double> all{report.total};
  for (const auto& depth : report.depths) {
    all.insert(all.end(),
               {depth.loss,
                depth.agreement,
                static_cast<double>(depth.targets),
                static_cast<double>(depth.agreed)});
  }
  return all;
}

/// Before a step, and behind it, with a number of windows that leaves the last pass short.
template <model_config Config>
void check_validation(int stages, int copies, const rank_setup<Config>& setup) {
  single_run<Config, float> alone(setup);
  std::vector<std::vector<double>> expected;
  constexpr index_t all = 1000;
  const auto go = [&](auto& run, auto& reports) {
    reports.push_back(numbers_of(run.training.validate(5)));
    reports.push_back(test::numbers_of(run.training.step()));
    reports.push_back(numbers_of(run.training.validate(all)));
    reports.push_back(numbers_of(run.training.validate(1)));
    reports.push_back(test::numbers_of(run.training.step()));
  };
  go(alone, expected);
  REQUIRE(alone.data.validation_windows() > 5);
  for (const head_placement placement : placements) {
    INFO(copies, " copies of ", stages, " stages, placement ", static_cast<int>(placement));
    std::vector<std::vector<std::vector<double>>> reports(
        static_cast<std::size_t>(stages * copies));
    run_ranks(stages * copies, [&](thread_communicator& group) {
      pipeline_run<Config> run(setup, group, placement, copies);
      go(run, reports[static_cast<std::size_t>(group.rank())]);
    });
    for (const auto& of_rank : reports) {
      REQUIRE(of_rank.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(same_bits(of_rank[i], expected[i]));
      }
    }
  }
}

}  // namespace

TEST_CASE("validation in stages, with a short last pass: the bits of one process") {
  rank_setup<pipeline_config(head_kind::sequential, 1, true)> setup;
  setup.options.batch = 2;
  setup.options.accumulation = 3;
  setup.make_uneven();
  for (const int stages : {1, 2, 3}) check_validation(stages, 1, setup);
  check_validation(2, 2, setup);
}

TEST_CASE("validation in stages with a last block that the head owns: the bits of one process") {
  rank_setup<pipeline_config(head_kind::parallel, 1)> setup;
  setup.options.batch = 3;
  setup.options.accumulation = 2;
  check_validation(3, 1, setup);
}

TEST_CASE("validation of nothing is zero, and waits for nobody") {
  constexpr model_config config = pipeline_config(head_kind::none, 0);
  rank_setup<config> setup;
  setup.options.accumulation = 2;
  for (const head_placement placement : placements) {
    run_ranks(2, [&](thread_communicator& group) {
      pipeline_run<config> run(setup, group, placement);
      const auto report = run.training.validate(0);
      CHECK(report.depths[0].targets == 0);
      CHECK(report.total == 0);
    });
  }
}

}  // namespace mtp::test::train_pipeline_validation_cases

// Stages of a model with sequential modules.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "train/pipeline.hpp"

namespace mtp::test::train_pipeline_sequential_cases {

TEST_CASE("sequential modules in stages: the bits of one process, wherever the modules are") {
  rank_setup<pipeline_config(head_kind::sequential, 2)> setup;
  setup.options.accumulation = 5;
  check_stages(setup, {1, 2, 3});
}

TEST_CASE("fewer passes than stages, and one: the bits of one process") {
  rank_setup<pipeline_config(head_kind::sequential, 2)> setup;
  for (const index_t passes : {1, 2}) {
    setup.options.accumulation = passes;
    check_stages(setup, {3});
  }
}

TEST_CASE("tied embeddings in stages: the bits of one process") {
  rank_setup<pipeline_config(head_kind::sequential, 2, true)> setup;
  setup.options.accumulation = 5;
  check_stages(setup, {2, 3});
}

// Both orders add 2 K numbers, each with a rounding error of at most (2 K - 1) u times the sum of
// their absolute values (Higham 2002, section 4.2), which may be a thousand times the result.
TEST_CASE(
    "the embedding's gradient in the engine's order: one sum from the head, within rounding") {
  constexpr model_config config = pipeline_config(head_kind::sequential, 1, true);
  constexpr index_t passes = 4;
  rank_setup<config> setup;
  setup.options.accumulation = passes;
  setup.options.clip_norm = 0;  // so that first moments are those of the gradients
  const auto expected = train_alone<config, double>(setup, 1);
  double largest = 0;
  for (const double moment : expected.first) largest = (std::max)(largest, std::abs(moment));
  const double tolerance =
      2 * (2 * passes - 1) * 0.5 * std::numeric_limits<double>::epsilon() * 1000 * largest;
  const auto embedding =
      static_cast<std::size_t>(language_model<config, cpu, double>::layout.trunk.embedding.storage);
  setup.options.reduction = reduction_order::engine;
  for (const head_placement placement : placements) {
    const auto result = train_in_stages<config, double>(3, placement, setup, 1);
    for (std::size_t i = 0; i < result.first.size(); ++i) {
      if (i < embedding) {
        CHECK(std::abs(result.first[i] - expected.first[i]) <= tolerance);
      } else {
        CHECK(result.first[i] == expected.first[i]);
      }
    }
  }
  setup.options.accumulation = 1;  // there is but one order
  check_stages<config, double>(setup, {3}, 2);
}

}  // namespace mtp::test::train_pipeline_sequential_cases

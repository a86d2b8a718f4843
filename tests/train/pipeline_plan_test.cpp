// What a pipeline costs, by hand.
#include <doctest/doctest.h>

#include <algorithm>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/error.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/train/pipeline_plan.hpp"

namespace mtp::test::train_pipeline_plan_cases {

namespace {

constexpr model_config config_of(int layers, int depth) {
  return {
      .vocab_size = 64,
      .hidden_size = 32,
      .num_hidden_layers = layers,
      .max_position_embeddings = 64,
      .attention = {.num_attention_heads = 4, .num_key_value_heads = 4},
      .feed_forward = {.intermediate_size = 64},
      .prediction = {.kind = depth > 0 ? head_kind::sequential : head_kind::none, .depth = depth}};
}

constexpr pipeline_options options_of(head_placement placement, index_t passes) {
  return {.placement = placement, .batch = 2, .length = 8, .passes = passes};
}

}  // namespace

TEST_CASE("operations: six for each weight and row, and attention") {
  constexpr pipeline_plan<config_of(4, 1), cpu> plan(2, options_of(head_placement::own_stage, 4));
  // Attention 4 C C, SwiGLU 3 C F; queries and values are C wide each, and see 4 positions.
  constexpr double block = 16 * (6 * (4 * 32 * 32 + 3 * 32 * 64) + 6 * 4 * (2 * 32));
  constexpr double head = 16 * 6 * (2 * 64 * 32 + 2 * 32 * 32) + block;
  static_assert(plan.cost(0).flops == 4 * block);
  static_assert(plan.cost(1).flops == head);
  CHECK(plan.slowest() == 4 * block);
  // (4 + head/block) / 2 of the slowest's 4, in 4 of 5 slots.
  CHECK(plan.bubble() == doctest::Approx(1 - 4.0 / 5 * (4 * block + head) / 2 / (4 * block)));
}

TEST_CASE("equal stages wait for (P - 1) / (K + P - 1) of a step") {
  constexpr model_config config = config_of(3, 0);
  constexpr pipeline_plan<config, cpu> plan(3, options_of(head_placement::last_stage, 6));
  double mean = 0;
  for (int rank = 0; rank < 3; ++rank) mean += plan.cost(rank).flops / 3;
  CHECK(plan.bubble() == doctest::Approx(1 - 6.0 / 8 * mean / plan.slowest()));
  constexpr pipeline_plan<config, cpu> alone(1, options_of(head_placement::last_stage, 6));
  CHECK(alone.bubble() == doctest::Approx(0));
}

TEST_CASE("blocks are distributed so that the slowest rank has as little as possible") {
  constexpr model_config config = config_of(8, 1);
  for (const auto placement :
       {head_placement::last_stage, head_placement::own_stage, head_placement::first_stage}) {
    for (int ranks = 1; ranks <= 5; ++ranks) {
      CAPTURE(static_cast<int>(placement));
      CAPTURE(ranks);
      const pipeline_plan<config, cpu> plan(ranks, options_of(placement, 4));
      int next = 0;
      double slowest = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const pipeline_stage stage = plan.stage(rank);
        CHECK(stage.first == next);
        next = stage.last;
        CHECK(stage.embeds == (rank == 0));
        CHECK(stage.predicts == (rank == plan.schedule().head_rank()));
        slowest = (std::max)(slowest, plan.cost(rank).flops);
      }
      CHECK(next == 8);
      CHECK(plan.slowest() == slowest);
      // The head is about 1.3 blocks: no other way to cut makes the slowest faster.
      const double block = plan.stage(0).predicts
                               ? 0
                               : plan.cost(0).flops / (plan.stage(0).last - plan.stage(0).first);
      if (placement == head_placement::own_stage && ranks > 1) {
        CHECK(slowest == doctest::Approx(block * ((8 + ranks - 2) / (ranks - 1))));
      }
    }
  }
}

TEST_CASE("memory: what stages own adds up to the model") {
  constexpr model_config config = config_of(4, 1);
  using model_type = language_model<config, cpu>;
  for (const auto placement :
       {head_placement::last_stage, head_placement::own_stage, head_placement::first_stage}) {
    CAPTURE(static_cast<int>(placement));
    const pipeline_plan<config, cpu> plan(3, options_of(placement, 4));
    index_t parameters = 0, moments = 0;
    for (int rank = 0; rank < 3; ++rank) {
      parameters += plan.cost(rank).parameters;
      moments += plan.cost(rank).optimizer;
    }
    const index_t storage = model_type::layout.storage, embedding = 64 * 32;
    const bool copies = placement != head_placement::first_stage;
    CHECK(moments == 8 * storage);
    CHECK(parameters == 4 * (storage + (copies ? embedding : 0)));
  }
}

TEST_CASE("a rank without a block, and sizes that are not, are refused") {
  using plan = pipeline_plan<config_of(2, 0), cpu>;
  CHECK_THROWS_AS(plan(3), error);
  CHECK_THROWS_AS(plan(0), error);
  CHECK_THROWS_AS(plan(4, {.placement = head_placement::own_stage}), error);
  CHECK_NOTHROW(plan(3, {.placement = head_placement::own_stage}));
  CHECK_THROWS_AS(plan(2, {.passes = 0}), error);
}

}  // namespace mtp::test::train_pipeline_plan_cases

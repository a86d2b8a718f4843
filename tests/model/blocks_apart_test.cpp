// Blocks of parallel heads that run at the same time, each on one thread.
#include "mtp/model/blocks_apart.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "support/speaker.hpp"

namespace mtp::test::model_blocks_apart_cases {

namespace {

/// As wide as the blocks of the model of examples/train_and_generate.
constexpr model_config wide_config(int depth) {
  return {.vocab_size = 256,
          .hidden_size = 128,
          .num_hidden_layers = 2,
          .max_position_embeddings = 96,
          .attention = {.num_attention_heads = 2, .num_key_value_heads = 1},
          .feed_forward = {.intermediate_size = 352},
          .prediction = {.kind = head_kind::parallel, .depth = depth}};
}

template <model_config Config>
language_model<Config, cpu> noisy_model(cpu_context& context) {
  language_model<Config, cpu> model(context, seed{3});
  add_noise(model, 0.3);
  return model;
}

/// Everything that a sequence gives on its way: drafts and logits.
struct record_of_threads {
  std::vector<token_t> drafts;
  std::vector<float> logits;
};

/// Drafts of changing depths, of which any number is accepted: the depths do not always have the
/// same rows to run.
template <model_config Config>
record_of_threads walk(int threads) {
  cpu_context context({.threads = threads});
  const auto model = noisy_model<Config>(context);
  speaker<Config> sequence(context, model);
  dice random(5);
  record_of_threads seen;
  sequence.begin(random_tokens(30, Config.vocab_size, 2), 64);
  while (sequence.count + 2 * sequence.D + 1 <= sequence.P) {
    const index_t depth = 1 + random.below(sequence.D);
    const auto drafts = sequence.drafts(depth);
    seen.drafts.insert(seen.drafts.end(), drafts.begin(), drafts.end());
    const auto logits = sequence.step(depth);
    seen.logits.insert(seen.logits.end(), logits.begin(), logits.end());
    sequence.accept(random.below(depth + 1), random.token(Config.vocab_size));
  }
  return seen;
}

template <model_config Config>
void check_threads() {
  const auto expected = walk<Config>(1);
  CHECK(expected.drafts.size() > 20);
  for (const int threads : {2, 3, 4, 7}) {
    INFO(threads, " threads, depth ", Config.prediction.depth);
    const auto seen = walk<Config>(threads);
    CHECK(same_bits(seen.drafts, expected.drafts));
    CHECK(same_bits(seen.logits, expected.logits));
  }
}

/// How often threads wait for each other in a draft that runs one row of each depth.
template <model_config Config>
std::uint32_t waits_of_a_draft(int threads) {
  cpu_context context({.threads = threads});
  const auto model = noisy_model<Config>(context);
  speaker<Config> sequence(context, model);
  sequence.begin(random_tokens(30, Config.vocab_size, 2), 64);
  sequence.drafts();
  sequence.step(0);
  sequence.accept(0, 1);
  const std::uint32_t before = context.shared_runs();
  sequence.drafts();
  return context.shared_runs() - before;
}

}  // namespace

TEST_CASE("as many blocks as threads run at the same time unless threads would be idle for long") {
  constexpr double s = block_sharing_work;
  CHECK(blocks_at_a_time(3, 1e12, 2) == 2);  // no thread is idle
  CHECK(blocks_at_a_time(2, 1e12, 2) == 2);
  CHECK(blocks_at_a_time(1, 0, 2) == 1);
  CHECK(blocks_at_a_time(3, 1e12, 1) == 1);
  CHECK(blocks_at_a_time(0, 0, 4) == 1);
  CHECK(blocks_at_a_time(3, 12 * s, 4) == 3);  // w (4 - 3) against 4 3 s
  CHECK(blocks_at_a_time(3, 12.5 * s, 4) == 1);
  CHECK(blocks_at_a_time(2, 2.6 * s, 8) == 2);  // w (8 - 2) against 8 2 s
  CHECK(blocks_at_a_time(2, 2.7 * s, 8) == 1);
}

TEST_CASE("drafts of parallel heads have the same bits on any number of threads") {
  check_threads<spoken_config(head_kind::parallel, 3, 96)>();
  check_threads<flipped_spoken_config(head_kind::parallel, 4, 96)>();
  check_threads<wide_config(3)>();
}

TEST_CASE("threads wait once for each group of parallel heads' blocks") {
  // Products of so small a model are not shared: what is counted are groups of blocks.
  constexpr auto small = spoken_config(head_kind::parallel, 3);
  CHECK(waits_of_a_draft<small>(1) == 0);
  CHECK(waits_of_a_draft<small>(2) == 1);  // two blocks, then one alone
  CHECK(waits_of_a_draft<small>(3) == 1);
  CHECK(waits_of_a_draft<small>(6) == 1);
  CHECK(waits_of_a_draft<spoken_config(head_kind::parallel, 4)>(2) == 2);
  // Three products of a block are shared, and that with the output matrix: 10 without groups.
  CHECK(waits_of_a_draft<wide_config(3)>(2) == 1 + 3 + 1);
  CHECK(waits_of_a_draft<wide_config(3)>(3) == 1 + 1);
}

}  // namespace mtp::test::model_blocks_apart_cases

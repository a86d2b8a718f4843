// Many sequences on a GPU: cycles are submitted before the ones in front of them are read, while
// requests come and go, and each gets what it would get alone.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "mtp/decode/batch_generator.hpp"
#include "mtp/decode/generate.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"

namespace mtp::test::decode_batch_generator_cases {
namespace {

using options_type = generate_options<float, cuda>;

struct ordered {
  std::vector<token_t> prompt;
  options_type options;
};

/// Short and longer ones, greedy and drawn, with stop tokens, some plain.
std::vector<ordered> orders() {
  std::vector<ordered> all(6);
  const random_stream random(seed{3}, 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t n = 0; n < 1 + 3 * (i % 4); ++n) {
      all[i].prompt.push_back(static_cast<token_t>(random.below(100 * i + n, 13)));
    }
    options_type& options = all[i].options;
    options.max_new_tokens = static_cast<index_t>(4 + 3 * i);
    options.log_probabilities = i % 2 == 0;
    options.mode = i == 4 ? decode_mode::plain : decode_mode::speculative;
    options.num_draft_tokens = i == 5 ? 1 : -1;
    if (i % 3 != 0) {
      options.sampling = {.temperature = 0.9, .top_k = 9, .seed = seed{i}};
      options.min_new_tokens = 2;
      options.stop_tokens = {5};
    }
  }
  return all;
}

template <model_config Config>
void check_together() {
  CAPTURE(std::string(name_of(Config.prediction.kind)));
  cuda_context context;
  language_model<Config, cuda> model(context, seed{5});
  generator<Config, cuda> alone(context, model);
  batch_generator<Config, cuda> batch(context, model, 2);
  const std::vector<ordered> all = orders();
  for (int round = 0; round < 2; ++round) {  // the second replays what the first has recorded
    std::vector<index_t> numbers;
    for (std::size_t i = 0; i < all.size(); ++i) {
      numbers.push_back(batch.submit(all[i].prompt, all[i].options));
      batch.run_cycle();
    }
    const auto cancelled = batch.submit(all[1].prompt, all[5].options);
    batch.run_cycle();
    batch.cancel(cancelled);
    batch.run();
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(i);
      const auto expected = alone.generate(all[i].prompt, all[i].options);
      const auto result = batch.take(numbers[i]);
      CHECK(same_bits(result.tokens, expected.tokens));
      CHECK(same_bits(result.log_probabilities, expected.log_probabilities));
      CHECK(result.end == expected.end);
    }
    CHECK(batch.take(cancelled).end == end_reason::cancelled);
  }
}

}  // namespace

TEST_CASE("each of many sequences on a GPU gets what it would get alone") {
  check_together<tiny_config(head_kind::sequential, 2)>();
  check_together<flipped_config(head_kind::parallel, 2)>();
}

}  // namespace mtp::test::decode_batch_generator_cases

namespace mtp::test::cuda_batch_generator_cases {

namespace {

constexpr model_config config = [] {
  model_config made = tiny_config(head_kind::sequential, 2);
  made.max_position_embeddings = 80;
  return made;
}();
using batch_type = batch_generator<config, cuda>;

std::vector<token_t> some_tokens(index_t count) {
  const random_stream random(seed{51}, static_cast<std::uint64_t>(count));
  std::vector<token_t> tokens;
  for (index_t i = 0; i < count; ++i) {
    tokens.push_back(
        static_cast<token_t>(random.below(static_cast<std::uint64_t>(i), config.vocab_size)));
  }
  return tokens;
}

}  // namespace

TEST_CASE("on a GPU each of many sequences gets what it would get alone, and after a restart") {
  context<cuda> context;
  const language_model<config, cuda> model(context, seed{5});
  // More rows of a prompt than have the bits of decoded ones.
  const std::vector<std::vector<token_t>> prompts{some_tokens(68), some_tokens(3)};
  generate_options<float, cuda> options{.max_new_tokens = 9, .log_probabilities = true};
  options.sampling = {.temperature = 1, .frequency_penalty = 0.4, .seed = seed{8}};
  std::vector<batch_type::generation_type> alone;
  generator<config, cuda> one(context, model);
  for (const auto& prompt : prompts) {
    alone.push_back(one.generate(prompt, options));
  }
  for (const index_t cycles : {0, 4}) {
    CAPTURE(cycles);
    batch_type first(context, model, 2), second(context, model, 1);
    for (const auto& prompt : prompts) {
      first.submit(prompt, options);
    }
    for (index_t i = 0; i < cycles; ++i) {
      first.run_cycle();
    }
    CHECK((cycles == 0 || first.result(0).tokens.size() > 1));
    second.restore(first.snapshot());
    first.run();
    second.run();
    for (index_t i = 0; i < 2; ++i) {
      const auto& expected = alone[static_cast<std::size_t>(i)];
      for (batch_type* batch : {&first, &second}) {
        CHECK(batch->result(i).tokens == expected.tokens);
        CHECK(same_bits(batch->result(i).log_probabilities, expected.log_probabilities));
      }
    }
  }
}

}  // namespace mtp::test::cuda_batch_generator_cases

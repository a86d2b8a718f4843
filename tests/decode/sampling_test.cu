// Sampling on a GPU: drafts change nothing, and a recorded cycle serves whatever options come.
#include <doctest/doctest.h>

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "mtp/decode/batch_generator.hpp"
#include "mtp/decode/generate.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"

namespace mtp::test::decode_sampling_cases {
namespace {

using options_type = generate_options<float, cuda>;

/// What a generator writes.
struct written {
  std::vector<token_t> tokens;
  std::vector<double> log_probabilities;
  std::vector<float> logits;
};

template <class Generator>
written write(Generator& generator,
              const std::vector<token_t>& prompt,
              options_type options,
              index_t V) {
  written made;
  std::vector<float> row(static_cast<std::size_t>(V));
  options.on_logits = [&](index_t, vector_view<const float, cuda> logits) {
    generator.download(row, logits);
    made.logits.insert(made.logits.end(), row.begin(), row.end());
  };
  const auto& result = generator.generate(prompt, options);
  made.tokens = result.tokens;
  made.log_probabilities = result.log_probabilities;
  return made;
}

std::vector<options_type> some_options() {
  const sampling_options all{
      .temperature = 1.1,
      .top_k = 12,
      .top_p = 0.95,
      .min_p = 0.01,
      .repetition_penalty = 1.2,
      .frequency_penalty = 0.3,
      .presence_penalty = 0.2,
      .logit_bias = {{3, 0.5f}, {4, -std::numeric_limits<float>::infinity()}},
      .seed = seed{7}};
  std::vector<options_type> options(4);
  options[0].sampling = {.temperature = 1, .seed = seed{5}};
  options[1].sampling = all;
  options[1].min_new_tokens = 8;
  options[1].stop_tokens = {2, 6};
  options[2].sampling = {.frequency_penalty = 0.4};  // without noise
  for (options_type& each : options) {
    each.max_new_tokens = 11;
    each.log_probabilities = true;
  }
  return options;
}

template <model_config Config>
void check_text() {
  CAPTURE(std::string(name_of(Config.prediction.kind)));
  constexpr index_t V = Config.vocab_size;
  cuda_context context;
  language_model<Config, cuda> model(context, seed{5});
  generator<Config, cuda> generator(context, model);
  const std::vector<token_t> prompt{1, 7, 3, 3, 12};
  for (int round = 0; round < 2; ++round) {  // the second replays what the first has recorded
    for (options_type options : some_options()) {
      options.mode = decode_mode::plain;
      const written plain = write(generator, prompt, options, V);
      options.mode = decode_mode::speculative;
      const written text = write(generator, prompt, options, V);
      options.sampling.drafts = draft_choice::most_likely;
      const written likely = write(generator, prompt, options, V);
      REQUIRE(plain.tokens.size() > 7);
      CHECK(same_bits(text.tokens, plain.tokens));
      CHECK(same_bits(text.logits, plain.logits));
      CHECK(same_bits(text.log_probabilities, plain.log_probabilities));
      CHECK(same_bits(likely.tokens, plain.tokens));
      // Without the host in between.
      CHECK(same_bits(generator.generate(prompt, options).tokens, plain.tokens));
    }
  }
}

}  // namespace

TEST_CASE(
    "text verified by rejection is the same with the host in between, replayed, and together") {
  constexpr auto config = tiny_config(head_kind::sequential, 2);
  constexpr index_t V = config.vocab_size;
  cuda_context context;
  language_model<config, cuda> model(context, seed{5});
  generator<config, cuda> generator(context, model);
  batch_generator<config, cuda> batch(context, model, 2);
  std::vector<std::vector<token_t>> expected;
  for (const std::vector<token_t>& prompt :
       {std::vector<token_t>{1, 7, 3, 3, 12}, std::vector<token_t>{9}}) {
    for (options_type options : some_options()) {
      options.sampling.verification = draft_verification::rejection;
      const written one = write(generator, prompt, options, V);
      REQUIRE(one.tokens.size() > 7);
      const auto& again = generator.generate(prompt, options);
      CHECK(same_bits(again.tokens, one.tokens));
      CHECK(same_bits(again.log_probabilities, one.log_probabilities));
      CHECK((options.sampling.temperature == 0 || again.accepted[0] + again.accepted[1] > 0));
      CHECK(same_bits(generator.generate(prompt, options).tokens, one.tokens));
      batch.submit(prompt, options);
      expected.push_back(one.tokens);
    }
  }
  batch.run();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(same_bits(batch.take(static_cast<index_t>(i)).tokens, expected[i]));
  }
}

TEST_CASE("sampled text of sequential drafts is that of plain decoding") {
  check_text<tiny_config(head_kind::sequential, 2)>();
}

TEST_CASE("sampled text of parallel drafts is that of plain decoding") {
  check_text<flipped_config(head_kind::parallel, 2)>();
}

}  // namespace mtp::test::decode_sampling_cases

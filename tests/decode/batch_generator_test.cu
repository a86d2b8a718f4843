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

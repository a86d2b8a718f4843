// Beginnings that caches hold already: what is written is what would be written from the beginning.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_prefix_cases {

namespace {

using tokens_type = std::vector<token_t>;

tokens_type joined(tokens_type front, const tokens_type& back) {
  front.insert(front.end(), back.begin(), back.end());
  return front;
}

template <model_config Config, class S = float>
void check_conversation() {
  INFO(std::string(name_of(Config.prediction.kind)));
  constexpr int V = Config.vocab_size;
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  add_noise(model, 0.4);
  generator<Config, cpu, S> talking(context, model), fresh(context, model);
  // Each prompt goes on from the text before it, from a part of it, or begins otherwise.
  tokens_type text = random_tokens(70, V, 1);
  std::uint64_t stream = 2;
  for (const int most : {1000, 1000, 30, 1000, 3, 1000, 0, 1000, 1}) {
    const auto kept = static_cast<std::size_t>(most);
    for (const auto mode : {decode_mode::speculative, decode_mode::plain}) {
      tokens_type prompt(text.begin(),
                         text.begin() + static_cast<std::ptrdiff_t>(std::min(kept, text.size())));
      // Some are known to the last token.
      const index_t more = most == 3 || most == 1 ? 0 : 4;
      prompt = joined(prompt, random_tokens(more, V, stream++));
      CAPTURE(prompt.size());
      auto options = options_of<S>(mode, 13);
      options.log_probabilities = true;
      options.reuse_prefix = true;
      if (stream % 3 == 0) {
        options.schedule = draft_schedule::adaptive;
      }
      const auto reused = record(talking, prompt, options);
      options.reuse_prefix = false;
      options.schedule = draft_schedule::constant;
      const auto expected = record(fresh, prompt, options);
      CHECK(same_text(reused, expected));
      if (stream % 3 != 0) {
        CHECK(reused.result.accepted == expected.result.accepted);
      }
      if (kept == 1000 && stream > 4) {
        // All but the new tokens, and what the head has not seen of a turn that was written
        // plainly.
        const index_t unseen = 4 + 14 + 13 + 4 + 2 * Config.prediction.depth;
        CHECK(reused.result.reused >= static_cast<index_t>(prompt.size()) - unseen);
      }
      CHECK(expected.result.reused == 0);
      text = joined(prompt, reused.tokens());
      if (text.size() > 110) {
        text.resize(60);
      }
    }
  }
}

template <model_config Config>
void check_shared() {
  INFO(std::string(name_of(Config.prediction.kind)));
  constexpr int V = Config.vocab_size;
  cpu_context context({.threads = 1});
  language_model<Config, cpu> model(context, seed{3});
  add_noise(model, 0.4);
  generator<Config, cpu> alone(context, model);
  batch_generator<Config, cpu> batch(context, model, 3);
  const auto common = random_tokens(80, V, 1);
  std::vector<tokens_type> prompts;
  for (std::uint64_t i = 0; i < 7; ++i) {
    prompts.push_back(joined(common, random_tokens(1 + static_cast<index_t>(i), V, 10 + i)));
  }
  prompts.push_back(random_tokens(9, V, 50));
  auto options = options_of<float>(decode_mode::speculative, 15);
  options.reuse_prefix = true;
  const auto first = batch.submit(prompts[0], options);
  while (batch.state(first) != request_state::writing) {
    batch.run_cycle();
  }
  for (std::size_t i = 1; i < prompts.size(); ++i) {
    batch.submit(prompts[i], options);
  }
  batch.run();
  options.reuse_prefix = false;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    CAPTURE(i);
    const auto result = batch.take(static_cast<index_t>(i));
    const auto& expected = alone.generate(prompts[i], options);
    CHECK(result.tokens == expected.tokens);
    CHECK(result.accepted == expected.accepted);
    const index_t most = i == 0 || i == 7 ? 0 : 80;
    CHECK(result.reused <= most + 2);  // two random tokens may be equal
    CHECK(result.reused >= most - Config.prediction.depth - 1);
  }
}

}  // namespace

TEST_CASE("a conversation goes on from what the caches hold") {
  check_conversation<spoken_config(head_kind::none, 0)>();
  check_conversation<spoken_config(head_kind::sequential, 3)>();
  check_conversation<flipped_spoken_config(head_kind::parallel, 2)>();
  check_conversation<spoken_config(head_kind::independent, 2)>();
}

TEST_CASE("a beginning that many requests share is run once") {
  check_shared<spoken_config(head_kind::sequential, 3)>();
  check_shared<flipped_spoken_config(head_kind::parallel, 2)>();
}

}  // namespace mtp::test::decode_prefix_cases

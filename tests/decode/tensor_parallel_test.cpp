// Decoding with a model that ranks have parts of: drafts change neither text nor logits, and all
// ranks write the same.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "mtp/decode/score.hpp"
#include "mtp/model/divide.hpp"
#include "support/decoding.hpp"
#include "support/promises.hpp"
#include "support/tensor_ranks.hpp"

namespace mtp::test::decode_tensor_parallel_cases {

namespace {

constexpr model_config spoken(head_kind head, int depth) {
  model_config config = flipped_spoken_config(head, depth);
  config.vocab_size = 22;
  config.feed_forward.intermediate_size = 14;
  return config;
}

/// A model whose drafts are sometimes right.
template <model_config Config>
language_model<Config, cpu, double> noisy_model(cpu_context& context) {
  language_model<Config, cpu, double> model(context, seed{1});
  make_perfect(model);
  add_noise(model, 0.05);
  add_head_noise(model, 0.2, 50);
  return model;
}

struct written {
  std::vector<token_t> tokens;
  std::vector<double> logits;
  index_t accepted = 0;
};

template <model_config Config>
written write(cpu_context& context,
              const language_model<Config, cpu, double>& model,
              const generate_options<double, cpu>& options) {
  generator<Config, cpu, double> generator(context, model);
  const auto made = record(generator, random_tokens(9, Config.vocab_size, 3), options);
  index_t accepted = 0;
  for (std::size_t k = 0; k < static_cast<std::size_t>(Config.prediction.depth); ++k) {
    accepted += made.result.acceptance(k) > 0 ? 1 : 0;
  }
  return {made.tokens(), made.logits, accepted};
}

/// Texts and logits of 2 ranks, plain and with drafts of several kinds.
template <model_config Config>
void check_decoding(const std::vector<generate_options<double, cpu>>& all_options) {
  constexpr model_config divided = tensor_parallel(Config, 2);
  cpu_context alone({.threads = 1});
  const auto whole = noisy_model<Config>(alone);
  for (auto options : all_options) {
    options.max_new_tokens = 40;
    options.mode = decode_mode::plain;
    const written expected = write<Config>(alone, whole, options);
    std::vector<written> plain(2), drafted(2);
    on_ranks(2, [&](cpu_context& context, int rank) {
      language_model<divided, cpu, double> model(context, seed{1});
      divide_parameters(model, whole, *context.ranks());
      const auto at = static_cast<std::size_t>(rank);
      auto own = options;
      plain[at] = write<divided>(context, model, own);
      own.mode = decode_mode::speculative;
      drafted[at] = write<divided>(context, model, own);
    });
    CHECK(drafted[0].accepted > 0);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      CHECK(plain[rank].tokens == plain[0].tokens);
      CHECK(drafted[rank].tokens == plain[0].tokens);
      CHECK(same_bits(plain[rank].logits, plain[0].logits));
      CHECK(same_bits(drafted[rank].logits, plain[0].logits));
    }
    // Sums in another order: no promise, but in f64 far from changing this text.
    CHECK(plain[0].tokens == expected.tokens);
    CHECK(within(
        plain[0].logits, expected.logits, std::vector<double>(expected.logits.size(), 1e-10)));
  }
}

std::vector<generate_options<double, cpu>> greedy() {
  return std::vector<generate_options<double, cpu>>(1);
}

std::vector<generate_options<double, cpu>> greedy_adaptive_and_drawn() {
  std::vector<generate_options<double, cpu>> all(3);
  all[1].schedule = draft_schedule::adaptive;
  all[2].sampling.temperature = 0.9;
  all[2].sampling.top_k = 5;
  return all;
}

}  // namespace

TEST_CASE("sequential drafts on 2 ranks change neither text nor logits") {
  check_decoding<spoken(head_kind::sequential, 2)>(greedy_adaptive_and_drawn());
}

TEST_CASE("parallel drafts on 2 ranks change neither text nor logits") {
  check_decoding<spoken(head_kind::parallel, 2)>(greedy());
}

TEST_CASE("independent drafts on 2 ranks change neither text nor logits") {
  check_decoding<spoken(head_kind::independent, 2)>(greedy());
}

TEST_CASE("2 ranks score a text alike, and as one process does") {
  constexpr auto config = spoken(head_kind::sequential, 1);
  constexpr model_config divided = tensor_parallel(config, 2);
  cpu_context alone({.threads = 1});
  const auto whole = noisy_model<config>(alone);
  const auto text = random_tokens(30, config.vocab_size, 4);
  scorer<config, cpu, double> single(alone, whole);
  // What stands in front of the first token is nothing.
  const auto behind_the_first = [](const std::vector<double>& scores) {
    return std::vector<double>(scores.begin() + 1, scores.end());
  };
  const auto expected = behind_the_first(single.score(text, {}).log_probabilities);
  const auto all = from_ranks<std::vector<double>>(2, [&](cpu_context& context, int) {
    language_model<divided, cpu, double> model(context, seed{1});
    divide_parameters(model, whole, *context.ranks());
    scorer<divided, cpu, double> own(context, model);
    return behind_the_first(own.score(text, {}).log_probabilities);
  });
  CHECK(same_bits(all[1], all[0]));
  CHECK(within(all[0], expected, std::vector<double>(expected.size(), 1e-10)));
}

TEST_CASE("a decoder of a part needs a context that has joined the ranks") {
  constexpr model_config divided = tensor_parallel(spoken(head_kind::none, 0), 2);
  on_ranks(2, [&](cpu_context& context, int) {
    const language_model<divided, cpu> model(context, seed{1});
    cpu_context alone({.threads = 1});
    CHECK(rejects("decoder", [&] { decoder<divided, cpu>(alone, model); }));
  });
}

}  // namespace mtp::test::decode_tensor_parallel_cases

// Masks: a grammar is kept, with drafts as without, and is shown the text that is emitted.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_mask_cases {

namespace {

using tokens_type = std::vector<token_t>;
using options_type = generate_options<float, cpu>;
constexpr int V = 19;
constexpr float forbidden = -std::numeric_limits<float>::infinity();

/// Tokens fall, step by step, until none below is left; then any may come. A function of the text.
void falling(std::span<const token_t> text, std::span<float> bias) {
  const auto last = static_cast<std::size_t>(text.back());
  for (std::size_t v = last; last > 0 && v < bias.size(); ++v) {
    bias[v] = forbidden;
  }
}
bool falls(const tokens_type& prompt, const tokens_type& tokens) {
  token_t last = prompt.back();
  for (const token_t token : tokens) {
    if (last > 0 && token >= last) {
      return false;
    }
    last = token;
  }
  return true;
}

std::vector<sampling_options> some_options() {
  std::vector<sampling_options> all(4);
  all[1] = {.temperature = 1, .top_k = 6, .seed = seed{4}};
  all[2] = {.temperature = 0.8, .frequency_penalty = 0.4, .seed = seed{5}};
  all[3] = {.temperature = 1, .logit_bias = {{0, -2.0f}}, .seed = seed{6}};
  all[3].drafts = draft_choice::most_likely;
  for (auto& each : all) {
    each.mask = falling;
  }
  return all;
}

template <model_config Config>
void check_grammar() {
  INFO(std::string(name_of(Config.prediction.kind)));
  cpu_context context({.threads = 2});
  language_model<Config, cpu> model(context, seed{3});
  add_noise(model, 0.5);
  generator<Config, cpu> writer(context, model);
  const auto prompt = random_tokens(6, V, 2);
  for (const sampling_options& sampling : some_options()) {
    auto options = options_of<float>(decode_mode::plain, 60);
    options.sampling = sampling;
    const auto plain = record(writer, prompt, options);
    CHECK(falls(prompt, plain.tokens()));
    options.mode = decode_mode::speculative;
    // What the mask is shown: every text that a token of the result was chosen behind.
    std::set<tokens_type> shown;
    options.sampling.mask = [&](std::span<const token_t> text, std::span<float> bias) {
      shown.emplace(text.begin(), text.end());
      CHECK(bias.size() == V);
      CHECK(bias[0] == (sampling.logit_bias.empty() ? 0.0f : -2.0f));
      falling(text, bias);
    };
    const auto text = record(writer, prompt, options);
    CHECK(same_text(text, plain));
    tokens_type front = prompt;
    for (const token_t token : text.tokens()) {
      CHECK(shown.count(front) == 1);
      front.push_back(token);
    }
    if (sampling.drafts == draft_choice::shared_noise) {
      CHECK(text.result.accepted[0] > 0);
    }
    // The mask of one call is forgotten in the next.
    options.sampling.mask = {};
    const auto free = record(writer, prompt, options);
    CHECK_FALSE(falls(prompt, free.tokens()));
  }
}

}  // namespace

TEST_CASE("a grammar is kept, and drafts change nothing") {
  check_grammar<spoken_config(head_kind::sequential, 3)>();
  check_grammar<flipped_spoken_config(head_kind::parallel, 2)>();
  check_grammar<spoken_config(head_kind::independent, 2)>();
}

TEST_CASE("sequences of a batch have masks of their own") {
  constexpr auto config = spoken_config(head_kind::sequential, 3);
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{3});
  add_noise(model, 0.5);
  generator<config, cpu> alone(context, model);
  batch_generator<config, cpu> batch(context, model, 3);
  const auto prompt = random_tokens(6, V, 2);
  std::vector<options_type> options(4, options_of<float>(decode_mode::speculative, 40));
  options[1].sampling.mask = falling;
  options[2].sampling.mask = [](std::span<const token_t> text, std::span<float> bias) {
    bias[static_cast<std::size_t>(text.back())] = forbidden;
  };
  options[3].sampling = {.temperature = 1, .mask = falling, .seed = seed{8}};
  for (const auto& each : options) {
    batch.submit(prompt, each);
  }
  batch.run();
  for (index_t i = 0; i < 4; ++i) {
    CHECK(batch.take(i).tokens ==
          alone.generate(prompt, options[static_cast<std::size_t>(i)]).tokens);
  }
}

TEST_CASE("a mask that forbids everything ends with an error that says where") {
  constexpr auto config = spoken_config(head_kind::sequential, 3);
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{3});
  generator<config, cpu> writer(context, model);
  auto options = options_of<float>(decode_mode::speculative, 40);
  options.sampling.mask = [](std::span<const token_t> text, std::span<float> bias) {
    if (text.size() >= 9) {
      std::fill(bias.begin(), bias.end(), forbidden);
    }
  };
  CHECK_THROWS_WITH_AS(writer.generate(random_tokens(6, V, 2), options),
                       "generate: no token can be chosen at position 9: every logit is NaN, or its "
                       "token is forbidden",
                       error);
  options.sampling.mask = {};
  CHECK(writer.generate(random_tokens(6, V, 2), options).tokens.size() == 40);
}

}  // namespace mtp::test::decode_mask_cases

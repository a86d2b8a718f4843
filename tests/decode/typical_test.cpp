// Typical acceptance: every token is typical of the model, or its most likely one. The text is
// another one than that of plain decoding, except where no draft can be typical.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_typical_cases {

namespace {

using tokens_type = std::vector<token_t>;
using options_type = generate_options<float, cpu>;
constexpr int P = 96, V = 19;
constexpr auto sequential = spoken_config(head_kind::sequential, 3, P);
constexpr auto parallel = spoken_config(head_kind::parallel, 3, P);

template <model_config Config>
struct writer : noisy_writer<Config> {
  explicit writer(double head_noise = 0.5) : noisy_writer<Config>(0.4, head_noise) {}
};

const tokens_type usual_prompt = random_tokens(11, V, 4);
const auto small_tree = draft_tree::of_widths({3, 2, 1});

/// Whether a token is typical of a row of logits, in double.
bool is_typical(const float* row, token_t token, const typical_acceptance& acceptance) {
  double largest = row[0], sum = 0, entropy = 0;
  for (int v = 0; v < V; ++v) {
    largest = std::max(largest, static_cast<double>(row[v]));
  }
  std::vector<double> p;
  for (int v = 0; v < V; ++v) {
    p.push_back(std::exp((row[v] - largest) / acceptance.temperature));
    sum += p.back();
  }
  for (double& each : p) {
    each /= sum;
    entropy -= each * std::log(each);
  }
  return p[static_cast<std::size_t>(token)] >
         std::min(acceptance.epsilon, acceptance.delta * std::exp(-entropy));
}

template <model_config Config>
void check_each_token(writer<Config>& w, const draft_tree& tree) {
  options_type options{.tree = tree, .max_new_tokens = 80};
  index_t others = 0, most_likely = 0;
  for (const typical_acceptance& acceptance :
       {typical_acceptance{},
        typical_acceptance{.epsilon = 0.5, .delta = 0.9, .temperature = 20},
        typical_acceptance{.epsilon = 0.01, .delta = 0.1, .temperature = 30}}) {
    options.lossy_acceptance = acceptance;
    std::vector<bool> drafted;
    options.on_token = [&](const written_token& token) {
      drafted.push_back(token.drafted);
      return true;
    };
    const auto text = record(w.generator, usual_prompt, options);
    REQUIRE(text.tokens().size() == 80);
    for (std::size_t i = 0; i < text.tokens().size(); ++i) {
      const float* const row = text.logits.data() + i * V;
      const token_t token = text.tokens()[i];
      const bool is_likeliest = token == std::max_element(row, row + V) - row;
      CHECK((is_likeliest || (drafted[i] && is_typical(row, token, acceptance))));
      others += is_likeliest ? 0 : 1;
      most_likely += is_likeliest ? 1 : 0;
    }
    CHECK((text.result.tree_cycles > 0) == tree.exists());
  }
  CHECK(others > 5);
  CHECK(most_likely > 20);
}

}  // namespace

TEST_CASE("each token is the most likely one or a typical draft, in chains and in trees") {
  writer<sequential> first;
  check_each_token(first, {});
  writer<parallel> second;
  check_each_token(second, {});
  check_each_token(second, small_tree);
  check_each_token(second, draft_tree::by_confidence(12));
}

TEST_CASE("where no draft can be typical, text and logits are those of plain decoding") {
  const auto check = [](auto& w, const draft_tree& tree) {
    index_t accepted = 0;
    for (options_type options :
         {options_type{},
          options_type{.min_new_tokens = 12,
          .stop_tokens = {3, 4},
          .sampling = {.repetition_penalty = 1.01, .frequency_penalty = 0.1}}}) {
      options.max_new_tokens = P;
      options.log_probabilities = true;
      options.mode = decode_mode::plain;
      const auto plain = record(w.generator, usual_prompt, options);
      options.mode = decode_mode::speculative;
      options.tree = tree;
      options.lossy_acceptance = typical_acceptance{.epsilon = 1, .delta = V + 1};
      const auto text = record(w.generator, usual_prompt, options);
      CHECK(same_text(text, plain));
      CHECK(same_bits(text.result.log_probabilities, plain.result.log_probabilities));
      CHECK(text.result.end == plain.result.end);
      accepted += text.result.accepted[0];
    }
    CHECK(accepted > 0);
  };
  writer<sequential> first(0);
  check(first, {});
  writer<parallel> second(0);
  check(second, {});
  check(second, small_tree);
}

TEST_CASE("where every draft is typical, all are accepted, and the text is another one") {
  const auto check = [](auto& w, const draft_tree& tree) {
    options_type options{.tree = tree, .max_new_tokens = 60};
    const auto exact = w.generator.generate(usual_prompt, options);
    options.lossy_acceptance = typical_acceptance{.epsilon = 1e-300, .temperature = 1000};
    const auto text = w.generator.generate(usual_prompt, options);
    CHECK(text.accepted == text.drafted);
    CHECK(text.forward_passes == 15);
    CHECK(exact.accepted != exact.drafted);
    CHECK(text.tokens != exact.tokens);
  };
  writer<sequential> first;
  check(first, {});
  writer<parallel> second;
  check(second, {});
  check(second, small_tree);
}

TEST_CASE(
    "each of many sequences with typical drafts gets what it would get alone, also restored") {
  writer<parallel> w;
  std::vector<options_type> options(6);
  std::vector<tokens_type> prompts;
  for (std::size_t i = 0; i < options.size(); ++i) {
    options[i].max_new_tokens = 30 + static_cast<index_t>(i);
    options[i].log_probabilities = true;
    if (i % 3 > 0) {
      options[i].lossy_acceptance = typical_acceptance{.delta = 0.1, .temperature = 4};
    }
    if (i % 2 == 0) {
      options[i].tree = small_tree;
    }
    prompts.push_back(random_tokens(3 + static_cast<index_t>(i), V, i));
  }
  batch_generator<parallel, cpu> batch(w.context, w.model, 3), other(w.context, w.model, 2);
  for (std::size_t i = 0; i < options.size(); ++i) {
    batch.submit(prompts[i], options[i]);
  }
  for (int i = 0; i < 5; ++i) {
    batch.run_cycle();
  }
  other.restore(batch.snapshot());
  batch.run();
  other.run();
  for (std::size_t i = 0; i < options.size(); ++i) {
    const auto alone = w.generator.generate(prompts[i], options[i]);
    for (auto* each : {&batch, &other}) {
      const auto together = each->take(static_cast<index_t>(i));
      CHECK(same_bits(together.tokens, alone.tokens));
      CHECK(same_bits(together.log_probabilities, alone.log_probabilities));
      CHECK(together.accepted == alone.accepted);
    }
    options[i].lossy_acceptance.reset();
    CHECK((w.generator.generate(prompts[i], options[i]).tokens == alone.tokens) == (i % 3 == 0));
  }
}

TEST_CASE("what typical acceptance makes no sense with is refused by name") {
  writer<sequential> w;
  const auto refused = [&](const char* message, options_type options) {
    if (!options.lossy_acceptance) {
      options.lossy_acceptance = typical_acceptance{};
    }
    return fails_with(message, [&] { w.generator.generate(usual_prompt, options); });
  };
  CHECK(refused("expected drafts, got decode_mode::plain", {.mode = decode_mode::plain}));
  CHECK(refused("expected drafts", {.num_draft_tokens = 0}));
  CHECK(refused("expected draft_schedule::constant", {.schedule = draft_schedule::adaptive}));
  CHECK(refused("expected sampling.temperature 0", {.sampling = {.temperature = 1}}));
  CHECK(refused("expected draft_verification::compare",
                {.sampling = {.verification = draft_verification::rejection}}));
  CHECK(refused("expected no mask",
                {.sampling = {.mask = [](std::span<const token_t>, std::span<float>) {}}}));
  CHECK(refused("generate: expected a typical_acceptance::epsilon in (0, 1], got 2",
                {.lossy_acceptance = typical_acceptance{.epsilon = 2}}));
  writer<spoken_config(head_kind::none, 0, P)> none;
  CHECK(fails_with("or a head that drafts none", [&] {
    none.generator.generate(usual_prompt, {.lossy_acceptance = typical_acceptance{}});
  }));
}

}  // namespace mtp::test::decode_typical_cases

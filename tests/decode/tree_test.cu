// Trees of drafts on a GPU: the text and logits of plain decoding, with the host in between,
// replayed and together.
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
#include "support/promises.hpp"

namespace mtp::test::decode_tree_cases {
namespace {

using tokens_type = std::vector<token_t>;

constexpr model_config short_config(head_kind kind) {
  model_config config = tiny_config(kind, 2);
  config.max_position_embeddings = 40;
  return config;
}

template <class S>
std::vector<generate_options<S, cuda>> some_options() {
  std::vector<generate_options<S, cuda>> options(2);
  options[1].sampling = {.temperature = 0.8,
                         .top_k = 12,
                         .repetition_penalty = 1.2,
                         .frequency_penalty = 0.3,
                         .seed = seed{7}};
  for (auto& each : options) {
    each.max_new_tokens = 9;
    each.log_probabilities = true;
  }
  return options;
}

/// Two of those that a head takes.
template <model_config Config, class S>
draft_tree tree_of(std::size_t i) {
  const bool grows = drafter_grows_trees<Config, cuda, S>;
  return i % 2 == 0 ? draft_tree::of_widths({2, 1})
         : grows    ? draft_tree::of_paths({{1, 2}, {0, 0}, {1, 0}})
                    : draft_tree::by_confidence(6, 3);
}

/// Where no draft can be typical, the text is the exact one; where each is, all are accepted.
template <model_config Config, class S>
void check_typical(generator<Config, cuda, S>& generator,
                   const tokens_type& prompt,
                   generate_options<S, cuda> options,
                   const tokens_type& exact) {
  const draft_tree tree = options.tree;
  for (const draft_tree& shape : {tree, draft_tree{}}) {
    options.tree = shape;
    options.lossy_acceptance = typical_acceptance{.epsilon = 1, .delta = Config.vocab_size + 1};
    for (int round = 0; round < 2; ++round) {  // recorded, replayed
      CHECK(generator.generate(prompt, options).tokens == exact);
    }
    options.lossy_acceptance = typical_acceptance{.epsilon = 1e-300, .temperature = 1000};
    const auto& text = generator.generate(prompt, options);
    CHECK(text.accepted == text.drafted);
    CHECK(text.tokens != exact);
  }
}

template <model_config Config, class S = float>
void check_text() {
  CAPTURE(std::string(name_of(Config.prediction.kind)));
  constexpr index_t P = Config.max_position_embeddings;
  cuda_context context;
  language_model<Config, cuda, S> model(context, seed{5});
  generator<Config, cuda, S> generator(context, model);
  batch_generator<Config, cuda, S> batch(context, model, 3);
  std::vector<tokens_type> expected;
  for (const index_t length : {5, static_cast<int>(P) - 7}) {  // and to the context's end
    tokens_type prompt;
    for (index_t i = 0; i < length; ++i) {
      prompt.push_back(static_cast<token_t>((3 * i + i % 4) % Config.vocab_size));
    }
    for (auto options : some_options<S>()) {
      const auto logits_of = [&](const auto& asked) {
        std::vector<accumulate_t<S>> all, row(static_cast<std::size_t>(Config.vocab_size));
        auto own = asked;
        own.on_logits = [&](index_t, auto logits) {
          generator.download(row, logits);
          all.insert(all.end(), row.begin(), row.end());
        };
        generator.generate(prompt, own);
        return all;
      };
      options.mode = decode_mode::plain;
      const auto logits = logits_of(options);
      const generation<Config.prediction.depth> plain = generator.generate(prompt, options);
      options.mode = decode_mode::speculative;
      options.tree = tree_of<Config, S>(expected.size() / 2);
      for (int round = 0; round < 2; ++round) {  // recorded, replayed
        const auto& text = generator.generate(prompt, options);
        CHECK(text.tokens == plain.tokens);
        CHECK(same_bits(text.log_probabilities, plain.log_probabilities));
        CHECK(text.end == plain.end);
        CHECK(text.tree_cycles > 0);
      }
      CHECK(same_bits(logits_of(options), logits));
      if (expected.empty()) {
        check_typical(generator, prompt, options, plain.tokens);
      }
      batch.submit(prompt, options);
      expected.push_back(plain.tokens);
      options.tree = {};
      batch.submit(prompt, options);
      expected.push_back(plain.tokens);
    }
  }
  batch.run();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(batch.take(static_cast<index_t>(i)).tokens == expected[i]);
  }
}

}  // namespace

TEST_CASE("trees of parallel drafts give the text of plain decoding") {
  check_text<short_config(head_kind::parallel)>();
}

TEST_CASE("trees of independent drafts give the text of plain decoding") {
  check_text<short_config(head_kind::independent)>();
}

TEST_CASE("trees of sequential drafts give the text of plain decoding") {
  check_text<short_config(head_kind::sequential)>();
}

TEST_CASE("trees for more rows than keep their bits are refused by name") {
  constexpr auto config = tiny_config(head_kind::parallel, 2);
  cuda_context context;
  language_model<config, cuda> model(context, seed{5});
  batch_generator<config, cuda> batch(context, model, 5);
  const tokens_type prompt{1, 2, 3};
  CHECK(rejects("decoder", [&] { batch.submit(prompt, {.tree = draft_tree::by_confidence(13)}); }));
  CHECK(batch.waiting() == 0);
  batch.submit(prompt, {.tree = draft_tree::by_confidence(12), .max_new_tokens = 4});
  batch.run();
  CHECK(batch.take(0).tokens.size() == 4);
}

}  // namespace mtp::test::decode_tree_cases

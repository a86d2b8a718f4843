// A model with weights in 8 bits decodes as one with elements does: with and without drafts, in
// batches, in pieces of any size, the same bits.
#include <doctest/doctest.h>

#include <cstddef>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "mtp/decode/score.hpp"
#include "mtp/model/quantized_model.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_quantized_cases {

namespace {

constexpr int P = 80;

/// Two groups of inputs and two panels of outputs in most matrices.
constexpr model_config wide(model_config config) {
  config.vocab_size = 45;
  config.hidden_size = 132;
  config.feed_forward.intermediate_size = 131;
  config.attention.head_dim = 34;
  return config;
}

template <model_config Config, class Scalar = float>
struct on_config {
  static constexpr model_config config = Config;
  using scalar = Scalar;
};

/// A model in which some drafts are accepted, and what it becomes.
template <class Case>
struct subject {
  static constexpr auto config = Case::config;
  using scalar = typename Case::scalar;

  explicit subject(const quantize_options& options = {})
      : model(context, seed{1}), quantized(make(context, model, options)) {}

  static auto make(cpu_context& context,
                   language_model<config, cpu, scalar>& model,
                   const quantize_options& options) {
    if constexpr (std::is_same_v<scalar, float>) {
      make_perfect(model);
      add_noise(model, 0.05);
      add_head_noise(model, 1.5, 50);
    }
    return quantize(context, model, options);
  }

  cpu_context context{{.threads = 2}};
  language_model<config, cpu, scalar> model;
  quantized_model<config, cpu, scalar> quantized;
};

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("drafts leave text and logits of a model in 8 bits as they are",
                          Case,
                          speculative) {
  constexpr auto config = Case::config;
  using S = typename Case::scalar;
  for (const bool output_matrix : {true, false}) {
    CAPTURE(output_matrix);
    subject<Case> of({.output_matrix = output_matrix});
    generator<config, cpu, S> generator(of.context, of.quantized);
    index_t drafted = 0, accepted = 0;
    for (const index_t length : {1, 2, 33, 70}) {
      CAPTURE(length);
      const auto prompt = random_tokens(length, config.vocab_size, 3);
      const auto plain = record(generator, prompt, options_of<S>(decode_mode::plain, P));
      const auto check_drafts = [&] {
        const auto text = record(generator, prompt, options_of<S>(decode_mode::speculative, P));
        CHECK(same_text(text, plain));
        for (std::size_t k = 0; k < text.result.drafted.size(); ++k) {
          drafted += text.result.drafted[k];
          accepted += text.result.accepted[k];
        }
      };
      check_drafts();
      if constexpr (config.prediction.drafts()) {
        std::vector<token_t> part(static_cast<std::size_t>(config.vocab_size) - 5);
        std::iota(part.begin(), part.end(), 3);
        generator.set_draft_vocabulary(part);
        check_drafts();
        generator.set_draft_vocabulary({});
      }
    }
    if constexpr (config.prediction.drafts() && std::is_same_v<S, float>) {
      CHECK(accepted > 0);
      CHECK(accepted < drafted);
    }
  }
}
constexpr auto none = wide(spoken_config(head_kind::none, 0, P));
constexpr auto tied = wide(flipped_spoken_config(head_kind::sequential, 3, P));
TEST_CASE_TEMPLATE_APPLY(
    speculative,
    std::tuple<on_config<none>,
               on_config<tied>,
               on_config<tied, bf16>,
               on_config<wide(spoken_config(head_kind::recurrent, 3, P))>,
               on_config<wide(flipped_spoken_config(head_kind::parallel, 2, P))>,
               on_config<wide(spoken_config(head_kind::independent, 2, P))>,
               on_config<wide(spoken_config(head_kind::shared_logit, 2, P))>>);

TEST_CASE_TEMPLATE_DEFINE("a model in 8 bits samples the same with drafts, trees and company",
                          Case,
                          sampled) {
  constexpr auto config = Case::config;
  using S = typename Case::scalar;
  subject<Case> of;
  generator<config, cpu, S> generator(of.context, of.quantized);
  batch_generator<config, cpu, S> batch(of.context, of.quantized, 2);
  const auto prompt = random_tokens(30, config.vocab_size, 3);
  auto options = options_of<S>(decode_mode::plain, 45);
  options.log_probabilities = true;
  options.sampling = {.temperature = 0.8,
                      .top_k = 30,
                      .top_p = 0.95,
                      .repetition_penalty = 1.1,
                      .frequency_penalty = 0.2,
                      .seed = seed{5}};
  const auto plain = record(generator, prompt, options);
  CHECK(plain.result.tokens.size() == 45);
  options.mode = decode_mode::speculative;
  CHECK(same_text(record(generator, prompt, options), plain));
  options.tree = drafter_grows_trees<config, cpu, S> ? draft_tree::of_widths({3, 1})
                                                     : draft_tree::by_confidence(7);
  const auto tree = record(generator, prompt, options);
  CHECK(same_text(tree, plain));
  CHECK(tree.result.tree_drafts > 0);

  options.tree = {};
  for (const auto verification : {draft_verification::rejection, draft_verification::block}) {
    options.sampling.verification = verification;
    options.on_logits = {};
    const auto expected = generator.generate(prompt, options).tokens;
    CHECK(generator.generate(prompt, options).tokens == expected);
    const auto beside = batch.submit(random_tokens(7, config.vocab_size, 4), options);
    const auto request = batch.submit(prompt, options);
    while (batch.run_cycle()) {
    }
    CHECK(batch.result(request).tokens == expected);
    CHECK(batch.result(beside).tokens != expected);
  }
}
TEST_CASE_TEMPLATE_APPLY(
    sampled,
    std::tuple<on_config<tied>,
               on_config<tied, bf16>,
               on_config<wide(flipped_spoken_config(head_kind::parallel, 2, P))>>);

TEST_CASE("steps of several rows of a model in 8 bits have the bits of single steps") {
  subject<on_config<tied>> of;
  const auto tokens = random_tokens(70, tied.vocab_size, 5);
  decoder<tied, cpu> one(of.context, of.quantized);
  std::vector<std::vector<float>> alone;
  for (const token_t token : tokens) {
    alone.push_back(elements(one.step({&token, 1}, hidden_states::dropped)));
  }
  for (int threads = 1; threads <= 4; ++threads) {
    CAPTURE(threads);
    cpu_context context({.threads = threads});
    decoder<tied, cpu> together(context, of.quantized);
    const std::span<const token_t> all(tokens);
    together.prefill(all.first(61), hidden_states::dropped);
    const auto logits = elements(together.step(all.subspan(61, 4), hidden_states::dropped));
    std::vector<float> expected;
    for (std::size_t i = 61; i < 65; ++i) {
      expected.insert(expected.end(), alone[i].begin(), alone[i].end());
    }
    CHECK(same_bits(logits, expected));
  }
}

TEST_CASE("batches, scores and a moved model give what one sequence of a model in 8 bits gives") {
  subject<on_config<tied>> of;
  generator<tied, cpu> single(of.context, of.quantized);
  auto options = options_of<float>(decode_mode::speculative, 20);
  options.log_probabilities = true;
  batch_generator<tied, cpu> batch(of.context, of.quantized, 3);
  scorer<tied, cpu> scores(of.context, of.quantized);
  std::vector<index_t> requests;
  for (index_t i = 1; i <= 5; ++i) {
    requests.push_back(batch.submit(random_tokens(7 * i, tied.vocab_size, 9), options));
  }
  while (batch.run_cycle()) {
  }
  for (index_t i = 1; i <= 5; ++i) {
    CAPTURE(i);
    auto text = random_tokens(7 * i, tied.vocab_size, 9);
    const auto expected = single.generate(text, options);
    CHECK(batch.result(requests[static_cast<std::size_t>(i - 1)]).tokens == expected.tokens);
    text.insert(text.end(), expected.tokens.begin(), expected.tokens.end());
    const auto& all = scores.score(text).log_probabilities;
    const std::vector<double> last(all.end() - 20, all.end());
    CHECK(same_bits(last, expected.log_probabilities));
  }
  const auto prompt = random_tokens(9, tied.vocab_size, 4);
  const auto before = record(single, prompt, options);
  const auto moved = std::move(of.quantized);
  generator<tied, cpu> again(of.context, moved);
  CHECK(same_text(record(again, prompt, options), before));
}

}  // namespace mtp::test::decode_quantized_cases

// Generation in a steady state asks for no memory, and memory that is not there changes nothing:
// every allocation of this executable is counted, and may fail.
#include <doctest/doctest.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/expert_configs.hpp"
#include "mtp/decode/score.hpp"
#include "mtp/decode/text_stream.hpp"
#include "mtp/model/quantized_model.hpp"
#include "support/allocations.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_allocations_cases {

namespace {

template <model_config Config, bool InBytes = false>
void check_silent() {
  for (const int threads : {1, 2}) {
    cpu_context context({.threads = threads});
    language_model<Config, cpu> elements(context, seed{1});
    make_perfect(elements);
    add_noise(elements, 0.05);
    add_head_noise(elements, 0.3, 50);
    const auto& model = [&]() -> decltype(auto) {
      if constexpr (InBytes) {
        return quantize(context, elements);
      } else {
        return (elements);
      }
    }();
    generator<Config, cpu> generator(context, model);
    const auto prompt = random_tokens(70, Config.vocab_size, 1);
    for (const auto mode : {decode_mode::plain, decode_mode::speculative}) {
      INFO(std::string(name_of(Config.prediction.kind)),
           ", ",
           threads,
           " threads, mode ",
           static_cast<int>(mode));
      float sum = 0;
      index_t streamed = 0;
      auto options = options_of<float>(mode, Config.max_position_embeddings);
      options.stop = {{1, 2, 3, 4, 5, 6}};
      options.on_token = [&](token_t) { return ++streamed >= 0; };
      options.on_logits = [&](index_t, auto logits) { sum += logits(0); };
      for (const double temperature : {0.0, 1.0}) {
        options.sampling = {.temperature = temperature,
                            .top_k = 15,
                            .top_p = 0.9,
                            .frequency_penalty = temperature / 10,
                            .logit_bias = {{3, 0.5f}, {4, -0.5f}}};
        options.min_new_tokens = 70;
        options.stop_tokens = {5, 6, 5};
        options.log_probabilities = true;
        options.schedule = temperature == 0 ? draft_schedule::adaptive : draft_schedule::constant;
        options.tree = {};
        if (temperature == 0) {
          options.sampling = {};
          options.stop_tokens = {};
        }
        if (no_trees<Config, cpu, float> == nullptr && temperature > 0) {
          options.tree = drafter_grows_trees<Config, cpu, float> ? draft_tree::of_widths({3, 1})
                                                                 : draft_tree::by_confidence(7);
        }
        generator.generate(prompt, options);
        const index_t before_streamed = streamed;
        const long before = allocations;
        const auto& result = generator.generate(prompt, options);
        const long after = allocations;
        CHECK(after - before == 0);
        CHECK(result.tokens.size() > 40);
        CHECK(streamed == 2 * before_streamed);
        streamed = 0;
      }
    }
  }
}

}  // namespace

TEST_CASE("allocations of every kind are counted") {
  check_allocations_are_counted();
}

TEST_CASE("a second call of generate allocates nothing") {
  check_silent<spoken_config(head_kind::none, 0)>();
  check_silent<spoken_config(head_kind::sequential, 2)>();
  check_silent<flipped_spoken_config(head_kind::recurrent, 3)>();
  check_silent<spoken_config(head_kind::parallel, 2)>();
  check_silent<spoken_config(head_kind::independent, 2)>();
  check_silent<spoken_config(head_kind::sequential, 2), true>();
  check_silent<deepseek_experts(head_kind::sequential, 2)>();
}

TEST_CASE("steps of a decoder allocate nothing, the first one included") {
  constexpr auto config = flipped_spoken_config(head_kind::sequential, 2);
  cpu_context context({.threads = 2});
  language_model<config, cpu> model(context, seed{1});
  decoder<config, cpu> sequence(context, model);
  auto text = random_tokens(60, config.vocab_size, 1);
  const long before = allocations;
  sequence.prefill(std::span<const token_t>(text).first(40), hidden_states::kept);
  sequence.drafter().advance(context, model, text_of(text, 41), 41, 40, 2);
  draft_next(sequence.drafter(), context, model, text_of(text, 41), 2);
  sequence.step(std::span<const token_t>(text).subspan(40, 3), hidden_states::kept);
  sequence.roll_back(41);
  sequence.reset();
  const long after = allocations;
  CHECK(after - before == 0);
}

TEST_CASE("a second call of a scorer allocates nothing") {
  constexpr auto config = spoken_config(head_kind::sequential, 2);
  cpu_context context({.threads = 2});
  language_model<config, cpu> model(context, seed{1});
  scorer<config, cpu> scorer(context, model, 3);
  const auto text = random_tokens(200, config.vocab_size, 1);
  const std::vector<std::span<const token_t>> list{text, std::span(text).first(70)};
  index_t rows = 0;
  const score_options<float, cpu> options{
      .stride = 100, .on_hidden = [&](const auto& piece) { rows += piece.normed.extent(0); }};
  scorer.score(list, options);
  const long before = allocations;
  const auto& scored = scorer.score(list, options);
  const long after = allocations;
  CHECK(after - before == 0);
  CHECK(scored[1].counted == 69);
  CHECK(rows == 2 * 270);
}

TEST_CASE("generators that find no memory leave the one beside them as it was") {
  constexpr auto config = flipped_spoken_config(head_kind::sequential, 2);
  constexpr auto wide = spoken_config(head_kind::parallel, 3);
  cpu_context context({.threads = 2, .workspace_bytes = 0});
  const language_model<config, cpu> model(context, seed{1});
  const language_model<wide, cpu, bf16> other(context, seed{1});
  generator<config, cpu> writer(context, model);
  const auto prompt = random_tokens(20, config.vocab_size, 1);
  const auto options = options_of<float>(decode_mode::speculative, 20);
  const auto expected = writer.generate(prompt, options).tokens;
  const auto writes = [&] { return writer.generate(prompt, options).tokens == expected; };
  CHECK(fail_each_allocation([&] { generator<wide, cpu, bf16> made(context, other); }, writes) > 3);
  CHECK(fail_each_allocation([&] { decoder<wide, cpu, bf16> made(context, other); }, writes) > 1);
  CHECK(fail_each_allocation([&] { scorer<wide, cpu, bf16> made(context, other, 2); }, writes) > 2);
  // The first call, too.
  generator<config, cpu> fresh(context, model);
  CHECK(fail_each_allocation([&] { fresh.generate(prompt, options); }, writes) == 0);
  CHECK(fresh.generate(prompt, options).tokens == expected);
}

TEST_CASE("a text stream allocates nothing once its buffers have grown") {
  text_stream stream({"stop", "\n\n"});
  std::size_t characters = 0;
  const auto run = [&] {
    for (int repeat = 0; repeat < 50; ++repeat) {
      for (const char byte : std::string_view("so st\xe2\x82\xac \xff\xff\xff\n ")) {
        const auto origin = repeat % 3 == 0 ? text_origin::draft : text_origin::trunk;
        for (const text_piece& piece : stream.push({&byte, 1}, origin)) {
          characters += piece.text.size();
        }
      }
    }
    stream.push("s\xff\xffto stop behind", text_origin::draft);
    stream.finish();
  };
  run();
  const std::size_t before_characters = characters;
  const long before = allocations;
  run();
  const long after = allocations;
  CHECK(after - before == 0);
  CHECK(characters == 2 * before_characters);
}

}  // namespace mtp::test::decode_allocations_cases

#include "train_and_generate/drawing.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace examples_drawing_cases {

using example::token_at;

TEST_CASE("a token has its share of the distribution") {
  // Probabilities 1/8, 1/2, 0, 3/8.
  const std::vector<float> logits{
      0, std::log(4.0f), -std::numeric_limits<float>::infinity(), std::log(3.0f)};
  const std::span<const float> row(logits);
  CHECK(token_at(row, 1.0, 0.0) == 0);
  CHECK(token_at(row, 1.0, 0.124) == 0);
  CHECK(token_at(row, 1.0, 0.126) == 1);
  CHECK(token_at(row, 1.0, 0.624) == 1);
  CHECK(token_at(row, 1.0, 0.626) == 3);
  CHECK(token_at(row, 1.0, 1 - 0x1p-32) == 3);
  // At half the temperature the weights are squares: 1, 16, 0, 9.
  CHECK(token_at(row, 0.5, 0.9 / 26) == 0);
  CHECK(token_at(row, 0.5, 1.1 / 26) == 1);
  CHECK(token_at(row, 0.5, 16.9 / 26) == 1);
  CHECK(token_at(row, 0.5, 17.1 / 26) == 3);
  // Close to 0 only the most probable one is left.
  for (const double share : {0.0, 0.5, 0.999}) CHECK(token_at(row, 1e-3, share) == 1);
}

TEST_CASE("drawn text is a function of model, prompt and stream, and changes no generated text") {
  constexpr mtp::model_config config{.vocab_size = 256,
                                     .hidden_size = 16,
                                     .num_hidden_layers = 1,
                                     .max_position_embeddings = 40,
                                     .attention = {.num_attention_heads = 1},
                                     .feed_forward = {.intermediate_size = 16},
                                     .prediction = {.kind = mtp::head_kind::parallel, .depth = 1}};
  mtp::context<mtp::cpu> context;
  const mtp::language_model<config, mtp::cpu> model(context, mtp::seed{3});
  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::string prompt = "a prompt";
  const auto drawn =
      [&](double temperature, std::uint64_t stream, long count = 20, long positions = 40) {
        return example::drawn_text(
            generator, prompt, count, positions, temperature, mtp::random_stream({1}, stream));
      };
  const std::vector<mtp::token_t> greedy =
      generator.generate(example::to_tokens(prompt), {.max_new_tokens = 20}).tokens;
  const std::string first = drawn(0.8, 0);
  CHECK(first.size() == 20);
  CHECK(drawn(0.8, 0) == first);
  CHECK(drawn(0.8, 1) != first);
  CHECK(drawn(1e-4, 0) == example::to_text(greedy));
  CHECK(drawn(0.8, 0, 20, 11).size() == 3);
  CHECK(drawn(0.8, 0, 100).size() == 32);
  CHECK(generator.generate(example::to_tokens(prompt), {.max_new_tokens = 20}).tokens == greedy);
}

}  // namespace examples_drawing_cases

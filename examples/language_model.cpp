#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.hidden_size = 64,
                                   .num_hidden_layers = 2,
                                   .max_position_embeddings = 128,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 176},
                                   .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};

int main() {
  using trainer_type = mtp::trainer<config, mtp::cpu>;
  const std::string sentence = "the quick brown fox jumps over the lazy dog. ";
  std::vector<std::uint8_t> text;  // a token is a byte
  for (int i = 0; i < 100; ++i) text.insert(text.end(), sentence.begin(), sentence.end());

  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{42});
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(64)});
  const mtp::learning_rate_schedule rate{.peak = 1e-2, .warmup_steps = 5, .total_steps = 50};
  trainer_type trainer(context, model, data, {.batch = 8, .length = 64, .learning_rate = rate});
  for (int step = 0; step < 50; ++step) trainer.step();

  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt(text.begin(), text.begin() + 10);
  const auto& result = generator.generate(prompt, {});
  const std::string written(result.tokens.begin(), result.tokens.end());
  std::printf("the quick %s\n", written.c_str());
  std::printf("accepted: %.2f, %.2f of drafts\n", result.acceptance(0), result.acceptance(1));
  std::printf("%.2f tokens per forward pass\n", result.tokens_per_forward());
}

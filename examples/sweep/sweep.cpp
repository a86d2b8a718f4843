// Page 9 of docs/guide: one program for each configuration. CMake's mtp_add_sweep compiles this
// file for each combination of HEAD and DEPTH; each program prints a row of a table.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.hidden_size = 32,
                                   .num_hidden_layers = 1,
                                   .max_position_embeddings = 128,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 64},
                                   .prediction = {.kind = mtp::head_kind::HEAD, .depth = DEPTH}};

int main() {
  using trainer_type = mtp::trainer<config, mtp::cpu>;
  const std::string sentence = "a sweep compiles each of its points. ";
  std::vector<std::uint8_t> text;
  for (int i = 0; i < 50; ++i) {
    text.insert(text.end(), sentence.begin(), sentence.end());
  }
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(32)});
  trainer_type trainer(context,
                       model,
                       data,
                       {.batch = 4,
                        .length = 32,
                        .learning_rate = {.peak = 1e-2, .warmup_steps = 5, .total_steps = 60}});
  while (trainer.state().step < 60) {
    trainer.step();
  }
  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt(text.begin(), text.begin() + 8);
  const auto& result = generator.generate(prompt, {.max_new_tokens = 60});
  std::printf("| %s | %d | %.3f | %.2f |\n",
              config.prediction.kind.name,
              config.prediction.depth,
              trainer.validate(8).depths[0].loss,
              result.tokens_per_forward());
}

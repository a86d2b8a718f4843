// The program of a consumer: tensors, a training step and a few tokens. It is the same for all ways
// of consuming the library.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.vocab_size = 32,
                                   .hidden_size = 16,
                                   .num_hidden_layers = 1,
                                   .max_position_embeddings = 32,
                                   .attention = {.num_attention_heads = 1},
                                   .feed_forward = {.intermediate_size = 16}};

int main() {
  mtp::context<mtp::cpu> context;

  const mtp::tensor<float, mtp::extents<2, 2>, mtp::cpu> a({}, {1, 2, 3, 4});  // [2, 2]
  const mtp::tensor<float, mtp::extents<2, 1>, mtp::cpu> b({}, {5, 6});        // [2, 1]
  mtp::tensor<float, mtp::extents<2, 1>, mtp::cpu> c;                          // [2, 1]
  mtp::matmul(context, c.view(), a.view(), b.view());
  if (c(0, 0) != 17 || c(1, 0) != 39) {
    return 1;
  }

  using trainer_type = mtp::trainer<config, mtp::cpu>;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  const std::vector<std::uint8_t> text(200, 3);  // always the same token
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(8)});
  const mtp::learning_rate_schedule rate{.peak = 1e-2, .warmup_steps = 1, .total_steps = 10};
  trainer_type trainer(context, model, data, {.batch = 2, .length = 8, .learning_rate = rate});
  for (int step = 0; step < 10; ++step) {
    static_cast<void>(trainer.step());
  }

  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt{3, 3};
  const auto& result = generator.generate(prompt, {.max_new_tokens = 4});
  if (result.tokens != std::vector<mtp::token_t>{3, 3, 3, 3}) {
    return 1;
  }
  std::puts("consumed");
}

// A translation unit with a model for decoding, in a function whose name the compiler is given.
#include <cstddef>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.vocab_size = 32,
                                   .hidden_size = 16,
                                   .num_hidden_layers = 1,
                                   .max_position_embeddings = 32,
                                   .attention = {.num_attention_heads = 1},
                                   .feed_forward = {.intermediate_size = 16}};

std::size_t FUNCTION();

std::size_t FUNCTION() {
  mtp::context<mtp::cpu> context;
  const mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt{3, 3};
  return generator.generate(prompt, {.max_new_tokens = 4}).tokens.size();
}

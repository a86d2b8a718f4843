// Continues a text with the model that scripts/demo leaves in
// demo/sequential/checkpoint.safetensors. Without the name of a checkpoint, with a model that has
// learnt nothing.
#include <cstdio>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/mtp.hpp"
#include "train_and_generate/models.hpp"

constexpr auto config = example::make_config(mtp::head_kind::sequential, 3);  // as it was trained

int main(int argc, char** argv) {
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  if (argc > 1) mtp::io::load_parameters(argv[1], model);
  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::string text = "The model ";
  const std::vector<mtp::token_t> prompt(text.begin(), text.end());  // a token is a byte
  const auto& written = generator.generate(prompt, {.max_new_tokens = 200});
  for (const mtp::token_t token : written.tokens) std::putchar(token);
  std::printf("\n%.2f bytes per pass of the model\n", written.tokens_per_forward());
}

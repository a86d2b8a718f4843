// One model for decoding.
#include <vector>

#include "model.hpp"

int main() {
  mtp::context<mtp::cpu> context;
  const mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt{1, 2, 3};
  return generator.generate(prompt, {.max_new_tokens = 4}).tokens.size() == 4 ? 0 : 1;
}

#include <cstdint>
#include <vector>

#include "model.hpp"

int main() {
  using trainer_type = mtp::trainer<config, mtp::cpu>;
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  const std::vector<std::uint8_t> text(200, 3);
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(8)});
  trainer_type trainer(context, model, data, {.batch = 2, .length = 8});
  const bool skipped = trainer.step().skipped;

  mtp::generator<config, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt{3, 3};
  const auto& result = generator.generate(prompt, {.max_new_tokens = 4});
  return !skipped && result.tokens.size() == 4 ? 0 : 1;
}

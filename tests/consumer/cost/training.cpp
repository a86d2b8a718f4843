// One model for training.
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
  return trainer.step().skipped ? 1 : 0;
}

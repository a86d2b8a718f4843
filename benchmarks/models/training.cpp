#include <cstdint>
#include <vector>

#include "model_cost.hpp"
#include "models.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::bench {
namespace {

std::vector<std::uint8_t> random_text() {
  const random_stream random(seed{1}, 0);
  std::vector<std::uint8_t> text(1 << 20);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>(random.bits(i));
  }
  return text;
}

template <model_config Config>
class trained_model : public training_run {
 public:
  using trainer_type = trainer<Config, cpu>;

  explicit trained_model(int threads)
      : context_({.threads = threads}),
        data_(random_text(), {}, {.window = trainer_type::window_of(length)}),
        model_(context_, seed{1}),
        trainer_(context_, model_, data_, options()) {}

  double step() override { return trainer_.step().loss.depths[0].loss; }
  index_t parameters() const override { return model_.parameter_count(); }
  double flops() const override {
    return static_cast<double>(batch * length) *
           training_flops_per_token(Config, static_cast<double>(length));
  }

 private:
  static train_options<Config> options() {
    train_options<Config> chosen;
    chosen.batch = batch;
    chosen.length = length;
    return chosen;
  }

  cpu_context context_;
  dataset<> data_;
  language_model<Config, cpu> model_;
  trainer_type trainer_;
};

template <head_kind Head, int... Depths>
void try_depths(std::unique_ptr<training_run>& made, head_kind head, int depth, int threads) {
  const auto attempt = [&]<int Depth>() {
    if (head == Head && depth == Depth) {
      made = std::make_unique<trained_model<small(Head, Depth)>>(threads);
    }
  };
  (attempt.template operator()<Depths>(), ...);
}

}  // namespace

std::unique_ptr<training_run> make_training(head_kind head, int depth, int threads) {
  std::unique_ptr<training_run> made;
  try_depths<head_kind::none, 0>(made, head, depth, threads);
  try_depths<head_kind::sequential, 1, 2, 3, 4>(made, head, depth, threads);
  try_depths<head_kind::parallel, 1, 2, 3, 4>(made, head, depth, threads);
  try_depths<head_kind::recurrent, 4>(made, head, depth, threads);
  try_depths<head_kind::independent, 4>(made, head, depth, threads);
  try_depths<head_kind::shared_logit, 4>(made, head, depth, threads);
  return made;
}

}  // namespace mtp::bench

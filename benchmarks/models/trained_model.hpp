// Makes the models that training is measured with. Each file of models that includes this is one
// size and one type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "model_cost.hpp"
#include "models.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::bench {

template <class Token>
std::vector<Token> random_text(index_t vocabulary) {
  const random_stream random(seed{1}, 0);
  std::vector<Token> text(1 << 20);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<Token>(random.below(i, static_cast<std::uint64_t>(vocabulary)));
  }
  return text;
}

template <model_config Config, scalar S, index_t Batch, index_t Length>
class trained_model : public training_run {
 public:
  using token = std::conditional_t<(Config.vocab_size > 256), std::uint16_t, std::uint8_t>;
  using trainer_type = trainer<Config, cpu, S, token>;

  explicit trained_model(int threads)
      : context_({.threads = threads}),
        data_(
            random_text<token>(Config.vocab_size), {}, {.window = trainer_type::window_of(Length)}),
        model_(context_, seed{1}),
        trainer_(context_, model_, data_, options()) {}

  double step() override { return trainer_.step().loss.depths[0].loss; }
  index_t tokens() const override { return Batch * Length; }
  index_t parameters() const override { return model_.parameter_count(); }
  double flops() const override {
    return static_cast<double>(tokens()) *
           training_flops_per_token(Config, static_cast<double>(Length));
  }

 private:
  static train_options<Config> options() {
    train_options<Config> chosen;
    chosen.batch = Batch;
    chosen.length = Length;
    return chosen;
  }

  cpu_context context_;
  dataset<token> data_;
  language_model<Config, cpu, S> model_;
  trainer_type trainer_;
};

/// Finds the model of a file by its head and depth.
class training_choice {
 public:
  training_choice(head_kind head, int depth, int threads)
      : head_(head), depth_(depth), threads_(threads) {}

  /// Makes Model<Config(Head, Depth)> if it is the one.
  template <auto Config, scalar S, index_t Batch, index_t Length, head_kind Head, int... Depths>
  training_choice& offer() {
    const auto attempt = [&]<int Depth>() {
      if (head_ == Head && depth_ == Depth) {
        made_ = std::make_unique<trained_model<Config(Head, Depth), S, Batch, Length>>(threads_);
      }
    };
    (attempt.template operator()<Depths>(), ...);
    return *this;
  }

  std::unique_ptr<training_run> take() { return std::move(made_); }

 private:
  head_kind head_;
  int depth_, threads_;
  std::unique_ptr<training_run> made_;
};

}  // namespace mtp::bench

// What examples of kinds from outside the library do with them: gradients against differences, a
// little training, and drafts. Nothing here knows which kinds they are.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace example {

using text_type = std::vector<std::uint8_t>;  // a token is a byte

/// Largest relative difference, over all parameters, of the gradient g along g / |g| from the
/// central difference of the loss; infinite where one is no number.
template <mtp::model_config Config>
double gradient_error(mtp::context<mtp::cpu>& context,
                      mtp::language_model<Config, mtp::cpu, double>& model,
                      const text_type& text) {
  constexpr mtp::index_t T = 32;
  const std::vector<mtp::token_t> tokens(text.begin(),
                                         text.begin() + T + 1 + Config.prediction.depth);
  const mtp::batch_view batch{tokens, {}, {}, 1, T};
  const auto options = mtp::default_loss_options<Config>();
  mtp::model_loss<Config, mtp::cpu, double> loss(context, 1, T);
  mtp::buffer<double, mtp::cpu> gradients(model.layout.storage);
  loss.with_gradients(context, model, {gradients.data(), gradients.count()}, batch, options);
  double largest = 0;
  model.layout.visit([&](const std::string&, const mtp::parameter& p) {
    double* const w = model.values().data() + p.offset;
    const double* const g = gradients.data() + p.offset;
    double norm = 0;
    for (mtp::index_t i = 0; i < p.storage; ++i) norm += g[i] * g[i];
    norm = std::sqrt(norm);
    const auto loss_after = [&](double step) {
      const std::vector<double> kept(w, w + p.storage);
      for (mtp::index_t i = 0; i < p.storage; ++i) w[i] += step * g[i] / norm;
      const double total = loss.without_gradients(context, model, batch, options).total;
      std::copy(kept.begin(), kept.end(), w);
      return total;
    };
    const double difference = (loss_after(1e-5) - loss_after(-1e-5)) / 2e-5;
    const double error = std::abs(difference - norm) / norm;
    largest =
        std::isfinite(error) ? std::max(largest, error) : std::numeric_limits<double>::infinity();
  });
  return largest;
}

/// What a way of decoding wrote, with all logits.
template <int Depth>
struct transcript {
  mtp::generation<Depth> result;
  std::vector<double> logits;  // [tokens, V]
};
template <mtp::model_config Config>
transcript<Config.prediction.depth> write(mtp::generator<Config, mtp::cpu, double>& generator,
                                          const text_type& text,
                                          mtp::decode_mode mode) {
  transcript<Config.prediction.depth> made;
  const std::vector<mtp::token_t> prompt(text.begin(), text.begin() + 20);
  mtp::generate_options<double, mtp::cpu> options{.mode = mode, .max_new_tokens = 80};
  options.on_logits = [&](mtp::index_t, auto row) {
    made.logits.insert(made.logits.end(), row.data(), row.data() + row.extent(0));
  };
  made.result = generator.generate(prompt, options);
  return made;
}

/// The exit status: 0 if gradients are right, drafts are accepted, and logits are those of decoding
/// token by token, bit for bit.
template <mtp::model_config Config>
int try_out() {
  const std::string sentence = "the quick brown fox jumps over the lazy dog. ";
  text_type text;
  for (int i = 0; i < 100; ++i) text.insert(text.end(), sentence.begin(), sentence.end());

  using trainer_type = mtp::trainer<Config, mtp::cpu, double>;
  mtp::context<mtp::cpu> context;
  mtp::language_model<Config, mtp::cpu, double> model(context, mtp::seed{42});
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(64)});
  const mtp::learning_rate_schedule rate{.peak = 1e-2, .warmup_steps = 5, .total_steps = 50};
  trainer_type trainer(context, model, data, {.batch = 4, .length = 64, .learning_rate = rate});
  for (int step = 0; step < 10; ++step) trainer.step();
  const double error = gradient_error<Config>(context, model, text);
  std::printf("gradient against differences: %.1e\n", error);
  while (trainer.state().step < 50) trainer.step();

  mtp::generator<Config, mtp::cpu, double> generator(context, model);
  const auto plain = write<Config>(generator, text, mtp::decode_mode::plain);
  const auto drafted = write<Config>(generator, text, mtp::decode_mode::speculative);
  const std::string written(drafted.result.tokens.begin(), drafted.result.tokens.end());
  std::printf(
      "%s\n%.2f tokens per forward pass\n", written.c_str(), drafted.result.tokens_per_forward());
  const bool same =
      plain.result.tokens == drafted.result.tokens &&
      plain.logits.size() == drafted.logits.size() &&
      std::memcmp(
          plain.logits.data(), drafted.logits.data(), plain.logits.size() * sizeof(double)) == 0;
  std::printf("the same logits as token by token: %s\n", same ? "yes" : "no");
  return error < 1e-6 && same && drafted.result.tokens_per_forward() > 1 ? 0 : 1;
}

}  // namespace example

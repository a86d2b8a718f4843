// Page 8 of docs/guide: a training loop of one's own, with schedules of one's own.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.hidden_size = 32,
                                   .num_hidden_layers = 1,
                                   .max_position_embeddings = 64,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 64},
                                   .prediction = {.kind = mtp::head_kind::parallel, .depth = 1}};

constexpr mtp::index_t batch = 8, length = 32, steps = 120;
constexpr mtp::index_t window = length + 1 + config.prediction.depth;

// Up for a tenth of the run, level, down for a fifth.
double rate_at(mtp::index_t step) {
  const double share = static_cast<double>(step + 1) / steps;
  return 1e-2 * std::min({share / 0.1, 1.0, (1 - share) / 0.2 + 0.01});
}

// Deeper losses come in slowly.
double lambda_at(mtp::index_t step) {
  return std::min(1.0, 2.0 * static_cast<double>(step) / steps);
}

int main() {
  const std::string sentence = "one loop to train them all, and in the end decode them. ";
  std::vector<std::uint8_t> text;
  for (int i = 0; i < 50; ++i) {
    text.insert(text.end(), sentence.begin(), sentence.end());
  }
  const mtp::dataset<> data(text, {}, {.window = window, .validation_share = 0});

  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{7});
  mtp::model_loss<config, mtp::cpu> loss(context, batch, length);
  mtp::adamw<config, mtp::cpu> optimizer(context, model, {.weight_decay = 0.01});
  auto options = mtp::default_loss_options<config>();

  // A number for each parameter, and the sum of their squares.
  mtp::tensor<float, mtp::dims<1>, mtp::cpu> gradients(mtp::dims<1>(model.layout.storage));  // [P]
  mtp::tensor<double, mtp::extents<1>, mtp::cpu> squares;                                    // [1]
  const mtp::parameter_array<float, mtp::cpu> all(gradients.data(), gradients.count());
  context.reserve(mtp::ops_of<mtp::cpu>::sum_of_squares_workspace(model.layout.storage));
  std::vector<mtp::token_t> tokens(batch * window);    // [B, T + 1 + D]
  std::vector<std::int32_t> segments(batch * window);  // [B, T + 1 + D]

  // The same by a trainer.
  mtp::train_options<config> scheduled{
      .batch = batch,
      .length = length,
      .learning_rate = mtp::own_schedule("trapezoid over 120 steps", rate_at),
      .lambda = mtp::own_schedule("in over 60 steps", lambda_at),
      .optimizer = {.weight_decay = 0.01}};
  scheduled.weights = mtp::own_schedule("depth 1 from step 10", [](mtp::index_t step) {
    return mtp::depth_weights<config.prediction.depth>{1, step < 10 ? 0.0 : 1.0};  // [1 + D]
  });
  mtp::language_model<config, mtp::cpu> twin(context, mtp::seed{7});
  mtp::trainer<config, mtp::cpu> trainer(context, twin, data, scheduled);

  double first = 0, last = 0;
  bool same = true;
  for (mtp::index_t step = 0; step < steps; ++step) {
    for (mtp::index_t b = 0; b < batch; ++b) {
      const auto at = static_cast<std::size_t>(b * window);
      data.training_sample(static_cast<std::uint64_t>(step * batch + b),
                           std::span(tokens).subspan(at, window),
                           std::span(segments).subspan(at, window));
    }
    mtp::fill(context, gradients, 0);  // they accumulate
    options.lambda = lambda_at(step);
    options.weights[1] = step < 10 ? 0 : 1;
    const auto report =
        loss.with_gradients(context, model, all, {tokens, segments, {}, batch, length}, options);

    mtp::sum_of_squares(context, squares, gradients);
    const double norm = std::sqrt(squares(0));
    const double clip = norm > 1 ? 1 / norm : 1;
    optimizer.update(context, model, all, rate_at(step), clip, 0);

    last = report.depths[0].loss;
    same = same && trainer.step().loss.depths[0].loss == last;
    first = step == 0 ? last : first;
    if (step % 30 == 0) {
      std::printf("step %3td: loss %.3f, norm %.2f, rate %.4f\n", step, last, norm, rate_at(step));
    }
  }
  std::printf("from %.2f to %.2f nats per byte\n", first, last);
  std::printf("the trainer's losses are %s\n", same ? "the same" : "different");
  return same && last < 0.2 * first ? 0 : 1;
}

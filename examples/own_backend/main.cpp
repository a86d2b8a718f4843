// A backend of one's own, plugged in from outside the library: naive/ computes in double precision
// with the loops that the formulas suggest. The same model is trained and asked for text on it and
// on mtp::cpu, from the same seed: for the most likely one, and for one that is drawn. Nothing but
// the tag differs between the two.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"
#include "naive/backend.hpp"

constexpr mtp::model_config config{.vocab_size = 128,
                                   .hidden_size = 32,
                                   .num_hidden_layers = 2,
                                   .max_position_embeddings = 96,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 64},
                                   .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};

struct run {
  std::vector<double> losses;  // of each step
  std::string text;
  std::vector<mtp::token_t> drawn;
  double tokens_per_forward;
};

template <class Backend>
run train_and_write() {
  const std::string sentence = "the quick brown fox jumps over the lazy dog. ";
  std::vector<std::uint8_t> text;  // a token is a byte
  for (int i = 0; i < 20; ++i) text.insert(text.end(), sentence.begin(), sentence.end());

  using trainer_type = mtp::trainer<config, Backend, double>;
  mtp::context<Backend> context;
  mtp::language_model<config, Backend, double> model(context, mtp::seed{42});
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(48)});
  const mtp::learning_rate_schedule rate{.peak = 2e-2, .warmup_steps = 5, .total_steps = 40};
  trainer_type trainer(context, model, data, {.batch = 2, .length = 48, .learning_rate = rate});
  run made;
  for (int step = 0; step < 40; ++step) made.losses.push_back(trainer.step().loss.total);

  mtp::generator<config, Backend, double> generator(context, model);
  const std::vector<mtp::token_t> prompt(text.begin(), text.begin() + 10);
  const auto& result = generator.generate(prompt, {.max_new_tokens = 60});
  made.text.assign(result.tokens.begin(), result.tokens.end());
  made.tokens_per_forward = result.tokens_per_forward();
  const mtp::sampling_options sampling{
      .temperature = 1.5, .top_k = 50, .top_p = 0.95, .frequency_penalty = 0.1};
  made.drawn = generator.generate(prompt, {.max_new_tokens = 60, .sampling = sampling}).tokens;
  return made;
}

int main() {
  const run own = train_and_write<naive>(), library = train_and_write<mtp::cpu>();
  double largest = 0;
  std::printf("step         naive           cpu\n");
  for (std::size_t step = 0; step < own.losses.size(); ++step) {
    const double a = own.losses[step], b = library.losses[step];
    largest = std::max(largest, std::abs(a - b) / b);
    if (step % 13 == 0) std::printf("%4zu  %.10f  %.10f\n", step, a, b);
  }
  std::printf("losses differ by %.1e of their value at most\n", largest);
  std::printf(
      "naive: the quick %s (%.2f tokens per pass)\n", own.text.c_str(), own.tokens_per_forward);
  std::printf("cpu:   the quick %s (%.2f tokens per pass)\n",
              library.text.c_str(),
              library.tokens_per_forward);
  const bool equal = own.text == library.text && own.drawn == library.drawn;
  return largest < 1e-10 && equal ? 0 : 1;
}

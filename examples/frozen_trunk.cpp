// Heads for a finished model: train a next-token model, give its trunk to a model with Medusa's
// heads, and train the heads alone. The text that the model writes stays the same, down to every
// bit of its logits; what grows is the share of drafts that are right.
//
//   frozen_trunk [FILE [STEPS]]    FILE is the text to learn, docs/mtp.md by default
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config base{.hidden_size = 64,
                                 .num_hidden_layers = 2,
                                 .max_position_embeddings = 256,
                                 .attention = {.num_attention_heads = 2},
                                 .feed_forward = {.intermediate_size = 176}};
constexpr mtp::model_config with_heads = [] {
  mtp::model_config config = base;
  config.prediction.kind = mtp::head_kind::independent;
  config.prediction.depth = 3;
  return config;
}();

constexpr mtp::index_t batch = 8, length = 64;

template <mtp::model_config Config>
using model_of = mtp::language_model<Config, mtp::cpu>;

/// The next-token logits of a model for the beginning of a text.
template <mtp::model_config Config>
std::vector<float> next_token_logits(mtp::context<mtp::cpu>& context,
                                     const model_of<Config>& model,
                                     const std::vector<std::uint8_t>& text) {
  mtp::model_loss<Config, mtp::cpu> loss(context, 1, length);
  const std::vector<mtp::token_t> tokens(text.begin(),
                                         text.begin() + length + 1 + Config.prediction.depth);
  std::vector<float> kept;  // [T, V]
  loss.visit_logits(context, model, {tokens, {}, {}, 1, length}, [&](std::size_t k, auto logits) {
    if (k == 0) kept.assign(logits.data(), logits.data() + logits.count());
  });
  return kept;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

int main(int count, char** arguments) {
  const char* const path = count > 1 ? arguments[1] : "docs/mtp.md";
  std::ifstream file(path, std::ios::binary);
  mtp::check(file.good(), "frozen_trunk: cannot read ", path);
  const std::vector<std::uint8_t> text(std::istreambuf_iterator<char>(file), {});
  const mtp::index_t steps = count > 2 ? std::atol(arguments[2]) : 200;
  const mtp::learning_rate_schedule rate{.peak = 5e-3, .warmup_steps = 5, .total_steps = steps};
  mtp::context<mtp::cpu> context;

  // A next-token model, as somebody else may have trained it.
  using base_trainer = mtp::trainer<base, mtp::cpu>;
  model_of<base> finished(context, mtp::seed{1});
  const mtp::dataset<> data(text, {}, {.window = base_trainer::window_of(length)});
  base_trainer training(
      context, finished, data, {.batch = batch, .length = length, .learning_rate = rate});
  for (mtp::index_t step = 0; step < steps; ++step) training.step();
  const std::vector<float> logits = next_token_logits(context, finished, text);

  // Its trunk under heads, each of which starts with the model's own output matrix.
  model_of<with_heads> model(context, mtp::seed{2});
  mtp::copy_trunk(model, finished);
  for (const auto& head : model.head_layout().depth) {
    mtp::copy(context,
              model.values().storage(head.output),
              model.values().storage(model.trunk_layout().output));
  }

  // heads_only: no gradient and no update reaches the trunk.
  using heads_trainer = mtp::trainer<with_heads, mtp::cpu>;
  const mtp::dataset<> longer(text, {}, {.window = heads_trainer::window_of(length)});
  mtp::train_options<with_heads> options;
  options.batch = batch;
  options.length = length;
  options.learning_rate = rate;
  options.loss.scope = mtp::gradient_scope::heads_only;
  heads_trainer heads(context, model, longer, options);

  mtp::generator<with_heads, mtp::cpu> generator(context, model);
  const std::vector<mtp::token_t> prompt(text.begin(), text.begin() + 32);
  std::printf("steps  next-token loss  drafts accepted   tokens per pass  logits\n");
  bool unchanged = true;
  std::vector<mtp::token_t> written;
  std::vector<double> per_pass;
  for (const mtp::index_t goal : {mtp::index_t{0}, steps / 4, steps}) {
    while (heads.state().step < goal) heads.step();
    const auto& result = generator.generate(prompt, {.max_new_tokens = 200});
    if (written.empty()) written = result.tokens;
    const bool same = same_bits(next_token_logits(context, model, text), logits);
    unchanged = unchanged && same && result.tokens == written;
    per_pass.push_back(result.tokens_per_forward());
    std::printf("%5td %16.4f %6.2f %4.2f %4.2f %15.2f    %s\n",
                goal,
                heads.validate(16).depths[0].loss,
                result.acceptance(0),
                result.acceptance(1),
                result.acceptance(2),
                per_pass.back(),
                same ? "the same bits" : "DIFFERENT");
  }
  return unchanged && per_pass.back() > per_pass.front() ? 0 : 1;
}

// All head kinds side by side: the same trunk, the same text, the same number of steps.
//
//   head_kinds [FILE [STEPS]]    FILE is the text to learn, docs/mtp.md by default
//
// Losses are in nats per byte of held-out text; the memory of training is that of activations, the
// memory of decoding that of caches and rows. Drafts are verified, so a kind that drafts writes
// what it writes without drafts; the example fails if it does not. A model this small sits in the
// processor's cache, where drafting has the least to gain: docs/mtp.md says why.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

using mtp::head_kind;

constexpr mtp::index_t batch = 8, length = 64;
constexpr int depth = 2;

constexpr mtp::model_config config_of(head_kind head) {
  return {.hidden_size = 64,
          .num_hidden_layers = 2,
          .max_position_embeddings = 256,
          .attention = {.num_attention_heads = 2},
          .feed_forward = {.intermediate_size = 176},
          .prediction = {.kind = head, .depth = head == head_kind::none ? 0 : depth}};
}

/// Trains a model of one kind, writes behind held-out prompts both ways, prints a row of the table.
/// Returns whether both ways wrote the same.
template <head_kind Head>
bool row(mtp::context<mtp::cpu>& context,
         const std::vector<std::uint8_t>& text,
         mtp::index_t steps) {
  constexpr mtp::model_config config = config_of(Head);
  using trainer_type = mtp::trainer<config, mtp::cpu>;
  using generator_type = mtp::generator<config, mtp::cpu>;
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(length)});
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  const mtp::learning_rate_schedule rate{
      .peak = 5e-3, .warmup_steps = steps / 20, .total_steps = steps};
  trainer_type trainer(
      context, model, data, {.batch = batch, .length = length, .learning_rate = rate});
  for (mtp::index_t step = 0; step < steps; ++step) trainer.step();
  const auto held_out = trainer.validate(64);

  generator_type generator(context, model);
  std::vector<mtp::token_t> prompt(static_cast<std::size_t>(data.window()));
  std::vector<std::int32_t> segments(prompt.size());
  std::array<double, 2> seconds{};
  double tokens = 0, passes = 0;
  bool same = true;
  for (mtp::index_t sample = 0; sample < 8; ++sample) {
    data.validation_sample(sample * data.validation_windows() / 8, prompt, segments);
    std::array<std::vector<mtp::token_t>, 2> written;
    for (const auto mode : {mtp::decode_mode::plain, mtp::decode_mode::speculative}) {
      const auto which = static_cast<std::size_t>(mode == mtp::decode_mode::speculative);
      const auto& result = generator.generate(prompt, {.mode = mode});
      written[which] = result.tokens;
      seconds[which] += result.decode_seconds;
      tokens += which == 1 ? static_cast<double>(result.tokens.size()) : 0.0;
      passes += which == 1 ? static_cast<double>(result.forward_passes) : 0.0;
    }
    same = same && written[0] == written[1];
  }

  std::printf("%-12s ", mtp::name_of(Head).data());
  for (std::size_t k = 0; k <= static_cast<std::size_t>(depth); ++k) {
    if (k < held_out.depths.size()) {
      std::printf("%6.3f ", held_out.depths[k].loss);
    } else {
      std::printf("%6s ", "-");
    }
  }
  std::printf("%8.2f ", tokens / passes);
  if (config.prediction.drafts()) {
    std::printf("%9.2f ", seconds[0] / seconds[1]);
  } else {
    std::printf("%9s ", "-");
  }
  constexpr double mib = 1 << 20;
  std::printf(
      "%11td %6.2f %7.2f%s\n",
      model.parameter_count(),
      static_cast<double>(mtp::model_loss<config, mtp::cpu>::activation_bytes(batch, length)) / mib,
      static_cast<double>(generator_type::decoder_type::memory_bytes()) / mib,
      same ? "" : "  THE TEXTS DIFFER");
  return same;
}

int main(int count, char** arguments) {
  const char* const path = count > 1 ? arguments[1] : "docs/mtp.md";
  std::ifstream file(path, std::ios::binary);
  mtp::check(file.good(), "head_kinds: cannot read ", path);
  const std::vector<std::uint8_t> text(std::istreambuf_iterator<char>(file), {});
  const mtp::index_t steps = count > 2 ? std::atol(arguments[2]) : 40;
  mtp::context<mtp::cpu> context({.threads = 1});  // one row of 64 numbers is no work for two
  std::printf("%td steps of %td bytes\n", steps, batch * length);
  std::puts("             ------- loss -------   tokens                           MiB to");
  std::puts("head           k=0    k=1    k=2  per pass  speed-up  parameters  train  decode");
  bool same = row<head_kind::none>(context, text, steps);
  same = row<head_kind::shared_logit>(context, text, steps) && same;
  same = row<head_kind::parallel>(context, text, steps) && same;
  same = row<head_kind::sequential>(context, text, steps) && same;
  same = row<head_kind::recurrent>(context, text, steps) && same;
  same = row<head_kind::independent>(context, text, steps) && same;
  return same ? 0 : 1;
}

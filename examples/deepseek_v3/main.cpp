// DeepSeek-V3 on two cores: latent attention, a mixture of experts and multi-token prediction,
// trained on this project's own pages beside dense models, from the same seed on the same text.
//
//   deepseek_v3 [STEPS [FILE.svg]]
//
// Runs one step if nothing is said. The file receives the load of each expert of the first router
// over the steps, as a picture.
//
// Losses are in nats per byte of held-out text. Drafts are verified, so what is written is the same
// with and without them; the example fails if it is not. docs/deepseek.md shows what some minutes
// of it give.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "load_picture.hpp"
#include "models.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace {

constexpr mtp::index_t batch = 8, length = 128;

/// The pages of docs, in the order of their names.
std::vector<std::uint8_t> pages() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator("docs")) {
    if (entry.path().extension() == ".md") paths.push_back(entry.path());
  }
  mtp::check(!paths.empty(), "deepseek_v3: expected pages in the folder docs");
  std::sort(paths.begin(), paths.end());
  std::vector<std::uint8_t> text;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    text.insert(text.end(), std::istreambuf_iterator<char>(file), {});
  }
  return text;
}

/// Trains a model, writes behind held-out prompts both ways, prints a row of the table. Returns
/// whether both ways wrote the same.
template <mtp::model_config Config>
bool row(const char* name,
         mtp::context<mtp::cpu>& context,
         const std::vector<std::uint8_t>& text,
         mtp::index_t steps,
         example::load_picture* picture = nullptr) {
  using trainer_type = mtp::trainer<Config, mtp::cpu>;
  const mtp::dataset<> data(text, {}, {.window = trainer_type::window_of(length)});
  mtp::language_model<Config, mtp::cpu> model(context, mtp::seed{1});
  const mtp::learning_rate_schedule rate{
      .peak = 2e-3, .warmup_steps = steps / 20, .total_steps = steps};
  trainer_type trainer(
      context, model, data, {.batch = batch, .length = length, .learning_rate = rate});
  const auto begin = std::chrono::steady_clock::now();
  mtp::expert_loads experts;
  for (mtp::index_t step = 0; step < steps; ++step) {
    experts = trainer.step().experts;
    if (picture != nullptr) picture->add(trainer.balance().loads().front());
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const auto held_out = trainer.validate(steps < 50 ? 4 : 64);

  mtp::generator<Config, mtp::cpu> generator(context, model);
  std::vector<mtp::token_t> prompt(static_cast<std::size_t>(data.window()));
  std::vector<std::int32_t> segments(prompt.size());
  constexpr auto depth = static_cast<std::size_t>(Config.prediction.depth);
  std::array<double, depth> drafted{}, accepted{};
  double tokens = 0, passes = 0;
  const mtp::index_t prompts = steps < 50 ? 1 : 8;
  bool same = true;
  for (mtp::index_t sample = 0; sample < prompts; ++sample) {
    data.validation_sample(sample * data.validation_windows() / prompts, prompt, segments);
    mtp::generate_options<float, mtp::cpu> options{.mode = mtp::decode_mode::plain,
                                                   .max_new_tokens = steps < 50 ? 24 : 200};
    const auto plain = generator.generate(prompt, options).tokens;
    options.mode = mtp::decode_mode::speculative;
    const auto& result = generator.generate(prompt, options);
    same = same && plain == result.tokens;
    tokens += static_cast<double>(result.tokens.size());
    passes += static_cast<double>(result.forward_passes);
    for (std::size_t k = 0; k < depth; ++k) {
      drafted[k] += static_cast<double>(result.drafted[k]);
      accepted[k] += static_cast<double>(result.accepted[k]);
    }
  }

  const double rate_of_tokens =
      static_cast<double>(steps * trainer.tokens_per_step()) / seconds.count();
  std::printf("%-22s %5.1f %8.0f %7.3f %11.2f   ",
              name,
              static_cast<double>(model.parameter_count()) / 1e6,
              rate_of_tokens,
              held_out.depths[0].loss,
              tokens / passes);
  for (std::size_t k = 0; k < depth; ++k) {
    std::printf(" %.2f", drafted[k] > 0 ? accepted[k] / drafted[k] : 0.0);
  }
  if (experts.layers > 0) {
    std::printf("   loads %.2f to %.2f of the mean", experts.smallest, experts.largest);
  }
  std::puts(same ? "" : "  THE TEXTS DIFFER");
  std::fflush(stdout);
  return same;
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::uint8_t> text = pages();
  const mtp::index_t steps = count > 1 ? std::atol(arguments[1]) : 1;
  mtp::check(steps > 0, "deepseek_v3: expected a positive number of steps");
  mtp::context<mtp::cpu> context;
  std::printf("%td steps of %td bytes\n", steps, batch * length);
  std::puts("                       mill.  tokens/s    loss  tokens per   accepted, by depth");
  std::puts("model                 param.             k = 0        pass");
  example::load_picture picture;
  bool same = row<example::deepseek_v3(1)>("experts, D = 1", context, text, steps, &picture);
  same = row<example::deepseek_v3(3)>("experts, D = 3", context, text, steps) && same;
  same = row<example::same_active>("dense, active size", context, text, steps) && same;
  same = row<example::same_total>("dense, total size", context, text, steps) && same;
  if (count > 2) picture.write(arguments[2]);
  return same ? 0 : 1;
}

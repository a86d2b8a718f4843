// Pages 2 to 4 of docs/guide: a model, its training, and a run that is saved and resumed.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/train.hpp"
#include "mtp/mtp.hpp"

constexpr mtp::model_config config{.vocab_size = 256,  // bytes
                                   .hidden_size = 64,
                                   .num_hidden_layers = 2,
                                   .max_position_embeddings = 256,
                                   .attention = {.num_attention_heads = 2},
                                   .feed_forward = {.intermediate_size = 176},
                                   .prediction = {.kind = mtp::head_kind::sequential, .depth = 2}};

using model_type = mtp::language_model<config, mtp::cpu>;
using trainer_type = mtp::trainer<config, mtp::cpu>;

std::vector<std::uint8_t> bytes_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int main() {
  // Page 2: a model.
  mtp::context<mtp::cpu> context;
  model_type model(context, mtp::seed{42});
  std::printf("%td parameters\n", model_type::parameter_count());

  // Page 3: training.
  const mtp::dataset<> data(
      bytes_of("docs/mtp.md"), {}, {.window = trainer_type::window_of(64), .seed = mtp::seed{1}});
  const mtp::train_options<config> options{
      .batch = 8,
      .length = 64,
      .learning_rate = {.peak = 5e-3, .warmup_steps = 10, .total_steps = 120}};
  trainer_type trainer(context, model, data, options);
  while (trainer.state().step < 60) {
    const auto report = trainer.step();
    if (report.step % 20 == 0) {
      std::printf("step %3d: %.3f nats per byte\n",
                  static_cast<int>(report.step),
                  report.loss.depths[0].loss);
    }
  }
  const auto held_out = trainer.validate(16);
  for (int k = 0; k <= config.prediction.depth; ++k) {
    std::printf("held out, %d ahead: %.3f nats, %.0f %% right\n",
                k + 1,
                held_out.depths[static_cast<std::size_t>(k)].loss,
                100 * held_out.depths[static_cast<std::size_t>(k)].agreement);
  }

  // Page 4: save, resume.
  const auto folder = std::filesystem::temp_directory_path() / "mtp-guide";
  std::filesystem::create_directories(folder);
  const auto path = folder / "run.safetensors";
  mtp::io::save_checkpoint(path, trainer);

  model_type other(context, mtp::seed{0});
  trainer_type resumed(context, other, data, options);
  mtp::io::load_checkpoint(path, resumed);
  std::printf("resumed at step %d\n", static_cast<int>(resumed.state().step));
  const double here = trainer.step().loss.total, there = resumed.step().loss.total;
  std::printf("the next losses are %s\n", here == there ? "equal, bit for bit" : "different");

  // The same steps by a loop that looks at held-out text, saves, and may be stopped.
  const auto look = [](const auto& done) {
    if (!done.validation) return mtp::io::after_step::go_on;
    const double loss = done.validation->depths[0].loss;
    const int step = static_cast<int>(done.step.step);
    std::printf("step %3d: held out %.3f nats%s\n", step, loss, done.best ? ", the best" : "");
    return loss < 1.5 ? mtp::io::after_step::stop : mtp::io::after_step::go_on;
  };
  const auto outcome = mtp::io::train(
      trainer, {.steps = 90, .validate_every = 10, .checkpoint = path, .save_every = 20}, look);
  std::printf("%d steps, best at %d, which %s keeps\n",
              static_cast<int>(outcome.steps),
              static_cast<int>(outcome.best_step),
              mtp::io::best_checkpoint(path).filename().c_str());

  // The parameters alone, for a program that only generates.
  model_type reader(context, mtp::seed{0});
  mtp::io::load_parameters(path, reader);
  std::filesystem::remove_all(folder);
  return here == there ? 0 : 1;
}

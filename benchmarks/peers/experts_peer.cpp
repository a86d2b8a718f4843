// Trains the small DeepSeek-V3 of examples/deepseek_v3 on command, next token only, so that
// alternate.py can let it take turns with train_experts.py. Reads commands line by line:
//
//   step          one training step                       prints its milliseconds
//   quit
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "models.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace {

constexpr mtp::model_config config = [] {
  mtp::model_config made = example::deepseek_v3(1);
  made.prediction = {.kind = mtp::head_kind::none, .depth = 0};
  return made;
}();

std::vector<std::uint8_t> random_text() {
  const mtp::random_stream random(mtp::seed{1}, 0);
  std::vector<std::uint8_t> text(1 << 20);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>(random.bits(i));
  }
  return text;
}

template <class S>
void serve(int threads) {
  using trainer_type = mtp::trainer<config, mtp::cpu, S>;
  constexpr mtp::index_t batch = 16, length = 256;
  mtp::context<mtp::cpu> context({.threads = threads});
  const mtp::dataset<> data(random_text(), {}, {.window = trainer_type::window_of(length)});
  mtp::language_model<config, mtp::cpu, S> model(context, mtp::seed{1});
  trainer_type trainer(context, model, data, {.batch = batch, .length = length});
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    const auto start = std::chrono::steady_clock::now();
    trainer.step();
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - start;
    std::printf("%.4f\n", spent.count());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int count, char** arguments) {
  int threads = 2;
  std::string type = "f32";
  for (int i = 1; i + 1 < count; i += 2) {
    if (std::strcmp(arguments[i], "--threads") == 0) threads = std::atoi(arguments[i + 1]);
    if (std::strcmp(arguments[i], "--type") == 0) type = arguments[i + 1];
  }
  type == "bf16" ? serve<mtp::bf16>(threads) : serve<float>(threads);
}

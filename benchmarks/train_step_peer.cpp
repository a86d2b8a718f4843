// One training step of the small model of benchmarks/peers at a time, on command: the line "step"
// runs one and prints its milliseconds, "quit" ends. benchmarks/peers/alternate.py lets it take
// turns with another implementation.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

namespace {

constexpr mtp::model_config small(mtp::head_kind head, int depth) {
  return {.vocab_size = 256,
          .hidden_size = 256,
          .num_layers = 4,
          .num_heads = 4,
          .intermediate_size = 704,
          .max_positions = 256,
          .head = head,
          .depth = depth};
}

template <mtp::model_config Config>
int serve(int threads) {
  using trainer_type = mtp::trainer<Config, mtp::cpu>;
  constexpr mtp::index_t length = 256, batch = 16;
  mtp::context<mtp::cpu> context({.threads = threads});
  const mtp::random_stream random(mtp::seed{1}, 0);
  std::vector<std::uint8_t> text(1 << 20);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>(random.bits(i));
  }
  const mtp::dataset<> data(std::move(text), {}, {.window = trainer_type::window_of(length)});
  mtp::language_model<Config, mtp::cpu> model(context, mtp::seed{1});
  mtp::train_options<Config> options;
  options.batch = batch;
  options.length = length;
  trainer_type trainer(context, model, data, options);
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    if (line == "step") {
      const auto start = std::chrono::steady_clock::now();
      static_cast<void>(trainer.step());
      const std::chrono::duration<double, std::milli> spent =
          std::chrono::steady_clock::now() - start;
      std::printf("%.3f\n", spent.count());
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string head = "none";
  int depth = 0, threads = 2;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--head") {
      head = argv[i + 1];
    } else if (name == "--depth") {
      depth = std::atoi(argv[i + 1]);
    } else if (name == "--threads") {
      threads = std::atoi(argv[i + 1]);
    }
  }
  using mtp::head_kind;
  if (head == "none" && depth == 0) {
    return serve<small(head_kind::none, 0)>(threads);
  }
  if (head == "sequential" && depth == 1) {
    return serve<small(head_kind::sequential, 1)>(threads);
  }
  if (head == "sequential" && depth == 4) {
    return serve<small(head_kind::sequential, 4)>(threads);
  }
  if (head == "parallel" && depth == 3) {
    return serve<small(head_kind::parallel, 3)>(threads);
  }
  std::fprintf(stderr, "train_step_peer: no model for --head %s --depth %d\n", head.c_str(), depth);
  return 2;
}

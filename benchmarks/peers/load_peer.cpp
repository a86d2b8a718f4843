// Loads a checkpoint of SmolLM2-135M's shape on command, so that load.py can time it beside the
// Python package. Reads commands line by line:
//
//   write  saves random parameters in the names of Llama to FOLDER
//   time   loads them; prints seconds
//   quit
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/save.hpp"

namespace mtp::bench {
namespace {

constexpr model_config shape{.vocab_size = 49152,
                             .hidden_size = 576,
                             .num_hidden_layers = 30,
                             .max_position_embeddings = 2048,
                             .attention = {.num_attention_heads = 9, .num_key_value_heads = 3},
                             .feed_forward = {.intermediate_size = 1536},
                             .tie_word_embeddings = true};

void serve(const std::string& folder) {
  cpu_context context;
  language_model<shape, cpu, bf16> model(context, seed{1});
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    if (line == "write") {
      io::save_parameters(folder, model, io::llama_names);
      std::printf("written\n");
    } else if (line == "time") {
      const auto begin = std::chrono::steady_clock::now();
      const auto report = io::load_pretrained(folder, model, io::llama_names);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      std::printf("%.6f %lld\n", seconds.count(), static_cast<long long>(report.tensors));
    } else {
      std::fprintf(stderr, "load_peer: cannot %s\n", line.c_str());
      return;
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace mtp::bench

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: load_peer FOLDER\n");
    return 2;
  }
  try {
    mtp::bench::serve(argv[1]);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "load_peer: %s\n", fault.what());
    return 1;
  }
  return 0;
}

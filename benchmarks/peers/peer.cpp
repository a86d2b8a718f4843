// Trains or decodes with one of the models of benchmarks/models on command, so that alternate.py
// can let it take turns with another implementation. Reads commands line by line:
//
//   step          one training step                       prints its milliseconds
//   tokens N      writes N tokens, greedily                prints the milliseconds of all
//   pass M        a pass over M rows with logits           prints its milliseconds
//   text N        writes N tokens                          prints the tokens
//   save FILE     parameters, see models.hpp               prints "saved"
//   quit
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "models.hpp"

namespace {

using mtp::index_t;
using mtp::bench::decoding_run;
using mtp::bench::training_run;

constexpr index_t prompt_length = 64;

mtp::head_kind kind_of(const std::string& name) {
  using mtp::head_kind;
  for (const head_kind kind : {head_kind::none,
                               head_kind::sequential,
                               head_kind::recurrent,
                               head_kind::parallel,
                               head_kind::independent,
                               head_kind::shared_logit}) {
    if (name_of(kind) == name) {
      return kind;
    }
  }
  std::fprintf(stderr, "peer: no head is called %s\n", name.c_str());
  std::exit(2);
}

void answer(double milliseconds) {
  std::printf("%.4f\n", milliseconds);
  std::fflush(stdout);
}

void serve_training(training_run& run) {
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    if (line == "step") {
      const auto start = std::chrono::steady_clock::now();
      run.step();
      const std::chrono::duration<double, std::milli> spent =
          std::chrono::steady_clock::now() - start;
      answer(spent.count());
    }
  }
}

void serve_decoding(decoding_run& run) {
  const std::vector<mtp::token_t> prompt(prompt_length, 7);
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "save") {
      std::string path;
      std::getline(words >> std::ws, path);
      std::ofstream file(path, std::ios::binary);
      run.write_parameters(file);
      std::puts(file.flush() ? "saved" : "cannot write");
      std::fflush(stdout);
      continue;
    }
    index_t count = 0;
    words >> count;
    if (command == "tokens") {
      answer(1e3 * run.generate(prompt, count, false).seconds);
    } else if (command == "pass") {
      run.prefill(prompt);
      run.pass(count);  // the threads wake up
      answer(1e3 * run.pass(count));
    } else if (command == "text") {
      for (const mtp::token_t token : run.generate(prompt, count, false).tokens) {
        std::printf("%d ", token);
      }
      std::puts("");
      std::fflush(stdout);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options = {
      {"--task", "train"}, {"--model", "small"}, {"--head", "none"}, {"--depth", "0"}};
  options["--threads"] = "2";
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc || !options.contains(argv[i])) {
      std::fprintf(stderr, "peer: unknown or incomplete option %s\n", argv[i]);
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  const int depth = std::atoi(options["--depth"].c_str());
  const int threads = std::atoi(options["--threads"].c_str());
  if (options["--task"] == "train") {
    if (const auto run = mtp::bench::make_training(kind_of(options["--head"]), depth, threads)) {
      serve_training(*run);
      return 0;
    }
  } else {
    // Without parameters of its own; logits of up to 8 rows.
    constexpr auto head = mtp::head_kind::shared_logit;
    const auto run = mtp::bench::make_decoding(
        options["--model"] == "large" ? mtp::bench::large(head, 7) : mtp::bench::small(head, 7),
        threads);
    serve_decoding(*run);
    return 0;
  }
  std::fprintf(
      stderr, "peer: no model for --head %s --depth %d\n", options["--head"].c_str(), depth);
  return 2;
}

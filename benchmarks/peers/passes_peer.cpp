// Decodes with one of the models of benchmarks/models on command, so that alternate.py can let it
// take turns with another implementation. Reads commands line by line:
//
//   tokens N      writes N tokens, greedily                prints the milliseconds of all
//   pass M        a pass over M rows with logits           prints its milliseconds
//   text N        writes N tokens                          prints the tokens
//   save FILE     parameters, see models.hpp               prints "saved"
//   quit
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "models.hpp"
#include "waking.hpp"

namespace {

using mtp::index_t;
using mtp::bench::decoding_run;

constexpr index_t prompt_length = 64;

void answer(double milliseconds) {
  std::printf("%.4f\n", milliseconds);
  std::fflush(stdout);
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
      mtp::bench::wake_up([&] { run.pass(count); });
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
  std::map<std::string, std::string> options = {{"--model", "small"}, {"--threads", "2"}};
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc || !options.contains(argv[i])) {
      std::fprintf(stderr, "passes_peer: unknown or incomplete option %s\n", argv[i]);
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  // Without parameters of its own; logits of up to 8 rows.
  constexpr auto head = mtp::head_kind::shared_logit;
  const auto run = mtp::bench::make_decoding(
      options["--model"] == "large" ? mtp::bench::large(head, 7) : mtp::bench::small(head, 7),
      std::atoi(options["--threads"].c_str()));
  serve_decoding(*run);
}

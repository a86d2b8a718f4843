// Trains one of the models of benchmarks/models on command, so that alternate.py can let it take
// turns with another implementation. Reads commands line by line:
//
//   step          one training step                       prints its milliseconds
//   quit
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <string>

#include "training_models.hpp"

namespace {

using mtp::bench::training_run;

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
  std::fprintf(stderr, "training_peer: no head is called %s\n", name.c_str());
  std::exit(2);
}

std::unique_ptr<training_run> make(std::map<std::string, std::string>& options) {
  const mtp::head_kind head = kind_of(options["--head"]);
  const int depth = std::atoi(options["--depth"].c_str());
  const int threads = std::atoi(options["--threads"].c_str());
  const std::string model = options["--model"] + " " + options["--type"];
  if (model == "small f32") return mtp::bench::make_training(head, depth, threads);
  if (model == "small bf16") return mtp::bench::make_small_bf16(head, depth, threads);
  if (model == "large f32") return mtp::bench::make_large_f32(head, depth, threads);
  if (model == "large bf16") return mtp::bench::make_large_bf16(head, depth, threads);
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options = {{"--model", "small"},
                                                {"--type", "f32"},
                                                {"--head", "none"},
                                                {"--depth", "0"},
                                                {"--threads", "2"}};
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc || !options.contains(argv[i])) {
      std::fprintf(stderr, "training_peer: unknown or incomplete option %s\n", argv[i]);
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  const auto run = make(options);
  if (!run) {
    std::fprintf(stderr,
                 "training_peer: no %s model of %s for --head %s --depth %s\n",
                 options["--model"].c_str(),
                 options["--type"].c_str(),
                 options["--head"].c_str(),
                 options["--depth"].c_str());
    return 2;
  }
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    if (line == "step") {
      const auto start = std::chrono::steady_clock::now();
      run->step();
      const std::chrono::duration<double, std::milli> spent =
          std::chrono::steady_clock::now() - start;
      std::printf("%.4f\n", spent.count());
      std::fflush(stdout);
    }
  }
}

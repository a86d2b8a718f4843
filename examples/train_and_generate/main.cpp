// Trains a byte-level language model with multi-token prediction on text, then writes with it,
// token by token and speculatively, and reports whether both wrote the same and which was faster.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <string>

#include "models.hpp"
#include "mtp/core/error.hpp"
#include "options.hpp"

namespace {

using runner = int (*)(const example::program_options&);

using runner_map = std::map<std::string, runner>;

const runner_map runners{
    {"none", example::run_none},
    {"sequential", example::run_sequential},
    {"parallel", example::run_parallel},
    {"independent", example::run_independent},
    {"recurrent", example::run_recurrent},
    {"shared_logit", example::run_shared_logit},
};

/// By backend, as far as this program is built for them.
const std::map<std::string, runner_map> backends {
  {"cpu", runners},
#if defined(MTP_EXAMPLE_CUDA)
      {"cuda",
       {{"none", example::run_none_on_cuda},
        {"sequential", example::run_sequential_on_cuda},
        {"parallel", example::run_parallel_on_cuda},
        {"independent", example::run_independent_on_cuda},
        {"recurrent", example::run_recurrent_on_cuda},
        {"shared_logit", example::run_shared_logit_on_cuda}}},
#endif
};

int run(const example::program_options& options) {
  const auto backend = backends.find(options.backend);
  mtp::check(backend != backends.end(),
             "this program is built without the backend ",
             options.backend,
             "; configure with the preset cuda, which needs nvcc");
  mtp::check(options.backend == "cpu" || options.depth == 3 || options.head == "none",
             "on the GPU the program is compiled for depth 3, not for ",
             options.depth);
  return backend->second.at(options.head)(options);
}

}  // namespace

int main(int argc, char** argv) {
  example::program_options options;
  CLI::App app{
      "Trains a byte-level model with multi-token prediction, then decodes with and without it."};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option(
         "--text",
         options.text,
         "file or folder to learn from (default: this repository's headers and documentation)")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("FILE|DIR");
  app.add_option("--head", options.head, "head kind")
      ->check(CLI::IsMember(runners))
      ->capture_default_str();
  app.add_option("--backend", options.backend, "where to compute")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--depth", options.depth, "tokens predicted beyond the next one (compiled: 1, 3)")
      ->check(CLI::IsMember(std::vector<int>(std::begin(example::compiled_depths),
                                             std::end(example::compiled_depths))))
      ->capture_default_str();
  app.add_option("--steps", options.steps, "training steps in all")
      ->check(CLI::Range(1L, 1000000000L))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "seed of parameters and of the order of the text")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "threads of the CPU; 0: all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--resume",
               options.resume,
               "continue from the checkpoint in the output folder, with the same options");
  app.add_option("--out", options.out, "folder for checkpoint, metrics.csv and report.html")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--batch", options.batch, "sequences of a step")
      ->check(CLI::Range(1L, 65536L))
      ->capture_default_str();
  app.add_option("--length", options.length, "bytes of a sequence")
      ->check(CLI::Range(1L, 512L))
      ->capture_default_str();
  app.add_option("--learning-rate", options.learning_rate, "peak learning rate")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option(
         "--lambda", options.lambda, "weight of the deeper losses (default: the head kind's own)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option(
         "--save-every", options.save_every, "steps between checkpoints; 0: only at the end")
      ->check(CLI::Range(0L, 1000000000L))
      ->capture_default_str();
  app.add_option("--new-tokens", options.new_tokens, "bytes to write per prompt")
      ->check(CLI::Range(1L, 511L))
      ->capture_default_str();
  app.add_option("--prompt",
                 options.prompts,
                 "text to continue, may be repeated (default: from the held-out text)")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  CLI11_PARSE(app, argc, argv);

  if (options.head == "none") {
    options.depth = 0;
  }
  if (options.text.empty()) {
    options.short_indentation = true;
    const std::filesystem::path root = MTP_EXAMPLE_SOURCE_DIR;
    for (const char* part : {"include", "docs", "README.md"}) {
      if (std::filesystem::exists(root / part)) {
        options.text.push_back(root / part);
      }
    }
  }
  try {
    return run(options);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "train_and_generate: %s\n", problem.what());
    return 2;
  }
}

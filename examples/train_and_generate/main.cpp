// Trains a byte-level language model with multi-token prediction on text, then writes with it,
// token by token and speculatively, and reports whether both wrote the same and which was faster.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "models.hpp"
#include "mtp/core/allowed_threads.hpp"
#include "options.hpp"
#include "ranks.hpp"
#ifdef MTP_EXAMPLE_MPI
#include "mtp/distributed/mpi_session.hpp"
#endif

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

int run(example::program_options options) {
  const auto backend = backends.find(options.backend);
  if (backend == backends.end()) {
    throw example::wrong_use(
        fmt::format("this program is built without the backend {}; configure with the preset cuda, "
                    "which needs nvcc",
                    options.backend));
  }
  if (options.backend != "cpu" && options.depth != 3 && options.head != "none") {
    throw example::wrong_use(
        fmt::format("on the GPU the program is compiled for depth 3, not for {}", options.depth));
  }
  if (options.distributed && options.backend != "cpu") {
    throw example::wrong_use("--distributed: ranks train on CPUs here");
  }
  const int cores = mtp::allowed_threads();
  if (options.group != nullptr && options.threads == 0) {
    options.threads = std::max(1, cores / example::ranks_of_this_machine(options.group->size()));
  }
  if (options.threads > cores) {
    std::fputs(fmt::format("train_and_generate: {} threads on {} core{}: they wait for each other, "
                           "so that {} would be faster\n",
                           options.threads,
                           cores,
                           cores == 1 ? "" : "s",
                           cores)
                   .c_str(),
               stderr);
  }
  return backend->second.at(options.head)(options);
}

/// The same on all ranks that a launcher of MPI has started.
int run_distributed(int argc, char** argv, const example::program_options& options) {
#ifdef MTP_EXAMPLE_MPI
  return mtp::mpi_session::run(argc, argv, [&](mtp::mpi_communicator& world) {
    example::ranks group(world.split(0, world.rank()));
    example::program_options own = options;
    own.group = &group;
    return run(std::move(own));
  });
#else
  static_cast<void>(argc);
  static_cast<void>(argv);
  static_cast<void>(options);
  throw example::wrong_use(
      "--distributed: this program is built without MPI, which CMake did not find (Debian: "
      "libopenmpi-dev)");
#endif
}

// As a shell would read it.
std::string command_line(int argc, char** argv) {
  std::string all;
  for (int i = 0; i < argc; ++i) {
    std::string word = argv[i];
    const bool is_plain =
        !word.empty() && word.find_first_not_of(
                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "_-+=./,:@%") == word.npos;
    if (!is_plain) {
      for (std::size_t at = 0; (at = word.find('\'', at)) != word.npos; at += 4) {
        word.replace(at, 1, "'\\''");
      }
      word = "'" + word + "'";
    }
    all += (i > 0 ? " " : "") + word;
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that is too large is an error with a message
  example::program_options options;
  options.command = command_line(argc, argv);
  CLI::App app{
      "Trains a byte-level model with multi-token prediction, then decodes with and without it."};
  app.footer(
      "Exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted by SIGINT or SIGTERM. The "
      "first\n"
      "of these saves a checkpoint, the second ends the program at once.");
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
  app.add_option("--steps", options.steps, "training steps in all; may grow on --resume")
      ->check(CLI::Range(1L, 1000000000L))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "seed of parameters and of the order of the text")
      ->capture_default_str();
  app.add_option(
         "--threads", options.threads, "threads of the CPU; 0: all that the process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--distributed",
               options.distributed,
               "train on all processes that mpirun or srun has started; rank 0 writes");
  app.add_flag("--resume",
               options.resume,
               "continue from the checkpoint in the output folder, with the same options");
  app.add_flag("--overwrite", options.overwrite, "give up a run that the output folder holds");
  app.add_option(
         "--out", options.out, "folder for checkpoint, metrics.csv, report.html and result.json")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--batch", options.batch, "sequences of a pass")
      ->check(CLI::Range(1L, 65536L))
      ->capture_default_str();
  app.add_option(
         "--passes",
         options.passes,
         "passes of a step, each with as many sequences as --batch says; 0: one for each rank")
      ->check(CLI::Range(0L, 65536L))
      ->capture_default_str();
  app.add_option("--length", options.length, "bytes of a sequence")
      ->check(CLI::Range(1L, 512L))
      ->capture_default_str();
  app.add_option("--learning-rate",
                 options.learning_rate,
                 "peak learning rate (default: what fits the model's width)")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option(
         "--lambda", options.lambda, "weight of the deeper losses (default: the head kind's own)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option(
         "--save-every", options.save_every, "steps between checkpoints; 0: only at the end")
      ->check(CLI::Range(0L, 1000000000L))
      ->capture_default_str();
  app.add_option("--keep", options.keep, "checkpoints that are kept, the latest among them")
      ->check(CLI::Range(1L, 1000L))
      ->capture_default_str();
  app.add_option("--new-tokens", options.new_tokens, "bytes to write per prompt")
      ->check(CLI::Range(1L, 511L))
      ->capture_default_str();
  app.add_option("--temperature",
                 options.temperature,
                 "of the text that the report shows as drawn at random; 0: none is")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--compare",
                 options.compared,
                 "folder of a finished run on the same text, to stand beside this one in the "
                 "report; may be repeated")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("DIR");
  app.add_option("--prompt",
                 options.prompts,
                 "text to continue, may be repeated (default: from the held-out text)")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }

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
  const auto complain = [](std::string_view about) {
    std::fputs(fmt::format("train_and_generate: {}\n", about).c_str(), stderr);
  };
  try {
    if (options.resume && options.overwrite) {
      throw example::wrong_use("--resume and --overwrite exclude each other");
    }
    return options.distributed ? run_distributed(argc, argv, options) : run(options);
  } catch (const example::wrong_use& problem) {
    complain(problem.what());
    return 2;
  } catch (const std::exception& problem) {
    complain(problem.what());
    return 1;
  }
}

// What the command line says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace example {

/// What the command line asks for makes no sense, or not here.
class wrong_use : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ranks;

struct program_options {
  std::string command;                      // as it was given
  std::vector<std::filesystem::path> text;  // files or folders
  bool short_indentation = false;           // see shorten_indentation
  std::string head = "sequential";
  int depth = 3;
  long steps = 1600;
  std::uint64_t seed = 1;
  std::string backend = "cpu";
  int threads = 0;
  bool distributed = false;
  ranks* group = nullptr;  // null: this process alone
  bool resume = false;
  bool overwrite = false;
  std::filesystem::path out = "out";
  double learning_rate = -1;  // negative: what fits the model's width
  double lambda = -1;         // negative: the head kind's own
  long batch = 4;
  long length = 128;
  long passes = 0;  // of a step; 0: one for each rank
  long save_every = 500;
  long keep = 1;
  long new_tokens = 128;
  double temperature = 0.8;          // of the text that is drawn for the report; 0: none is
  std::vector<std::string> prompts;  // empty: from the held-out text
  std::vector<std::filesystem::path> compared;  // folders of finished runs
};

/// Trains, saves, decodes and reports with one head kind and one of the compiled depths. Returns
/// the exit status. One translation unit each instantiates the models of a head kind.
int run_none(const program_options& options);
int run_sequential(const program_options& options);
int run_parallel(const program_options& options);
int run_independent(const program_options& options);
int run_recurrent(const program_options& options);
int run_shared_logit(const program_options& options);

/// The same on a GPU, where the program is built with CUDA.
int run_none_on_cuda(const program_options& options);
int run_sequential_on_cuda(const program_options& options);
int run_parallel_on_cuda(const program_options& options);
int run_independent_on_cuda(const program_options& options);
int run_recurrent_on_cuda(const program_options& options);
int run_shared_logit_on_cuda(const program_options& options);

}  // namespace example

// A model that the program has saved, for programs that write with it: every kind behind one type.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate_options.hpp"

namespace example {

/// What a text took.
struct writing_figures {
  mtp::index_t tokens = 0;
  double tokens_per_forward = 0;
  std::vector<double> acceptance{};  // 0..1 per draft position; empty: nothing was drafted
  double seconds = 0;                // without the prompt
};

class saved_model {
 public:
  using options_type = mtp::generate_options<float, mtp::cpu>;

  virtual ~saved_model() = default;
  /// Continues the prompt, as mtp::generator::generate does.
  virtual writing_figures write(std::span<const mtp::token_t> prompt,
                                const options_type& options) = 0;
  /// Tokens that it reads in all, prompt and continuation.
  virtual mtp::index_t positions() const = 0;
};

/// The model in the folder of a run. Throws wrong_use if the folder holds none; mtp::error if its
/// checkpoint cannot be read, or is of a model that the program is not compiled for.
std::unique_ptr<saved_model> open_saved_model(const std::filesystem::path& folder, int threads);

/// A checkpoint of one head kind, and what it is opened with.
struct checkpoint_choice {
  std::filesystem::path path;
  int depth = 0;  // one of those that the kind is compiled for
  int threads = 0;
};

/// The same for one head kind, each in the file that also instantiates the kind's training.
std::unique_ptr<saved_model> open_none(const checkpoint_choice& choice);
std::unique_ptr<saved_model> open_sequential(const checkpoint_choice& choice);
std::unique_ptr<saved_model> open_parallel(const checkpoint_choice& choice);
std::unique_ptr<saved_model> open_independent(const checkpoint_choice& choice);
std::unique_ptr<saved_model> open_recurrent(const checkpoint_choice& choice);
std::unique_ptr<saved_model> open_shared_logit(const checkpoint_choice& choice);

}  // namespace example

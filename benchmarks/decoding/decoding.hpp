// What decoding is measured with, whatever the model: files of models include language_models.hpp,
// programs this alone.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mtp/model/model_config.hpp"

namespace mtp::bench {

/// What a head drafts, by construction and not by training, so that what is measured is the
/// library. All arithmetic runs the same.
enum class draft_fate {
  accepted,  ///< all of them
  rejected,  ///< all of them
};

/// How sequences are written.
struct writing_options {
  index_t sequences = 1;
  index_t context = 0;    ///< tokens of each prompt
  index_t drafts = 0;     ///< in a cycle; 0: plain decoding
  bool adaptive = false;  ///< up to so many, as long as they pay
};

/// Sequences behind their prompts, which go on when they are asked to. Several of these take turns.
class writing {
 public:
  virtual ~writing() = default;
  /// Runs cycles until each sequence has at least `tokens` more. Returns tokens per second, of all
  /// sequences together.
  virtual double go_on(index_t tokens) = 0;
  /// Of all drafts so far, the share that was accepted; 0 where there was none.
  virtual double acceptance() const = 0;
};

/// Passes of the trunk behind a context, with logits of all rows.
class row_passes {
 public:
  static constexpr index_t most = 16;  ///< rows

  virtual ~row_passes() = default;
  /// Seconds of a pass over M rows of one sequence, which is afterwards what it was.
  virtual double of_one_sequence(index_t M) = 0;
  /// Seconds of a pass over one row of each of M sequences, which grow by a token.
  virtual double of_sequences(index_t M) = 0;
};

/// A model with parameters of its own. Throws mtp::error as the library does.
class decoding_model {
 public:
  virtual ~decoding_model() = default;
  virtual std::unique_ptr<writing> write(const writing_options& options) = 0;
  /// Nothing for a model that drafts.
  virtual std::unique_ptr<row_passes> passes(index_t context) = 0;
};

/// A model that a program can make.
struct model_entry {
  std::string size;               ///< a name for its sizes
  const char* type = "";          ///< of its parameters
  model_config config;            ///< a head that drafts, or one for passes over rows
  std::vector<index_t> contexts;  ///< to measure at
  index_t turn = 0;               ///< tokens that a sequence writes before it is another's turn
  std::function<std::unique_ptr<decoding_model>(draft_fate, int threads)> make;
};

/// Called once for each model that is linked in, before main(): the program's own.
void add_model(const model_entry& entry);

}  // namespace mtp::bench

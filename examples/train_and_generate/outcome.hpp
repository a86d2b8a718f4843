// What training and decoding hand to the presentation: plain data, so that what formats it is
// compiled once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "measured.hpp"
#include "options.hpp"
#include "run_folder.hpp"
#include "run_result.hpp"
#include "written_text.hpp"

namespace example {

/// One step, or one point of a curve: lists hold one value per depth.
struct step_record {
  long step = 0;
  long tokens = 0;
  double learning_rate = 0;
  double lambda = 0;
  double grad_norm = 0;
  double tokens_per_s = 0;
  std::vector<double> train_loss;       // nats per byte
  std::vector<double> train_agreement;  // 0..1
  std::vector<double> val_loss;         // nats per byte; empty: not measured at this step
  bool skipped = false;                 // loss or gradients were not finite
};

struct training_outcome {
  std::vector<step_record> curve;  // of the whole run, also of the part before --resume
  std::vector<double> val_loss;    // nats per byte, over all of the held-out text
  long val_windows = 0;            // of it
  long curve_windows = 0;          // behind each val_loss of the curve
  double tokens_per_s = 0;         // of training steps alone; 0 if none was ever made
  long tokens_per_step = 0;
  long steps = 0;
  std::string warning;  // about losses, if there was something to say
  bool interrupted = false;
};

/// What was written behind a prompt.
struct continuation {
  std::string prompt;
  written_text text;
  written_text drawn;  // instead of `text`, at random; empty: none was
};

/// Which of `count` prompts the report shows: four, spread over all of them.
inline std::vector<std::size_t> shown_of(std::size_t count) {
  const std::size_t most = count < 4 ? count : 4;
  std::vector<std::size_t> shown;
  for (std::size_t i = 0; i < most; ++i) shown.push_back(i * count / most);
  return shown;
}

struct decoding_outcome {
  measured plain_tokens_per_s;
  measured speculative_tokens_per_s;
  measured speedup;  // of the rounds, in each of which both took turns
  int rounds = 0;
  double tokens_per_forward = 1;
  std::vector<double> acceptance;     // per draft position
  bool identical = true;              // tokens and logits, bit for bit
  bool interrupted = false;           // the rest is then of a part of the prompts
  std::size_t prompts = 0;            // that all this is about
  std::vector<continuation> samples;  // behind those of them that are shown
};

/// The model and the machine.
struct run_facts {
  std::string head;
  int depth = 0;
  std::int64_t parameters = 0;
  std::string text;
  std::int64_t text_bytes = 0;
  std::string text_checksum;
  std::string backend;  // "2 threads", or the name of a GPU
};

/// Throws wrong_use for a prompt that a model of `positions` bytes cannot continue.
void check_prompts(const program_options& options, long positions);

/// The runs to compare with. Throws wrong_use for a folder that holds no finished run, is that of
/// this run, or is of one that has learnt other text.
std::vector<run_result> compared_runs(const program_options& options, const run_facts& facts);

/// All texts of the command line, one after the other. What a folder has that is not read is said
/// on stderr.
struct text_collection {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> document_starts;
  std::string description;
};
text_collection load_texts(const program_options& options);

/// The progress line on stderr and metrics.csv. A resumed run continues the file behind
/// `first_step`.
class run_log {
 public:
  run_log(const program_options& options,
          const run_folder& folder,
          const run_facts& facts,
          long first_step);
  ~run_log();
  /// What the file has of the steps before.
  std::vector<step_record> earlier() const;
  /// Says on stderr if losses explode. Throws mtp::error if the file cannot be written.
  void record(const step_record& step);
  void finish();
  /// What was said about losses, or nothing.
  std::string warning() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

/// Writes report.html and result.json, prints the table and the JSON line. Returns the exit status:
/// 0, 1 if the texts differ, or that of an interruption. Throws mtp::error if something cannot be
/// written.
int present(const program_options& options,
            const run_folder& folder,
            const run_facts& facts,
            const training_outcome& trained,
            const decoding_outcome& decoded,
            const std::vector<run_result>& compared);

}  // namespace example

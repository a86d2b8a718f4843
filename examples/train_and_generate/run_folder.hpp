// The folder of a run: what is in it, and who may write to it.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "mtp/io/folder_lock.hpp"
#include "options.hpp"

namespace example {

/// Holds the folder of the output as long as it lives: nobody else writes there.
class run_folder {
 public:
  /// Makes the folder if there is none. Throws wrong_use if it holds a run and neither --resume nor
  /// --overwrite was given, or if there is nothing to resume; mtp::error if another process has it,
  /// or if one of the files cannot be written. Nothing in it has changed then.
  explicit run_folder(const program_options& options);

  std::filesystem::path checkpoint() const { return path_ / "checkpoint.safetensors"; }
  std::filesystem::path metrics() const { return path_ / "metrics.csv"; }
  std::filesystem::path report() const { return path_ / "report.html"; }
  std::filesystem::path result() const { return path_ / "result.json"; }

  /// The steps that schedules are made for: those of the command line, or of the run that is
  /// resumed. A resumed run may go on beyond them, at the lowest rate. Throws wrong_use if it would
  /// end before.
  long planned_steps() const;

  /// To be called when nothing can be refused any more: removes what --overwrite gives up.
  void begin() const;

 private:
  std::vector<std::filesystem::path> files() const;
  std::filesystem::path newest_checkpoint() const;

  std::filesystem::path path_;
  long steps_;
  bool resume_, overwrite_;
  std::optional<mtp::io::folder_lock> lock_;
};

}  // namespace example

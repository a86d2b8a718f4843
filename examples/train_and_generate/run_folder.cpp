#include "run_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "mtp/io/file.hpp"
#include "mtp/io/kept_checkpoints.hpp"
#include "mtp/io/safetensors_reader.hpp"

namespace example {
namespace {

bool is_there(const std::filesystem::path& path) {
  std::error_code failure;
  const auto status = std::filesystem::symlink_status(path, failure);
  if (status.type() == std::filesystem::file_type::none) {
    mtp::io::fail_system("stat", path, failure.value());
  }
  return std::filesystem::exists(status);
}

}  // namespace

run_folder::run_folder(const program_options& options)
    : path_(options.out),
      steps_(options.steps),
      resume_(options.resume),
      overwrite_(options.overwrite) {
  if (resume_ && !is_there(newest_checkpoint())) {
    throw wrong_use(
        fmt::format("--resume: there is no '{}': No such file or directory. Without --resume, a "
                    "new run begins",
                    checkpoint().string()));
  }
  const auto all = files();
  const bool holds_run = std::any_of(all.begin(), all.end(), is_there);
  if (holds_run && !resume_ && !overwrite_) {
    throw wrong_use(fmt::format(
        "'{}' holds a run already: --resume continues it, --overwrite gives it up, --out DIR "
        "leaves it alone",
        path_.string()));
  }
  std::error_code failure;
  std::filesystem::create_directories(path_, failure);
  if (failure) mtp::io::fail_system("make the folder", path_, failure.value());
  lock_.emplace(path_);
  for (const auto& file : files()) {
    const mtp::io::atomic_file writable(file);  // made and removed
  }
}

std::vector<std::filesystem::path> run_folder::files() const {
  std::vector<std::filesystem::path> all{checkpoint(), metrics(), report(), result()};
  for (auto& kept : mtp::io::kept_checkpoints(checkpoint())) {
    all.push_back(std::move(kept));
  }
  return all;
}

/// The latest, or the newest of those that can be read if it is missing or cut off.
std::filesystem::path run_folder::newest_checkpoint() const {
  if (!mtp::io::step_of_checkpoint(checkpoint())) {
    for (auto& kept : mtp::io::kept_checkpoints(checkpoint())) {
      if (mtp::io::step_of_checkpoint(kept)) return std::move(kept);
    }
  }
  return checkpoint();
}

long run_folder::planned_steps() const {
  if (!resume_) return steps_;
  const mtp::io::safetensors_file file(newest_checkpoint());
  const auto entry = file.metadata().find("run.learning_rate.total_steps");
  if (entry == file.metadata().end()) return steps_;  // not of a run: refused when it is loaded
  const std::string& text = entry->second;
  long planned = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), planned);
  if (status != std::errc() || end != text.data() + text.size()) return steps_;
  if (steps_ < planned) {
    throw wrong_use(
        fmt::format("--resume: the run in '{}' was begun with {} steps; --steps may grow, but not "
                    "shrink to {}",
                    path_.string(),
                    planned,
                    steps_));
  }
  return planned;
}

void run_folder::begin() const {
  if (!overwrite_) return;
  for (const auto& file : files()) {
    std::error_code failure;
    std::filesystem::remove(file, failure);
    if (failure) mtp::io::fail_system("remove", file, failure.value());
  }
}

}  // namespace example

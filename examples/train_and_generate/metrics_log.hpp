// The measurements of a run as metrics.csv, one row per logged step.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"

namespace example {

struct metrics_row {
  long step = 0;
  long tokens = 0;  // seen since the start of training
  double learning_rate = 0;
  double lambda = 0;
  double grad_norm = 0;
  double tokens_per_s = 0;
  // One value per depth, or none: then the cells stay empty.
  std::vector<double> train_loss;       // nats
  std::vector<double> train_agreement;  // 0..1
  std::vector<double> val_loss;         // nats
};

/// Appends rows to a file, each written through at once. A run that goes on continues the file
/// after truncate_after(step); a new run empties it with truncate_after(-1).
class metrics_log {
 public:
  /// `depth`: columns end with _0 to _depth. Opens the file, or creates it with its header. The
  /// rest of a line whose writing was interrupted is removed. Throws mtp::error if the file cannot
  /// be written or has another header.
  metrics_log(std::filesystem::path path, int depth)
      : path_(std::move(path)), depths_(static_cast<std::size_t>(depth) + 1) {
    mtp::check(depth >= 0, "metrics_log: depth must be 0 or more, but is ", depth);
    truncate_after(std::numeric_limits<long>::max());
  }

  /// Throws mtp::error if a list has neither no value nor one per depth, or if writing fails.
  void append(const metrics_row& row) {
    std::string line = fmt::format("{},{},{:.7g},{:.7g},{:.7g},{:.7g}",
                                   row.step,
                                   row.tokens,
                                   row.learning_rate,
                                   row.lambda,
                                   row.grad_norm,
                                   row.tokens_per_s);
    add_cells(line, row.train_loss, "train_loss");
    add_cells(line, row.train_agreement, "train_agreement");
    add_cells(line, row.val_loss, "val_loss");
    file_ << line << '\n' << std::flush;
    mtp::check(file_.good(), "metrics_log: cannot write ", path_.string());
  }

  /// Keeps the rows up to and with `step`. Throws mtp::error if the file cannot be rewritten, has
  /// another header or a row without a step; it is then as before.
  void truncate_after(long step) {
    const std::string before = read();
    std::string kept = header() + '\n';
    std::size_t line_number = 0;
    for (std::size_t begin = 0, end; (end = before.find('\n', begin)) != before.npos;
         begin = end + 1) {
      const std::string_view line(before.data() + begin, end - begin);
      if (++line_number == 1) {
        mtp::check(line == header(),
                   "metrics_log: ",
                   path_.string(),
                   " starts with \"",
                   line,
                   "\", but this run writes \"",
                   header(),
                   "\"");
      } else if (step_of(line, line_number) <= step) {
        kept.append(line) += '\n';
      }
    }
    if (kept != before) replace(kept);
    if (!file_.is_open() || kept != before) {
      file_.close();
      file_.clear();
      file_.open(path_, std::ios::binary | std::ios::app);
      mtp::check(file_.is_open(), "metrics_log: cannot write ", path_.string());
    }
  }

  std::string header() const {
    std::string text = "step,tokens,learning_rate,lambda,grad_norm,tokens_per_s";
    for (const std::string_view name : {"train_loss", "train_agreement", "val_loss"}) {
      for (std::size_t d = 0; d < depths_; ++d) text += fmt::format(",{}_{}", name, d);
    }
    return text;
  }

 private:
  void add_cells(std::string& line,
                 const std::vector<double>& values,
                 std::string_view name) const {
    mtp::check(values.empty() || values.size() == depths_,
               "metrics_log: ",
               name,
               " needs ",
               depths_,
               " values or none, but has ",
               values.size());
    for (std::size_t d = 0; d < depths_; ++d) {
      line += values.empty() ? std::string(",") : fmt::format(",{:.7g}", values[d]);
    }
  }

  long step_of(std::string_view line, std::size_t line_number) const {
    long step = 0;
    const auto [end, status] = std::from_chars(line.data(), line.data() + line.size(), step);
    mtp::check(status == std::errc() && end != line.data() + line.size() && *end == ',',
               "metrics_log: line ",
               line_number,
               " of ",
               path_.string(),
               " does not start with a step");
    return step;
  }

  std::string read() const {
    if (!std::filesystem::exists(path_)) return {};
    std::ifstream file(path_, std::ios::binary);
    std::ostringstream text;
    // operator<< of an empty buffer would set failbit.
    if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
    mtp::check(file.is_open() && !file.bad() && std::filesystem::is_regular_file(path_),
               "metrics_log: cannot read ",
               path_.string());
    return text.str();
  }

  // First beside the file, so that an interruption leaves one or the other whole.
  void replace(const std::string& text) const {
    const std::filesystem::path partial = path_.string() + ".partial";
    std::ofstream file(partial, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    std::error_code failure;
    if (file) std::filesystem::rename(partial, path_, failure);
    mtp::check(file && !failure, "metrics_log: cannot write ", path_.string());
  }

  std::filesystem::path path_;
  std::size_t depths_;
  std::ofstream file_;
};

}  // namespace example

// The measurements of a run as metrics.csv, one row per logged step.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"

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

  /// Throws mtp::error if a list has neither no value nor one per depth, or if writing fails; the
  /// file is then as before.
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
    write(line += '\n');
  }

  /// The rows of the file, in their order. Throws mtp::error if it cannot be read, or if a row is
  /// not one that append() writes.
  std::vector<metrics_row> rows() const {
    std::vector<metrics_row> all;
    const std::string text = read();
    std::size_t line_number = 0;
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != text.npos; begin = end + 1) {
      if (++line_number == 1) continue;
      const std::string_view line(text.data() + begin, end - begin);
      metrics_row row;
      row.step = step_of(line, line_number);
      const std::vector<double> cells = cells_of(line, line_number);
      row.tokens = static_cast<long>(cells[1]);
      row.learning_rate = cells[2];
      row.lambda = cells[3];
      row.grad_norm = cells[4];
      row.tokens_per_s = cells[5];
      std::size_t at = fixed_cells;
      for (auto* const list : {&row.train_loss, &row.train_agreement, &row.val_loss}) {
        const bool is_measured = line_has_cell(line, at);
        for (std::size_t d = 0; d < depths_; ++d, ++at) {
          if (is_measured) list->push_back(cells[at]);
        }
      }
      all.push_back(std::move(row));
    }
    return all;
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
    if (kept != before) {
      mtp::io::atomic_file file(path_);
      file.write(std::as_bytes(std::span(kept)));
      file.commit();
    }
    if (!file_.is_open() || kept != before) {
      file_ = mtp::io::descriptor(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
      if (!file_.is_open()) mtp::io::fail_system("open", path_, errno);
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

  // The cells as numbers; NaN where a cell is empty.
  std::vector<double> cells_of(std::string_view line, std::size_t line_number) const {
    std::vector<double> cells;
    const std::size_t wanted = fixed_cells + 3 * depths_;
    for (std::string_view rest = line;; rest.remove_prefix(1)) {
      double value = std::numeric_limits<double>::quiet_NaN();
      const std::size_t length = (std::min)(rest.find(','), rest.size());
      const char* const end = rest.data() + length;
      mtp::check(length == 0 || std::from_chars(rest.data(), end, value).ptr == end,
                 "metrics_log: line ",
                 line_number,
                 " of ",
                 path_.string(),
                 ": \"",
                 rest.substr(0, length),
                 "\" is not a number");
      cells.push_back(value);
      rest.remove_prefix(length);
      if (rest.empty()) break;
    }
    mtp::check(cells.size() == wanted,
               "metrics_log: line ",
               line_number,
               " of ",
               path_.string(),
               " has ",
               cells.size(),
               " cells, expected ",
               wanted);
    return cells;
  }

  static bool line_has_cell(std::string_view line, std::size_t number) {
    for (; number > 0; --number) line.remove_prefix(line.find(',') + 1);
    return !line.empty() && line.front() != ',';
  }

  // A row that the disk takes only a part of is taken back.
  void write(std::string_view text) {
    struct ::stat before {};
    if (::fstat(file_.get(), &before) < 0) mtp::io::fail_system("stat", path_, errno);
    for (std::string_view rest = text; !rest.empty();) {
      const ::ssize_t written = ::write(file_.get(), rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        const int code = written < 0 ? errno : ENOSPC;
        static_cast<void>(::ftruncate(file_.get(), before.st_size));
        mtp::io::fail_system("write", path_, code);
      }
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  std::string read() const {
    std::error_code failure;
    if (!std::filesystem::exists(path_, failure) && !failure) return {};
    const mtp::io::input_file file(path_);
    std::string text(static_cast<std::size_t>(file.size()), '\0');
    file.read_exactly(0, std::as_writable_bytes(std::span(text)));
    return text;
  }

  static constexpr std::size_t fixed_cells = 6;

  std::filesystem::path path_;
  std::size_t depths_;
  mtp::io::descriptor file_;
};

}  // namespace example

// Shows how far training is: one line rewritten in place on a terminal, plain lines elsewhere.
#pragma once

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace example {

struct progress_state {
  long step = 0, total_steps = 0;
  std::vector<double> loss_per_depth;  // nats per byte
  double tokens_per_s = 0;
  double learning_rate = 0;
  double seconds_left = -1;  // negative: not known
};

/// 3725 as "1:02:05", 65 as "1:05".
inline std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const long all = std::lround(seconds);
  if (all < 3600) return fmt::format("{}:{:02}", all / 60, all % 60);
  return fmt::format("{}:{:02}:{:02}", all / 3600, all / 60 % 60, all % 60);
}

/// 1234567 as "1.23M".
inline std::string short_number(double value) {
  if (!std::isfinite(value)) return "?";
  for (const auto& [unit, name] : {std::pair{1e9, 'G'}, {1e6, 'M'}, {1e3, 'k'}}) {
    if (std::abs(value) >= 0.9995 * unit) {
      const double scaled = value / unit;
      const int digits = std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0;
      return fmt::format("{:.{}f}{}", scaled, digits, name);
    }
  }
  return fmt::format("{:.0f}", value);
}

/// The line for a terminal of `width` columns, or with width 0 the line without a bar. What does
/// not fit is left out, the least important first.
inline std::string progress_line(const progress_state& state, int width, bool unicode) {
  const std::string total = fmt::format("{}", state.total_steps);
  const std::string steps = fmt::format("{:>{}}/{}", state.step, total.size(), total);
  std::string losses, first_loss;
  for (const double loss : state.loss_per_depth) {
    losses += fmt::format("{}{:.3f}", losses.empty() ? "  loss " : " ", loss);
    if (first_loss.empty()) first_loss = losses;
  }
  const std::string speed = fmt::format("  {} tok/s", short_number(state.tokens_per_s));
  const std::string rate = fmt::format("  lr {:.2e}", state.learning_rate);
  const std::string left = state.seconds_left < 0
                               ? std::string()
                               : fmt::format("  {} left", duration_text(state.seconds_left));
  if (width <= 0) return "step " + steps + losses + speed + rate + left;

  const auto columns = static_cast<std::size_t>(width);
  constexpr std::size_t least_bar = 10, most_bar = 40;
  std::string text;
  for (const std::string& candidate : {steps + losses + speed + rate + left,
                                       steps + losses + speed + left,
                                       steps + losses + left,
                                       steps + first_loss + left,
                                       steps + left,
                                       steps}) {
    text = candidate;
    if (text.size() + least_bar + 1 <= columns) break;
  }
  if (text.size() + least_bar + 1 > columns) return text.substr(0, columns);

  const std::size_t bar = (std::min)(columns - text.size() - 1, most_bar);
  const double share =
      state.total_steps > 0
          ? std::clamp(
                static_cast<double>(state.step) / static_cast<double>(state.total_steps), 0., 1.)
          : 0.;
  const auto done = static_cast<std::size_t>(share * static_cast<double>(bar));
  std::string line;
  for (std::size_t i = 0; i < bar; ++i) {
    line += i < done ? (unicode ? "█" : "#") : (unicode ? "░" : ".");
  }
  return line + ' ' + text;
}

/// Writes progress_line(): on a terminal about 10 times per second, elsewhere every 5 seconds. The
/// last update is always written, at the latest by the destructor. What cannot be written is lost
/// without an error.
class progress {
 public:
  explicit progress(long total_steps, std::FILE* out = stderr)
      : out_(out), is_terminal_(::isatty(::fileno(out)) == 1), unicode_(locale_is_utf8()) {
    state_.total_steps = total_steps;
  }

  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress() { finish(); }

  void update(long step,
              std::span<const double> loss_per_depth,
              double tokens_per_s,
              double learning_rate) {
    const clock::time_point now = clock::now();
    if (!started_) {
      started_ = true;
      first_step_ = step;
      begin_ = now;
    }
    state_.step = step;
    state_.loss_per_depth.assign(loss_per_depth.begin(), loss_per_depth.end());
    state_.tokens_per_s = tokens_per_s;
    state_.learning_rate = learning_rate;
    const double elapsed = std::chrono::duration<double>(now - begin_).count();
    state_.seconds_left = step > first_step_ ? elapsed / static_cast<double>(step - first_step_) *
                                                   static_cast<double>(state_.total_steps - step)
                                             : -1;
    pending_ = true;
    const std::chrono::milliseconds pause{is_terminal_ ? 100 : 5000};
    if (written_ && now - last_write_ < pause) return;
    last_write_ = now;
    write();
  }

  /// Writes what is not written yet and ends the line. Updates after it start a new one.
  void finish() {
    if (pending_) write();
    if (is_terminal_ && written_) std::fputc('\n', out_);
    std::fflush(out_);
    written_ = false;
  }

 private:
  using clock = std::chrono::steady_clock;

  static bool locale_is_utf8() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
      const char* value = std::getenv(name);
      if (value == nullptr || *value == '\0') continue;
      const std::string_view text = value;
      return text.find("UTF-8") != text.npos || text.find("utf8") != text.npos;
    }
    return false;
  }

  int terminal_width() const {
    winsize size{};
    const bool known = ::ioctl(::fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 80;
  }

  void write() {
    if (is_terminal_) {
      // One column stays free: some terminals wrap when the last one is written.
      const std::string line = progress_line(state_, (std::max)(terminal_width() - 1, 1), unicode_);
      std::fputs(("\r" + line + "\x1b[K").c_str(), out_);
    } else {
      std::fputs((progress_line(state_, 0, false) + "\n").c_str(), out_);
    }
    std::fflush(out_);
    pending_ = false;
    written_ = true;
  }

  std::FILE* out_;
  bool is_terminal_, unicode_;
  progress_state state_;
  bool started_ = false, pending_ = false, written_ = false;
  long first_step_ = 0;
  clock::time_point begin_, last_write_;
};

}  // namespace example

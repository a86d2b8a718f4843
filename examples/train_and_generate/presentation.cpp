// Everything that the program shows.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "corpus.hpp"
#include "loss_watch.hpp"
#include "metrics_log.hpp"
#include "outcome.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "result_file.hpp"
#include "run_result.hpp"
#include "stopping.hpp"

namespace example {
namespace {

/// The largest resident set that this process ever had, in bytes.
std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

/// What cannot be said is not worth ending a run for.
void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stderr);
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name") && line.find(": ") != line.npos) {
      return line.substr(line.find(": ") + 2);
    }
  }
  return "not known";
}

/// Today in UTC, as 2026-01-31.
std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm date{};
  ::gmtime_r(&now, &date);
  return fmt::format("{}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

std::string joined(const std::vector<double>& values, int decimals, const char* unit) {
  std::string text;
  for (const double value : values) {
    text += fmt::format("{}{:.{}f}{}", text.empty() ? "" : ", ", value, decimals, unit);
  }
  return text;
}

std::vector<double> percent(std::vector<double> shares) {
  for (double& share : shares) {
    share *= 100;
  }
  return shares;
}

void print_table(const training_outcome& trained, const decoding_outcome& decoded) {
  const auto row = [](const char* name, const std::string& value) {
    fmt::print("  {:<24}{}\n", name, value);
  };
  row("validation loss",
      fmt::format("{} nats per byte, by depth", joined(trained.val_loss, 3, "")));
  row("training", fmt::format("{:.0f} tokens/s", trained.tokens_per_s));
  const auto with_spread = [](const measured& value, int decimals, const char* unit) {
    return fmt::format("{:.{}f}{} ({:.{}f} to {:.{}f})",
                       value.median,
                       decimals,
                       unit,
                       value.lowest,
                       decimals,
                       value.highest,
                       decimals);
  };
  row("plain decoding", with_spread(decoded.plain_tokens_per_s, 0, " tokens/s"));
  row("speculative decoding", with_spread(decoded.speculative_tokens_per_s, 0, " tokens/s"));
  row("speed-up", with_spread(decoded.speedup, 2, ""));
  row("tokens per forward pass", fmt::format("{:.2f}", decoded.tokens_per_forward));
  row("acceptance by position",
      decoded.acceptance.empty() ? "-" : joined(percent(decoded.acceptance), 0, " %"));
  row("identical", decoded.identical ? "yes" : "NO");
}

/// What the figures of a report were measured on.
std::string basis_of(const program_options& options,
                     const training_outcome& trained,
                     const decoding_outcome& decoded) {
  const std::size_t prompts = decoded.prompts;
  return fmt::format(
      "Validation: {} window{} of {} bytes that training has never seen. Decoding: up to {} byte{} "
      "behind each of {} prompt{} {}, plain and speculative in turns; of {} rounds the median, and "
      "in brackets the slowest and the fastest.",
      grouped(trained.val_windows),
      trained.val_windows == 1 ? "" : "s",
      options.length,
      options.new_tokens,
      options.new_tokens == 1 ? "" : "s",
      prompts,
      prompts == 1 ? "" : "s",
      options.prompts.empty() ? "from such windows" : "of the command line",
      decoded.rounds);
}

run_result result_of(const run_facts& facts,
                     const training_outcome& trained,
                     const decoding_outcome& decoded) {
  run_result result;
  result.head = facts.head;
  result.depth = facts.depth;
  result.parameters = facts.parameters;
  result.steps = trained.steps;
  result.bytes_per_step = trained.tokens_per_step;
  result.text_checksum = facts.text_checksum;
  if (!trained.val_loss.empty()) {
    result.validation = trained.val_loss[0];
  }
  result.tokens_per_forward = decoded.tokens_per_forward;
  result.acceptance = decoded.acceptance;
  result.plain_tokens_per_s = decoded.plain_tokens_per_s;
  result.speculative_tokens_per_s = decoded.speculative_tokens_per_s;
  result.speedup = decoded.speedup;
  return result;
}

report_data report_of(const program_options& options,
                      const run_facts& facts,
                      const training_outcome& trained,
                      const decoding_outcome& decoded,
                      std::int64_t rss) {
  report_data report;
  report.title = "Training and decoding with multi-token prediction";
  report.head = facts.head;
  report.depth = facts.depth;
  report.facts = {
      {"head", facts.head},
      {"depth", std::to_string(facts.depth)},
      {"parameters", grouped(static_cast<long>(facts.parameters))},
      {"text", facts.text},
      {"checksum of the text", facts.text_checksum},
      {"training steps", grouped(trained.steps)},
      {"bytes per step", grouped(trained.tokens_per_step)},
      {"training speed", fmt::format("{:.0f} bytes/s", trained.tokens_per_s)},
      {"backend", facts.backend},
      {"processor", processor()},
      {"peak memory", fmt::format("{:.0f} MiB", static_cast<double>(rss) / (1 << 20))},
      {"seed", std::to_string(options.seed)},
      {"date", today()},
      {"command", options.command},
  };
  if (!trained.warning.empty()) {
    report.facts.insert(report.facts.begin(), {"warning", trained.warning});
  }
  for (const step_record& step : trained.curve) {
    report.curve.push_back({step.step, step.train_loss, step.val_loss, step.train_agreement});
  }
  if (!trained.val_loss.empty()) {
    report.validation = trained.val_loss[0];
    report.validation_windows =
        trained.curve_windows < trained.val_windows ? trained.curve_windows : 0;
  }
  report.acceptance = decoded.acceptance;
  report.plain_tokens_per_s = decoded.plain_tokens_per_s;
  report.speculative_tokens_per_s = decoded.speculative_tokens_per_s;
  report.speedup = decoded.speedup;
  report.basis = basis_of(options, trained, decoded);
  report.tokens_per_forward = decoded.tokens_per_forward;
  report.identical = decoded.identical;
  for (const continuation& shown : decoded.samples) {
    report.samples.push_back({shown.prompt, shown.text, shown.drawn, options.temperature});
  }
  return report;
}

}  // namespace

void check_prompts(const program_options& options, long positions) {
  for (const std::string& prompt : options.prompts) {
    if (prompt.empty()) throw wrong_use("--prompt: an empty prompt cannot be continued");
    if (static_cast<long>(prompt.size()) >= positions) {
      throw wrong_use(
          fmt::format("--prompt: a prompt of {} bytes cannot be continued, the model "
                      "reads {} in all; it begins with \"{}\"",
                      prompt.size(),
                      positions,
                      prompt.substr(0, 20)));
    }
  }
}

std::vector<run_result> compared_runs(const program_options& options, const run_facts& facts) {
  std::vector<run_result> runs;
  for (const auto& path : options.compared) {
    const std::filesystem::path file = path / "result.json";
    std::error_code failure;
    if (!std::filesystem::exists(file, failure)) {
      throw wrong_use(
          fmt::format("--compare: there is no '{}'; a run leaves one at its end", file.string()));
    }
    if (std::filesystem::equivalent(path, options.out, failure)) {
      throw wrong_use(
          fmt::format("--compare: '{}' is the folder of this run itself", path.string()));
    }
    runs.push_back(read_result(file));
    if (runs.back().text_checksum != facts.text_checksum) {
      throw wrong_use(fmt::format(
          "--compare: the run in '{}' has learnt another text than this one", path.string()));
    }
  }
  return runs;
}

text_collection load_texts(const program_options& options) {
  text_collection all;
  for (const auto& path : options.text) {
    const corpus part = load_corpus(path, options.short_indentation);
    const auto offset = static_cast<std::int64_t>(all.bytes.size());
    for (const std::int64_t start : part.document_starts) {
      all.document_starts.push_back(offset + start);
    }
    all.bytes.insert(all.bytes.end(), part.bytes.begin(), part.bytes.end());
    all.description += fmt::format("{}{}", all.description.empty() ? "" : "; ", part.description);
    for (const std::string& line : lines_about(part.left_out)) say("left out: " + line);
  }
  return all;
}

struct run_log::state {
  state(const std::filesystem::path& path, int depth, long steps)
      : metrics(path, depth), line(steps) {}

  metrics_log metrics;
  progress line;
  loss_watch watch;
};

run_log::run_log(const program_options& options,
                 const run_folder& folder,
                 const run_facts& facts,
                 long first_step) {
  say(fmt::format("{} head, depth {}: {} parameters, {} bytes of text, {}",
                  facts.head,
                  facts.depth,
                  grouped(static_cast<long>(facts.parameters)),
                  grouped(static_cast<long>(facts.text_bytes)),
                  facts.backend));
  state_ = std::make_unique<state>(folder.metrics(), facts.depth, options.steps);
  state_->metrics.truncate_after(options.resume ? first_step : -1);
}

std::vector<step_record> run_log::earlier() const {
  std::vector<step_record> steps;
  for (const metrics_row& row : state_->metrics.rows()) {
    steps.push_back({row.step,
                     row.tokens,
                     row.learning_rate,
                     row.lambda,
                     row.grad_norm,
                     row.tokens_per_s,
                     row.train_loss,
                     row.train_agreement,
                     row.val_loss});
  }
  return steps;
}

std::string run_log::warning() const {
  return state_->watch.sentence();
}

run_log::~run_log() = default;

void run_log::record(const step_record& step) {
  state_->line.update(step.step, step.train_loss, step.tokens_per_s, step.learning_rate);
  const std::string warning =
      state_->watch.look_at(step.step, step.train_loss.at(0), step.learning_rate, step.skipped);
  if (!warning.empty()) {
    state_->line.finish();
    say(warning);
  }
  state_->metrics.append({step.step,
                          step.tokens,
                          step.learning_rate,
                          step.lambda,
                          step.grad_norm,
                          step.tokens_per_s,
                          step.train_loss,
                          step.train_agreement,
                          step.val_loss});
}

void run_log::finish() {
  state_->line.finish();
}

int present(const program_options& options,
            const run_folder& folder,
            const run_facts& facts,
            const training_outcome& trained,
            const decoding_outcome& decoded,
            const std::vector<run_result>& compared) {
  if (trained.interrupted || decoded.interrupted) {
    say(fmt::format("stopped at step {} of {}{}; --resume continues",
                    trained.steps,
                    options.steps,
                    trained.steps < options.steps ? "" : ", without a report"));
    return interrupted_status;
  }
  const std::int64_t rss = peak_rss_bytes();
  print_table(trained, decoded);
  const run_result own = result_of(facts, trained, decoded);
  report_data report = report_of(options, facts, trained, decoded, rss);
  report.kinds = compared;
  report.kinds.push_back(own);
  write_report(folder.report(), report);
  write_result(folder.result(), own);
  fmt::print("  {:<24}{}\n", "report", folder.report().string());
  const nlohmann::ordered_json json{
      {"head", facts.head},
      {"depth", facts.depth},
      {"params", facts.parameters},
      {"train_tokens_per_s", trained.tokens_per_s},
      {"val_loss", trained.val_loss},
      {"plain_tokens_per_s", decoded.plain_tokens_per_s.median},
      {"speculative_tokens_per_s", decoded.speculative_tokens_per_s.median},
      {"speedup", decoded.speedup.median},
      {"speedup_range", {decoded.speedup.lowest, decoded.speedup.highest}},
      {"tokens_per_forward", decoded.tokens_per_forward},
      {"acceptance", decoded.acceptance},
      {"identical", decoded.identical},
      {"peak_rss_bytes", rss}};
  fmt::print("{}\n", json.dump());
  if (std::fflush(stdout) != 0) mtp::io::fail_system("write", "standard output", errno);
  return decoded.identical ? 0 : 1;
}

}  // namespace example

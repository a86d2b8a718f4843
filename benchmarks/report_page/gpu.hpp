// The part of the page on GPUs, from the records of scripts/gpu_check.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "results.hpp"

namespace report {

/// A line of a record: what a benchmark or a peer measured.
struct gpu_figure {
  json values;

  std::optional<double> value(const char* counter) const {
    const auto found = values.find(counter);
    if (found == values.end() || !found->is_number()) return std::nullopt;
    return found->get<double>();
  }
  /// "rms_norm_forward/4096/manual_time" without what Google Benchmark adds.
  std::string name() const {
    std::string text = values.value("name", "");
    for (const std::string_view added : {"/iterations:", "/manual_time"}) {
      text.erase((std::min)(text.find(added), text.size()));
    }
    return text;
  }
};

inline std::vector<gpu_figure> figures_of(const json& lines) {
  std::vector<gpu_figure> found;
  for (const json& line : lines) {
    if (line.contains("name") && line.contains("seconds")) found.push_back({line});
  }
  return found;
}

/// The fastest of the peers that did the same.
inline const gpu_figure* fastest(const std::vector<gpu_figure>& peers, const std::string& name) {
  const gpu_figure* best = nullptr;
  for (const gpu_figure& peer : peers) {
    if (peer.name() == name &&
        (best == nullptr || peer.value("seconds") < best->value("seconds"))) {
      best = &peer;
    }
  }
  return best;
}

inline std::string gpu_rate(const gpu_figure& figure) {
  if (const auto rate = figure.value("flops_per_second")) {
    return fmt::format("{:.0f} TFLOP/s", *rate / 1e12);
  }
  if (const auto rate = figure.value("bytes_per_second")) {
    return fmt::format("{:.2f} TB/s", *rate / 1e12);
  }
  if (const auto rate = figure.value("cycles_per_second")) {
    return fmt::format("{:.0f} passes/s", *rate);
  }
  return "";
}

inline std::string gpu_share(const gpu_figure& figure) {
  for (const auto& [counter, what] :
       std::map<const char*, const char*>{{"share_of_read", "reading"},
                                          {"share_of_product", "a product"},
                                          {"share_of_copy", "a copy"}}) {
    // What reads reports its share of a copy, too.
    if (std::string_view(counter) == "share_of_copy" && figure.value("share_of_read")) continue;
    if (const auto share = figure.value(counter)) {
      return fmt::format("{:.0f} % of {}", 100 * *share, what);
    }
  }
  return "";
}

inline std::string gpu_time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.1f} us", 1e6 * seconds)
                        : fmt::format("{:.2f} ms", 1e3 * seconds);
}

/// One record as a section.
inline std::string gpu_section(const json& record, const std::string& file) {
  const auto measured = figures_of(record.at("measured")), peers = figures_of(record.at("peers"));
  std::string text = fmt::format(
      "### {}, stage {}\n\nDriver {}, {}, commit `{}`: [{}](../benchmarks/results/{}).\n\n",
      record.value("device", "unknown"),
      record.value("stage", 0),
      record.value("driver", "unknown"),
      record.value("date", ""),
      record.value("commit", "unknown"),
      file,
      file);
  text +=
      "| Benchmark | Time | Rate | Share | Fastest peer | Its time over ours "
      "|\n|---|---|---|---|---|---|\n";
  for (const gpu_figure& each : measured) {
    const double seconds = *each.value("seconds");
    const gpu_figure* const peer = fastest(peers, each.name());
    text += fmt::format(
        "| `{}` | {} | {} | {} | {} | {} |\n",
        each.name(),
        gpu_time(seconds),
        gpu_rate(each),
        gpu_share(each),
        peer == nullptr ? ""
                        : peer->values.value("kind", "") + ", " + gpu_time(*peer->value("seconds")),
        peer == nullptr ? "" : fmt::format("{:.2f}", *peer->value("seconds") / seconds));
  }
  return text + "\n";
}

/// All records, or that there is none.
inline std::string gpu_part(const std::filesystem::path& results) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(results)) {
    if (entry.path().filename().string().starts_with("gpu_check_")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string text = "## On a GPU\n\n";
  if (files.empty()) {
    return text + "Never measured.\n\n";
  }
  text +=
      "Written by `scripts/gpu_check` on the machine with the GPU. Shares are relative to a copy, "
      "a kernel that only reads, and a product of 8192 x 8192 x 8192 in the same run. Peers are "
      "PyTorch's own "
      "operations in the same run; "
      "above 1, ours is faster. [gpu-status.md](gpu-status.md) has the aims.\n\n";
  for (const auto& file : files) {
    if (const auto record = read_json(file)) {
      text += gpu_section(*record, file.filename().string());
    }
  }
  return text;
}

}  // namespace report

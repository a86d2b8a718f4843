// What the library sets out to reach on a CPU, and how far it is. Every figure is computed from the
// results of the other tables.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "results.hpp"

namespace report {

/// All results that a goal may be about.
struct all_results {
  std::optional<program_results> operations, training, decoding, rates, weights;
  std::optional<json> training_peer, large_peer, compiled_peer, decoding_peer, products, llama;
};

/// The goals as rows of a table: | what | goal | measured | reached |
class goals_table {
 public:
  /// Of several values the worst one decides. Nothing where nothing was measured.
  void at_least(std::string_view what, double goal, const std::vector<double>& values) {
    if (!values.empty()) {
      const double worst = *std::min_element(values.begin(), values.end());
      add(what, fmt::format("at least {:.2f}", goal), values, worst >= goal);
    }
  }
  void at_most(std::string_view what, double goal, const std::vector<double>& values) {
    if (!values.empty()) {
      const double worst = *std::max_element(values.begin(), values.end());
      add(what, fmt::format("at most {:.2f}", goal), values, worst <= goal);
    }
  }

  const std::string& rows() const { return rows_; }

 private:
  void add(std::string_view what,
           const std::string& goal,
           std::vector<double> values,
           bool reached) {
    std::sort(values.begin(), values.end());
    std::string measured = fmt::format("{:.2f}", values[values.size() / 2]);
    if (values.size() > 1) {
      measured += fmt::format(" ({:.2f} .. {:.2f})", values.front(), values.back());
    }
    rows_ += fmt::format("| {} | {} | {} | {} |\n", what, goal, measured, reached ? "yes" : "no");
  }

  std::string rows_;
};

/// The medians of `ratio` of the results that are wanted.
inline std::vector<double> ratios_of(const std::optional<json>& file,
                                     const char* ratio,
                                     const std::function<bool(const json&)>& wanted) {
  std::vector<double> found;
  if (file) {
    for (const json& each : file->at("results")) {
      if (wanted(each)) found.push_back(each.at(ratio).at("median").get<double>());
    }
  }
  return found;
}

/// A counter of the benchmarks of a name that have these arguments, or any.
inline std::vector<double> counters_of(const std::optional<program_results>& program,
                                       std::string_view name,
                                       const char* counter,
                                       const std::vector<long>& arguments = {}) {
  std::vector<double> found;
  if (program) {
    for (const measured* each : program->of(name)) {
      const auto value = each->value(counter);
      if (value && (arguments.empty() || each->arguments == arguments)) found.push_back(*value);
    }
  }
  return found;
}

inline void add_training_goals(goals_table& to, const all_results& all) {
  constexpr const char* ratio = "ratio_pytorch_over_ours";
  const auto is = [](const json& each, const char* model, const char* type) {
    return each.value("model", "small") == model && each.value("type", "f32") == type;
  };
  const auto small = [&](const char* type) {
    auto found = ratios_of(
        all.training_peer, ratio, [&](const json& each) { return is(each, "small", type); });
    for (const double each : ratios_of(all.compiled_peer, ratio, [&](const json& compiled) {
           return is(compiled, "small", type);
         })) {
      found.push_back(each);
    }
    return found;
  };
  to.at_least(
      "training in bf16 over PyTorch's bf16, small model, every head kind", 1.3, small("bf16"));
  to.at_least("the same, large model", 1.3, ratios_of(all.large_peer, ratio, [&](const json& each) {
                return is(each, "large", "bf16");
              }));
  to.at_least("training in f32 over PyTorch, small model, every head kind", 1.4, small("f32"));
  to.at_least("the same, large model", 1.3, ratios_of(all.large_peer, ratio, [&](const json& each) {
                return is(each, "large", "f32");
              }));
  to.at_least("a training step, of the peak of multiply-adds",
              0.8,
              counters_of(all.training, "train_step/none", "share_of_peak"));
  std::vector<double> excess;
  if (all.training) {
    for (const measured& each : all.training->benchmarks) {
      const auto time = each.value("time_over_depth_0"), flops = each.value("flops_over_depth_0");
      if (time && flops && !each.arguments.empty() && each.arguments.back() == 4) {
        excess.push_back(*time / *flops);
      }
    }
  }
  to.at_most("depth 4 over depth 0, time over operations", 1.03, excess);
  std::vector<double> of_pytorch, of_depth_0;
  if (all.large_peer) {
    double none = 0;
    for (const json& each : all.large_peer->at("results")) {
      const json &ours = each.at("ours"), &theirs = each.at("pytorch");
      if (!is(each, "large", "f32") || !ours.contains("peak_memory_mib") ||
          ours.at("peak_memory_mib").is_null()) {
        continue;
      }
      const double memory = ours.at("peak_memory_mib").get<double>();
      if (each.at("head") == "none") none = memory;
      if (each.at("head") == "sequential") {
        of_pytorch.push_back(memory / theirs.at("peak_memory_mib").get<double>());
        if (none > 0) of_depth_0.push_back(memory / none);
      }
    }
  }
  to.at_most("peak memory of PyTorch's, large model, four sequential modules", 0.25, of_pytorch);
  to.at_most("the same, of depth 0", 1.4, of_depth_0);
  to.at_least("two threads over one, training",
              1.9,
              counters_of(all.training, "threads/train_step", "one_over_all"));
}

/// The median of this library's tokens per second beside llama.cpp.
inline std::optional<double> own_rates(const std::optional<json>& llama,
                                       std::string_view type,
                                       int sequences,
                                       bool drafts) {
  if (!llama) return std::nullopt;
  for (const json& each : llama->at("results")) {
    if (each.value("type", "") == type && each.value("sequences", 0) == sequences &&
        (each.value("drafts", 0) > 0) == drafts) {
      auto rates = each.at("tokens_per_second_ours").get<std::vector<double>>();
      std::sort(rates.begin(), rates.end());
      return rates.at(rates.size() / 2);
    }
  }
  return std::nullopt;
}

inline void add_decoding_goals(goals_table& to, const all_results& all) {
  const auto against_llama = [&](const char* type, const char* what, double goal) {
    to.at_least(what, goal, ratios_of(all.llama, "ratio_ours_over_llama", [&](const json& each) {
                  return each.value("type", "") == type && each.value("sequences", 0) == 1 &&
                         each.value("drafts", 0) == 0;
                }));
  };
  against_llama("f32", "plain decoding over llama.cpp's, f32", 1);
  against_llama("bf16", "the same, bf16", 1);
  against_llama("q8_0", "the same, 8 bits over Q8_0", 1.15);
  const auto over_one = [&](int sequences, bool drafts) {
    std::vector<double> found;
    for (const char* type : {"f32", "bf16"}) {
      const auto one = own_rates(all.llama, type, 1, false),
                 other = own_rates(all.llama, type, sequences, drafts);
      if (one && other) found.push_back(*other / *one);
    }
    return found;
  };
  to.at_least("4 sequences over one, beyond the caches, f32 and bf16", 2.5, over_one(4, false));
  to.at_least("16 sequences over one, the same", 5, over_one(16, false));
  to.at_least("4 accepted drafts of sequential modules over none, the same", 2, over_one(1, true));
  to.at_least("plain decoding beyond the caches, of the bandwidth",
              0.95,
              counters_of(all.decoding, "verify_pass/large", "share_of_bandwidth", {1}));
  to.at_least("the same in a cache",
              0.6,
              counters_of(all.decoding, "verify_pass/small", "share_of_bandwidth", {1}));
  std::vector<double> rows;
  for (const long M : {2, 3, 4, 5, 6, 8}) {
    for (const double each :
         counters_of(all.decoding, "verify_pass/large", "ratio_to_1_row", {M})) {
      rows.push_back(each);
    }
  }
  to.at_most("a pass over 2 to 8 rows over one row, beyond the caches", 1.1, rows);
  to.at_most("five rows over one, 8 bits",
             1.1,
             counters_of(all.weights, "weights/beyond_cache", "int8_5_rows_over_1"));
  to.at_least("two threads over one, decoding in a cache",
              1.8,
              counters_of(all.decoding, "threads/verify_pass", "one_over_all"));
}

/// Nothing where nothing was measured.
inline std::string goals_part(const all_results& all) {
  goals_table table;
  for (const auto& [type, goal] : {std::pair("bf16", 0.95), std::pair("f32", 1.0)}) {
    for (const auto& [kind, what] : {std::pair("forward", "forward"),
                                     std::pair("input", "gradient by the input"),
                                     std::pair("weight", "gradient of the weight")}) {
      table.at_least(fmt::format("products of {} over oneDNN or MKL, {}", type, what),
                     goal,
                     ratios_of(all.products, "ratio_pytorch_over_ours", [&](const json& each) {
                       return each.at("type") == type && each.at("kind") == kind;
                     }));
    }
  }
  add_training_goals(table, all);
  add_decoding_goals(table, all);
  return table.rows().empty()
             ? ""
             : "## Goals\n\nWhat this library sets out to reach on a CPU. Of several cases: median "
               "(smallest .. largest), and the worst one decides.\n\n"
               "| What | Goal | Measured | Reached |\n|---|---|---|---|\n" +
                   table.rows() + "\n";
}

}  // namespace report

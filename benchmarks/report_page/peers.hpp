// This library beside PyTorch, in tables.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "page.hpp"
#include "results.hpp"

namespace report {

/// Times of both and their ratio, as cells.
inline std::string peer_cells(const json& result) {
  const json& ratio = result.at("ratio_pytorch_over_ours");
  return fmt::format("{} | {} | {:.2f} ({:.2f} .. {:.2f}) |",
                     figure(result.at("ours").at("ms_median").get<double>()),
                     figure(result.at("pytorch").at("ms_median").get<double>()),
                     ratio.at("median").get<double>(),
                     ratio.at("min").get<double>(),
                     ratio.at("max").get<double>());
}

inline std::string memory_cell(const json& side) {
  const auto found = side.find("peak_memory_mib");
  return found == side.end() || found->is_null() ? "" : std::to_string(found->get<int>());
}

/// Rows of a table of training steps.
inline std::string training_rows(const json& results) {
  std::string rows;
  for (const json& each : results.at("results")) {
    const int depth = each.at("depth");
    rows += fmt::format("| {} | {} | {} | {} | {} | {} {} | {} |\n",
                        each.value("model", "small"),
                        each.value("type", "f32"),
                        depth == 0 ? each.value("head", "")
                                   : fmt::format("{}, D = {}", each.value("head", ""), depth),
                        results.value("compiled", false) ? "compiled" : "eager",
                        results.value("rounds", 0),
                        peer_cells(each),
                        memory_cell(each.at("ours")),
                        memory_cell(each.at("pytorch")));
  }
  return rows;
}

/// Training, decoding and products, whatever of them was measured.
inline void add_peers(page& to,
                      const std::vector<const std::optional<json>*>& trainings,
                      const std::optional<json>& decoding) {
  const json* any = decoding ? &*decoding : nullptr;
  std::string training;
  for (const auto* each : trainings) {
    if (each->has_value()) {
      training += training_rows(**each);
      any = any == nullptr ? &**each : any;
    }
  }
  if (any == nullptr) {
    to.add("## Against PyTorch\n\nNot measured.\n\n");
    return;
  }
  to.add(
      "## Against PyTorch\n\nPyTorch {} on the CPU, {} threads. Both programs are in "
      "memory at once and take turns; the ratio is PyTorch's time over this library's, taken in "
      "each "
      "round: median (smallest .. largest). Above 1, this library is faster. "
      "[How](../benchmarks/peers/README.md).\n\n",
      any->at("versions").value("torch", "unknown"),
      any->value("threads", 0));
  if (!training.empty()) {
    to.add(
        "Training steps. bf16 is PyTorch's autocast beside this library's model in bf16; both have "
        "masters in f32. Memory is the most that each program had, in MiB.\n\n"
        "| Model | Type | Heads | PyTorch | Rounds | mtp ms | PyTorch ms | PyTorch / mtp | mtp "
        "memory | "
        "PyTorch memory |\n|---|---|---|---|--:|--:|--:|---|--:|--:|\n{}\n",
        training);
  }
  if (decoding) {
    to.add(
        "Decoding at batch 1 with the same parameters, where heads make no difference: a text "
        "token by token, and passes over M rows after 64 tokens, as in verification. Both texts "
        "agreed for the number of tokens in brackets.\n\n");
    to.add("| Model | mtp ms | PyTorch ms | PyTorch / mtp |\n|---|--:|--:|--:|\n");
    example::line_chart chart;
    chart.description = "Time of PyTorch over that of this library, for passes over M rows";
    chart.x_label = "rows M of a decoding pass";
    chart.y_label = "PyTorch / mtp";
    std::map<std::string, example::chart_series> by_model;
    for (const json& result : decoding->at("results")) {
      const std::string model = result.at("model"), question = result.at("question");
      const std::string count = question.substr(question.find(' ') + 1);
      const bool is_text = question.starts_with("tokens");
      to.add("| {} | {}\n",
             is_text
                 ? fmt::format("{}, {} tokens ({})", model, count, result.value("same_tokens", 0))
                 : fmt::format("{}, pass over {}", model, count),
             peer_cells(result));
      auto& series = by_model[model];
      series.name = model + " model";
      if (!is_text) {
        series.thick.push_back(
            {std::stod(count), result.at("ratio_pytorch_over_ours").at("median").get<double>()});
      }
    }
    to.add("\n");
    for (const auto& [model, series] : by_model) {
      chart.series.push_back(series);
    }
    to.picture("pytorch", chart);
  }
}

/// Products beside oneDNN's and MKL's.
inline void add_peer_products(page& to, const std::optional<json>& products) {
  if (!products) return;
  to.add(
      "## Products against oneDNN and MKL\n\nSizes are rows x outputs x inputs. The peer is the "
      "fastest way that PyTorch {} has, oneDNN with a weight that was reordered before among them; "
      "{} threads, {} rounds in turns. Forward is x W^T, by the input dy W, of the weight dy^T x, "
      "which this "
      "library adds to a gradient in f32. Ratios are of speeds, above 1 this library is "
      "faster.\n\n| Type | Product | Sizes | mtp GFLOP/s | peer GFLOP/s | mtp / peer "
      "|\n|---|---|---|--:|--:|---|\n",
      products->at("versions").value("torch", "unknown"),
      products->value("threads", 0),
      products->value("rounds", 0));
  for (const json& each : products->at("results")) {
    const json &ratio = each.at("ratio_pytorch_over_ours"), &size = each.at("size");
    to.add("| {} | {} | {} x {} x {} | {} | {} | {:.2f} ({:.2f} .. {:.2f}) |\n",
           each.value("type", ""),
           each.value("kind", ""),
           size.at(0).get<int>(),
           size.at(1).get<int>(),
           size.at(2).get<int>(),
           figure(each.at("ours").at("gflops").get<double>()),
           figure(each.at("pytorch").at("gflops").get<double>()),
           ratio.at("median").get<double>(),
           ratio.at("min").get<double>(),
           ratio.at("max").get<double>());
  }
  to.add("\n");
}

}  // namespace report

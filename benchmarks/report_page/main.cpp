// Writes docs/performance.md and its pictures from what the benchmarks measured.
//
//   report_page RESULTS DOCS    reads RESULTS/*.json, writes DOCS/performance.md and DOCS/pictures
//
// Every figure of the page is read from these files. What is missing is left out, and named.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "decoding.hpp"
#include "goals.hpp"
#include "gpu.hpp"
#include "page.hpp"
#include "peers.hpp"
#include "picture.hpp"
#include "results.hpp"

namespace {

using example::chart_series;
using example::line_chart;
using report::figure;
using report::json;
using report::measured;
using report::number;
using report::page;
using report::percent;
using report::program_results;

std::string sizes(const measured& benchmark) {
  std::string text;
  for (const long size : benchmark.arguments) {
    text += (text.empty() ? "" : " x ") + std::to_string(size);
  }
  return text;
}

/// The best rate of multiply-adds that a program met, in flop/s.
double peak_of(const program_results& results) {
  double best = 0;
  for (const measured& each : results.benchmarks) {
    const auto rate = each.value("GFLOP/s"), share = each.value("share_of_peak");
    if (rate && share && *share > 0) best = std::max(best, 1e9 * *rate / *share);
  }
  return best;
}
std::string share_of(double peak, std::optional<double> gigaflops) {
  return gigaflops && peak > 0 ? percent(1e9 * *gigaflops / peak) : "";
}

/// The last part of a name, after the slash.
std::string ending(const std::string& name) {
  return name.substr(name.rfind('/') + 1);
}

/// For a cell of a table, where a bar would end it.
std::string cell(std::string text) {
  for (std::size_t i = text.find('|'); i != std::string::npos; i = text.find('|', i + 2)) {
    text.insert(i, 1, '\\');
  }
  return text;
}

// ---- how it was measured ------------------------------------------------------------------------
const std::map<std::string, std::string> descriptions = {
    {"operations", "operations"},
    {"training", "training steps"},
    {"decoding", "decoding"},
    {"decoding_rates", "every way of decoding"},
    {"weights", "decoding by the type of weights"},
    {"train_vs_torch", "training against PyTorch"},
    {"train_large_vs_torch", "the same, large model"},
    {"train_compiled_vs_torch", "the same, compiled"},
    {"decode_vs_torch", "decoding against PyTorch"},
    {"products_vs_torch", "products against oneDNN and MKL"},
    {"decode_vs_llama", "decoding against llama.cpp"}};

void add_source(page& to, const std::string& name, const json& context) {
  to.add("| {0} | {1} | `{2}` | `{3}` | [{4}.json](../benchmarks/results/{4}.json) |\n",
         descriptions.at(name),
         context.value("date", "").substr(0, 10),
         context.value("commit", "unknown"),
         cell(context.value("command", "")),
         name);
}

void add_peer_source(page& to, const std::string& name, const json& results) {
  json context = {{"date", results.value("date", "")}};
  context["commit"] = results["versions"].value("ours", "unknown");
  context["command"] = results["commands"].value("ours", "");
  add_source(to, name, context);
}

void add_machine(page& to, const program_results& operations) {
  const json& context = operations.context;
  const auto text = [&](const char* key) { return context.value(key, std::string("unknown")); };
  to.add("| | |\n|---|---|\n");
  to.add("| Processor | {}, {} threads |\n", text("processor"), text("threads"));
  to.add("| Instructions | {} |\n", text("instructions"));
  to.add("| Compiler | {}; Eigen {} |\n", text("compiler"), text("eigen"));
  to.add("| Multiply-adds of f32 in registers | {:.0f} GFLOP/s |\n", peak_of(operations) / 1e9);
  to.add("| Read, copy, triad beyond the caches | {}, {}, {} GB/s |\n",
         text("read_gbytes"),
         text("copy_gbytes"),
         text("triad_gbytes"));
  if (const auto load = context.find("load_avg"); load != context.end() && !load->empty()) {
    to.add("| Load average before | {:.2f} |\n", load->at(0).get<double>());
  }
  to.add(
      "\nEach program measures the peaks for its own shares, with all threads, again with each "
      "benchmark; the best one counts. A bandwidth is the best rate at which one or all threads "
      "read, copy or add arrays of as many bytes as the operation moves, because arrays that fit "
      "into a cache are faster.\n\n");
}

// ---- operations ---------------------------------------------------------------------------------
void add_products(page& to, const program_results& operations) {
  const double peak = peak_of(operations);
  line_chart chart;
  chart.description = "GFLOP/s of square products over their size";
  chart.x_label = "rows, columns and inputs";
  chart.y_label = "GFLOP/s";
  chart.log_x = true;
  chart_series ours{"linear_forward", {}, {}}, eigen{"Eigen's product", {}, {}},
      limit{"peak of this run", {}, {}};
  std::map<std::string, const measured*> eigen_of;
  for (const measured* each : operations.of("eigen_product")) {
    eigen_of[sizes(*each)] = each;
  }
  std::string rows;
  for (const measured* each : operations.of("linear_forward")) {
    const auto other = eigen_of.find(sizes(*each));
    if (each->arguments.size() != 3 || other == eigen_of.end()) continue;
    const auto rate = each->value("GFLOP/s"), eigen_rate = other->second->value("GFLOP/s");
    if (!rate || !eigen_rate) continue;
    const auto& at = each->arguments;
    if (at[0] == at[1] && at[1] == at[2]) {
      const auto size = static_cast<double>(at[0]);
      ours.thick.push_back({size, *rate});
      eigen.thick.push_back({size, *eigen_rate});
      limit.thick.push_back({size, peak / 1e9});
    }
    rows += fmt::format("| {} | {} | {} | {} | {} | {} | {} | {:.2f} |\n",
                        sizes(*each),
                        figure(each->microseconds()),
                        figure(rate),
                        share_of(peak, each->value("GFLOP/s")),
                        figure(each->value("GB/s")),
                        percent(each->value("share_of_bandwidth")),
                        figure(eigen_rate),
                        *rate / *eigen_rate);
  }
  chart.series = {ours, eigen, limit};
  to.add(
      "## Products\n\nSizes are rows x outputs x inputs. Eigen's product has the weight in rows, "
      "and each thread computes an equal share of the outputs. Up to 8 rows, the bytes of the "
      "weight bound the time. Small products run on one thread, so their share of the peak of all "
      "threads is small.\n\n");
  to.picture("products", chart);
  to.add(
      "| `linear_forward` | us | GFLOP/s | of peak | GB/s | of bandwidth | Eigen GFLOP/s | ours / "
      "Eigen |\n"
      "|---|--:|--:|--:|--:|--:|--:|--:|\n{}\n",
      rows);
}

void add_operations(page& to, const program_results& operations) {
  const double peak = peak_of(operations);
  to.add(
      "## Every operation\n\nf32. Rates count the least that an operation must compute or "
      "move.\n\n| Operation | Sizes | us | GFLOP/s | of peak | GB/s | of bandwidth |\n"
      "|---|---|--:|--:|--:|--:|--:|\n");
  for (const measured& each : operations.benchmarks) {
    if (each.name == "eigen_product" || each.name == "linear_forward") continue;
    to.add("| `{}` | {} | {} | {} | {} | {} | {} |\n",
           each.name,
           sizes(each),
           figure(each.microseconds()),
           figure(each.value("GFLOP/s")),
           share_of(peak, each.value("GFLOP/s")),
           figure(each.value("GB/s")),
           percent(each.value("share_of_bandwidth")));
  }
  to.add("\n");
}

// ---- models -------------------------------------------------------------------------------------
void add_training(page& to, const program_results& models) {
  const double peak = peak_of(models);
  line_chart chart;
  chart.description = "Time of a training step over that of depth 0";
  chart.x_label = "depth";
  chart.y_label = "time of a step, depth 0 = 1";
  std::vector<chart_series> measured_series, counted_series;
  std::string rows;
  const auto none = models.of("train_step/none");
  for (const measured* each : none) {
    rows += fmt::format("| none | 0 | {} | {} | {} | {} | 1 | 1 |\n",
                        figure(each->value("ms")),
                        number(each->value("tokens_per_second"), 0),
                        figure(each->value("GFLOP/s")),
                        share_of(peak, each->value("GFLOP/s")));
  }
  for (const char* head : {"sequential", "parallel", "recurrent", "independent", "shared_logit"}) {
    chart_series time{fmt::format("{}, time", head), {}, {{0, 1}}};
    chart_series flops{fmt::format("{}, operations counted", head), {{0, 1}}, {}};
    for (const measured* each : models.of(std::string("train_step/") + head)) {
      const auto ratio = each->value("time_over_depth_0"),
                 counted = each->value("flops_over_depth_0");
      if (!ratio || !counted || each->arguments.empty()) continue;
      const long depth = each->arguments.back();
      time.thick.push_back({static_cast<double>(depth), *ratio});
      flops.thin.push_back({static_cast<double>(depth), *counted});
      rows += fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} | {:.2f} |\n",
                          head,
                          depth,
                          figure(each->value("ms")),
                          number(each->value("tokens_per_second"), 0),
                          figure(each->value("GFLOP/s")),
                          share_of(peak, each->value("GFLOP/s")),
                          *ratio,
                          *counted);
    }
    if (time.thick.size() > 2) {
      chart.series.push_back(time);
      chart.series.push_back(flops);
    }
  }
  if (rows.empty()) return;
  to.add(
      "## A training step\n\nThe small model of [models.hpp](../benchmarks/models/models.hpp): "
      "width 256, 4 layers, a vocabulary of bytes; 16 rows of 256 tokens, f32, with clipping and "
      "AdamW. Each step alternates with a step of the model without heads; the ratio is the median "
      "over these turns. Operations are counted by "
      "[model_cost.hpp](../benchmarks/support/model_cost.hpp).\n\n");
  to.picture("depth", chart);
  to.add(
      "| Heads | D | ms | tokens/s | GFLOP/s | of peak | time over D = 0 | operations over D = 0 "
      "|\n|---|--:|--:|--:|--:|--:|--:|--:|\n{}\n",
      rows);
}

void add_decoding(page& to, const program_results& models) {
  line_chart chart;
  chart.description = "Time of a pass over M rows, over that of a pass over one row";
  chart.x_label = "rows M";
  chart.y_label = "time, one row = 1";
  std::string rows;
  for (const char* size : {"small", "large"}) {
    chart_series series{fmt::format("{} model", size), {}, {}};
    for (const measured* each : models.of(std::string("verify_pass/") + size)) {
      const auto ratio = each->value("ratio_to_1_row");
      if (!ratio || each->arguments.empty()) continue;
      series.thick.push_back({static_cast<double>(each->arguments.back()), *ratio});
      rows += fmt::format("| {} | {} | {} | {:.2f} | {} | {} |\n",
                          size,
                          each->arguments.back(),
                          number(each->value("ms"), 3),
                          *ratio,
                          figure(each->value("GB/s")),
                          percent(each->value("share_of_bandwidth")));
    }
    chart.series.push_back(series);
  }
  if (!rows.empty()) {
    to.add(
        "## Verifying M tokens in one pass\n\nPasses over one row and over M rows alternate; the "
        "ratio is the median over these turns. GB/s counts each weight of the trunk once. The "
        "small model has 13 MB of weights, the large one (width 512, 8 layers, a vocabulary of "
        "32000) 168 MB.\n\n");
    to.picture("verify", chart);
    to.add("| Model | M | ms | over M = 1 | GB/s | of bandwidth |\n|---|--:|--:|--:|--:|--:|\n{}\n",
           rows);
  }

  std::string cycles;
  for (const measured& each : models.benchmarks) {
    if (!each.name.starts_with("decode_cycle/")) continue;
    cycles += fmt::format("| {} | {} | {} | {} | {} |\n",
                          ending(each.name),
                          each.arguments.empty() ? 0 : each.arguments.back(),
                          number(each.value("ms_token_plain"), 3),
                          number(each.value("ms_cycle"), 3),
                          number(each.value("cycle_over_plain"), 2));
  }
  if (!cycles.empty()) {
    to.add(
        "## A cycle of speculative decoding\n\nThe large model with random parameters, alternating "
        "with plain decoding, which gives the same text. A cycle drafts D tokens and verifies them "
        "in one pass. Its cost does not depend on the number of accepted drafts, so it pays if a "
        "trained model writes more tokens per cycle than the number in the last column.\n\n"
        "| Heads | D | ms for a token, plain | ms for a cycle | cycle over plain |\n"
        "|---|--:|--:|--:|--:|\n{}\n",
        cycles);
  }
}

// -------------------------------------------------------------------------------------------------
void write_page(const std::filesystem::path& results, const std::filesystem::path& docs) {
  const report::all_results all{
      .operations = report::read_program(results / "operations.json"),
      .training = report::read_program(results / "training.json"),
      .decoding = report::read_program(results / "decoding.json"),
      .rates = report::read_program(results / "decoding_rates.json"),
      .weights = report::read_program(results / "weights.json"),
      .training_peer = report::read_json(results / "train_vs_torch.json"),
      .large_peer = report::read_json(results / "train_large_vs_torch.json"),
      .compiled_peer = report::read_json(results / "train_compiled_vs_torch.json"),
      .decoding_peer = report::read_json(results / "decode_vs_torch.json"),
      .products = report::read_json(results / "products_vs_torch.json"),
      .llama = report::read_json(results / "decode_vs_llama.json"),
  };
  const std::pair<const char*, const std::optional<program_results>*> programs[] = {
      {"operations", &all.operations},
      {"training", &all.training},
      {"decoding", &all.decoding},
      {"decoding_rates", &all.rates},
      {"weights", &all.weights}};
  const std::pair<const char*, const std::optional<json>*> peers[] = {
      {"train_vs_torch", &all.training_peer},
      {"train_large_vs_torch", &all.large_peer},
      {"train_compiled_vs_torch", &all.compiled_peer},
      {"decode_vs_torch", &all.decoding_peer},
      {"products_vs_torch", &all.products},
      {"decode_vs_llama", &all.llama}};
  bool none = true, quick = false;
  const auto see = [&](const json& context) {
    none = false;
    quick = quick || context.value("mode", "full") == "quick";
  };
  for (const auto& [name, program] : programs) {
    if (*program) see((*program)->context);
  }
  for (const auto& [name, peer] : peers) {
    if (*peer) see(**peer);
  }
  if (none) throw std::runtime_error("there are no results in " + results.string());

  page to{docs, {}};
  to.add(
      "# Performance\n\nWritten by `benchmarks/report`, which builds, measures and writes this "
      "page; every figure comes from the JSON files below. "
      "[benchmarks/README.md](../benchmarks/README.md) explains the programs.\n\n");
  if (quick) {
    to.add(
        "> **Some of these figures are of a quick run (`benchmarks/report --quick`), in which "
        "each benchmark ran for an instant. They show that everything runs and no more.**\n\n");
  }
  to.add(
      "The machine was virtual and shared, and the load of others affects every time. Ratios are "
      "more reliable than times: both sides of a ratio took turns within one run. Before an "
      "operation is timed, "
      "some elements of its result are compared with plain loops.\n\n");
  if (all.operations) add_machine(to, *all.operations);
  to.add("| What was measured | Date | Commit | Command | Results |\n|---|---|---|---|---|\n");
  for (const auto& [name, program] : programs) {
    if (*program) add_source(to, name, (*program)->context);
  }
  for (const auto& [name, peer] : peers) {
    if (*peer) add_peer_source(to, name, **peer);
  }
  to.add("\n");
  to.text += report::goals_part(all);
  if (all.training) add_training(to, *all.training);
  if (all.decoding) add_decoding(to, *all.decoding);
  to.text += report::decoding_part(all.rates, all.llama);
  report::add_peers(
      to, {&all.training_peer, &all.large_peer, &all.compiled_peer}, all.decoding_peer);
  report::add_peer_products(to, all.products);
  if (all.operations) {
    add_products(to, *all.operations);
    add_operations(to, *all.operations);
  }
  to.text += report::gpu_part(results);
  while (to.text.ends_with("\n\n")) to.text.pop_back();
  report::write_file(docs / "performance.md", to.text);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: report_page RESULTS DOCS\n");
    return 2;
  }
  try {
    write_page(argv[1], argv[2]);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "report_page: %s\n", fault.what());
    return 1;
  }
  return 0;
}

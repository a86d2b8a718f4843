// The part of the page on every way of decoding, from decoding_bench and peers/llama.py.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "results.hpp"

namespace report {

/// "1.52 (1.40 .. 1.60)"; nothing where it was not measured.
inline std::string spread_of(const measured& benchmark, const std::string& ratio) {
  const auto median = benchmark.value(ratio.c_str());
  const auto least = benchmark.value((ratio + "_min").c_str());
  const auto most = benchmark.value((ratio + "_max").c_str());
  return median && least && most ? fmt::format("{:.2f} ({:.2f} .. {:.2f})", *median, *least, *most)
                                 : "";
}

/// Parts of a name between slashes, without the first.
inline std::vector<std::string> parts_of(const measured& benchmark) {
  std::vector<std::string> parts;
  for (std::size_t slash = benchmark.name.find('/'); slash != std::string::npos;) {
    const std::size_t next = benchmark.name.find('/', slash + 1);
    parts.push_back(benchmark.name.substr(slash + 1, next - slash - 1));
    slash = next;
  }
  std::replace(parts.front().begin(), parts.front().end(), '_', ' ');
  return parts;
}

inline std::string whole(std::optional<double> value) {
  return value ? fmt::format("{:.0f}", *value) : "";
}

/// A row for each benchmark of this family with so many parts and arguments.
template <class Row>
std::string rows_of(const program_results& results,
                    std::string_view family,
                    std::size_t parts,
                    const Row& row) {
  std::string text;
  for (const measured& each : results.benchmarks) {
    if (each.name.starts_with(family) && parts_of(each).size() == parts) {
      text += row(each, parts_of(each));
    }
  }
  return text;
}

inline std::string drafts_table(const program_results& results) {
  const std::string rows =
      rows_of(results, "drafts/", 4, [](const measured& each, const auto& parts) {
        std::string row = fmt::format("| {} | {} | {} | {} | {} | {} | {} |",
                                      parts[0],
                                      parts[1],
                                      parts[2],
                                      parts[3],
                                      each.arguments.at(0),
                                      each.arguments.at(1),
                                      whole(each.value("tokens_per_second_plain")));
        for (const char* ratio : {"drafts_1_over_plain",
                                  "drafts_2_over_plain",
                                  "drafts_3_over_plain",
                                  "drafts_4_over_plain",
                                  "adaptive_over_plain",
                                  "adaptive_over_best"}) {
          row += " " + spread_of(each, ratio) + " |";
        }
        return row + "\n";
      });
  return rows.empty()
             ? ""
             : "Tokens per second with 1 to 4 drafts in a cycle, and with as many as pay, over "
               "plain decoding. Drafts are all accepted or all rejected, by construction: a "
               "trained "
               "head lies between. The last column is over the best constant number, none "
               "included.\n\n"
               "| Model | Type | Heads | Drafts | Sequences | Context | Plain, tokens/s | 1 | 2 | "
               "3 "
               "| 4 | Adaptive | Adaptive over best |\n"
               "|---|---|---|---|--:|--:|--:|---|---|---|---|---|---|\n" +
                   rows + "\n";
}

inline std::string sequences_table(const program_results& results) {
  const std::string rows =
      rows_of(results, "sequences/", 3, [](const measured& each, const auto& parts) {
        return fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n",
                           parts[0],
                           parts[1],
                           parts[2],
                           each.arguments.at(0),
                           whole(each.value("tokens_per_second_1")),
                           spread_of(each, "4_over_1"),
                           spread_of(each, "16_over_1"));
      });
  return rows.empty()
             ? ""
             : "Tokens per second of 4 and 16 sequences together, over those of one; plain, "
               "or with 4 drafts in each cycle, all accepted.\n\n"
               "| Model | Type | Decoding | Context | One, tokens/s | 4 over 1 | 16 over 1 "
               "|\n|---|---|---|--:|--:|---|---|\n" +
                   rows + "\n";
}

inline std::string rows_table(const program_results& results) {
  std::string rows;
  for (const char* family : {"rows_of_one/", "rows_of_sequences/"}) {
    const bool is_one = std::string_view(family) == "rows_of_one/";
    rows += rows_of(results, family, 2, [&](const measured& each, const auto& parts) {
      std::string row = fmt::format("| {} | {} | {} | {} | {} |",
                                    parts[0],
                                    parts[1],
                                    is_one ? "one sequence" : "M sequences",
                                    each.arguments.at(0),
                                    fmt::format("{:.3f}", each.value("ms_1").value_or(0)));
      for (const int M : {2, 3, 4, 5, 6, 8, 12, 16}) {
        row += " " + spread_of(each, fmt::format("{}_over_1", M)) + " |";
      }
      return row + "\n";
    });
  }
  return rows.empty() ? ""
                      : "What a pass over M rows costs, over a pass over one: C(M) / C(1).\n\n"
                        "| Model | Type | Rows of | Context | M = 1, ms | 2 | 3 | 4 | 5 | 6 | 8 | "
                        "12 | 16 |\n"
                        "|---|---|---|--:|--:|---|---|---|---|---|---|---|---|\n" +
                            rows + "\n";
}

inline std::string llama_table(const json& results) {
  std::string text = fmt::format(
      "## Against llama.cpp\n\nThe package llama-cpp-python {}, its `llama-bench` and "
      "`llama-batched-bench`, {} threads, on random weights of the same shape: 58 million "
      "parameters. Both sides take turns, {} rounds of {} tokens behind {}; the ratio is this "
      "library's tokens per second over llama.cpp's, in each round: median (smallest .. largest). "
      "Speculative decoding has 4 drafts of a sequential head, all accepted, beside llama.cpp's "
      "plain decoding. [How](../benchmarks/peers/README.md).\n\n"
      "| Type | mtp's | Sequences | Decoding | mtp tokens/s | llama.cpp tokens/s | mtp / llama.cpp "
      "|\n|---|---|--:|---|--:|--:|---|\n",
      results.at("versions").value("llama-cpp-python", "unknown"),
      results.value("threads", 0),
      results.value("rounds", 0),
      results.value("tokens", 0),
      results.value("context", 0));
  for (const json& each : results.at("results")) {
    const auto median = [&](const char* name) {
      auto rates = each.at(name).get<std::vector<double>>();
      std::sort(rates.begin(), rates.end());
      return rates.at(rates.size() / 2);
    };
    const json& ratio = each.at("ratio_ours_over_llama");
    text += fmt::format("| {} | {} | {} | {} | {:.0f} | {:.0f} | {:.2f} ({:.2f} .. {:.2f}) |\n",
                        each.value("type", ""),
                        each.value("type_ours", ""),
                        each.value("sequences", 0),
                        each.value("drafts", 0) > 0 ? "speculative" : "plain",
                        median("tokens_per_second_ours"),
                        median("tokens_per_second_llama"),
                        ratio.at("median").get<double>(),
                        ratio.at("min").get<double>(),
                        ratio.at("max").get<double>());
  }
  return text + "\n";
}

/// Nothing where there are no results.
inline std::string decoding_part(const std::optional<program_results>& rates,
                                 const std::optional<json>& llama) {
  std::string text;
  if (rates) {
    text +=
        "## Every way of decoding\n\nThe model in the cache has 1.9 million parameters (width 192, "
        "4 layers, a vocabulary of bytes), the one beyond it 58 million (width 512, 8 layers, a "
        "vocabulary of 32000). Whatever stands in one row took turns; ratios are taken in each "
        "turn: median (smallest .. largest). Sequences begin with the context and grow by some "
        "hundred tokens.\n\n" +
        drafts_table(*rates) + sequences_table(*rates) + rows_table(*rates);
  }
  return llama ? text + llama_table(*llama) : text;
}

}  // namespace report

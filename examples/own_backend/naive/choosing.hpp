// Tokens drawn from logits, and the best of them: a row is sorted. Contracts:
// mtp/ops/choose_tokens.hpp and mtp/ops/best_tokens.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "decoding.hpp"
#include "mtp/core/gumbel_noise.hpp"
#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "naive.hpp"

namespace naive_types {

using token_rows = mtp::matrix_view<token_t, naive>;

struct choosing_ops {
  static void choose_tokens(
      context&, tokens chosen, in_matrix logits, const sequence& from, index_t offset) {
    for (index_t m = 0; m < logits.extent(0); ++m) {
      const index_t p = from.state(mtp::sequence_count) + offset + m;
      chosen(m) = draw(candidates_of(&logits(m, 0), logits.extent(1), from, p), from, p);
    }
  }

  static void token_log_probabilities(context&, vector log_p, in_matrix logits, in_tokens of) {
    const index_t V = logits.extent(1);
    for (index_t m = 0; m < logits.extent(0); ++m) {
      double largest = -infinity, sum = 0;
      for (index_t v = 0; v < V; ++v) largest = std::max(largest, logits(m, v));
      for (index_t v = 0; v < V; ++v) sum += std::exp(logits(m, v) - largest);
      const bool exists = of(m) >= 0 && of(m) < V;
      log_p(m) = exists ? logits(m, of(m)) - largest - std::log(sum) : NAN;
    }
  }

  static void best_tokens(context&, token_rows best, matrix log_p, in_matrix logits) {
    const index_t V = logits.extent(1);
    for (index_t m = 0; m < logits.extent(0); ++m) {
      std::vector<candidate> all;
      double sum = 0;
      for (token_t v = 0; v < V; ++v) {
        if (!std::isnan(logits(m, v))) all.push_back({logits(m, v), v});
      }
      std::stable_sort(all.begin(), all.end(), [](candidate a, candidate b) { return a.x > b.x; });
      const double largest = all.empty() ? -infinity : all[0].x;
      for (index_t v = 0; v < V; ++v) sum += std::exp(logits(m, v) - largest);
      all.resize(static_cast<std::size_t>(best.extent(1)), {NAN, -1});
      for (index_t j = 0; j < best.extent(1); ++j) {
        const candidate& c = all[static_cast<std::size_t>(j)];
        best(m, j) = c.token;
        log_p(m, j) = c.x - largest - std::log(sum);
      }
    }
  }

 private:
  static constexpr double infinity = std::numeric_limits<double>::infinity();

  struct candidate {
    double x;
    token_t token;
  };

  static index_t whole(const sequence& from, mtp::sampling_integer which) {
    return from.rule.integers(which);
  }
  static double real(const sequence& from, mtp::sampling_real which) {
    return from.rule.reals(which);
  }

  /// The tokens that may stand at position p and what speaks for each, the best first.
  static std::vector<candidate> candidates_of(const double* logits,
                                              index_t V,
                                              const sequence& from,
                                              index_t p) {
    const index_t prompt = whole(from, mtp::sampling_prompt_length);
    const auto& stop = from.rule.stop_tokens;
    std::vector<candidate> all;
    for (token_t v = 0; v < V; ++v) {
      double x = logits[v];
      bool forbidden = false;
      if (whole(from, mtp::sampling_has_bias) != 0) {
        forbidden = from.rule.bias(v) == -infinity;
        x += from.rule.bias(v);
      }
      const index_t stops = std::min(whole(from, mtp::sampling_stop_count), stop.extent(0));
      for (index_t i = 0; i < stops; ++i) {
        forbidden |= stop(i) == v && p - prompt < whole(from, mtp::sampling_min_new_tokens);
      }
      bool seen = false;
      double count = 0;
      for (index_t i = 0; i < std::min(p, from.tokens.extent(0)); ++i) {
        seen |= from.tokens(i) == v;
        count += from.tokens(i) == v && i >= prompt ? 1 : 0;
      }
      const double repetition = real(from, mtp::sampling_repetition_penalty);
      if (seen) x = x < 0 ? x * repetition : x / repetition;
      x = std::fma(-real(from, mtp::sampling_frequency_penalty), count, x);
      if (count > 0) x -= real(from, mtp::sampling_presence_penalty);
      if (!forbidden && !std::isnan(x)) all.push_back({x, v});
    }
    std::stable_sort(all.begin(), all.end(), [](candidate a, candidate b) { return a.x > b.x; });
    return all;
  }

  static token_t draw(std::vector<candidate> all, const sequence& from, index_t p) {
    const double temperature = real(from, mtp::sampling_temperature);
    if (all.empty()) return -1;
    if (temperature == 0) return all[0].token;
    const auto k = static_cast<std::size_t>(whole(from, mtp::sampling_top_k));
    if (k > 0 && k < all.size()) all.resize(k);

    const double best = all[0].x;
    const auto scaled = [&](double x) { return x == best ? 0 : (x - best) / temperature; };
    const auto weight_of = [&](double x) { return std::floor(std::exp(scaled(x)) * 0x1p40 + 0.5); };
    const double top_p = real(from, mtp::sampling_top_p), min_p = real(from, mtp::sampling_min_p);
    double sum = 0, kept = 0;
    for (const candidate& c : all) sum += weight_of(c.x);
    for (std::size_t i = 0; top_p < 1 && i < all.size(); ++i) {
      kept += weight_of(all[i].x);
      if (kept >= std::ceil(top_p * sum)) all.resize(i + 1);
    }

    const mtp::gumbel_noise noise({static_cast<std::uint64_t>(whole(from, mtp::sampling_seed))},
                                  static_cast<std::uint32_t>(whole(from, mtp::sampling_sequence)),
                                  p);
    candidate drawn{-infinity, -1};
    for (const candidate& c : all) {
      const double score = scaled(c.x) + noise(c.token);
      const bool possible = min_p == 0 || weight_of(c.x) >= std::ceil(min_p * 0x1p40);
      const bool better =
          drawn.token < 0 || score > drawn.x || (score == drawn.x && c.token < drawn.token);
      if (possible && better) drawn = {score, c.token};
    }
    return drawn.token;
  }
};

}  // namespace naive_types

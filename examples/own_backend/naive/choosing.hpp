// Tokens drawn from logits, drafts that are verified, and the best tokens: a row is sorted.
// Contracts: mtp/ops/choose_tokens.hpp, mtp/ops/reject_drafts.hpp, mtp/ops/accept_typical.hpp and
// mtp/ops/best_tokens.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "decoding.hpp"
#include "mtp/core/gumbel_noise.hpp"
#include "mtp/ops/accept_typical.hpp"
#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/reject_drafts.hpp"
#include "naive.hpp"

namespace naive_types {

using token_rows = mtp::matrix_view<token_t, naive>;
using whole_rows = mtp::matrix_view<index_t, naive>;
using in_whole_rows = mtp::matrix_view<const index_t, naive>;

struct choosing_ops {
  static void choose_tokens(
      context&, tokens chosen, in_matrix logits, const sequence& from, index_t offset) {
    for (index_t m = 0; m < logits.extent(0); ++m) {
      const index_t p = from.state(mtp::sequence_count) + offset + m;
      chosen(m) =
          draw(kept_of(candidates_of(&logits(m, 0), logits.extent(1), from, p), from), from, p);
    }
  }

  static void draw_drafts(context&,
                          tokens drafts,
                          whole_rows weights,
                          in_matrix logits,
                          const sequence& from,
                          index_t offset,
                          mtp::draft_unit unit) {
    for (index_t m = 0; m < logits.extent(0); ++m) {
      const index_t p = from.state(mtp::sequence_count) + offset + m;
      const auto own = weights_of(&logits(m, 0), logits.extent(1), from, p);
      for (std::size_t v = 0; v < own.size(); ++v) {
        weights(m, static_cast<index_t>(v)) = static_cast<index_t>(own[v]);
      }
      drafts(m) =
          token_at(bits_of(from, p, unit)(mtp::position_bits::draft), {own.begin(), own.end()});
    }
  }

  static void reject_drafts(context&,
                            tokens predicted,
                            in_matrix logits,
                            in_whole_rows weights,
                            const sequence& from,
                            mtp::draft_unit unit) {
    using odds = mtp::detail::block_odds;
    const index_t n = weights.extent(0);
    std::vector<verified_row> rows;
    for (index_t m = 0; m <= n; ++m) rows.push_back(row_of(logits, weights, from, m, unit));
    const bool as_block = unit == mtp::draft_unit::block;
    std::size_t accepted = 0, drafts = 0;
    std::vector<double> r{1};
    for (; as_block && rows[drafts].draft >= 0; ++drafts) {
      const verified_row& row = rows[drafts];
      r.push_back(odds::next(r.back(), row.p(row.at()), row.q(row.at())));
      const bool last = rows[drafts + 1].draft < 0;
      const double h =
          last ? r.back() : odds::keeps(r.back(), sum_of(rows[drafts + 1].residuals(r.back())));
      if (odds::accepts(row.bits(mtp::position_bits::accept), h)) accepted = drafts + 1;
    }
    for (std::size_t m = 0; m < rows.size(); ++m) {
      const verified_row& row = rows[m];
      const bool keeps = as_block ? m < accepted : row.draft >= 0 && row.is_accepted();
      std::vector<mtp::detail::weight_product> law(row.model.begin(), row.model.end());
      if (!as_block) {
        law = row.residuals();
      } else if (m == accepted && row.draft >= 0 && sum_of(row.residuals(r[m])) > 0) {
        const auto rest = row.residuals(r[m]);
        law.assign(rest.begin(), rest.end());
      }
      predicted(static_cast<index_t>(m)) =
          keeps ? row.draft : token_at(row.bits(mtp::position_bits::residual), law);
    }
  }

  static void accept_typical(context&,
                             tokens predicted,
                             in_matrix logits,
                             const sequence& from,
                             const mtp::typical_acceptance& acceptance) {
    const index_t V = logits.extent(1), count = from.state(mtp::sequence_count);
    for (index_t m = 0; m + 1 < logits.extent(0); ++m) {  // a chain: the backend takes no trees
      const index_t at = count + m;
      const token_t draft = at < from.tokens.extent(0) ? from.tokens(at) : -1;
      const auto all =
          kept_of(candidates_of(&logits(m, 0), V, from, at), from, acceptance.temperature);
      double sum = 0, entropy = 0, of_draft = 0;
      for (const candidate& c : all) sum += c.weight;
      for (const candidate& c : all) {
        const double p = c.weight / sum;
        if (p > 0) entropy -= p * std::log(p);
        if (c.token == draft) of_draft = p;
      }
      const double share = acceptance.delta * std::exp(-entropy);
      if (of_draft > std::min(acceptance.epsilon, share)) predicted(m) = draft;
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

  using whole_number = std::uint64_t;

  /// What decides about one draft: weights of model and head, and random bits.
  struct verified_row {
    token_t draft;  // -1: none
    std::vector<whole_number> model, head;
    mtp::position_bits bits;

    std::size_t at() const { return static_cast<std::size_t>(draft); }
    whole_number head_sum() const { return draft >= 0 ? sum_of(head) : 1; }
    double p(std::size_t v) const {
      return mtp::detail::block_odds::share(model[v], sum_of(model));
    }
    double q(std::size_t v) const { return mtp::detail::block_odds::share(head[v], head_sum()); }
    bool is_accepted() const {
      const mtp::detail::draft_odds odds{sum_of(model), head_sum()};
      return odds.accepts(bits(mtp::position_bits::accept), model[at()], head[at()]);
    }
    std::vector<mtp::detail::weight_product> residuals() const {
      const mtp::detail::draft_odds odds{sum_of(model), head_sum()};
      std::vector<mtp::detail::weight_product> all;
      for (std::size_t v = 0; v < model.size(); ++v) {
        all.push_back(odds.residual(model[v], head[v]));
      }
      return all;
    }
    std::vector<whole_number> residuals(double r) const {
      std::vector<whole_number> all;
      for (std::size_t v = 0; v < model.size(); ++v) {
        all.push_back(mtp::detail::block_odds::residual(r, p(v), q(v)));
      }
      return all;
    }
  };
  static verified_row row_of(in_matrix logits,
                             in_whole_rows weights,
                             const sequence& from,
                             index_t m,
                             mtp::draft_unit unit) {
    const index_t V = logits.extent(1), n = weights.extent(0);
    const index_t at = from.state(mtp::sequence_count) + m;
    verified_row row{-1, weights_of(&logits(m, 0), V, from, at), {}, bits_of(from, at, unit)};
    row.head.assign(row.model.size(), 0);
    const token_t draft = m < n && at < from.tokens.extent(0) ? from.tokens(at) : -1;
    if (draft < 0 || draft >= V) return row;
    row.draft = draft;
    for (index_t v = 0; v < V && weights(m, draft) > 0; ++v) {
      row.head[static_cast<std::size_t>(v)] = static_cast<whole_number>(weights(m, v));
    }
    if (weights(m, draft) == 0) row.head[row.at()] = 1;
    return row;
  }

  struct candidate {
    double x;
    token_t token;
    double weight = 0;
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

  /// What is kept of the candidates, each with (x - best) / temperature for x and with its weight.
  static std::vector<candidate> kept_of(std::vector<candidate> all, const sequence& from) {
    return kept_of(std::move(all), from, real(from, mtp::sampling_temperature));
  }
  static std::vector<candidate> kept_of(std::vector<candidate> all,
                                        const sequence& from,
                                        double temperature) {
    const auto k = static_cast<std::size_t>(whole(from, mtp::sampling_top_k));
    if (temperature == 0 && all.size() > 1) all.resize(1);
    if (k > 0 && k < all.size()) all.resize(k);
    const double best = all.empty() ? 0 : all[0].x;
    const double top_p = real(from, mtp::sampling_top_p), min_p = real(from, mtp::sampling_min_p);
    double sum = 0, kept = 0;
    for (candidate& c : all) {
      c.x = c.x == best ? 0 : (c.x - best) / temperature;
      c.weight = std::floor(std::exp(c.x) * 0x1p40 + 0.5);
      sum += c.weight;
    }
    for (std::size_t i = 0; top_p < 1 && i < all.size(); ++i) {
      kept += all[i].weight;
      if (kept >= std::ceil(top_p * sum)) all.resize(i + 1);
    }
    const double least = min_p > 0 ? std::ceil(min_p * 0x1p40) : 0;
    all.erase(std::remove_if(
                  all.begin(), all.end(), [&](const candidate& c) { return c.weight < least; }),
              all.end());
    return all;
  }

  static token_t draw(const std::vector<candidate>& all, const sequence& from, index_t p) {
    const mtp::gumbel_noise noise({static_cast<std::uint64_t>(whole(from, mtp::sampling_seed))},
                                  static_cast<std::uint32_t>(whole(from, mtp::sampling_sequence)),
                                  p);
    if (real(from, mtp::sampling_temperature) == 0) return all.empty() ? -1 : all[0].token;
    candidate drawn{-infinity, -1};
    for (const candidate& c : all) {
      const double score = c.x + noise(c.token);
      const bool better =
          drawn.token < 0 || score > drawn.x || (score == drawn.x && c.token < drawn.token);
      if (better) drawn = {score, c.token};
    }
    return drawn.token;
  }

  /// The weights of what is kept, by token.
  static std::vector<whole_number> weights_of(const double* logits,
                                              index_t V,
                                              const sequence& from,
                                              index_t p) {
    std::vector<whole_number> weights(static_cast<std::size_t>(V), 0);
    for (const candidate& c : kept_of(candidates_of(logits, V, from, p), from)) {
      weights[static_cast<std::size_t>(c.token)] = static_cast<whole_number>(c.weight);
    }
    return weights;
  }

  static mtp::position_bits bits_of(const sequence& from, index_t p, mtp::draft_unit unit) {
    return {{static_cast<std::uint64_t>(whole(from, mtp::sampling_seed))},
            static_cast<std::uint32_t>(whole(from, mtp::sampling_sequence)),
            p,
            mtp::detail::round_of(unit, from.state(mtp::sequence_count))};
  }

  template <class Number>
  static Number sum_of(const std::vector<Number>& weights) {
    return std::accumulate(weights.begin(), weights.end(), Number{0});
  }

  /// The first token up to which more than bits / 2^64 of the sum of weights lies.
  static token_t token_at(std::uint64_t bits, const std::vector<mtp::detail::weight_product>& all) {
    auto rest = mtp::detail::share_of(bits, sum_of(all));
    for (std::size_t v = 0; v < all.size(); ++v) {
      if (rest < all[v]) return static_cast<token_t>(v);
      rest -= all[v];
    }
    return -1;
  }
};

}  // namespace naive_types

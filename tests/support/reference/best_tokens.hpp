// Reference of ops/best_tokens.hpp: the whole row is sorted, and sums are taken in extended
// precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace mtp::test::reference {

struct best_of_row {
  std::vector<token_t> tokens;            // [n]
  std::vector<double> log_probabilities;  // [n]
};

/// The n best tokens of a row, -1 and NaN where there are no more.
inline best_of_row best_tokens(const std::vector<double>& logits, index_t n) {
  std::vector<token_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](token_t v) { return logits[static_cast<std::size_t>(v)]; };
  order.erase(
      std::remove_if(order.begin(), order.end(), [&](token_t v) { return std::isnan(logit(v)); }),
      order.end());
  std::stable_sort(
      order.begin(), order.end(), [&](token_t a, token_t b) { return logit(a) > logit(b); });

  const long double most =
      order.empty() ? -std::numeric_limits<long double>::infinity() : logit(order[0]);
  long double sum = 0;
  for (const double each : logits) {
    sum += std::exp(static_cast<long double>(each) - most);
  }
  best_of_row best;
  for (std::size_t j = 0; j < static_cast<std::size_t>(n); ++j) {
    const bool exists = j < order.size();
    best.tokens.push_back(exists ? order[j] : token_t{-1});
    best.log_probabilities.push_back(
        exists ? static_cast<double>(logit(order[j]) - most - std::log(sum)) : NAN);
  }
  return best;
}

}  // namespace mtp::test::reference

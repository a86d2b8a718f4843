// Reference of ops/reject_drafts.hpp: probabilities are quotients in extended precision, and the
// laws of texts are sums over all that can happen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "mtp/core/random.hpp"
#include "support/reference/choose_tokens.hpp"

namespace mtp::test::reference {

/// Probabilities of the tokens; all 0 where nothing is left.
using token_law = std::vector<long double>;

/// w / (sum of w).
template <class Weight>
token_law law_of(const std::vector<Weight>& weights) {
  long double sum = 0;
  for (const Weight weight : weights) {
    sum += static_cast<long double>(weight);
  }
  token_law law;
  for (const Weight weight : weights) {
    law.push_back(sum > 0 ? static_cast<long double>(weight) / sum : 0);
  }
  return law;
}

/// u of a purpose: 0x44 drafts, 0x41 accepts, 0x52 draws where nothing was accepted. Blocks have
/// rounds.
inline long double uniform_at(const rule_of_choice& rule,
                              index_t position,
                              std::uint32_t purpose,
                              index_t round = 0) {
  const auto at = static_cast<std::uint64_t>(position);
  const auto words = philox::block(
      {{static_cast<std::uint32_t>(round),
        static_cast<std::uint32_t>(purpose + (at >> 32) * 256),
        static_cast<std::uint32_t>(at),
        rule.sequence}},
      {{static_cast<std::uint32_t>(rule.seed), static_cast<std::uint32_t>(rule.seed >> 32)}});
  return (static_cast<long double>(words.words[0]) +
          4294967296.0L * static_cast<long double>(words.words[1])) /
         18446744073709551616.0L;
}

/// The first token up to which more than u of a law lies; -1 where nothing is left.
inline token_t drawn_at(const token_law& law, long double u) {
  long double so_far = 0;
  token_t last = -1;
  for (std::size_t v = 0; v < law.size(); ++v) {
    so_far += law[v];
    last = law[v] > 0 ? static_cast<token_t>(v) : last;
    if (u < so_far) {
      return static_cast<token_t>(v);
    }
  }
  return last;
}

/// With what probability a draft d is accepted: min(1, p / q).
inline long double acceptance(const token_law& p, const token_law& q, std::size_t d) {
  return p[d] <= 0 ? 0 : std::min(1.0L, p[d] / q[d]);
}

/// max(p - q, 0), to a sum of 1.
inline token_law residual(const token_law& p, const token_law& q) {
  token_law rest;
  for (std::size_t v = 0; v < p.size(); ++v) {
    rest.push_back(std::max(p[v] - q[v], 0.0L));
  }
  return law_of(rest);
}

/// max(r p - q, 0), to a sum of `sum`, which it writes.
inline token_law block_residual(const token_law& p,
                                const token_law& q,
                                long double r,
                                long double* sum) {
  token_law rest;
  *sum = 0;
  for (std::size_t v = 0; v < p.size(); ++v) {
    rest.push_back(std::max(r * p[v] - q[v], 0.0L));
    *sum += rest.back();
  }
  return law_of(rest);
}

/// A block of n drafts d: r of each place 0 .. n, and with what probability exactly so many drafts
/// are kept, if those of more are not. p, q: of the places that have drafts.
struct verified_block {
  std::vector<long double> r, keeps;

  verified_block(const std::vector<token_law>& p,
                 const std::vector<token_law>& q,
                 const std::vector<token_t>& d) {
    const std::size_t n = d.size();
    r.push_back(1);
    keeps.push_back(1);
    for (std::size_t m = 0; m < n; ++m) {
      const auto at = static_cast<std::size_t>(d[m]);
      r.push_back(std::min(1.0L, r[m] * p[m][at] / q[m][at]));
      long double z = 0;
      if (m + 1 < n) {
        block_residual(p[m + 1], q[m + 1], r[m + 1], &z);
      }
      keeps.push_back(m + 1 == n || r[m + 1] == 1 ? r[m + 1] : z / (z + 1 - r[m + 1]));
    }
  }
};

/// What reject_drafts predicts at a position: `draft` is -1 behind the last draft.
inline token_t verified(
    const token_law& p, token_law q, token_t draft, const rule_of_choice& rule, index_t position) {
  const long double accept = uniform_at(rule, position, 0x41);
  const long double other = uniform_at(rule, position, 0x52);
  if (draft < 0) {
    return drawn_at(p, other);
  }
  const auto d = static_cast<std::size_t>(draft);
  if (q[d] <= 0) {
    q.assign(q.size(), 0);
    q[d] = 1;
  }
  return accept < acceptance(p, q, d) ? draft : drawn_at(residual(p, q), other);
}

}  // namespace mtp::test::reference

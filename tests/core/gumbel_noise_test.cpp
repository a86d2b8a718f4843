#include "mtp/core/gumbel_noise.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "support/reference/choose_tokens.hpp"

namespace mtp::test::core_gumbel_noise_cases {

TEST_CASE("noise is that of the formula in extended precision") {
  for (index_t i = 0; i < 3000; ++i) {
    const reference::rule_of_choice rule{.seed = 0x9123456789abcdef + static_cast<std::uint64_t>(i),
                                         .sequence = static_cast<std::uint32_t>(i * 7)};
    const index_t position = i % 2 == 0 ? i : (index_t{1} << 35) + i;
    const gumbel_noise noise(mtp::seed{rule.seed}, rule.sequence, position);
    const auto token = static_cast<token_t>(i % 11);
    const double expected = reference::gumbel(rule, position, token);
    CHECK(std::abs(noise(token) - expected) <= 8 * 0x1p-52 * (1 + std::abs(expected)));
  }
}

TEST_CASE("noise is finite at both ends, and no larger than its bound") {
  std::vector<std::uint64_t> words{0, 1, ~std::uint64_t{0}, ~std::uint64_t{0} - 1024};
  for (int shift = 1; shift < 64; ++shift) {
    words.push_back(std::uint64_t{1} << shift);
    words.push_back((std::uint64_t{1} << shift) - 1);
  }
  for (const std::uint64_t k : words) {
    CAPTURE(k);
    CHECK(std::isfinite(gumbel_noise::of(k)));
    CHECK(gumbel_noise::of(k) <= gumbel_noise::bound(k));
    CHECK(gumbel_noise::bound(k) <= gumbel_noise::of(k) + 34);  // it is worth something
  }
  CHECK(gumbel_noise::of(0) > 45);
  CHECK(gumbel_noise::of(~std::uint64_t{0}) < -3.6);
}

TEST_CASE("the largest of logits with noise has the softmax's probabilities") {
  const std::vector<double> logits{0.5, -1, 1.5, 0, 0.25};
  double sum = 0;
  for (const double z : logits) {
    sum += std::exp(z);
  }
  std::vector<double> probabilities;
  for (const double z : logits) {
    probabilities.push_back(std::exp(z) / sum);
  }
  // With noise of another size tokens come out that the bound notices.
  for (const double size : {1.0, 0.9, 1.1}) {
    std::vector<double> counts(logits.size(), 0);
    for (index_t position = 0; position < 40000; ++position) {
      const gumbel_noise noise(mtp::seed{5}, 0, position);
      std::size_t best = 0;
      double best_score = -HUGE_VAL;
      for (std::size_t v = 0; v < logits.size(); ++v) {
        const double score = logits[v] + size * noise(static_cast<index_t>(v));
        best = score > best_score ? v : best;
        best_score = std::max(best_score, score);
      }
      counts[best] += 1;
    }
    double freedom = 0;
    const double deviation = reference::chi_square(counts, probabilities, &freedom);
    CAPTURE(deviation);
    CHECK((deviation <= reference::chi_square_bound(freedom)) == (size == 1.0));
  }
}

}  // namespace mtp::test::core_gumbel_noise_cases

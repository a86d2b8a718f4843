// Text that is drawn from a model's probabilities, for the report: always the most probable byte
// sends a small model round in circles.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/decode/decoder.hpp"
#include "prompts.hpp"
#include "stopping.hpp"

namespace example {

/// The token at share `share` in [0, 1) of the distribution softmax(logits / temperature), whose
/// tokens stand in their order. `temperature` must be positive.
template <class S>
mtp::token_t token_at(std::span<const S> logits, double temperature, double share) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  const auto weight = [&](S logit) { return std::exp((logit - largest) / temperature); };
  double sum = 0;
  for (const S logit : logits) sum += weight(logit);
  double rest = share * sum;
  std::size_t last = 0;  // with a weight: rounding may leave a rest behind it
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double own = weight(logits[i]);
    if (rest < own) return static_cast<mtp::token_t>(i);
    rest -= own;
    if (own > 0) last = i;
  }
  return static_cast<mtp::token_t>(last);
}

/// Continues `prompt`, which is not empty, by up to `count` tokens, each drawn at `temperature`, up
/// to `positions` in all. The same model, prompt and stream give the same text.
template <class Generator>
std::string drawn_text(Generator& generator,
                       const std::string& prompt,
                       long count,
                       long positions,
                       double temperature,
                       const mtp::random_stream& random) {
  auto& sequence = generator.sequence();
  std::vector<mtp::token_t> tokens = to_tokens(prompt);
  std::vector<typename Generator::logit_type> row;
  sequence.reset();
  for (std::size_t at = 0; at < tokens.size() && stop_requested == 0; ++at) {
    const auto logits = sequence.step(std::span(tokens).subspan(at, 1), mtp::hidden_states::dropped)
                            .select(0, 0);  // [V]
    const std::size_t drawn = tokens.size() - prompt.size();
    if (at + 1 < tokens.size() || static_cast<long>(drawn) >= count ||
        static_cast<long>(tokens.size()) >= positions) {
      continue;
    }
    row.resize(static_cast<std::size_t>(logits.extent(0)));
    generator.download(row, logits);
    using logit = typename Generator::logit_type;
    tokens.push_back(
        token_at(std::span<const logit>(row), temperature, random.uniform(std::uint64_t{drawn})));
  }
  return to_text(std::span(tokens).subspan(prompt.size()));
}

}  // namespace example

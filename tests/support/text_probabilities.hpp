// The probabilities of all texts of three tokens out of five, from plain passes of a model.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "support/decoding.hpp"
#include "support/reference/choose_tokens.hpp"

namespace mtp::test {

/// A small model of five tokens.
constexpr model_config five_tokens_config(head_kind head) {
  model_config made = spoken_config(head, 2, 16);
  made.vocab_size = 5;
  return made;
}

/// Which of the 125 texts it is.
inline std::size_t number_of_text(const std::vector<token_t>& tokens) {
  return static_cast<std::size_t>(tokens[0] * 25 + tokens[1] * 5 + tokens[2]);
}

/// The product of the model's probabilities along each text behind a prompt.  [125]
template <class Decoder>
std::vector<double> text_probabilities(Decoder& decoder,
                                       const std::vector<token_t>& prompt,
                                       double temperature) {
  std::vector<double> probabilities;
  for (token_t text = 0; text < 125; ++text) {
    std::vector<token_t> path = prompt;
    path.insert(path.end(), {text / 25, text / 5 % 5, text % 5});
    double probability = 1;
    decoder.reset();
    for (std::size_t i = 0; i + 1 < path.size(); ++i) {
      std::vector<double> scaled;
      for (const float logit : elements(
               decoder.step(std::span(path).subspan(i, 1), hidden_states::dropped).select(0, 0))) {
        scaled.push_back(static_cast<double>(logit) / temperature);
      }
      if (i + 1 >= prompt.size()) {
        probability *= std::exp(reference::log_probability(scaled, path[i + 1]));
      }
    }
    probabilities.push_back(probability);
  }
  return probabilities;
}

}  // namespace mtp::test

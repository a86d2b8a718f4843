// What generation should give, found the slow way: one token at a time, each chosen in double by a
// sort and a search, with nothing that batch_generator or generator are made of but a step of the
// model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/decode/decoder.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/generation.hpp"
#include "support/reference/choose_tokens.hpp"

namespace mtp::fuzz {

/// A whole text.
struct naive_generation {
  std::vector<token_t> tokens;            // prompt not included
  std::vector<double> log_probabilities;  // of each
  end_reason end = end_reason::length;
  bool has_no_choice = false;  // behind the last token every token is forbidden
};

/// The rule of options in the reference's words.
template <class Options>
test::reference::rule_of_choice naive_rule(const Options& options, index_t prompt, index_t V) {
  const sampling_options& s = options.sampling;
  test::reference::rule_of_choice rule{.seed = s.seed.value,
                                       .sequence = s.sequence,
                                       .prompt_length = prompt,
                                       .min_new_tokens = options.min_new_tokens,
                                       .top_k = s.top_k,
                                       .temperature = s.temperature,
                                       .top_p = s.top_p,
                                       .min_p = s.min_p,
                                       .repetition_penalty = s.repetition_penalty,
                                       .frequency_penalty = s.frequency_penalty,
                                       .presence_penalty = s.presence_penalty,
                                       .stop_tokens = options.stop_tokens};
  rule.bias.assign(s.logit_bias.empty() ? 0 : static_cast<std::size_t>(V), 0.0f);
  for (const token_bias& each : s.logit_bias) {
    rule.bias[static_cast<std::size_t>(each.token)] += each.bias;
  }
  return rule;
}

/// Whether some tokens end in what stops them.
template <class Options>
bool naively_stopped(const std::vector<token_t>& tokens, const Options& options) {
  if (static_cast<index_t>(tokens.size()) < options.min_new_tokens) {
    return false;
  }
  for (const token_t stop : options.stop_tokens) {
    if (tokens.back() == stop) {
      return true;
    }
  }
  for (const std::vector<token_t>& stop : options.stop) {
    const auto from =
        static_cast<std::ptrdiff_t>(tokens.size()) - static_cast<std::ptrdiff_t>(stop.size());
    if (!stop.empty() && from >= 0 &&
        std::vector<token_t>(tokens.begin() + from, tokens.end()) == stop) {
      return true;
    }
  }
  return false;
}

/// Continues a prompt. The decoder has one slot and is reset.
template <model_config Config>
naive_generation generate_naively(decoder<Config, cpu>& steps,
                                  const std::vector<token_t>& prompt,
                                  const generate_options<float, cpu>& options) {
  naive_generation text;
  std::vector<token_t> all = prompt;
  const auto rule = naive_rule(options, static_cast<index_t>(prompt.size()), Config.vocab_size);
  const auto as_float = [](double x) { return static_cast<double>(static_cast<float>(x)); };
  steps.reset();
  for (std::size_t i = 0; i + 1 < prompt.size(); ++i) {
    steps.prefill({&prompt[i], 1}, hidden_states::dropped);
  }
  while (static_cast<index_t>(text.tokens.size()) < options.max_new_tokens) {
    if (static_cast<index_t>(all.size()) >= Config.max_position_embeddings) {
      text.end = end_reason::context;
      return text;
    }
    const auto row = steps.step({&all.back(), 1}, hidden_states::dropped).select(0, 0);  // [V]
    const std::vector<double> logits(row.data(), row.data() + Config.vocab_size);
    const token_t next = test::reference::chosen(logits, all, rule, as_float);
    text.has_no_choice = next < 0;
    if (text.has_no_choice) {
      return text;
    }
    text.tokens.push_back(next);
    text.log_probabilities.push_back(test::reference::log_probability(logits, next));
    all.push_back(next);
    if (naively_stopped(text.tokens, options)) {
      text.end = end_reason::stop;
      return text;
    }
  }
  return text;
}

}  // namespace mtp::fuzz

// The caller's options for choosing tokens.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/ops/sampling_rule.hpp"

namespace mtp::inline MTP_ABI {

/// How a head chooses its drafts while tokens are sampled. The text is the same either way; only
/// the number of accepted drafts differs.
enum class draft_choice {
  shared_noise,  ///< with the rule and noise of the model's own token; more are accepted
  most_likely,   ///< by the largest logit
};

/// How drafts are verified while tokens are sampled. Either way the text has the distribution of
/// plain decoding.
enum class draft_verification {
  compare,    ///< a draft is accepted if it is the token that is drawn: the text is that of plain
              ///< decoding, token for token, whatever is drafted
  rejection,  ///< a draft of probability q is accepted with probability min(1, p / q), see
              ///< reject_drafts: more drafts are accepted, but the text is another one than that of
              ///< plain decoding, and another one for each num_draft_tokens
  block,      ///< the same, but all drafts of a cycle are decided about at once, see reject_drafts:
              ///< on average at least as many are accepted
};

/// A number to add to the logit of a token.
struct token_bias {
  token_t token = 0;  ///< whose logit
  float bias = 0;     ///< finite, or -infinity: the token is never chosen
};

/// Adds to the logits of the token that follows a text, the prompt included: bias [V] comes with
/// logit_bias in it; -infinity forbids a token. What a grammar asks for. Called for each row that a
/// token is chosen from, also behind drafts that are not accepted later on, so it must be a
/// function of the text alone.
using logit_mask = std::function<void(std::span<const token_t> text, std::span<float> bias)>;

/// How tokens are chosen from logits. Every option does nothing by default, so that the most likely
/// token is chosen. choose_tokens has the formulas and their order. Names are Hugging Face's, and
/// for the penalties by frequency and presence OpenAI's.
struct sampling_options {
  double temperature = 0;         ///< 0: the most likely token; 1: the model's own distribution
  index_t top_k = 0;              ///< how many most likely tokens are kept; 0: all
  double top_p = 1;               ///< keeps the fewest with this total probability, in (0, 1]
  double min_p = 0;               ///< least share of the largest probability, in [0, 1]
  double repetition_penalty = 1;  ///< above 0; for tokens of the prompt and after it
  double frequency_penalty = 0;   ///< per occurrence among generated tokens
  double presence_penalty = 0;    ///< once for each token that was generated
  std::vector<token_bias> logit_bias{};  ///< added to logits; numbers for one token add up
  logit_mask mask{};                     ///< more to add, by the text in front
  mtp::seed seed{};                      ///< the same seed gives the same text
  std::uint32_t sequence = 0;            ///< number of the text among those of a seed
  draft_choice drafts = draft_choice::shared_noise;  ///< how the head drafts
  /// How guesses are verified. Rejection draws them from the head's distribution with noise of
  /// their own, so it goes with `drafts` as it is by default, and with draft_schedule::constant
  /// alone. Without a temperature and without drafts it is the same as to compare.
  draft_verification verification = draft_verification::compare;
};

namespace detail {

/// Throws mtp::error unless the options are valid for a vocabulary of V tokens.
inline void check_sampling(const sampling_options& options, index_t V) {
  const auto need = [](bool holds, const char* name, const char* expected, auto actual) {
    check(holds, "generate: expected ", name, " ", expected, ", got ", actual);
  };
  const auto is_finite = [](double x) { return std::isfinite(x); };
  need(is_finite(options.temperature) && options.temperature >= 0,
       "temperature",
       "finite and not negative",
       options.temperature);
  need(options.top_k >= 0, "top_k", "not negative", options.top_k);
  need(options.top_p > 0 && options.top_p <= 1, "top_p", "in (0, 1]", options.top_p);
  need(options.min_p >= 0 && options.min_p <= 1, "min_p", "in [0, 1]", options.min_p);
  need(is_finite(options.repetition_penalty) && options.repetition_penalty > 0,
       "repetition_penalty",
       "finite and above 0",
       options.repetition_penalty);
  need(is_finite(options.frequency_penalty),
       "frequency_penalty",
       "finite",
       options.frequency_penalty);
  need(is_finite(options.presence_penalty), "presence_penalty", "finite", options.presence_penalty);
  need(options.drafts == draft_choice::shared_noise || options.drafts == draft_choice::most_likely,
       "drafts",
       "of draft_choice",
       static_cast<int>(options.drafts));
  need(options.verification == draft_verification::compare ||
           options.verification == draft_verification::rejection ||
           options.verification == draft_verification::block,
       "verification",
       "of draft_verification",
       static_cast<int>(options.verification));
  check(options.verification == draft_verification::compare ||
            options.drafts != draft_choice::most_likely,
        "generate: draft_verification::rejection and block draw drafts from the head's "
        "distribution, so expected drafts other than draft_choice::most_likely");
  check(options.verification == draft_verification::compare || !options.mask,
        "generate: draft_verification::rejection and block take no mask, got one");
  for (const token_bias& each : options.logit_bias) {
    check(each.token >= 0 && each.token < V,
          "generate: expected tokens in [0, ",
          V,
          ") in logit_bias, got ",
          each.token);
    check(each.bias < std::numeric_limits<float>::infinity(),
          "generate: expected numbers below infinity in logit_bias, got ",
          each.bias,
          " for token ",
          each.token);
  }
}

/// Whether the options change the choice of the largest logit.
inline bool needs_rule(const sampling_options& options, bool forbids_stop) {
  return options.temperature > 0 || options.repetition_penalty != 1 ||
         options.frequency_penalty != 0 || options.presence_penalty != 0 ||
         !options.logit_bias.empty() || options.mask || forbids_stop;
}

/// The content of a sampling_rule, on the host, in memory that is reused.
class host_sampling_rule {
 public:
  std::array<index_t, sampling_integers> integers{};  ///< by sampling_integer
  std::array<double, sampling_reals> reals{};         ///< by sampling_real
  std::vector<token_t> stop_tokens;                   ///< each once
  std::vector<float> bias;                            ///< [V]

  /// With room for V tokens.
  explicit host_sampling_rule(index_t V) : bias(static_cast<std::size_t>(V)) {
    stop_tokens.reserve(static_cast<std::size_t>(V));
  }

  /// Sets the numbers from options that check_sampling accepted.
  void set(const sampling_options& options,
           std::span<const token_t> stop,
           index_t prompt_length,
           index_t min_new_tokens) {
    stop_tokens.assign(stop.begin(), stop.end());
    std::sort(stop_tokens.begin(), stop_tokens.end());
    stop_tokens.erase(std::unique(stop_tokens.begin(), stop_tokens.end()), stop_tokens.end());
    std::fill(bias.begin(), bias.end(), 0.0f);
    for (const token_bias& each : options.logit_bias) {
      bias[static_cast<std::size_t>(each.token)] += each.bias;
    }
    integers[sampling_seed] = static_cast<index_t>(options.seed.value);
    integers[sampling_sequence] = options.sequence;
    integers[sampling_prompt_length] = prompt_length;
    integers[sampling_min_new_tokens] = min_new_tokens;
    integers[sampling_stop_count] = static_cast<index_t>(stop_tokens.size());
    integers[sampling_has_bias] = options.logit_bias.empty() && !options.mask ? 0 : 1;
    integers[sampling_top_k] = options.top_k;
    reals[sampling_temperature] = options.temperature;
    reals[sampling_top_p] = options.top_p;
    reals[sampling_min_p] = options.min_p;
    reals[sampling_repetition_penalty] = options.repetition_penalty;
    reals[sampling_frequency_penalty] = options.frequency_penalty;
    reals[sampling_presence_penalty] = options.presence_penalty;
  }
};

}  // namespace detail
}  // namespace mtp::inline MTP_ABI

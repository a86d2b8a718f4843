// Options and results of generation.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/sampling_options.hpp"

namespace mtp::inline MTP_ABI {

/// How tokens are decoded.
enum class decode_mode {
  plain,        ///< one token per forward pass
  speculative,  ///< the head drafts D tokens, one forward pass verifies them; the result is the
                ///< same, bit for bit
};

/// Why generation ended.
enum class end_reason {
  length,    ///< max_new_tokens
  stop,      ///< a stop token or a stop sequence; it is part of the result
  context,   ///< max_position_embeddings
  callback,  ///< on_token returned false
};

/// A token at the time it is confirmed. Also converts to token_t, for callbacks that take one.
struct written_token {
  token_t token = 0;           ///< the token
  index_t position = 0;        ///< in the sequence, the prompt included
  bool drafted = false;        ///< whether it was an accepted draft
  double log_probability = 0;  ///< if asked for, as in generation::log_probabilities

  /// The token alone.
  operator token_t() const { return token; }
};

/// How to generate.
template <class S, class Backend>
struct generate_options {
  decode_mode mode = decode_mode::speculative;  ///< a head that drafts nothing decodes plainly
  index_t max_new_tokens = 128;                 ///< generation ends after this many
  index_t min_new_tokens = 0;                   ///< tokens before nothing stops it
  std::vector<std::vector<token_t>> stop{};     ///< each ends generation, from min_new_tokens on
  std::vector<token_t> stop_tokens{};           ///< each ends it; not chosen before min_new_tokens
  sampling_options sampling{};                  ///< how tokens are chosen: by default the likeliest
  bool log_probabilities = false;               ///< whether the result has them
  std::function<bool(const written_token&)> on_token{};  ///< each as it is confirmed; false ends
  /// Called with the position of each token and the logits [V] that it was chosen from, in the
  /// backend's memory.
  std::function<void(index_t, vector_view<const accumulate_t<S>, Backend>)> on_logits{};
};

/// The result of generation.
template <int Depth>
struct generation {
  std::vector<token_t> tokens;  ///< the generated tokens, without the prompt
  /// If asked for: for each token, in nats, log softmax of the model's logits, before any option.
  std::vector<double> log_probabilities;
  end_reason end = end_reason::length;  ///< why it ended
  index_t forward_passes = 0;           ///< passes of the trunk, without the prompt
  std::array<index_t, static_cast<std::size_t>(Depth)> drafted{};   ///< drafts at each position
  std::array<index_t, static_cast<std::size_t>(Depth)> accepted{};  ///< of these, accepted
  double prefill_seconds = 0;                                       ///< time for the prompt
  double decode_seconds = 0;  ///< time for the generated tokens

  /// Share of drafts at position k (0 is the first) that were accepted, among all cycles.
  double acceptance(std::size_t k) const {
    return drafted[k] > 0 ? static_cast<double>(accepted[k]) / static_cast<double>(drafted[k])
                          : 0.0;
  }
  /// Generated tokens per pass of the trunk: 1 for plain decoding, at most D + 1.
  double tokens_per_forward() const {
    return forward_passes > 0
               ? static_cast<double>(tokens.size()) / static_cast<double>(forward_passes)
               : 0.0;
  }
};

namespace detail {

/// Throws mtp::error unless the tokens lie in [0, V).
inline void check_tokens(std::span<const token_t> tokens, const char* what, index_t V) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    check(tokens[i] >= 0 && tokens[i] < V,
          "generate: ",
          what,
          " ",
          tokens[i],
          " at position ",
          i,
          " does not lie in [0, ",
          V,
          ")");
  }
}

/// Throws mtp::error unless a prompt can be continued with the options, by a model with a
/// vocabulary of V tokens and P positions.
template <class S, class Backend>
void check_generation(std::span<const token_t> prompt,
                      const generate_options<S, Backend>& options,
                      index_t V,
                      index_t P) {
  const auto length = static_cast<index_t>(prompt.size());
  check(length > 0, "generate: the prompt is empty");
  check(
      length <= P, "generate: a prompt of ", length, " tokens exceeds max_position_embeddings ", P);
  check(options.max_new_tokens >= 0,
        "generate: max_new_tokens must not be negative, got ",
        options.max_new_tokens);
  check(options.min_new_tokens >= 0 && options.min_new_tokens <= options.max_new_tokens,
        "generate: expected min_new_tokens in [0, ",
        options.max_new_tokens,
        "], got ",
        options.min_new_tokens);
  check_tokens(prompt, "token", V);
  check_tokens(options.stop_tokens, "stop token", V);
  check_sampling(options.sampling, V);
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI

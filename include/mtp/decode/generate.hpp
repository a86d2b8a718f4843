// Greedy generation: token by token, or several at a time by drafting and verifying, with the same
// result.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "mtp/decode/decoder.hpp"

namespace mtp {

enum class decode_mode {
  plain,        ///< one token per forward pass
  speculative,  ///< the head drafts D tokens, one forward pass verifies them; the result is the
                ///< same, bit for bit
};

/// Why generation ended.
enum class end_reason {
  length,    ///< max_new_tokens
  stop,      ///< a stop sequence, which is the end of the text
  context,   ///< max_positions
  callback,  ///< on_token returned false
};

template <class S, class Backend>
struct generate_options {
  decode_mode mode = decode_mode::speculative;
  index_t max_new_tokens = 128;
  std::vector<std::vector<token_t>> stop{};  ///< sequences that end the text
  std::function<bool(token_t)> on_token{};   ///< each token as it is certain; false ends
  /// Position of each token and the logits [V] that it came from.
  std::function<void(index_t, vector_view<const S, Backend>)> on_logits{};
};

template <int Depth>
struct generation {
  std::vector<token_t> tokens;  ///< what was generated, prompt not included
  end_reason end = end_reason::length;
  index_t forward_passes = 0;  ///< of the trunk, prompt not included
  std::array<index_t, static_cast<std::size_t>(Depth)> drafted{};   ///< drafts at each position
  std::array<index_t, static_cast<std::size_t>(Depth)> accepted{};  ///< of these, verified as right
  double prefill_seconds = 0;
  double decode_seconds = 0;

  /// Share of drafts at position k (0 is the first) that were right, among all cycles.
  double acceptance(std::size_t k) const {
    return drafted[k] > 0 ? static_cast<double>(accepted[k]) / static_cast<double>(drafted[k])
                          : 0.0;
  }
  double tokens_per_forward() const {
    return forward_passes > 0
               ? static_cast<double>(tokens.size()) / static_cast<double>(forward_passes)
               : 0.0;
  }
};

/// Writes text with a model. Greedy: always the most likely token, ties to the lowest.
///
/// Speculative decoding (Stern et al. 2018, arXiv 1811.03115; Leviathan et al. 2023 for the greedy
/// case): the head drafts d_1 .. d_D behind the last certain token x; one pass of the trunk over x,
/// d_1, .., d_D gives the true next token after each; drafts are accepted as long as they agree,
/// the first disagreeing row still gives one true token, and caches roll back by length. Since
/// every row has the bits it would have alone, tokens and logits are those of plain decoding.
template <model_config Config, class Backend, real S = float>
class generator {
 public:
  using decoder_type = decoder<Config, Backend, S>;
  using model_type = language_model<Config, Backend, S>;
  using options_type = generate_options<S, Backend>;
  using generation_type = generation<Config.depth>;

  generator(context<Backend>& context, const model_type& model)
      : decoder_(context, model),
        tokens_(static_cast<std::size_t>(Config.max_positions + Config.depth + 1)) {
    result_.tokens.reserve(static_cast<std::size_t>(Config.max_positions));
  }

  /// Continues `prompt`. The result lives until the next call. Throws mtp::error for an empty
  /// prompt, one longer than max_positions, tokens outside the vocabulary, or a negative
  /// max_new_tokens.
  const generation_type& generate(std::span<const token_t> prompt, const options_type& options) {
    check_arguments(prompt, options);
    const bool speculative = options.mode == decode_mode::speculative && Config.drafts();
    result_.tokens.clear();
    result_.forward_passes = 0;
    result_.drafted.fill(0);
    result_.accepted.fill(0);
    result_.end = end_reason::length;
    decoder_.reset();
    std::copy(prompt.begin(), prompt.end(), tokens_.begin());
    count_ = static_cast<index_t>(prompt.size());

    const auto start = clock::now();
    prefill(speculative);
    const auto prefilled = clock::now();
    bool going = options.max_new_tokens > 0;
    while (going) {
      going = cycle(options, speculative);
    }
    result_.prefill_seconds = std::chrono::duration<double>(prefilled - start).count();
    result_.decode_seconds = std::chrono::duration<double>(clock::now() - prefilled).count();
    return result_;
  }

  decoder_type& sequence() { return decoder_; }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr index_t D = Config.depth;

  void check_arguments(std::span<const token_t> prompt, const options_type& options) const {
    const auto length = static_cast<index_t>(prompt.size());
    check(length > 0, "generate: the prompt is empty");
    check(length <= Config.max_positions,
          "generate: a prompt of ",
          length,
          " tokens exceeds max_positions ",
          Config.max_positions);
    check(options.max_new_tokens >= 0,
          "generate: max_new_tokens must not be negative, got ",
          options.max_new_tokens);
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      check(prompt[i] >= 0 && prompt[i] < Config.vocab_size,
            "generate: token ",
            prompt[i],
            " at position ",
            i,
            " does not lie in [0, ",
            Config.vocab_size,
            ")");
    }
  }

  std::span<const token_t> known(index_t first, index_t count) const {
    return std::span<const token_t>(tokens_).subspan(static_cast<std::size_t>(first),
                                                     static_cast<std::size_t>(count));
  }

  // All of the prompt but its last token, which the first cycle takes.
  void prefill(bool speculative) {
    for (index_t first = 0; first < count_ - 1;) {
      const index_t rows = std::min(decoder_type::max_step_rows, count_ - 1 - first);
      decoder_.prefill(known(first, rows), speculative);
      first += rows;
      if constexpr (Config.drafts()) {
        if (speculative) {
          decoder_.drafter().advance(decoder_.run_context(), decoder_.model(), tokens_, count_);
        }
      }
    }
  }

  /// One forward pass of the trunk and what comes of it. Returns whether generation goes on.
  bool cycle(const options_type& options, bool speculative) {
    if (count_ >= Config.max_positions) {
      result_.end = end_reason::context;
      return false;
    }
    index_t drafts = 0;
    if constexpr (Config.drafts()) {
      if (speculative && count_ >= 2 && count_ + D <= Config.max_positions) {
        decoder_.drafter().rewind(count_);
        decoder_.drafter().draft(decoder_.run_context(), decoder_.model(), tokens_, count_);
        drafts = D;
      }
    }
    const auto logits =
        decoder_.step(known(count_ - 1, drafts + 1), speculative);  // [drafts + 1, V]
    std::array<token_t, static_cast<std::size_t>(D) + 1> predicted;
    predict(decoder_.run_context(),
            std::span<token_t>(predicted).first(static_cast<std::size_t>(drafts) + 1),
            logits);
    ++result_.forward_passes;
    index_t right = 0;
    while (right < drafts && tokens_[static_cast<std::size_t>(count_ + right)] ==
                                 predicted[static_cast<std::size_t>(right)]) {
      ++right;
    }
    for (index_t k = 0; k < drafts; ++k) {
      ++result_.drafted[static_cast<std::size_t>(k)];
      result_.accepted[static_cast<std::size_t>(k)] += k < right ? 1 : 0;
    }
    for (index_t row = 0; row <= right; ++row) {
      if (!emit(predicted[static_cast<std::size_t>(row)], logits.select(0, row), options)) {
        return false;
      }
    }
    decoder_.roll_back(count_ - 1);
    return true;
  }

  bool emit(token_t token, vector_view<const S, Backend> logits, const options_type& options) {
    check(token >= 0, "generate: no logit at position ", count_, " is a number");
    if (options.on_logits) {
      options.on_logits(count_, logits);
    }
    tokens_[static_cast<std::size_t>(count_++)] = token;
    result_.tokens.push_back(token);
    if (options.on_token && !options.on_token(token)) {
      result_.end = end_reason::callback;
      return false;
    }
    for (const auto& stop : options.stop) {
      if (!stop.empty() && stop.size() <= result_.tokens.size() &&
          std::equal(stop.begin(),
                     stop.end(),
                     result_.tokens.end() - static_cast<std::ptrdiff_t>(stop.size()))) {
        result_.end = end_reason::stop;
        return false;
      }
    }
    if (static_cast<index_t>(result_.tokens.size()) >= options.max_new_tokens) {
      result_.end = end_reason::length;
      return false;
    }
    if (count_ >= Config.max_positions) {
      result_.end = end_reason::context;
      return false;
    }
    return true;
  }

  decoder_type decoder_;
  std::vector<token_t> tokens_;  // [max_positions + D + 1]: certain tokens, then drafts
  index_t count_ = 0;            // certain tokens
  generation_type result_;
};

}  // namespace mtp

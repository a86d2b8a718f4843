// What generation is asked for.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "mtp/core/draft_tree.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/sampling_options.hpp"
#include "mtp/ops/accept_typical.hpp"

namespace mtp::inline MTP_ABI {

/// How tokens are decoded.
enum class decode_mode {
  plain,        ///< one token per forward pass
  speculative,  ///< the head drafts D tokens, one forward pass verifies them; the result is the
                ///< same, bit for bit, but for draft_verification::rejection and block and
                ///< lossy_acceptance
};

/// A token as it is confirmed. A function of a token_t takes it as well.
struct written_token {
  token_t token = 0;           ///< the token
  index_t position = 0;        ///< in the sequence, the prompt included
  bool drafted = false;        ///< whether it was an accepted draft
  double log_probability = 0;  ///< if asked for, as in generation::log_probabilities

  /// The token alone.
  operator token_t() const { return token; }
};

/// How many tokens a head drafts in a cycle. What is written is the same either way; where it would
/// not be, under draft_verification::rejection and block and under lossy_acceptance, adaptive is
/// refused.
enum class draft_schedule {
  constant,  ///< num_draft_tokens
  adaptive,  ///< up to as many, as long as they pay: see draft_pacer. Where operations do not end
             ///< when they return, and where several ranks compute the model, the same as constant
};

/// Best tokens that generation gives for each position at most.
inline constexpr index_t most_best_tokens = 20;

/// How to generate.
template <class S, class Backend>
struct generate_options {
  decode_mode mode = decode_mode::speculative;  ///< a head that drafts nothing decodes plainly
  index_t num_draft_tokens = -1;  ///< drafted in a cycle, up to the model's depth; -1: the depth
  draft_schedule schedule = draft_schedule::constant;  ///< whether it is always as many
  draft_tree tree{};  ///< several drafts for a position; of sequential and recurrent heads those of
                      ///< fixed rows; none: a chain. The result is the same, bit for bit
  /// Changes the text: typical drafts are written in place of the most likely tokens, see
  /// typical_acceptance. None, the default: the text is exact.
  std::optional<typical_acceptance> lossy_acceptance{};
  index_t max_new_tokens = 128;              ///< generation ends after as many
  index_t min_new_tokens = 0;                ///< generated tokens before which nothing stops it
  std::vector<std::vector<token_t>> stop{};  ///< each ends generation, from min_new_tokens on
  std::vector<token_t> stop_tokens{};        ///< each ends it; not chosen before min_new_tokens
  sampling_options sampling{};               ///< how tokens are chosen: by default the likeliest
  /// Whether what caches hold of the same beginning is used again: that of the sequence before, and
  /// in a batch_generator that of the others. Parameters must not have changed since.
  bool reuse_prefix = false;
  bool log_probabilities = false;  ///< whether the result has them
  index_t best_tokens = 0;  ///< likeliest tokens of each position that the result has, at most 20
  std::function<bool(const written_token&)> on_token{};  ///< each as it is confirmed; false ends
  /// Called with the position of each token and the logits [V] that it was chosen from, in the
  /// backend's memory.
  std::function<void(index_t, vector_view<const accumulate_t<S>, Backend>)> on_logits{};
};

/// Why trees of drafts are refused; null: they are not.
struct tree_refusals {
  const char* all = nullptr;            ///< of any shape
  const char* by_confidence = nullptr;  ///< those of draft_tree::by_confidence
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

/// Throws mtp::error unless the options' tree goes with the other options and a head of depth D.
template <class Options>
void check_draft_tree(const Options& options, index_t D, const tree_refusals& refusals) {
  const index_t rows = options.tree.rows();
  check(refusals.all == nullptr,
        "generate: expected drafts without a tree, because ",
        refusals.all,
        ", got a tree of ",
        rows,
        " rows");
  check(!options.tree.is_dynamic() || refusals.by_confidence == nullptr,
        "generate: expected a tree of fixed rows, because ",
        refusals.by_confidence,
        ", got draft_tree::by_confidence");
  check(options.tree.is_dynamic() || options.tree.depth() <= D,
        "generate: expected a tree of at most ",
        D,
        " positions, the depth of the head, got one of ",
        options.tree.depth());
  check(options.num_draft_tokens == -1,
        "generate: a tree says how many drafts are made, so expected num_draft_tokens -1, got ",
        options.num_draft_tokens);
  check(options.schedule == draft_schedule::constant,
        "generate: a tree says how many drafts are made, so expected draft_schedule::constant, got "
        "draft_schedule::adaptive");
  check(
      options.sampling.verification == draft_verification::compare,
      "generate: draft_verification::rejection and block verify a chain of drafts, so expected no "
      "tree, got one of ",
      rows,
      " rows");
}

/// Throws mtp::error unless the options' lossy_acceptance goes with the other options and a head of
/// depth D.
template <class Options>
void check_lossy_acceptance(const Options& options, index_t D) {
  check_typical("generate", *options.lossy_acceptance);
  const auto need = [](bool holds, const char* expected) {
    check(holds, "generate: lossy_acceptance accepts drafts that are typical: expected ", expected);
  };
  need(options.mode == decode_mode::speculative && D > 0 && options.num_draft_tokens != 0,
       "drafts, got decode_mode::plain, num_draft_tokens 0 or a head that drafts none");
  need(options.schedule == draft_schedule::constant,
       "draft_schedule::constant, because the text depends on the number of drafts, got adaptive");
  need(
      options.sampling.temperature == 0,
      "sampling.temperature 0, because other tokens are the most likely ones (it has a temperature "
      "of its own)");
  need(options.sampling.verification == draft_verification::compare,
       "draft_verification::compare, got rejection or block, which keep the distribution");
  need(!options.sampling.mask, "no mask, got one");
}

/// Throws mtp::error unless a prompt can be continued with the options, by a model with a
/// vocabulary of V tokens and P positions and a head of depth D; refusals: of trees.
template <class S, class Backend>
void check_generation(std::span<const token_t> prompt,
                      const generate_options<S, Backend>& options,
                      index_t V,
                      index_t P,
                      index_t D,
                      const tree_refusals& refusals) {
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
  check(options.best_tokens >= 0 && options.best_tokens <= most_best_tokens,
        "generate: expected best_tokens in [0, ",
        most_best_tokens,
        "], got ",
        options.best_tokens);
  check(options.num_draft_tokens >= -1 && options.num_draft_tokens <= D,
        "generate: expected num_draft_tokens in [0, ",
        D,
        "], or -1 for all, got ",
        options.num_draft_tokens);
  check_tokens(prompt, "token", V);
  check_tokens(options.stop_tokens, "stop token", V);
  check_sampling(options.sampling, V);
  check(options.sampling.verification == draft_verification::compare ||
            options.schedule == draft_schedule::constant,
        "generate: with draft_verification::rejection and block the text depends on the number of "
        "drafts, so expected draft_schedule::constant, got draft_schedule::adaptive");
  if (options.tree.exists()) {
    check_draft_tree(options, D, refusals);
  }
  if (options.lossy_acceptance) {
    check_lossy_acceptance(options, D);
  }
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI

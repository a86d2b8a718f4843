// One generation on its way, as the host sees it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/cycle.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/generation.hpp"
#include "mtp/decode/sampling_options.hpp"

namespace mtp::inline MTP_ABI {

/// What has been written and whether it goes on. Reads what cycles did, calls the callbacks.
template <model_config Config, class Backend, scalar S>
class generation_progress {
 public:
  using options_type = generate_options<S, Backend>;            ///< how to generate
  using generation_type = generation<Config.prediction.depth>;  ///< what generation gives
  using cycle_type = decoding_cycle<Config, Backend, S>;        ///< what runs cycles
  static constexpr index_t D = Config.prediction.depth;         ///< drafts at most
  static constexpr index_t P = Config.max_position_embeddings;  ///< positions

  /// Room for all that one generation can write, so that no cycle asks for memory.
  generation_progress() {
    result_.tokens.reserve(static_cast<std::size_t>(P));
    result_.log_probabilities.reserve(static_cast<std::size_t>(P));
    text_.reserve(static_cast<std::size_t>(P));
  }

  /// A generation in a slot that goes on behind what it has written so far, or begins. Its options
  /// outlive it; they and the tokens have been checked. Its first `common` tokens are those of the
  /// sequence that was there: see in_common.
  void start(cycle_type& cycle,
             index_t slot,
             std::span<const token_t> prompt,
             const options_type& options,
             index_t common = 0,
             const generation_type& so_far = {}) {
    options_ = &options;
    slot_ = slot;
    prompt_ = static_cast<index_t>(prompt.size());
    known_ = count_ = least_count_ = prompt_ + static_cast<index_t>(so_far.tokens.size());
    // Before the last result is overwritten: the prompt may lie there.
    prefilled_ = cycle.begin(slot, prompt, so_far.tokens, common, is_speculative());
    text_.assign(prompt.begin(), prompt.end());
    text_.insert(text_.end(), so_far.tokens.begin(), so_far.tokens.end());
    chooses_ = send_rule(cycle);
    if (options.tree.exists() && is_speculative()) {
      cycle.reserve_tree_rows(options.tree.rows());
    }
    result_ = so_far;
    result_.reused = prefilled_;
    result_.end = end_reason::length;
    if (options.best_tokens > 0) {
      const auto room = static_cast<std::size_t>(P * options.best_tokens);
      result_.best_tokens.reserve(room);
      result_.best_log_probabilities.reserve(room);
    }
    going_ = static_cast<index_t>(so_far.tokens.size()) < options.max_new_tokens;
  }

  /// How many tokens a prompt and this text have in common at their beginnings, as far as what
  /// caches hold of them serves the prompt: all but its last token; and where rows of a prompt have
  /// the bits of a pass over a whole piece alone, whole pieces of both prompts.
  index_t in_common(std::span<const token_t> prompt) const {
    constexpr bool is_host = backend_traits<Backend>::is_host_memory;
    constexpr index_t piece = is_host ? 1 : cycle_type::decoder_type::max_step_rows;
    const index_t cached = is_host ? cached_positions() : (std::min)(prefilled_, prompt_ - 1);
    const auto most = (std::min)(static_cast<index_t>(prompt.size()) - 1, cached);
    index_t common = 0;
    while (common < most &&
           prompt[static_cast<std::size_t>(common)] == text_[static_cast<std::size_t>(common)]) {
      ++common;
    }
    return common / piece * piece;
  }

  /// Rows of the next piece of what is known, all of which but the last token is to be run. Tokens
  /// that were generated go through passes in which rows have the bits that they had then.
  index_t next_piece() const {
    const index_t of_prompt = prompt_ - 1 - prefilled_;
    return of_prompt > 0 ? (std::min)(limits::step, of_prompt)
                         : (std::min)(limits::invariant_step, known_ - 1 - prefilled_);
  }
  /// Runs it. Returns whether there are more.
  bool prefill(cycle_type& cycle) {
    const index_t rows = next_piece();
    if (rows > 0) {
      cycle.prefill(slot_, known_, prefilled_, rows, is_speculative());
      prefilled_ += rows;
    }
    return prefilled_ < known_ - 1;
  }

  /// Whether there is something left to write.
  bool going() const { return going_; }
  /// Ends it, unless it has ended: the first reason stays.
  void end(end_reason reason) {
    if (going_) {
      result_.end = reason;
      going_ = false;
    }
  }

  /// What the next cycle does for it. Ends it where the context is full.
  slot_step next_step() {
    if (count_ >= P) {
      end(end_reason::context);
    }
    constexpr bool grows = drafter_grows_trees<Config, Backend, S>;
    const draft_tree tree =
        (grows ? options_->tree.by_depth() : options_->tree).first(P - count_ + 1);  // what fits
    const index_t n = options_->tree.exists()          ? (std::min)(tree.depth(), D)
                      : options_->num_draft_tokens < 0 ? D
                                                       : options_->num_draft_tokens;
    // Whether there are two tokens follows from the steps, not from how many of them the host has
    // read: under rejection the text depends on the drafts of each cycle.
    // Each depth of a tree that grows by depth begins at a confirmed row of its own.
    const index_t least = grows && tree.exists() ? n + 1 : 2;
    const bool drafts = is_speculative() && least_count_ >= least && count_ + n <= P;
    ++least_count_;
    slot_step step{slot_, drafts ? n : 0, chooses_, options_->log_probabilities, is_speculative()};
    if (step.drafts > 0) {
      step.tree = tree;
      step.typical = options_->lossy_acceptance;
    }
    return step;
  }

  /// Reads what a cycle did for it. Throws what callbacks throw, and mtp::error where no logit was
  /// a number.
  void take(cycle_type& cycle, const slot_step& step, const step_outcome& outcome) {
    if (outcome.accepted < 0) {
      return;  // the cycle found the context full: the host knows it now, too
    }
    ++result_.forward_passes;
    ++result_.cycles[static_cast<std::size_t>(step.drafts)];
    for (index_t k = 0; k < step.drafts; ++k) {
      ++result_.drafted[static_cast<std::size_t>(k)];
      result_.accepted[static_cast<std::size_t>(k)] += k < outcome.accepted ? 1 : 0;
    }
    if (step.tree.exists()) {
      ++result_.tree_cycles;
      result_.tree_drafts += step.tree.rows() - 1;
      const index_t first = step.tree.is_dynamic()
                                ? outcome.accepted
                                : step.tree.row_of_first_branch(outcome.accepted);
      result_.other_branches += outcome.row(outcome.accepted) == first ? 0 : 1;
    }
    for (index_t j = 0; going_ && j <= outcome.accepted; ++j) {
      const index_t row = outcome.row(j);
      written_token written{outcome.predicted[row], count_, j < outcome.accepted};
      check(written.token >= 0,
            "generate: no token can be chosen at position ",
            count_,
            ": every logit is NaN, or its token is forbidden");
      if (options_->log_probabilities) {
        written.log_probability = outcome.log_probabilities[row];
      }
      if (options_->on_logits) {
        options_->on_logits(count_, cycle.sequences().logits().select(0, outcome.first_row + row));
      }
      if (going_) {  // unless on_logits has cancelled it
        add_best_tokens(cycle, outcome.first_row + row);
        write(written);
      }
    }
  }

  /// Adds its share of the time that a cycle of so many sequences took.
  void add_seconds(const cycle_seconds& took, std::size_t sequences) {
    const auto share = 1 / static_cast<double>(sequences);
    result_.seconds.draft += share * took.draft;
    result_.seconds.verify += share * took.verify;
    result_.seconds.accept += share * took.accept;
  }

  /// Confirmed tokens, the prompt included.
  index_t count() const { return count_; }
  /// Positions that the caches hold for good when no cycle is in flight.
  index_t cached_positions() const { return prefilled_ + count_ - known_; }
  /// How it is done.
  const options_type& options() const { return *options_; }
  /// What it has written so far.
  generation_type& result() { return result_; }
  /// Whether it reads the logits of a cycle, which the next one overwrites.
  bool reads_logits() const { return options_->on_logits || options_->best_tokens > 0; }
  /// Whether drafts are wanted.
  bool is_speculative() const {
    return Config.prediction.drafts() && options_->mode == decode_mode::speculative;
  }

 private:
  using limits = typename cycle_type::decoder_type::limits;

  /// Sends the rule of the options where there is need of one.
  token_choice send_rule(cycle_type& cycle) {
    const sampling_options& sampling = options_->sampling;
    const bool rules = detail::needs_rule(
        sampling, options_->min_new_tokens > 0 && !options_->stop_tokens.empty());
    if (!rules && !options_->lossy_acceptance) {
      return token_choice::most_likely;
    }
    rule_.set(sampling, options_->stop_tokens, prompt_, options_->min_new_tokens);
    cycle.set_rule(slot_, rule_, sampling.mask ? &sampling.mask : nullptr);
    if (sampling.verification != draft_verification::compare && sampling.temperature > 0 &&
        is_speculative()) {
      cycle.reserve_draft_weights();
      return sampling.verification == draft_verification::block ? token_choice::by_block_rejection
                                                                : token_choice::by_rejection;
    }
    return rules && sampling.drafts == draft_choice::shared_noise
               ? token_choice::by_rule
               : token_choice::by_rule_with_likely_drafts;
  }

  void add_best_tokens(cycle_type& cycle, index_t row) {
    if (const auto n = static_cast<std::size_t>(options_->best_tokens); n > 0) {
      const std::size_t all = result_.best_tokens.size();
      result_.best_tokens.resize(all + n);
      result_.best_log_probabilities.resize(all + n);
      cycle.best(row,
                 std::span(result_.best_tokens).subspan(all),
                 std::span(result_.best_log_probabilities).subspan(all));
    }
  }

  void write(const written_token& written) {
    ++count_;
    result_.tokens.push_back(written.token);
    text_.push_back(written.token);
    if (options_->log_probabilities) {
      result_.log_probabilities.push_back(written.log_probability);
    }
    if (options_->on_token && !options_->on_token(written)) {
      end(end_reason::callback);
    } else if (is_stopped()) {
      end(end_reason::stop);
    } else if (static_cast<index_t>(result_.tokens.size()) >= options_->max_new_tokens) {
      end(end_reason::length);
    } else if (count_ >= P) {
      end(end_reason::context);
    }
  }

  /// Whether what was generated ends in a stop token or a stop sequence.
  bool is_stopped() const {
    const auto& tokens = result_.tokens;
    if (static_cast<index_t>(tokens.size()) < options_->min_new_tokens) {
      return false;
    }
    const auto ends_in = [&](const std::vector<token_t>& stop) {
      return !stop.empty() && stop.size() <= tokens.size() &&
             std::equal(stop.rbegin(), stop.rend(), tokens.rbegin());
    };
    return std::any_of(options_->stop.begin(), options_->stop.end(), ends_in) ||
           std::find(options_->stop_tokens.begin(), options_->stop_tokens.end(), tokens.back()) !=
               options_->stop_tokens.end();
  }

  const options_type* options_ = nullptr;
  index_t slot_ = 0;
  index_t prompt_ = 0;         // its tokens
  index_t known_ = 0;          // tokens at the start: the prompt, and what was generated before
  index_t prefilled_ = 0;      // of these, those that need not be run any more
  index_t count_ = 0;          // confirmed tokens, as far as the host has read
  index_t least_count_ = 0;    // when the steps that were asked for have run, at least
  std::vector<token_t> text_;  // the prompt and what was written
  token_choice chooses_ = token_choice::most_likely;
  bool going_ = false;
  detail::host_sampling_rule rule_{Config.vocab_size};
  generation_type result_;
};

}  // namespace mtp::inline MTP_ABI

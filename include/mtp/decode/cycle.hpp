// A cycle of decoding: drafts, one pass of the trunk that verifies them, and what was accepted, for
// the sequences of all slots at once.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/decoder.hpp"
#include "mtp/decode/generation.hpp"
#include "mtp/decode/recorded_cycles.hpp"
#include "mtp/decode/sequence_masks.hpp"
#include "mtp/decode/sequence_memory.hpp"
#include "mtp/decode/slot_step.hpp"
#include "mtp/model/draft_vocabulary.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/ops/accept_typical.hpp"
#include "mtp/ops/best_tokens.hpp"
#include "mtp/ops/choose_tokens.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/reject_drafts.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::inline MTP_ABI {

/// Runs cycles. Sequences and the numbers of their confirmed tokens lie in the backend's memory,
/// and a cycle finds there all that it needs. A backend may therefore be given a cycle before the
/// host has read what the one before it wrote.
template <model_config Config, class Backend, scalar S>
class decoding_cycle {
 public:
  using decoder_type = decoder<Config, Backend, S>;        ///< caches, and the passes of the model
  using model_type = inference_model<Config, Backend, S>;  ///< the model that writes
  static constexpr index_t D = Config.prediction.depth;    ///< drafts at most

  /// Context and model must outlive it. Throws mtp::error as decoder does.
  decoding_cycle(context<Backend>& context, const model_type& model, index_t slots)
      : decoder_(context, model, slots),
        memory_(slots),
        masks_(context, memory_, slots),
        reports_(context, memory_.report_bytes(), places) {
    for (auto& steps : submitted_steps_) {
      steps.reserve(static_cast<std::size_t>(slots));
    }
    context.reserve(ops_of<Backend>::template best_tokens_workspace<accumulate_t<S>>(
        1, Config.vocab_size, context.threads()));
    tasks_.reserve(static_cast<std::size_t>(slots));
    tree_tasks_.reserve(static_cast<std::size_t>(slots));
    rows_.reserve(static_cast<std::size_t>(slots));
  }

  decoding_cycle(const decoding_cycle&) = delete;
  decoding_cycle& operator=(const decoding_cycle&) = delete;

  /// The caches that it works on.
  decoder_type& sequences() { return decoder_; }

  /// A new sequence in a slot, in turn with the cycles that were submitted: a prompt, and what was
  /// written behind it before. Its first `common` tokens are those of the sequence that was there.
  /// Returns the positions that need not be run.
  index_t begin(index_t slot,
                std::span<const token_t> prompt,
                std::span<const token_t> written,
                index_t common,
                bool keeps_states) {
    memory_.send_tokens(decoder_.run_context(), slot, prompt, written);
    masks_.clear(slot);
    if (common == 0) {
      decoder_.reset(slot);
      return 0;
    }
    return decoder_.keep(slot, common, states_of(keeps_states));
  }
  /// How its tokens are chosen, where the choice is by a rule. Rule and mask, if there is one,
  /// outlive the sequence.
  void set_rule(index_t slot, const detail::host_sampling_rule& rule, const logit_mask* mask) {
    const bool has_bias = rule.integers[sampling_has_bias] != 0;
    memory_.send_rule(decoder_.run_context(), slot, rule, has_bias);
    masks_.set(slot, rule, mask);
  }
  /// Drafts from some tokens alone from now on; none: from all. Waits for the cycles that were
  /// submitted. Throws mtp::error as draft_vocabulary does; nothing has changed then.
  void set_draft_vocabulary(std::span<const token_t> tokens) {
    traits::synchronize(decoder_.run_context());
    std::unique_ptr<draft_vocabulary<Config, Backend, S>> made;
    if (!tokens.empty()) {
      made = std::make_unique<draft_vocabulary<Config, Backend, S>>(
          decoder_.model(), tokens, decoder_.slots() * D);
    }
    recorded_.clear();  // they draft from the one that there was
    vocabulary_ = std::move(made);
  }

  /// Needed before the first step with token_choice::by_rejection or by_block_rejection.
  void reserve_draft_weights() { memory_.reserve_draft_weights(); }

  /// Needed before the first step with a tree of so many rows. No cycle is in flight whose logits
  /// are still to be read. Throws as decoder::reserve_rows.
  void reserve_tree_rows(index_t rows) {
    decoder_.reserve_rows(rows);
    recorded_.clear();  // they work in the rows that were there before
  }

  /// Runs rows [first, first + rows) of the `count` tokens of a new sequence through the trunk and,
  /// where states are kept, through the head; at most max_step_rows.
  void prefill(index_t slot, index_t count, index_t first, index_t rows, bool keeps_states) {
    const sequence_rows<Backend> piece{memory_.sequence(slot), {first - count, rows}};
    decoder_.forward({&piece, 1}, states_of(keeps_states), row_output::none);
    if (keeps_states) {
      advance(slot, count, first + rows, D);
    }
  }
  /// Brings the first `depth` depths of the head up to date: the trunk has seen `seen` of `count`
  /// confirmed tokens, and at most max_step_rows are missing.
  void advance(index_t slot, index_t count, index_t seen, index_t depth) {
    if constexpr (Config.prediction.drafts()) {
      decoder_.drafter().advance(
          decoder_.run_context(), drafting(), memory_.sequence(slot), count, seen, depth);
    }
  }
  /// Tells the head that the host knows of `count` confirmed tokens, and that those may follow
  /// which it has not drafted.
  void rewind(index_t slot, index_t count) {
    if constexpr (Config.prediction.drafts()) {
      decoder_.drafter().rewind(slot, count);
    }
  }

  /// Cycles that were submitted and not read.
  std::size_t in_flight() const { return submitted_ - read_; }
  /// Forgets these.
  void drop() { submitted_ = read_ = 0; }

  /// Submits a cycle. Steps are of different slots, in the order of falling drafts.
  void submit(std::span<const slot_step> steps) {
    check(in_flight() < places, "decoding_cycle: expected a cycle to be read before the next one");
    auto& kept = submitted_steps_[submitted_ % places];
    kept.assign(steps.begin(), steps.end());
    replay(kept);
    reports_.post(decoder_.run_context(), submitted_ % places, memory_.report());
    ++submitted_;
  }

  /// Reads the cycle that was submitted first among those in flight: take(step, outcome) for each
  /// of its steps.
  template <class Take>
  void read(const Take& take) {
    const std::size_t place = read_ % places;
    const auto report = memory_.read(reports_.wait(place));
    ++read_;
    index_t row = 0;
    for (const slot_step& step : submitted_steps_[place]) {
      take(step,
           step_outcome{report.accepted(step.slot),
                        row,
                        report.predicted() + row,
                        report.log_probabilities() + row,
                        step.tree.exists() ? report.path(step.slot) : nullptr});
      row += step.rows();
    }
  }

  /// Of a row of the cycle that was read last, where none has been submitted since: the best tokens
  /// and their log-probabilities.  tokens, log_probabilities (=) [n]
  void best(index_t row, std::span<token_t> tokens, std::span<double> log_probabilities) {
    auto& context = decoder_.run_context();
    const auto n = static_cast<index_t>(tokens.size());
    const auto best = memory_.best_tokens(n);                // [1, n]
    const auto of_best = memory_.best_log_probabilities(n);  // [1, n]
    best_tokens(context, best, of_best, decoder_.logits().slice(0, row, 1));
    traits::download(context, tokens.data(), best.data(), tokens.size_bytes());
    traits::download(
        context, log_probabilities.data(), of_best.data(), log_probabilities.size_bytes());
  }

  /// Where the time of the last cycle went.
  const cycle_seconds& seconds() const { return seconds_; }

 private:
  using traits = backend_traits<Backend>;
  using clock = std::chrono::steady_clock;
  static constexpr bool has_trees = no_trees<Config, Backend, S> == nullptr;
  static constexpr bool grows_trees = has_trees && drafter_grows_trees<Config, Backend, S>;
  static constexpr std::size_t places = static_cast<std::size_t>(traits::cycles_ahead) + 1;

  static hidden_states states_of(bool kept) {
    return kept ? hidden_states::kept : hidden_states::dropped;
  }

  /// The sequence of a step as its rows see it.
  sequence_view<Backend> sequence_of(const slot_step& step, sequence_view<Backend> own) const {
    return step.tree.exists() ? memory_.in_tree(own, step.tree.rows()) : own;
  }

  /// Runs the steps, or replays the recording of equal ones. What the host has a part in is not
  /// recorded.
  void replay(const std::vector<slot_step>& steps) {
    const auto function = [&] { run(steps); };
    if constexpr (std::is_empty_v<typename traits::recording>) {
      typename traits::recording{}.replay(decoder_.run_context(), function);
    } else if (std::any_of(steps.begin(), steps.end(), [&](const auto& step) {
                 return masks_.has(step.slot);
               })) {
      function();
    } else {
      recorded_.replay(decoder_.run_context(), steps, function);
    }
  }

  void run(std::span<const slot_step> steps) {
    auto& context = decoder_.run_context();
    const auto start = clock::now();
    if constexpr (Config.prediction.drafts()) {
      draft(steps);
    }
    const auto drafted = clock::now();
    rows_.clear();
    bool keeps = false;
    pass_rows list;
    for (const slot_step& step : steps) {
      rows_.push_back({sequence_of(step, memory_.sequence(step.slot)), {-1, step.rows()}});
      list.add(step.slot, rows_.back().range);
      keeps = keeps || step.keeps_states;
    }
    const auto logits = decoder_.forward(rows_, states_of(keeps), row_output::logits);  // [M, V]
    const auto verified = clock::now();
    choose(steps, list, logits);
    constexpr index_t limit = Config.max_position_embeddings;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const auto predicted = list.part(i, memory_.predicted());  // [rows]
      if constexpr (has_trees) {
        if (steps[i].tree.exists()) {
          accept_tree(context, rows_[i].sequence, predicted, limit);
          continue;
        }
      }
      accept_drafts(context, rows_[i].sequence, predicted, limit);
    }
    decoder_.keep_paths(rows_, states_of(keeps));
    if constexpr (traits::is_host_memory) {
      const auto seconds = [](auto from, auto to) {
        return std::chrono::duration<double>(to - from).count();
      };
      seconds_ = {
          seconds(start, drafted), seconds(drafted, verified), seconds(verified, clock::now())};
    }
  }

  void draft(std::span<const slot_step> steps) {
    using tasks_type = std::span<const draft_task<Backend>>;
    auto& context = decoder_.run_context();
    tasks_.clear();
    tree_tasks_.clear();
    for (const slot_step& step : steps) {
      if (step.drafts > 0) {
        (grows_trees && step.tree.exists() ? tree_tasks_ : tasks_).push_back(task_of(step));
      }
    }
    if (!tasks_.empty()) {
      decoder_.drafter().draft(context, drafting(), tasks_type(tasks_));
    }
    if constexpr (grows_trees) {
      if (!tree_tasks_.empty()) {
        decoder_.drafter().draft_trees(
            context, drafting(), tasks_type(tree_tasks_), decoder_.logits());
      }
    } else {
      grow_trees(steps);
    }
  }

  /// Puts the drafts of trees where their rows are looked up.
  void grow_trees(std::span<const slot_step> steps) {
    if constexpr (has_trees) {
      for (const slot_step& step : steps) {
        if (step.tree.exists()) {
          const index_t width = step.tree.width();
          grow_tree(decoder_.run_context(),
                    sequence_of(step, memory_.sequence(step.slot)),
                    memory_.candidate_tokens(step.slot, step.drafts, width),
                    memory_.candidate_log_probabilities(step.slot, step.drafts, width),
                    step.tree);
        }
      }
    }
  }

  /// What a step drafts, and how.
  draft_task<Backend> task_of(const slot_step& step) {
    draft_task<Backend> task = chain_of(step);
    if (step.tree.exists()) {
      const index_t width = step.tree.width();
      task.candidates = memory_.candidate_tokens(step.slot, step.drafts, width);
      task.candidate_log_probabilities =
          memory_.candidate_log_probabilities(step.slot, step.drafts, width);
      if constexpr (grows_trees) {
        task.sequence = sequence_of(step, task.sequence);
        task.shape = step.tree;
      }
    }
    return task;
  }
  draft_task<Backend> chain_of(const slot_step& step) {
    const auto* const mask = masks_.before_choice(step.slot, grows_trees && step.tree.exists());
    switch (step.chooses) {
      case token_choice::by_rejection:
      case token_choice::by_block_rejection:
        return {memory_.ruled(step.slot),
                step.drafts,
                mask,
                memory_.draft_weights(step.slot, step.drafts),
                step.unit()};
      case token_choice::by_rule:
        return {memory_.ruled(step.slot), step.drafts, mask};
      default:
        return {memory_.sequence(step.slot), step.drafts};
    }
  }

  /// Predicts the token behind each row.  logits [M, V]
  template <class Logits>
  void choose(std::span<const slot_step> steps, const pass_rows& list, const Logits& logits) {
    auto& context = decoder_.run_context();
    const auto predicted = memory_.predicted().slice(0, 0, list.rows());  // [M]
    const bool ruled = std::any_of(steps.begin(), steps.end(), [](const slot_step& step) {
      return step.chooses != token_choice::most_likely;
    });
    if (!ruled) {
      predict(context, predicted, logits);
    }
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const auto own = list.part(i, predicted);      // [rows]
      const auto own_logits = list.part(i, logits);  // [rows, V]
      const auto ruled_sequence = sequence_of(steps[i], memory_.ruled(steps[i].slot));
      if (masks_.has(steps[i].slot)) {
        for (index_t row = 0; row < steps[i].rows(); ++row) {
          masks_.send_for_row(ruled_sequence, row);
          choose_tokens(
              context, own.slice(0, row, 1), own_logits.slice(0, row, 1), ruled_sequence, row);
        }
      } else if (steps[i].rejects() && steps[i].drafts > 0) {
        reject_drafts(context,
                      own,
                      own_logits,
                      memory_.draft_weights(steps[i].slot, steps[i].drafts),
                      ruled_sequence,
                      steps[i].unit());
      } else if (steps[i].chooses != token_choice::most_likely) {
        choose_tokens(context, own, own_logits, ruled_sequence, 0);
      } else if (ruled) {
        predict(context, own, own_logits);
      }
      if (steps[i].typical && steps[i].drafts > 0) {
        accept_typical(context, own, own_logits, ruled_sequence, *steps[i].typical);
      }
      if (steps[i].log_probabilities) {
        token_log_probabilities(
            context, list.part(i, memory_.log_probabilities()), own_logits, own);
      }
    }
  }

  drafting_model<Config, Backend, S> drafting() const {
    return {decoder_.model(), vocabulary_.get()};
  }

  decoder_type decoder_;
  std::unique_ptr<draft_vocabulary<Config, Backend, S>> vocabulary_;  // none: all tokens
  sequence_memory<Config, Backend> memory_;
  sequence_masks<Config, Backend> masks_;
  typename traits::mailbox reports_;
  std::array<std::vector<slot_step>, places> submitted_steps_;
  std::size_t submitted_ = 0, read_ = 0;
  recorded_cycles<Backend> recorded_;
  std::vector<draft_task<Backend>> tasks_, tree_tasks_;
  std::vector<sequence_rows<Backend>> rows_;
  cycle_seconds seconds_;
};

}  // namespace mtp::inline MTP_ABI

// Where the sequences that a cycle works on lie in the backend's memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "mtp/core/arena.hpp"
#include "mtp/core/backend.hpp"
#include "mtp/core/draft_tree.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/sampling_options.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/ops/sampling_rule.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// For the sequence in each slot: its tokens, its state, how its tokens are chosen; and what the
/// last cycle predicted. State and predictions lie together, so that one copy takes both to the
/// host.
template <model_config Config, class Backend>
class sequence_memory {
 public:
  /// Rows of a sequence in a cycle at most.
  static constexpr index_t rows = Config.prediction.depth + 1;
  /// The same, trees included.
  static constexpr index_t most_rows =
      Config.prediction.drafts() && decodes_trees<Backend> ? (std::max)(rows, max_tree_rows) : rows;
  /// Candidates of a position that a tree is made of at most.
  static constexpr index_t most_candidates = max_tree_rows - 1;
  /// Tokens that a sequence has room for: one is written behind the last row.
  static constexpr index_t capacity = Config.max_position_embeddings + rows;

  /// For the sequences of `slots` slots. Throws mtp::error where memory is used up.
  explicit sequence_memory(index_t slots)
      : slots_(slots),
        storage_(bytes_taken([slots](arena_plan& plan) { return views::make(plan, slots); })) {
    arena whole(storage_.data(), storage_.count());
    views_ = views::make(whole, slots);
  }

  /// The sequence in a slot, for whoever takes the most likely token.
  sequence_view<Backend> sequence(index_t slot) const {
    return {tokens(slot), state(slot), {}, slot};
  }
  /// The same, for whoever chooses by its rule.
  sequence_view<Backend> ruled(index_t slot) const {
    return {tokens(slot), state(slot), views_.rules.at(slot, rule_layout), slot};
  }

  /// The same sequence with a tree of `rows` rows, which grow_tree fills.
  sequence_view<Backend> in_tree(sequence_view<Backend> sequence, index_t rows_of_tree) const {
    const auto own = [&](const auto& all) {
      return all.slice(0, sequence.slot * most_rows, rows_of_tree);
    };
    sequence.tree = {own(views_.parents), own(views_.paths)};
    return sequence;
  }
  /// Candidates of `width` tokens for each of `depths` positions of the sequence in a slot.
  /// [depths, width]
  matrix_view<token_t, Backend> candidate_tokens(index_t slot,
                                                 index_t depths,
                                                 index_t width) const {
    return {views_.candidates.data() + slot * (rows - 1) * most_candidates, {depths, width}};
  }
  /// The logarithms of their probabilities.  [depths, width]
  matrix_view<double, Backend> candidate_log_probabilities(index_t slot,
                                                           index_t depths,
                                                           index_t width) const {
    return {views_.candidate_log_probabilities.data() + slot * (rows - 1) * most_candidates,
            {depths, width}};
  }

  /// Predicted tokens behind the rows of a cycle.  [slots most_rows]
  const vector_view<token_t, Backend>& predicted() const { return views_.predicted; }
  /// Their log-probabilities, where a cycle gives any.  [slots most_rows]
  const vector_view<double, Backend>& log_probabilities() const { return views_.log_probabilities; }

  /// Where the n best tokens of one row are put.  [1, n]
  matrix_view<token_t, Backend> best_tokens(index_t n) const {
    return {views_.best_tokens.data(), {1, n}};
  }
  /// Where their log-probabilities are put.  [1, n]
  matrix_view<double, Backend> best_log_probabilities(index_t n) const {
    return {views_.best_log_probabilities.data(), {1, n}};
  }

  /// Takes memory for draft_weights, once: D V whole numbers of 8 bytes for each slot, which only
  /// rejection needs. Throws mtp::error where memory is used up.
  void reserve_draft_weights() {
    if (draft_weights_.count() == 0) {
      draft_weights_ = buffer<index_t, Backend>(slots_ * (rows - 1) * Config.vocab_size);
    }
  }
  /// What the sequence in a slot drew its drafts from, when there is memory.  [drafts, V]
  matrix_view<index_t, Backend> draft_weights(index_t slot, index_t drafts) {
    constexpr index_t V = Config.vocab_size;
    return {draft_weights_.data() + slot * (rows - 1) * V, dims<2>{drafts, V}};
  }

  /// A new sequence: a prompt, and what was written behind it before.
  void send_tokens(context<Backend>& context,
                   index_t slot,
                   std::span<const token_t> prompt,
                   std::span<const token_t> written) {
    const auto length = static_cast<index_t>(prompt.size());
    const auto count = static_cast<index_t>(written.size());
    const std::array<index_t, sequence_states> begin{length + count, 0};
    upload<token_t>(context, tokens(slot), prompt);
    if (count > 0) {
      upload<token_t>(context, tokens(slot).slice(0, length, count), written);
    }
    upload<index_t>(context, state(slot), begin);
  }
  /// How its tokens are chosen.
  void send_rule(context<Backend>& context,
                 index_t slot,
                 const detail::host_sampling_rule& from,
                 bool has_bias) {
    const sampling_rule<Backend> rule = views_.rules.at(slot, rule_layout);
    upload<index_t>(context, rule.integers, from.integers);
    upload<double>(context, rule.reals, from.reals);
    upload<token_t>(context, rule.stop_tokens, from.stop_tokens);
    if (has_bias) {
      upload<float>(context, rule.bias, from.bias);
    }
  }

  /// The bias of that rule alone.  from [V]
  void send_bias(context<Backend>& context, index_t slot, std::span<const float> from) {
    upload<float>(context, views_.rules.at(slot, rule_layout).bias, from);
  }
  /// Tokens in front of position count + ahead of the sequence in a slot, on the host: where they
  /// lie, or in `copy`, which has room for `capacity` tokens.
  std::span<const token_t> text(context<Backend>& context,
                                index_t slot,
                                index_t ahead,
                                std::span<token_t> copy) const {
    std::array<index_t, sequence_states> now{};
    using traits = backend_traits<Backend>;
    traits::download(context, now.data(), state(slot).data(), sizeof(now));
    const auto length = static_cast<std::size_t>(now[sequence_count] + ahead);
    if constexpr (traits::is_host_memory) {
      return {tokens(slot).data(), length};
    } else {
      traits::download(context, copy.data(), tokens(slot).data(), length * sizeof(token_t));
      return copy.first(length);
    }
  }

  /// Copies the tokens in front of the one behind row `row` of the tree of the sequence in a slot
  /// to the host.
  std::span<const token_t> text_of_row(context<Backend>& context,
                                       const sequence_view<Backend>& sequence,
                                       index_t row,
                                       std::span<token_t> copy) const {
    using traits = backend_traits<Backend>;
    std::array<index_t, sequence_states> now{};
    std::array<index_t, static_cast<std::size_t>(max_tree_rows)> parents{}, path{};
    traits::download(context, now.data(), sequence.state.data(), sizeof(now));
    traits::download(context,
                     parents.data(),
                     sequence.tree.parents.data(),
                     static_cast<std::size_t>(row + 1) * sizeof(index_t));
    const auto count = static_cast<std::size_t>(now[sequence_count]);
    const auto before = count + static_cast<std::size_t>(row);
    traits::download(context, copy.data(), sequence.tokens.data(), before * sizeof(token_t));
    std::size_t depth = 0;
    for (; row > 0; row = parents[static_cast<std::size_t>(row)]) {
      path[depth++] = row;
    }
    for (std::size_t j = 0; j < depth; ++j) {  // a row's number is not below its depth
      copy[count + j] = copy[count - 1 + static_cast<std::size_t>(path[depth - 1 - j])];
    }
    return copy.first(count + depth);
  }

  /// Bytes of what a cycle tells the host.
  std::size_t report_bytes() const {
    return static_cast<std::size_t>(paths_at() + arena_bytes(slots_ * most_rows, sizeof(index_t)));
  }
  /// Where these bytes lie.
  const void* report() const { return views_.states.data(); }

  /// A copy of them on the host.
  class report_view {
   public:
    /// Of a sequence's state.
    index_t accepted(index_t slot) const {
      return reinterpret_cast<const index_t*>(bytes_)[slot * sequence_states + sequence_accepted];
    }
    /// What accept_tree wrote of the tree of a sequence, where it had one.  [rows of the tree]
    const index_t* path(index_t slot) const {
      return reinterpret_cast<const index_t*>(bytes_ + paths_at_) + slot * most_rows;
    }
    /// The tokens predicted behind the rows of the cycle.  [slots most_rows]
    const token_t* predicted() const {
      return reinterpret_cast<const token_t*>(bytes_ + predicted_at_);
    }
    /// Their log-probabilities, where it gave any.  [slots most_rows]
    const double* log_probabilities() const {
      return reinterpret_cast<const double*>(bytes_ + log_probabilities_at_);
    }

   private:
    friend sequence_memory;
    const std::byte* bytes_ = nullptr;
    index_t predicted_at_ = 0, log_probabilities_at_ = 0, paths_at_ = 0;
  };
  /// Reads a copy.
  report_view read(const std::byte* bytes) const {
    report_view view;
    view.bytes_ = bytes;
    view.predicted_at_ = predicted_at();
    view.log_probabilities_at_ = log_probabilities_at();
    view.paths_at_ = paths_at();
    return view;
  }

 private:
  template <class T, class Arena>
  static constexpr vector_view<T, Backend> take(Arena& arena, index_t count) {
    return {arena.template take<T>(count), dims<1>{count}};
  }

  static constexpr auto rule_layout = [](auto& arena) {
    sampling_rule<Backend> rule;
    rule.integers = take<index_t>(arena, sampling_integers);
    rule.reals = take<double>(arena, sampling_reals);
    rule.stop_tokens = take<token_t>(arena, Config.vocab_size);
    rule.bias = take<float>(arena, Config.vocab_size);
    return rule;
  };

  struct views {
    vector_view<index_t, Backend> states{nullptr, dims<1>{0}};            // [slots states]
    vector_view<token_t, Backend> predicted{nullptr, dims<1>{0}};         // [slots most_rows]
    vector_view<double, Backend> log_probabilities{nullptr, dims<1>{0}};  // [slots most_rows]
    vector_view<index_t, Backend> paths{nullptr, dims<1>{0}};             // [slots most_rows]
    vector_view<index_t, Backend> parents{nullptr, dims<1>{0}};           // [slots most_rows]
    vector_view<token_t, Backend> candidates{nullptr, dims<1>{0}};        // [slots D candidates]
    vector_view<double, Backend> candidate_log_probabilities{nullptr, dims<1>{0}};  // of these
    vector_view<token_t, Backend> tokens{nullptr, dims<1>{0}};                 // [slots capacity]
    vector_view<token_t, Backend> best_tokens{nullptr, dims<1>{0}};            // [most_best_tokens]
    vector_view<double, Backend> best_log_probabilities{nullptr, dims<1>{0}};  // [most_best_tokens]
    repeated_memory rules;

    template <class Arena>
    static constexpr views make(Arena& arena, index_t slots) {
      views made;
      made.states = take<index_t>(arena, slots * sequence_states);
      made.predicted = take<token_t>(arena, slots * most_rows);
      made.log_probabilities = take<double>(arena, slots * most_rows);
      made.paths = take<index_t>(arena, slots * most_rows);
      made.parents = take<index_t>(arena, slots * most_rows);
      made.candidates = take<token_t>(arena, slots * (rows - 1) * most_candidates);
      made.candidate_log_probabilities = take<double>(arena, slots * (rows - 1) * most_candidates);
      made.tokens = take<token_t>(arena, slots * capacity);
      made.best_tokens = take<token_t>(arena, most_best_tokens);
      made.best_log_probabilities = take<double>(arena, most_best_tokens);
      made.rules = repeated_memory::take(arena, slots, rule_layout);
      return made;
    }
  };

  index_t predicted_at() const { return arena_bytes(slots_ * sequence_states, sizeof(index_t)); }
  index_t log_probabilities_at() const {
    return predicted_at() + arena_bytes(slots_ * most_rows, sizeof(token_t));
  }
  index_t paths_at() const {
    return log_probabilities_at() + arena_bytes(slots_ * most_rows, sizeof(double));
  }
  vector_view<token_t, Backend> tokens(index_t slot) const {
    return views_.tokens.slice(0, slot * capacity, capacity);
  }
  vector_view<index_t, Backend> state(index_t slot) const {
    return views_.states.slice(0, slot * sequence_states, sequence_states);
  }

  template <class Element>
  static void upload(context<Backend>& context,
                     const vector_view<Element, Backend>& to,
                     std::span<const Element> from) {
    backend_traits<Backend>::upload(context, to.data(), from.data(), from.size_bytes());
  }

  index_t slots_;
  buffer<std::byte, Backend> storage_;
  views views_;
  buffer<index_t, Backend> draft_weights_;  // [slots, D, V], or none
};

}  // namespace mtp::inline MTP_ABI

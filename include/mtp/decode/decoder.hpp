// Sequences on their way through a model, a few tokens of each at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/cached_lengths.hpp"
#include "mtp/decode/decoder_memory.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_progress.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_pass.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// The caches of sequences, one in each slot, and the memory of a step. Rolling back is setting a
/// length, as far back as the attention layer can. The size of all memory is a constexpr of the
/// configuration and the number of slots; steps allocate nothing.
///
/// step and prefill take tokens of one sequence from the host and count positions themselves.
/// forward takes rows of sequences that lie in the backend's memory and asks the host for nothing:
/// see generate.hpp. Functions of one sequence mean that of slot 0, unless they are told another.
///
/// Context and model must outlive the decoder; the model's parameters may change between sequences.
template <model_config Config, class Backend, scalar S = float>
class decoder {
 public:
  using model_type = inference_model<Config, Backend, S>;     ///< the model that decodes
  using trunk_type = trunk<Config, Backend, S>;               ///< its trunk
  using head_type = head_of<Config, Backend, S>;              ///< its head
  using matrix = matrix_view<S, Backend>;                     ///< rows of activations
  using logits_type = matrix_view<accumulate_t<S>, Backend>;  ///< rows of logits
  using limits = row_limits<Config, Backend>;                 ///< of passes over rows

  /// Rows of one sequence that a step may take: a piece of a prompt, or a verification.
  static constexpr index_t max_step_rows = limits::step;
  /// Rows of one sequence that a step gives logits for.
  static constexpr index_t max_logit_rows = limits::verification;
  /// Positions that may be taken back, counted from the longest length since reset.
  static constexpr index_t rewindable = trunk_type::block_type::rewindable;

  static_assert(rewindable >= limits::taken_back,
                "decoder: the attention layer takes back fewer positions than verifying drafts "
                "does: its rewindable must be at least row_limits::taken_back in "
                "<mtp/model/row_pass.hpp>");

  /// Slots that the backend can give the bits of a sequence alone: a verification has depth + 1
  /// rows of each (backend_traits::invariant_rows).
  static constexpr index_t possible_slots = [] {
    if constexpr (requires { backend_traits<Backend>::invariant_rows; }) {
      return (std::min<index_t>)(max_slots,
                                 backend_traits<Backend>::invariant_rows / max_logit_rows);
    }
    return max_slots;
  }();

  static_assert(possible_slots >= 1,
                "decoder: a verification has depth + 1 rows, and the backend does not give so many "
                "rows the bits of single ones (backend_traits::invariant_rows)");

  /// Bytes of caches and activations.
  static constexpr index_t memory_bytes(index_t slots = 1) {
    return bytes_taken([slots](arena_plan& plan) { return memory::make(plan, slots); });
  }

  /// The most bytes of workspace that the operations of a step need.
  static constexpr index_t workspace_bytes(index_t threads, index_t slots = 1) {
    return (std::max)({trunk_type::decode_workspace(limits::drafter_rows(slots), threads),
                       head_type::drafter::workspace(slots, threads),
                       logits_workspace<Config, Backend, S>(slots * max_logit_rows, threads)});
  }

  /// An empty sequence in each slot. Throws mtp::error for a number of slots outside [1,
  /// possible_slots], and where memory is used up.
  decoder(context<Backend>& context, const model_type& model, index_t slots = 1)
      : context_(&context),
        model_(&model),
        storage_(memory_bytes(checked(slots))),
        memory_([&] {
          arena whole(storage_.data(), storage_.count());
          return memory::make(whole, slots);
        }()),
        lengths_(slots, rewindable) {
    vocabulary<Config>::check_ranks("decoder", context);
    context.reserve(workspace_bytes(context.threads(), slots));
    host_positions_.resize(static_cast<std::size_t>(max_step_rows));
  }

  /// Refuses temporaries, which would not outlive the decoder.
  template <class Context, class Model>
  requires(detail::temporary<Context, context<Backend>> || detail::temporary<Model, model_type>)
      decoder(Context&&, Model&&)
      : decoder(detail::refused<context<Backend>&>(), detail::refused<const model_type&>()) {
    static_assert(
        detail::never<Context>,
        "decoder: the context and the model must outlive the decoder, so they need names");
  }

  /// Throws mtp::error for trees of more rows than the backend can verify in all slots.
  void check_tree_rows(index_t rows) const { memory::check_tree_rows(slots(), rows); }

  /// Takes memory for verifying trees of `rows` rows of every sequence, unless there is enough.
  /// What was submitted has ended when it returns. Throws mtp::error where memory is used up, and
  /// for more rows in all than have the bits of single ones.
  void reserve_rows(index_t rows) {
    if (for_trees_.count() == 0 || slots() * rows > memory_.logits.extent(0)) {
      for_trees_ = memory_.widened(*context_, slots(), rows);
    }
  }

  /// After accept_tree, and with the rows of the latest forward: what the accepted paths left in
  /// caches and among hidden states moves to where it would stand without branches.
  void keep_paths(std::span<const sequence_rows<Backend>> sequences, hidden_states states) {
    if constexpr (no_trees<Config, Backend, S> == nullptr) {
      memory_.keep_paths(*context_, sequences, states);
    }
  }

  /// What its operations run on.
  context<Backend>& run_context() const { return *context_; }
  /// The model that decodes.
  const model_type& model() const { return *model_; }

  /// How many sequences it has caches for.
  index_t slots() const { return lengths_.slots(); }

  /// Positions whose keys and values are cached, as far as the host knows.
  index_t length(index_t slot = 0) const { return lengths_.length(slot); }

  /// Forgets a sequence.
  void reset(index_t slot = 0) {
    lengths_.reset(slot);
    memory_.head.reset(slot);
  }

  /// A new sequence in a slot, which has its first `length` tokens in common with the one there.
  /// Returns how many positions need not be run again: `length` or fewer, because a head that will
  /// draft (`states` kept) wants the latest hidden states again.
  index_t keep(index_t slot, index_t length, hidden_states states) {
    constexpr bool is_host = backend_traits<Backend>::is_host_memory;
    const index_t again =
        is_host && states == hidden_states::kept ? Config.prediction.depth + 1 : 0;
    index_t kept = (std::max<index_t>)(length - again, 0);
    const index_t of_head = memory_.head.keep(slot, kept);
    if (states == hidden_states::kept) {
      kept = is_host ? of_head : of_head / max_step_rows * max_step_rows;
    }
    if (!lengths_.can_take_back(slot, kept)) {
      reset(slot);
      return 0;
    }
    lengths_.set("decoder::keep", slot, kept);
    return kept;
  }

  /// What slot `to` holds (=) what slot `from` does, but for the hidden states of drafters.
  void copy_slot(index_t to, index_t from) {
    lengths_.copy(to, from);
    memory_.caches.copy_slot(*context_, to, from);
    memory_.head.copy_slot(*context_, to, from);
  }

  /// Forgets positions at and behind `length`. Throws mtp::error if there are not that many, and if
  /// the attention layer cannot take back so many; nothing has changed then.
  void roll_back(index_t length, index_t slot = 0) {
    check(length >= 0 && length <= lengths_.length(slot),
          "decoder::roll_back: expected a length in [0, ",
          lengths_.length(slot),
          "], got ",
          length);
    lengths_.set("decoder::roll_back", slot, length);
  }

  /// What the host has learned about rows that forward ran. Throws mtp::error as roll_back, and for
  /// a length that exceeds max_position_embeddings.
  void set_length(index_t length, index_t slot = 0) {
    check(length >= 0 && length <= Config.max_position_embeddings,
          "decoder::set_length: expected a length in [0, ",
          Config.max_position_embeddings,
          "], got ",
          length);
    lengths_.set("decoder::set_length", slot, length);
  }

  /// Runs the trunk over `tokens` at positions length() .. of slot 0; returns their logits [M, V],
  /// which live until the next step. For a drafting head, its hidden states are kept or dropped.
  /// Throws mtp::error on too many tokens, a full context and tokens outside the vocabulary;
  /// nothing has changed then.
  logits_type step(std::span<const token_t> tokens, hidden_states states) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M >= 1 && M <= max_logit_rows,
          "decoder::step: expected 1 to ",
          max_logit_rows,
          " tokens, got ",
          M);
    return logits_of(run_tokens(pieces_type(&tokens, 1), states, row_output::logits).normed);
  }

  /// Runs the trunk over a piece of a prompt of at most max_step_rows tokens of slot 0, without
  /// logits. Throws as step.
  void prefill(std::span<const token_t> tokens, hidden_states states) {
    check_piece("decoder::prefill", tokens);
    run_tokens(pieces_type(&tokens, 1), states, row_output::none);
  }

  /// What the trunk makes of rows, before the output matrix.
  struct hidden_rows {
    matrix stream;  ///< residual stream behind the last block  [M, C]
    matrix normed;  ///< its norm, which the output matrix reads  [M, C]
  };

  /// Runs the trunk over a piece of at most max_step_rows tokens as prefill does, and gives their
  /// hidden states, which live until the next step. A drafting head keeps none. Throws as step.
  hidden_rows hidden_of(std::span<const token_t> tokens) {
    check_piece("decoder::hidden_of", tokens);
    return hidden_of_pieces(pieces_type(&tokens, 1));
  }
  /// The same for pieces of the sequences in slots 0, 1, .., of at most max_step_rows tokens in
  /// all: their rows stand one behind the other.
  hidden_rows hidden_of_pieces(std::span<const std::span<const token_t>> pieces) {
    const rows_type rows = run_tokens(pieces, hidden_states::dropped, row_output::logits);
    return {rows.stream, rows.normed};
  }

  /// Runs the trunk over rows of sequences in different slots: positions count + range.offset .. of
  /// each, with the tokens that stand there. Which positions these are may be known to the backend
  /// alone; length() does not change. Returns logits [rows, V] if wanted, in the order of the rows,
  /// else none. Throws mtp::error for more rows than there is memory for, and, where the host
  /// knows the positions, if they lie further back than the attention layer can go.
  logits_type forward(std::span<const sequence_rows<Backend>> sequences,
                      hidden_states states,
                      row_output output) {
    pass_rows list;
    for (const sequence_rows<Backend>& each : sequences) {
      list.add(each.sequence.slot, each.range, each.sequence.tree.parents.data());
    }
    const index_t most = memory_.rows.stream.extent(0);
    check(list.rows() <= most && (!list.has_trees() || for_trees_.count() > 0),
          "decoder::forward: expected at most ",
          most,
          list.has_trees() ? " rows and memory for trees (reserve_rows), got " : " rows, got ",
          list.rows());
    if constexpr (backend_traits<Backend>::is_host_memory) {
      for (const sequence_rows<Backend>& each : sequences) {
        const index_t first = each.sequence.state(sequence_count) + each.range.offset;
        lengths_.check_kept("decoder::forward", each.sequence.slot, first);
        lengths_.reach(each.sequence.slot, first + each.range.rows);
      }
    }
    const auto rows = memory_.rows.first(list.rows());
    rows.select(*context_, sequences, list, 0);
    const matrix normed = run(rows, list, states, output);
    return output == row_output::logits ? logits_of(normed) : memory_.logits.slice(0, 0, 0);
  }

  /// The logits of the latest rows that had any, from the first.  [slots (D + 1) at least, V]
  const logits_type& logits() const { return memory_.logits; }

  /// What drafts the next tokens; see the head kinds.
  template <class Caller = void>  // so that explicit instantiations leave it out
  typename head_type::drafter& drafter() {
    static_assert(Config.prediction.drafts() || !std::is_void_v<Caller>,
                  "decoder::drafter: the head of this configuration cannot draft");
    return memory_.head;
  }

  /// The caches of the trunk's layers, for inspection.
  const typename trunk_type::caches& caches() const { return memory_.caches; }

 private:
  using memory = decoder_memory<Config, Backend, S>;
  using rows_type = typename memory::rows_type;
  using pieces_type = std::span<const std::span<const token_t>>;  // by slot, from slot 0 on

  static index_t checked(index_t slots) {
    check(slots >= 1 && slots <= possible_slots,
          "decoder: expected 1 to ",
          possible_slots,
          " slots, got ",
          slots);
    return slots;
  }

  static void check_piece(const char* function, std::span<const token_t> tokens) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M >= 1 && M <= max_step_rows,
          function,
          ": expected 1 to ",
          max_step_rows,
          " tokens, got ",
          M);
  }

  /// The rows of tokens that the host gives, behind those that are cached, through the trunk.
  rows_type run_tokens(pieces_type pieces, hidden_states states, row_output output) {
    pass_rows list;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      list.add(static_cast<index_t>(i), {0, static_cast<index_t>(pieces[i].size())});
    }
    check(list.rows() >= 1 && list.rows() <= max_step_rows &&
              static_cast<index_t>(pieces.size()) <= slots(),
          "decoder: expected 1 to ",
          max_step_rows,
          " tokens in at most ",
          slots(),
          " slots, got ",
          list.rows(),
          " in ",
          pieces.size());
    for (const row_run& piece : list.runs()) {
      check_place(piece.slot, pieces[static_cast<std::size_t>(piece.slot)]);
    }
    const auto rows = memory_.rows.first(list.rows());
    using traits = backend_traits<Backend>;
    for (std::size_t i = 0, row = 0; i < pieces.size(); row += pieces[i++].size()) {
      for (std::size_t m = 0; m < pieces[i].size(); ++m) {
        host_positions_[row + m] = length(static_cast<index_t>(i)) + static_cast<index_t>(m);
      }
      traits::upload(
          *context_, rows.ids.data() + row, pieces[i].data(), pieces[i].size() * sizeof(token_t));
    }
    traits::upload(*context_,
                   rows.positions.data(),
                   host_positions_.data(),
                   static_cast<std::size_t>(list.rows()) * sizeof(index_t));
    run(rows, list, states, output);
    for (const row_run& piece : list.runs()) {
      lengths_.set("decoder", piece.slot, length(piece.slot) + piece.rows);
    }
    return rows;
  }

  /// Throws mtp::error unless tokens fit behind those that are cached in a slot.
  void check_place(index_t slot, std::span<const token_t> tokens) const {
    lengths_.check_room(slot, static_cast<index_t>(tokens.size()), Config.max_position_embeddings);
    for (std::size_t m = 0; m < tokens.size(); ++m) {
      check(tokens[m] >= 0 && tokens[m] < Config.vocab_size,
            "decoder: token ",
            tokens[m],
            " at place ",
            m,
            " does not lie in [0, ",
            Config.vocab_size,
            ")");
    }
  }

  logits_type logits_of(matrix normed) {
    const auto logits = memory_.logits.slice(0, 0, normed.extent(0));
    vocabulary<Config>::logits(
        *context_, logits, normed, model_->values().matrix(model_->trunk_layout().output));
    return logits;
  }

  /// Rows through the trunk; what the output matrix reads, [M, C], if logits are wanted. A head
  /// that drafts keeps what it is given of the rows, if its states are to be kept.
  matrix run(const rows_type& rows,
             const pass_rows& list,
             hidden_states states,
             row_output output) {
    trunk_type::decode(
        rows.pass(*context_, *model_, list.runs()),
        model_->trunk_layout(),
        rows,
        memory_.caches,
        output == row_output::logits,
        states == hidden_states::kept && Config.prediction.drafts(),
        [&](matrix hidden) {
          if constexpr (Config.prediction.drafts()) {
            memory_.head.ring().store(
                *context_, list, hidden, list.has_trees() ? rows.places : rows.positions);
          }
        });
    return rows.normed;
  }

  context<Backend>* context_;
  const model_type* model_;
  buffer<std::byte, Backend> storage_;
  memory memory_;
  cached_lengths lengths_;
  std::vector<index_t> host_positions_;   // [max_step_rows]
  buffer<std::byte, Backend> for_trees_;  // rows and logits, in place of those in storage_
};

}  // namespace mtp::inline MTP_ABI

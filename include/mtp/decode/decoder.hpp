// One sequence on its way through a model, a few tokens at a time.
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
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_progress.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/row_pass.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// What becomes of the hidden states of rows that a decoder runs.
enum class hidden_states {
  dropped,  ///< nothing
  kept,     ///< they are kept for the drafter, which needs those of every confirmed token
};
/// What a pass over rows of a sequence is for.
enum class row_output {
  none,    ///< its caches
  logits,  ///< its logits
};

/// The caches of one sequence and the memory of a step. Rolling back is setting a length, as far
/// back as the attention layer can. The size of all memory is a constexpr of the configuration;
/// steps allocate nothing.
///
/// step and prefill take tokens from the host and count positions themselves. forward takes rows of
/// a sequence that lies in the backend's memory and asks the host for nothing: see generate.hpp.
///
/// Context and model must outlive the decoder; the model's parameters may change between sequences.
template <model_config Config, class Backend, scalar S = float>
class decoder {
 public:
  using model_type = language_model<Config, Backend, S>;      ///< the model that decodes
  using trunk_type = trunk<Config, Backend, S>;               ///< its trunk
  using head_type = head_of<Config, Backend, S>;              ///< its head
  using matrix = matrix_view<S, Backend>;                     ///< rows of activations
  using logits_type = matrix_view<accumulate_t<S>, Backend>;  ///< rows of logits
  using limits = row_limits<Config, Backend>;                 ///< of passes over rows

  /// Rows that one step may take: a piece of a prompt, or a verification.
  static constexpr index_t max_step_rows = limits::step;
  /// Rows that one step gives logits for.
  static constexpr index_t max_logit_rows = limits::verification;
  /// Positions that may be taken back, counted from the longest length since reset.
  static constexpr index_t rewindable = trunk_type::block_type::rewindable;

  static_assert(rewindable >= limits::taken_back,
                "decoder: the attention layer takes back fewer positions than verifying drafts "
                "does: its rewindable must be at least row_limits::taken_back in "
                "<mtp/model/row_pass.hpp>");

  static_assert(
      [] {
        if constexpr (requires { backend_traits<Backend>::invariant_rows; }) {
          return max_logit_rows <= backend_traits<Backend>::invariant_rows;
        }
        return true;
      }(),
      "decoder: a verification has depth + 1 rows, and the backend does not give so many rows the "
      "bits of single ones (backend_traits::invariant_rows)");

  /// Bytes of caches and activations.
  static constexpr index_t memory_bytes() {
    return bytes_taken([](arena_plan& plan) { return memory::make(plan); });
  }

  /// Bytes of workspace that the operations of a step want at most.
  static constexpr index_t workspace_bytes(index_t threads) {
    constexpr index_t M = limits::draft;
    return (std::max)({trunk_type::decode_workspace(M, threads),
                       head_type::drafter::workspace(M, threads),
                       logits_workspace<Config, Backend, S>(max_logit_rows, threads)});
  }

  /// An empty sequence. Throws mtp::error where memory is used up.
  decoder(context<Backend>& context, const model_type& model)
      : context_(&context), model_(&model), storage_(memory_bytes()), memory_([&] {
          arena whole(storage_.data(), storage_.count());
          return memory::make(whole);
        }()) {
    context.reserve(workspace_bytes(context.threads()));
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

  /// What its operations run on.
  context<Backend>& run_context() const { return *context_; }
  /// The model that decodes.
  const model_type& model() const { return *model_; }

  /// Positions whose keys and values are cached, as far as the host knows.
  index_t length() const { return length_; }

  /// Forgets the sequence.
  void reset() {
    length_ = longest_ = 0;
    memory_.head.reset();
  }

  /// Forgets positions at and behind `length`. Throws mtp::error if there are not that many, and if
  /// the attention layer cannot take back so many; nothing has changed then.
  void roll_back(index_t length) {
    check(length >= 0 && length <= length_,
          "decoder::roll_back: expected a length in [0, ",
          length_,
          "], got ",
          length);
    check_rewindable("decoder::roll_back", length);
    length_ = length;
  }

  /// What the host has learned about rows that forward ran. Throws mtp::error as roll_back, and for
  /// a length that exceeds max_position_embeddings.
  void set_length(index_t length) {
    check(length >= 0 && length <= Config.max_position_embeddings,
          "decoder::set_length: expected a length in [0, ",
          Config.max_position_embeddings,
          "], got ",
          length);
    check_rewindable("decoder::set_length", length);
    reach(length);
    length_ = length;
  }

  /// Runs the trunk over `tokens` at positions length() ...; returns their logits [M, V], which
  /// live until the next step. For a drafting head, its hidden states are kept or dropped. Throws
  /// mtp::error on too many tokens, a full context and tokens outside the vocabulary; nothing has
  /// changed then.
  logits_type step(std::span<const token_t> tokens, hidden_states states) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M >= 1 && M <= max_logit_rows,
          "decoder::step: expected 1 to ",
          max_logit_rows,
          " tokens, got ",
          M);
    const auto rows = place(tokens);
    reach(length_ + M);
    const matrix normed = run(rows, states, row_output::logits);
    length_ += M;
    return logits_of(normed);
  }

  /// Runs the trunk over a piece of a prompt of at most max_step_rows tokens, without logits.
  /// Throws as step.
  void prefill(std::span<const token_t> tokens, hidden_states states) {
    take_piece("decoder::prefill", tokens, states, row_output::none);
  }

  /// What the trunk makes of rows, before the output matrix.
  struct hidden_rows {
    matrix stream;  ///< residual stream behind the last block  [M, C]
    matrix normed;  ///< its norm, which the output matrix reads  [M, C]
  };

  /// Runs the trunk over a piece of at most max_step_rows tokens as prefill does, and gives their
  /// hidden states, which live until the next step. A drafting head keeps none. Throws as step.
  hidden_rows hidden_of(std::span<const token_t> tokens) {
    const auto rows =
        take_piece("decoder::hidden_of", tokens, hidden_states::dropped, row_output::logits);
    return {rows.stream, rows.normed};
  }

  /// Runs the trunk over rows of a sequence: positions count + range.offset ... with the tokens
  /// that stand there. Which positions these are may be known to the backend alone; length() does
  /// not change. Returns logits [rows, V] if wanted, else none. Where the host knows the positions,
  /// throws mtp::error if they lie further back than the attention layer can go.
  logits_type forward(const sequence_view<Backend>& sequence,
                      row_range range,
                      hidden_states states,
                      row_output output) {
    if constexpr (backend_traits<Backend>::is_host_memory) {
      const index_t first = sequence.state(sequence_count) + range.offset;
      check_rewindable("decoder::forward", first);
      reach(first + range.rows);
    }
    const auto rows = memory_.rows.first(range.rows);
    rows.select(*context_, sequence, range.offset, 0);
    const matrix normed = run(rows, states, output);
    return output == row_output::logits ? logits_of(normed) : memory_.logits.slice(0, 0, 0);
  }

  /// The logits of the latest rows that had any, from the first.  [D + 1, V]
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
  using rows_type = decode_rows<Config, Backend, S>;

  struct memory {
    rows_type rows;      // max_step_rows
    logits_type logits;  // [D + 1, V]
    typename trunk_type::caches caches;
    typename head_type::drafter head;

    template <class Arena>
    static constexpr memory make(Arena& arena) {
      const auto rows =
          rows_type::template make<typename trunk_type::block_type,
                                   typename trunk_type::dense_block_type>(arena, max_step_rows);
      const logits_type logits(
          arena.template take<accumulate_t<S>>(max_logit_rows * Config.vocab_size),
          {max_logit_rows, Config.vocab_size});
      const auto caches = trunk_type::caches::make(arena);
      return {rows, logits, caches, head_type::drafter::make(arena, limits::draft)};
    }
  };

  /// Whether the layers still have what stands in front of position `length`.
  void check_rewindable(const char* function, index_t length) const {
    check(longest_ - length <= rewindable,
          function,
          ": the attention layer takes back at most ",
          rewindable,
          " positions, and the sequence has had ",
          longest_,
          ": expected a length of at least ",
          longest_ - rewindable,
          ", or reset(), got ",
          length);
  }
  void reach(index_t length) { longest_ = (std::max)(longest_, length); }

  /// Rows for tokens that the host gives, at the positions behind those that are cached.
  rows_type place(std::span<const token_t> tokens) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M <= Config.max_position_embeddings - length_,
          "decoder: ",
          M,
          " tokens at position ",
          length_,
          " do not fit into max_position_embeddings ",
          Config.max_position_embeddings);
    for (std::size_t m = 0; m < tokens.size(); ++m) {
      check(tokens[m] >= 0 && tokens[m] < Config.vocab_size,
            "decoder: token ",
            tokens[m],
            " as number ",
            m,
            " does not lie in [0, ",
            Config.vocab_size,
            ")");
      host_positions_[m] = length_ + static_cast<index_t>(m);
    }
    const auto rows = memory_.rows.first(M);
    using traits = backend_traits<Backend>;
    traits::upload(*context_, rows.ids.data(), tokens.data(), tokens.size() * sizeof(token_t));
    traits::upload(
        *context_, rows.positions.data(), host_positions_.data(), tokens.size() * sizeof(index_t));
    return rows;
  }

  /// A piece of a prompt; where logits are wanted, the rows have been normed for them.
  rows_type take_piece(const char* function,
                       std::span<const token_t> tokens,
                       hidden_states states,
                       row_output output) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M >= 1 && M <= max_step_rows,
          function,
          ": expected 1 to ",
          max_step_rows,
          " tokens, got ",
          M);
    const auto rows = place(tokens);
    reach(length_ + M);
    run(rows, states, output);
    length_ += M;
    return rows;
  }

  logits_type logits_of(matrix normed) {
    const auto logits = memory_.logits.slice(0, 0, normed.extent(0));
    linear_forward(
        *context_, logits, normed, model_->values().matrix(model_->trunk_layout().output));
    return logits;
  }

  /// Rows through the trunk; what the output matrix reads, [M, C], if logits are wanted. A head
  /// that drafts keeps what it is given of the rows, if its states are to be kept.
  matrix run(const rows_type& rows, hidden_states states, row_output output) {
    trunk_type::decode(rows.pass(*context_, *model_),
                       model_->trunk_layout(),
                       rows,
                       memory_.caches,
                       output == row_output::logits,
                       states == hidden_states::kept && Config.prediction.drafts(),
                       [&](matrix hidden) {
                         if constexpr (Config.prediction.drafts()) {
                           store_rows(*context_, memory_.head.ring(), hidden, rows.positions);
                         }
                       });
    return rows.normed;
  }

  context<Backend>* context_;
  const model_type* model_;
  buffer<std::byte, Backend> storage_;
  memory memory_;
  index_t length_ = 0;
  index_t longest_ = 0;                  // that length_ and forward have reached since reset
  std::vector<index_t> host_positions_;  // [max_step_rows]
};

}  // namespace mtp::inline MTP_ABI

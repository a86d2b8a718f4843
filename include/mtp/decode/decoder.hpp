// One sequence on its way through a model, a few tokens at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "mtp/core/arena.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/language_model.hpp"

namespace mtp {

/// The caches of one sequence and the memory of a step. Rolling back is setting a length. The size
/// of all memory is a constexpr of the configuration; steps allocate nothing.
///
/// The model must outlive the decoder; its parameters may change between sequences.
template <model_config Config, class Backend, real S = float>
class decoder {
 public:
  using model_type = language_model<Config, Backend, S>;
  using head_type = head_of<Config, Backend, S>;
  using matrix = matrix_view<S, Backend>;

  /// Rows that one step may take: a piece of a prompt, or a verification.
  static constexpr index_t max_step_rows = std::max<index_t>(64, Config.depth + 1);
  /// Rows that one step gives logits for.
  static constexpr index_t max_logit_rows = Config.depth + 1;

  static constexpr index_t memory_bytes() {
    arena_plan plan;
    static_cast<void>(memory::make(plan));
    return plan.bytes();
  }

  /// Bytes of workspace that the operations of a step want at most.
  static constexpr index_t workspace_bytes(index_t threads) {
    return ops_of<Backend>::template attention_workspace<S>(
        Config.max_positions, Config.head_width(), threads);
  }

  decoder(context<Backend>& context, const model_type& model)
      : context_(&context), model_(&model), storage_(memory_bytes()), memory_([&] {
          arena whole(storage_.data(), storage_.count());
          return memory::make(whole);
        }()) {
    context.reserve(workspace_bytes(context.threads()));
  }

  context<Backend>& run_context() const { return *context_; }
  const model_type& model() const { return *model_; }

  /// Positions whose keys and values are cached.
  index_t length() const { return length_; }

  /// Forgets the sequence.
  void reset() {
    length_ = 0;
    memory_.head.reset();
  }

  /// Forgets positions at and behind `length`.
  void roll_back(index_t length) {
    check(length >= 0 && length <= length_,
          "decoder::roll_back: expected a length in [0, ",
          length_,
          "], got ",
          length);
    length_ = length;
  }

  /// Runs the trunk over `tokens` at positions length() ...; returns their logits [M, V], which
  /// live until the next step. For a drafting head, `observe` hands it the hidden states. Throws
  /// mtp::error on too many tokens, a full context and tokens outside the vocabulary; nothing has
  /// changed then.
  matrix step(std::span<const token_t> tokens, bool observe) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M >= 1 && M <= max_logit_rows,
          "decoder::step: expected 1 to ",
          max_logit_rows,
          " tokens, got ",
          M);
    const matrix normed = run(tokens, observe, true);
    const matrix logits = memory_.logits.slice(0, 0, M);
    linear_forward(*context_, logits, normed, model_->values().matrix(model_->trunk().output));
    return logits;
  }

  /// Runs the trunk over a piece of a prompt of at most max_step_rows tokens, without logits.
  void prefill(std::span<const token_t> tokens, bool observe) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M >= 1 && M <= max_step_rows,
          "decoder::prefill: expected 1 to ",
          max_step_rows,
          " tokens, got ",
          M);
    run(tokens, observe, false);
  }

  /// What drafts the next tokens; see the head kinds.
  typename head_type::drafter& drafter() { return memory_.head; }

  /// The caches of the trunk's layers, for inspection.
  std::span<const cache_view<S, Backend>> caches() const { return memory_.caches; }

 private:
  static constexpr auto layers = static_cast<std::size_t>(Config.num_layers);
  // What a drafter may have to run at once: a step, and what it set back before.
  static constexpr index_t max_draft_rows = max_step_rows + 2 * Config.depth + 2;

  struct memory {
    decode_rows<Config, Backend, S> rows;
    vector_view<S, Backend> inverse;  // [max_step_rows]
    matrix logits;                    // [D + 1, V]
    std::array<cache_view<S, Backend>, layers> caches;
    typename head_type::drafter head;

    template <class Arena>
    static constexpr memory make(Arena& arena) {
      const auto rows = decode_rows<Config, Backend, S>::make(arena, max_step_rows);
      const vector_view<S, Backend> inverse(arena.template take<S>(max_step_rows),
                                            dims<1>{max_step_rows});
      const matrix logits(arena.template take<S>(max_logit_rows * Config.vocab_size),
                          {max_logit_rows, Config.vocab_size});
      std::array<cache_view<S, Backend>, layers> caches{};
      for (auto& cache : caches) {
        cache = make_cache<Config, Backend, S>(arena);
      }
      return {rows, inverse, logits, caches, head_type::drafter::make(arena, max_draft_rows)};
    }
  };

  /// Rows through embedding and blocks; what the output matrix reads, [M, C], if `wants_output`.
  matrix run(std::span<const token_t> tokens, bool observe, bool wants_output) {
    const auto M = static_cast<index_t>(tokens.size());
    check(M <= Config.max_positions - length_,
          "decoder: ",
          M,
          " tokens at position ",
          length_,
          " do not fit into max_positions ",
          Config.max_positions);
    const auto& at = model_->trunk();
    const matrix x = memory_.rows.stream.slice(0, 0, M);
    const matrix normed = memory_.rows.normed.slice(0, 0, M);
    embedding_forward(*context_, x, model_->values().matrix(at.embedding), tokens);
    for (std::size_t l = 0; l < static_cast<std::size_t>(shared_blocks<Config>); ++l) {
      run_block(at.blocks[l], x, memory_.caches[l]);
    }
    if constexpr (Config.head == head_kind::parallel) {
      if (observe) {
        copy(*context_, memory_.head.observe(M), x);
      }
      run_block(at.blocks.back(), x, memory_.caches.back());
      if (wants_output) {
        norm(normed, x);
      }
    } else {
      if (wants_output || (observe && Config.drafts())) {
        norm(normed, x);
      }
      if constexpr (Config.drafts()) {
        if (observe) {
          copy(*context_,
               memory_.head.observe(M),
               Config.hidden_tap == norm_tap::pre_norm ? x : normed);
        }
      }
    }
    length_ += M;
    return normed;
  }

  void run_block(const block_layout& at, matrix x, const cache_view<S, Backend>& cache) {
    block<Config, Backend, S>::decode(*context_,
                                      at,
                                      model_->values(),
                                      model_->rope(),
                                      memory_.rows.activations(x.extent(0)),
                                      x,
                                      x,
                                      cache,
                                      length_);
  }

  void norm(matrix to, matrix x) {
    rms_norm_forward(*context_,
                     to,
                     memory_.inverse.slice(0, 0, x.extent(0)),
                     x,
                     model_->values().vector(model_->trunk().norm),
                     Config.epsilon());
  }

  context<Backend>* context_;
  const model_type* model_;
  buffer<std::byte, Backend> storage_;
  memory memory_;
  index_t length_ = 0;
};

}  // namespace mtp

// The trunk by itself: hidden states of whole sequences, for heads that are trained without it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "mtp/core/arena.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/embedding.hpp"

namespace mtp::inline MTP_ABI {

/// Computes the residual stream that the trunk gives a head: behind the last block, in front of the
/// final norm; with a head that owns the last block, in front of that block. The bits are those of
/// a training pass. It has the memory of one block, because no backward pass follows.
template <model_config Config, class Backend, scalar S = float>
class trunk_states {
  static_assert(is_whole<Config>,
                "trunk_states: ranks have parts of this model (tensor_parallel_size); "
                "gather_parameters in <mtp/model/divide.hpp> makes a whole one of them");

 public:
  using model_type = language_model<Config, Backend, S>;  ///< the model
  using trunk_type = trunk<Config, Backend, S>;           ///< its trunk
  using pass_type = model_pass<Config, Backend, S>;       ///< what a pass carries
  using matrix = matrix_view<S, Backend>;                 ///< rows of activations

  /// For at most `batch` sequences of `length` positions. Throws mtp::error unless both are
  /// positive and `length` is at most max_position_embeddings, and when memory runs out.
  trunk_states(context<Backend>& context, index_t batch, index_t length)
      : rows_(batch * length), length_(length) {
    check(batch > 0 && length > 0 && length <= Config.max_position_embeddings,
          "trunk_states: expected a positive batch and a length in [1, ",
          Config.max_position_embeddings,
          "], got ",
          batch,
          " and ",
          length);
    storage_ = buffer<std::byte, Backend>(
        bytes_taken([this](arena_plan& plan) { return memory::make(plan, rows_); }));
    context.reserve(trunk_type::workspace(rows_, length, context.threads()));
  }

  /// The streams of sequences of `length` tokens each, one after the other; valid until the next
  /// call.  tokens [N], result [N, C]. Throws mtp::error for other numbers of tokens than the
  /// constructor was told, for a part of a sequence and for tokens outside the vocabulary.
  matrix operator()(context<Backend>& context,
                    const model_type& model,
                    std::span<const token_t> tokens,
                    index_t length) {
    const detail::default_environment scope;
    const auto N = static_cast<index_t>(tokens.size());
    check(length > 0 && length <= length_ && N > 0 && N <= rows_ && N % length == 0,
          "trunk_states: expected sequences of at most ",
          length_,
          " tokens, ",
          rows_,
          " in all, got ",
          N,
          " tokens in sequences of ",
          length);
    for (const token_t token : tokens) {
      check(token >= 0 && token < Config.vocab_size,
            "trunk_states: token ",
            token,
            " does not lie in [0, ",
            Config.vocab_size,
            ")");
    }
    arena whole(storage_.data(), storage_.count());
    const memory m = memory::make(whole, N);
    backend_traits<Backend>::upload(
        context, m.tokens.data(), tokens.data(), tokens.size() * sizeof(token_t));
    const pass_type pass{context,
                         model.values(),
                         {nullptr, 0},
                         model.rope(),
                         N / length,
                         length,
                         {m.tokens.data(), {1, N}}};
    const auto& at = model_type::trunk_layout();
    embedding_forward(context, m.stream, pass.w.matrix(at.embedding), pass.tokens_at(0));
    for (int l = 0; l < trunk_type::dense_blocks; ++l) {
      trunk_type::dense_block_type::forward(pass, at.dense.at(l), m.dense, m.stream, m.stream);
    }
    for (int l = 0; l < trunk_type::shared_blocks; ++l) {
      trunk_type::block_type::forward(pass, at.blocks.at(l), m.block, m.stream, m.stream);
    }
    return m.stream;
  }

 private:
  struct memory {
    vector_view<token_t, Backend> tokens;                      // [N]
    matrix stream;                                             // [N, C]
    typename trunk_type::dense_block_type::activations dense;  // of one block at a time
    typename trunk_type::block_type::activations block;

    template <class Arena>
    static constexpr memory make(Arena& arena, index_t N) {
      constexpr index_t C = Config.hidden_size;
      const vector_view<token_t, Backend> tokens(arena.template take<token_t>(N), dims<1>{N});
      const matrix stream(arena.template take<S>(N * C), {N, C});
      const auto dense = trunk_type::dense_block_type::activations::make(arena, N);
      if constexpr (trunk_type::dense_blocks == 0) {
        return {tokens, stream, dense, dense};
      } else {
        return {tokens, stream, dense, trunk_type::block_type::activations::make(arena, N)};
      }
    }
  };

  index_t rows_;
  index_t length_;
  buffer<std::byte, Backend> storage_;
};

}  // namespace mtp::inline MTP_ABI

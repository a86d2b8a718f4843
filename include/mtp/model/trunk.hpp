// The trunk: embedding, transformer blocks, final norm, output matrix.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "mtp/model/block.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/ops/embedding.hpp"

namespace mtp::inline MTP_ABI {

/// Blocks that run before the head. A head that owns the last block runs that one itself.
template <model_config Config>
inline constexpr int shared_blocks = Config.num_layers - (Config.head.owns_last_block ? 1 : 0);

/// Parameters of the trunk. With tied embeddings `output` is `embedding`.
template <model_config Config>
struct trunk_layout {
  parameter embedding;  ///< rows of tokens  [V, C]
  /// The blocks, first to last; with parallel heads the last is head 1.
  std::array<block_layout, static_cast<std::size_t>(Config.num_layers)> blocks;
  parameter norm;    ///< scale of the final norm  [C]
  parameter output;  ///< output matrix  [V, C]

  /// Takes their places from a parameter_cursor.
  template <class Cursor>
  static constexpr trunk_layout make(Cursor& cursor) {
    trunk_layout at;
    at.embedding = cursor.matrix(Config.vocab_size, Config.hidden_size, parameter_role::embedding);
    for (auto& block : at.blocks) {
      block = block_layout::make(Config, cursor);
    }
    at.norm = cursor.vector(Config.hidden_size, parameter_role::norm);
    at.output = Config.tie_word_embeddings ? at.embedding
                                           : cursor.matrix(Config.vocab_size, Config.hidden_size);
    return at;
  }

  /// visitor(name, parameter) for each parameter: embed_tokens.weight, those of block l behind
  /// "layers.l.", norm.weight, and lm_head.weight unless embeddings are tied.
  template <class Visitor>
  void visit(Visitor&& visitor) const {
    visitor(std::string("embed_tokens.weight"), embedding);
    for (std::size_t l = 0; l < blocks.size(); ++l) {
      blocks[l].visit("layers." + std::to_string(l) + ".", visitor);
    }
    visitor(std::string("norm.weight"), norm);
    if (!Config.tie_word_embeddings) {
      visitor(std::string("lm_head.weight"), output);
    }
  }
};

/// What the forward pass of the shared blocks keeps; N rows.
template <model_config Config, class Backend, scalar S>
struct trunk_activations {
  /// Blocks that the forward pass runs.
  static constexpr std::size_t count = static_cast<std::size_t>(shared_blocks<Config>);

  /// The residual stream in front of each block, and behind the last.  [N, C] each
  std::array<matrix_view<S, Backend>, count + 1> streams;
  /// What each block keeps.
  std::array<block_activations<Config, Backend, S>, count> blocks;

  /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr trunk_activations make(Arena& arena, index_t N) {
    return make(arena, N, std::make_index_sequence<count>{});
  }

  /// The residual stream behind the shared blocks.  [N, C]
  const matrix_view<S, Backend>& output() const { return streams[count]; }  // [N, C]

 private:
  template <class Arena, std::size_t... Block>
  static constexpr trunk_activations make(Arena& arena, index_t N, std::index_sequence<Block...>) {
    const index_t C = Config.hidden_size;
    const auto stream = [&](std::size_t) {
      return matrix_view<S, Backend>(arena.template take<S>(N * C), {N, C});
    };
    return {{stream(Block)..., stream(count)},
            {(static_cast<void>(Block), block_activations<Config, Backend, S>::make(arena, N))...}};
  }
};

/// The computation of the shared blocks.
template <model_config Config, class Backend, scalar S>
struct trunk {
  using pass_type = model_pass<Config, Backend, S>;           ///< what a pass carries
  using activations = trunk_activations<Config, Backend, S>;  ///< what forward keeps
  using block_type = block<Config, Backend, S>;               ///< the computation of a block

  /// a.output() = the residual stream after the shared blocks, of the tokens of the pass.
  static void forward(const pass_type& pass, const trunk_layout<Config>& at, const activations& a) {
    embedding_forward(pass.context, a.streams[0], pass.w.matrix(at.embedding), pass.tokens_at(0));
    for (std::size_t l = 0; l < activations::count; ++l) {
      block_type::forward(pass.context,
                          at.blocks[l],
                          pass.w,
                          pass.rope,
                          a.blocks[l],
                          a.streams[l + 1],
                          a.streams[l],
                          pass.batch);
    }
  }

  /// dx [N, C] holds the gradient of a.output(); it is used up. Gradients of parameters accumulate
  /// (+=).
  static void backward(const pass_type& pass,
                       const trunk_layout<Config>& at,
                       const activations& a,
                       const typename block_type::scratch& d,
                       matrix_view<S, Backend> dx) {
    for (std::size_t l = activations::count; l-- > 0;) {
      block_type::backward(pass.context,
                           at.blocks[l],
                           pass.w,
                           pass.g,
                           pass.rope,
                           a.blocks[l],
                           d,
                           dx,
                           a.streams[l],
                           pass.batch);
    }
    embedding_backward(pass.context, pass.g.matrix(at.embedding), dx, pass.tokens_at(0));
  }
};

}  // namespace mtp::inline MTP_ABI

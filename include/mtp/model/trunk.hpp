// The trunk: embedding, transformer blocks, final norm, output matrix; for whole sequences, forward
// and backward, and for a few rows with caches.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>

#include "mtp/model/block.hpp"
#include "mtp/model/block_run.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/vocabulary.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// Two runs of blocks and a norm. The first run has the blocks with SwiGLU that
/// first_k_dense_replace asks for, the second the blocks of the configuration. If the head owns the
/// last block, the head runs that block and the norm.
template <model_config Config, class Backend, scalar S>
struct trunk {
  using block_type = block<Config, Backend, S>;  ///< a block of the configuration
  /// Blocks of the first run.
  static constexpr int dense_blocks = Config.feed_forward.kind == feed_forward_kind::swiglu
                                          ? 0
                                          : Config.feed_forward.first_k_dense_replace;
  /// The type of these blocks. If there are none, it is the type of the others.
  using dense_block_type = std::conditional_t<dense_blocks == 0,
                                              block_type,
                                              block<Config,
                                                    Backend,
                                                    S,
                                                    attention_of<Config, Backend, S>,
                                                    dense_feed_forward_of<Config, Backend, S>>>;

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using sum_type = accumulate_t<S>;                    ///< accumulator type
  using pass_type = model_pass<Config, Backend, S>;    ///< a pass over whole sequences
  using row_pass_type = row_pass<Config, Backend, S>;  ///< a pass over a few rows
  using rows_type = decode_rows<Config, Backend, S>;   ///< the rows of such a pass

  static constexpr index_t C = Config.hidden_size;  ///< width of the stream
  /// Whether the trunk runs all of its blocks and the norm.
  static constexpr bool ends_with_norm = !Config.prediction.kind.owns_last_block;
  /// Blocks of the second run that the trunk runs itself.
  static constexpr int shared_blocks =
      Config.num_hidden_layers - dense_blocks - (ends_with_norm ? 0 : 1);

  /// Parameters. With tied embeddings `output` is `embedding`.
  struct layout {
    parameter embedding;                            ///< rows of tokens  [V, C]
    block_run<dense_block_type, Backend, S> dense;  ///< the first run
    block_run<block_type, Backend, S> blocks;       ///< the second
    parameter norm;                                 ///< scale of the final norm  [C]
    parameter output;                               ///< output matrix  [V, C]

    /// Takes their offsets from a parameter_cursor.
    static constexpr layout make(parameter_cursor<Backend, S>& cursor) {
      constexpr index_t rows = vocabulary<Config>::rows;
      layout at;
      at.embedding = cursor.matrix(rows, C, parameter_role::embedding).by_rows(rows);
      at.dense = decltype(at.dense)::make(cursor, dense_blocks);
      at.blocks = decltype(at.blocks)::make(cursor, Config.num_hidden_layers - dense_blocks);
      at.norm = cursor.vector(C, parameter_role::norm);
      at.output = Config.tie_word_embeddings ? at.embedding : cursor.matrix(rows, C).by_rows(rows);
      return at;
    }

    /// Calls visitor(name, parameter) for each parameter: embed_tokens.weight, those of block l
    /// under "layers.l.", norm.weight, and lm_head.weight unless embeddings are tied.
    template <class Visitor>
    void visit(Visitor&& visitor) const {
      visitor(std::string("embed_tokens.weight"), embedding);
      dense.visit(0, visitor);
      blocks.visit(dense.count, visitor);
      visitor(std::string("norm.weight"), norm);
      if (!Config.tie_word_embeddings) {
        visitor(std::string("lm_head.weight"), output);
      }
    }

    /// Places of the last block.
    constexpr typename block_type::layout last_block() const { return blocks.at(blocks.count - 1); }
  };

  /// A contiguous part of what the trunk runs: all of it, or what a stage of a pipeline has.
  struct part {
    int first = 0;                            ///< the first block
    int last = dense_blocks + shared_blocks;  ///< behind its last block
    bool embeds = true;                       ///< whether the embedding is in front of them
    bool norms = true;                        ///< whether the norm is behind them

    /// The first of its blocks in the first run, and the block behind the last.
    constexpr int dense_first() const { return (std::min)(first, dense_blocks); }
    /// See dense_first.
    constexpr int dense_last() const { return (std::min)(last, dense_blocks); }
    /// The first of its blocks in the second run, counted from there, and that behind the last.
    constexpr int shared_first() const { return (std::max)(first - dense_blocks, 0); }
    /// See shared_first.
    constexpr int shared_last() const { return (std::max)(last - dense_blocks, 0); }
    /// Equal if they have the same.
    friend constexpr bool operator==(const part&, const part&) = default;
  };

  /// The memory of a forward pass over N rows, which the backward pass reads.
  struct activations {
    part which;                               ///< what is run
    index_t rows;                             ///< N
    matrix streams;                           ///< before each block, and after the last  [.., C]
    run_activations<dense_block_type> dense;  ///< of the first run
    run_activations<block_type> blocks;       ///< of the second
    vector_view<sum_type, Backend> inv_rms;   ///< 1 / RMS of the last stream  [N]

    /// Takes the memory from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N, const part& which = {}) {
      const index_t streams = which.last - which.first + 1;
      const matrix all(arena.template take<S>(streams * N * C), {streams * N, C});
      const auto dense = run_activations<dense_block_type>::make(
          arena, which.dense_last() - which.dense_first(), N);
      const auto blocks =
          run_activations<block_type>::make(arena, which.shared_last() - which.shared_first(), N);
      const index_t normed = which.norms ? N : 0;
      return {
          which, N, all, dense, blocks, {arena.template take<sum_type>(normed), dims<1>{normed}}};
    }

    /// The residual stream before block l. [N, C]
    matrix stream(int l) const { return streams.slice(0, (l - which.first) * rows, rows); }
    /// The residual stream before the first block. [N, C]
    matrix input() const { return stream(which.first); }
    /// The residual stream after the blocks that are run. [N, C]
    matrix output() const { return stream(which.last); }
  };

  /// Gradients that exist only during the backward pass of one block.
  struct scratch {
    typename block_type::scratch block;              ///< of a block; a head may also use it
    typename dense_block_type::scratch dense_block;  ///< of a block of the first run

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr scratch make(Arena& arena, index_t N) {
      const auto block = block_type::scratch::make(arena, N);
      if constexpr (dense_blocks == 0) {
        return {block, block};
      } else {
        return {block, dense_block_type::scratch::make(arena, N)};
      }
    }
  };

  /// What is kept of sequences.
  struct caches {
    run_caches<dense_block_type> dense;  ///< of the first run
    run_caches<block_type> blocks;       ///< of the second, the last block included

    /// Takes the memory from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr caches make(Arena& arena, index_t slots) {
      const auto dense = run_caches<dense_block_type>::make(arena, dense_blocks, slots);
      return {dense,
              run_caches<block_type>::make(arena, Config.num_hidden_layers - dense_blocks, slots)};
    }
    /// What slot `to` holds (=) what slot `from` does.
    void copy_slot(context<Backend>& context, index_t to, index_t from) const {
      dense.copy_slot(context, dense_blocks, to, from);
      blocks.copy_slot(context, Config.num_hidden_layers - dense_blocks, to, from);
    }
    /// What the accepted path of a tree left in all of them moves to where it would stand without
    /// branches.
    void keep_path(context<Backend>& context,
                   const sequence_view<Backend>& sequence,
                   index_t rows) const {
      dense.keep_path(context, dense_blocks, sequence, rows);
      blocks.keep_path(context, Config.num_hidden_layers - dense_blocks, sequence, rows);
    }
    /// The cache of block l.
    typename block_type::cache at(int l) const {
      return l < dense_blocks ? dense.at(l) : blocks.at(l - dense_blocks);
    }
  };

  /// The most bytes of workspace that its operations need in a training pass over N rows, with
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    using ops = ops_of<Backend>;
    return (std::max)({block_type::workspace(N, length, threads),
                       dense_block_type::workspace(N, length, threads),
                       vocabulary<Config>::template embed_bytes<Backend, S>(N, threads),
                       ops::template row_workspace<S>(N, C, threads)});
  }
  /// The same for decoding M rows.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    return (std::max)({block_type::decode_workspace(M, threads),
                       dense_block_type::decode_workspace(M, threads),
                       vocabulary<Config>::template embed_bytes<Backend, S>(M, threads),
                       ops_of<Backend>::template row_workspace<S>(M, C, threads)});
  }

  /// Of the residual stream and its norm, the one that heads read.
  static matrix tapped(matrix stream, matrix normed) {
    return Config.prediction.hidden_tap == norm_tap::pre_norm ? stream : normed;
  }

  /// Runs the trunk: a.output() = the residual stream of the tokens of the pass; normed [N, C] =
  /// its norm, if the trunk ends with one. A part without the embedding begins with a.input().
  static void forward(const pass_type& pass,
                      const layout& at,
                      const activations& a,
                      matrix normed) {
    const part& own = a.which;
    if (own.embeds) {
      vocabulary<Config>::embed(
          pass.context, a.input(), pass.w.matrix(at.embedding), pass.tokens_at(0));
    }
    for (int l = own.dense_first(); l < own.dense_last(); ++l) {
      const auto& kept = a.dense.at(l - own.dense_first());
      dense_block_type::forward(pass, at.dense.at(l), kept, a.stream(l + 1), a.stream(l));
    }
    for (int n = own.shared_first(); n < own.shared_last(); ++n) {
      const int l = dense_blocks + n;
      const auto& kept = a.blocks.at(n - own.shared_first());
      block_type::forward(pass, at.blocks.at(n), kept, a.stream(l + 1), a.stream(l));
    }
    if constexpr (ends_with_norm) {
      if (own.norms) {
        rms_norm_forward(pass.context,
                         normed,
                         a.inv_rms,
                         a.output(),
                         pass.w.vector(at.norm),
                         Config.rms_norm_eps);
      }
    }
  }

  /// The first offset behind the parameters whose gradients backward adds to, but for those of an
  /// output matrix that is the embedding.
  static constexpr index_t shared_end(const layout& at) {
    if constexpr (ends_with_norm) {
      return at.norm.offset + at.norm.storage;
    } else {
      return at.blocks.begin + shared_blocks * at.blocks.stride;
    }
  }

  /// dstream [N, C] is the gradient of a.output(), if a head has `written` one; it is overwritten.
  /// dnormed [N, C] is the gradient of the norm's output. Gradients of parameters accumulate (+=);
  /// the pass's observer learns of each part of the trunk but the embedding. A part without the
  /// norm is given the gradient of its output in dstream; one without the embedding leaves that of
  /// its input there.
  static void backward(const pass_type& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dstream,
                       bool written,
                       matrix dnormed) {
    const part& own = a.which;
    if constexpr (ends_with_norm) {
      if (own.norms) {
        rms_norm_backward(pass.context,
                          dstream,
                          pass.g.vector(at.norm),
                          dnormed,
                          a.output(),
                          a.inv_rms,
                          pass.w.vector(at.norm),
                          written ? matrix_view<const S, Backend>(dstream) : pass_type::no_rows());
        pass.finished(at.norm.offset);
      }
    }
    for (int n = own.shared_last(); n-- > own.shared_first();) {
      block_type::backward(pass,
                           at.blocks.at(n),
                           a.blocks.at(n - own.shared_first()),
                           d.block,
                           dstream,
                           a.stream(dense_blocks + n));
      pass.finished(at.blocks.begin + n * at.blocks.stride);
    }
    for (int l = own.dense_last(); l-- > own.dense_first();) {
      dense_block_type::backward(pass,
                                 at.dense.at(l),
                                 a.dense.at(l - own.dense_first()),
                                 d.dense_block,
                                 dstream,
                                 a.stream(l));
      pass.finished(at.dense.begin + l * at.dense.stride);
    }
    if (own.embeds) {
      vocabulary<Config>::embed_gradient(
          pass.context, pass.g.matrix(at.embedding), dstream, pass.tokens_at(0));
    }
  }

  /// Rows of sequences through embedding, blocks and norm: rows.normed [M, C] becomes what the
  /// output matrix reads, if `wants_output`. Where `observed`, keep(what heads are given [M, C]) is
  /// called.
  template <class Keep>
  static void decode(const row_pass_type& pass,
                     const layout& at,
                     const rows_type& rows,
                     const caches& kept,
                     bool wants_output,
                     bool observed,
                     const Keep& keep) {
    vocabulary<Config>::embed(pass.context, rows.stream, pass.w.matrix(at.embedding), rows.ids);
    for (int l = 0; l < dense_blocks; ++l) {
      decode_block<dense_block_type>(pass, at.dense.at(l), rows, kept.dense.at(l));
    }
    for (int n = 0; n < shared_blocks; ++n) {
      decode_block<block_type>(pass, at.blocks.at(n), rows, kept.blocks.at(n));
    }
    if constexpr (ends_with_norm) {
      if (wants_output || observed) {
        rows.norm(pass, at.norm, rows.stream);
      }
      if (observed) {
        keep(tapped(rows.stream, rows.normed));
      }
    } else {
      if (observed) {
        keep(rows.stream);
      }
      decode_block<block_type>(pass, at.last_block(), rows, kept.blocks.at(shared_blocks));
      if (wants_output) {
        rows.norm(pass, at.norm, rows.stream);
      }
    }
  }

 private:
  template <class Block>
  static void decode_block(const row_pass_type& pass,
                           const typename Block::layout& at,
                           const rows_type& rows,
                           const typename Block::cache& cache) {
    Block::decode(pass, at, rows.template activations<Block>(), cache, rows.stream, rows.stream);
  }
};

}  // namespace mtp::inline MTP_ABI

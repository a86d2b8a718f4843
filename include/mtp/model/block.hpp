// The transformer block: pre-norm attention and feed-forward on a residual stream; forward,
// backward, and decoding with caches.
#pragma once

#include <algorithm>
#include <string>

#include "mtp/core/view.hpp"
#include "mtp/model/layers/layer.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// Two layers, each after an RMSNorm. It has no state; the caller provides all memory.
///
///     middle = x + attention(norm1(x))
///     y      = middle + feed_forward(norm2(middle))
template <model_config Config,
          class Backend,
          scalar S,
          class Attention = attention_of<Config, Backend, S>,
          class FeedForward = feed_forward_of<Config, Backend, S>>
struct block {
  static_assert(attention_layer<Attention, Config, Backend, S>,
                "block: the attention layer lacks something of what attention_layer in "
                "<mtp/model/layers/layer.hpp> asks for");
  static_assert(feed_forward_layer<FeedForward, Config, Backend, S>,
                "block: the feed-forward layer lacks something of what feed_forward_layer in "
                "<mtp/model/layers/layer.hpp> asks for");

  static constexpr index_t C = Config.hidden_size;     ///< width of the stream
  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using sum_type = accumulate_t<S>;                    ///< accumulator type
  using pass_type = model_pass<Config, Backend, S>;    ///< a pass over whole sequences
  using row_pass_type = row_pass<Config, Backend, S>;  ///< a pass over a few rows
  using cache = typename Attention::cache;             ///< what a block keeps of sequences

  /// Parameters of a block; the names are Hugging Face's.
  struct layout {
    parameter input_norm;                       ///< scale of the norm before attention  [C]
    typename Attention::layout attention;       ///< of the attention layer
    parameter post_attention_norm;              ///< scale of the norm before feed-forward  [C]
    typename FeedForward::layout feed_forward;  ///< of the feed-forward layer

    /// Takes their offsets from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      const auto input_norm = cursor.vector(C, parameter_role::norm);
      const auto attention = Attention::layout::make(cursor);
      const auto post_attention_norm = cursor.vector(C, parameter_role::norm);
      return {input_norm, attention, post_attention_norm, FeedForward::layout::make(cursor)};
    }
    /// Calls visitor(prefix + name, parameter) for each of them.
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      visitor(prefix + "input_layernorm.weight", input_norm);
      attention.visit(prefix, visitor);
      visitor(prefix + "post_attention_layernorm.weight", post_attention_norm);
      feed_forward.visit(prefix, visitor);
    }
  };

  /// What the forward pass keeps for its backward pass; N rows.
  struct activations {
    matrix norm1;                                    ///< norm1(x)  [N, C]
    vector_view<sum_type, Backend> inv_rms1;         ///< 1 / RMS of the rows of x  [N]
    typename Attention::activations attention;       ///< of the attention layer
    matrix middle;                                   ///< the stream between the two layers  [N, C]
    matrix norm2;                                    ///< norm2(middle)  [N, C]
    vector_view<sum_type, Backend> inv_rms2;         ///< 1 / RMS of the rows of middle  [N]
    typename FeedForward::activations feed_forward;  ///< of the feed-forward layer

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const auto rows = [&] { return matrix(arena.template take<S>(N * C), {N, C}); };
      const auto sums = [&] {
        return vector_view<sum_type, Backend>(arena.template take<sum_type>(N), dims<1>{N});
      };
      const auto norm1 = rows();
      const auto inv_rms1 = sums();
      const auto attention = Attention::activations::make(arena, N);
      const auto middle = rows();
      const auto norm2 = rows();
      const auto inv_rms2 = sums();
      return {norm1,
              inv_rms1,
              attention,
              middle,
              norm2,
              inv_rms2,
              FeedForward::activations::make(arena, N)};
    }
  };

  /// Gradients that exist only during the backward pass of one block; N rows.
  struct scratch {
    matrix norm;                                 ///< of the output of either norm  [N, C]
    typename Attention::scratch attention;       ///< of the attention layer
    typename FeedForward::scratch feed_forward;  ///< of the feed-forward layer

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr scratch make(Arena& arena, index_t N) {
      const matrix norm(arena.template take<S>(N * C), {N, C});
      const auto attention = Attention::scratch::make(arena, N);
      return {norm, attention, FeedForward::scratch::make(arena, N)};
    }
  };

  /// Positions that can be rolled back while decoding.
  static constexpr index_t rewindable = Attention::rewindable;
  /// Takes the memory of a cache from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr cache make_cache(Arena& arena, index_t slots) {
    return Attention::make_cache(arena, slots);
  }
  /// What slot `to` of a cache holds (=) what slot `from` does.
  static void copy_cache(context<Backend>& context, const cache& kept, index_t to, index_t from) {
    Attention::copy_cache(context, kept, to, from);
  }
  /// Whether the attention layer takes trees of drafts.
  static constexpr bool takes_trees =
      requires(context<Backend> & context, const cache& kept, sequence_view<Backend> sequence) {
    Attention::keep_path(context, kept, sequence, index_t{});
  };
  /// What a cache holds of the accepted path of a tree moves to where it would stand without
  /// branches: see ops/tree.hpp.
  static void keep_path(context<Backend>& context,
                        const cache& kept,
                        const sequence_view<Backend>& sequence,
                        index_t rows) requires(takes_trees) {
    Attention::keep_path(context, kept, sequence, rows);
  }

  /// The most bytes of workspace that its operations need in a training pass over N rows, with
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)({Attention::workspace(N, length, threads),
                       FeedForward::workspace(N, length, threads),
                       ops_of<Backend>::template row_workspace<S>(N, C, threads)});
  }
  /// The same for decoding M rows.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    return (std::max)({Attention::decode_workspace(M, threads),
                       FeedForward::decode_workspace(M, threads),
                       ops_of<Backend>::template row_workspace<S>(M, C, threads)});
  }

  /// y (=), x [N, C]. y may be x only if no backward pass follows. Throws mtp::error as the
  /// operations do.
  static void forward(
      const pass_type& pass, const layout& at, const activations& a, matrix y, matrix x) {
    norm_input(pass, at, a, x);
    Attention::forward(pass, at.attention, a.attention, a.middle, a.norm1, x);
    feed_forward(pass, at, a, y);
  }

  /// The same for rows of sequences that a cache has the beginnings of: y (=), x [M, C] at
  /// pass.positions.
  static void decode(const row_pass_type& pass,
                     const layout& at,
                     const activations& a,
                     const cache& kept,
                     matrix y,
                     matrix x) {
    norm_input(pass, at, a, x);
    Attention::decode(pass, at.attention, a.attention, kept, a.middle, a.norm1, x);
    feed_forward(pass, at, a, y);
  }

  /// dx [N, C] holds the gradient of y and receives that of x (=); gradients of parameters
  /// accumulate (+=).
  static void backward(const pass_type& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       matrix x) {
    FeedForward::backward(
        pass, at.feed_forward, a.feed_forward, d.feed_forward, d.norm, dx, a.norm2);
    norm_backward(pass, at.post_attention_norm, dx, d.norm, a.middle, a.inv_rms2);
    Attention::backward(pass, at.attention, a.attention, d.attention, d.norm, dx, a.norm1);
    norm_backward(pass, at.input_norm, dx, d.norm, x, a.inv_rms1);
  }

 private:
  template <class Pass>
  static void norm_input(const Pass& pass, const layout& at, const activations& a, matrix x) {
    rms_norm_forward(
        pass.context, a.norm1, a.inv_rms1, x, pass.w.vector(at.input_norm), Config.rms_norm_eps);
  }

  template <class Pass>
  static void feed_forward(const Pass& pass, const layout& at, const activations& a, matrix y) {
    rms_norm_forward(pass.context,
                     a.norm2,
                     a.inv_rms2,
                     a.middle,
                     pass.w.vector(at.post_attention_norm),
                     Config.rms_norm_eps);
    FeedForward::forward(pass, at.feed_forward, a.feed_forward, y, a.norm2, a.middle);
  }

  /// Adds to dx, the gradient of the stream, the gradient that comes through a norm of it.
  static void norm_backward(const pass_type& pass,
                            const parameter& scale,
                            matrix dx,
                            matrix dnormed,
                            matrix x,
                            vector_view<sum_type, Backend> inverse) {
    rms_norm_backward(
        pass.context, dx, pass.g.vector(scale), dnormed, x, inverse, pass.w.vector(scale), dx);
  }
};

}  // namespace mtp::inline MTP_ABI

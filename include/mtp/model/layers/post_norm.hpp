// A layer of a block whose output is normed before it is added to the stream, as in GLM-4.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>

#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// Which name the scale of the norm has: that of GLM-4 in Hugging Face's transformers.
enum class post_norm_name {
  attention,     ///< "post_self_attn_layernorm.weight"
  feed_forward,  ///< "post_mlp_layernorm.weight"
};

///     y = residual + RMSNorm(layer(x))
///
/// for any layer of a block, which it offers itself as: see attention_layer and feed_forward_layer.
template <model_config Config, class Backend, scalar S, class Layer, post_norm_name Name>
struct post_normed : Layer {
  static constexpr index_t C = Config.hidden_size;     ///< width of the stream
  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using input_matrix = matrix_view<const S, Backend>;  ///< rows of activations that are read
  using sum_type = accumulate_t<S>;                    ///< accumulator type

  /// The layer's parameters, then the scale of the norm.
  struct layout {
    typename Layer::layout layer;  ///< of the layer
    parameter scale;               ///< of the norm  [C]

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      const auto layer = Layer::layout::make(cursor);
      return {layer, cursor.vector(C, parameter_role::norm)};
    }
    /// visitor(prefix + name, parameter) for each of them.
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      layer.visit(prefix, visitor);
      visitor(prefix + (Name == post_norm_name::attention ? "post_self_attn_layernorm.weight"
                                                          : "post_mlp_layernorm.weight"),
              scale);
    }
  };

  /// What the forward pass keeps; N rows.
  struct activations {
    typename Layer::activations layer;       ///< of the layer
    matrix added;                            ///< layer(x)  [N, C]
    matrix normed;                           ///< its norm  [N, C]
    vector_view<sum_type, Backend> inv_rms;  ///< 1 / RMS of the rows of added  [N]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const auto layer = Layer::activations::make(arena, N);
      const matrix added(arena.template take<S>(N * C), {N, C});
      const matrix normed(arena.template take<S>(N * C), {N, C});
      return {layer,
              added,
              normed,
              vector_view<sum_type, Backend>(arena.template take<sum_type>(N), dims<1>{N})};
    }
  };

  /// Gradients that live only within a backward pass; N rows.
  struct scratch {
    typename Layer::scratch layer;  ///< of the layer
    matrix added;                   ///< of layer(x)  [N, C]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr scratch make(Arena& arena, index_t N) {
      const auto layer = Layer::scratch::make(arena, N);
      return {layer, matrix(arena.template take<S>(N * C), {N, C})};
    }
  };

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)(Layer::workspace(N, length, threads),
                      ops_of<Backend>::template row_workspace<S>(N, C, threads));
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    return (std::max)(Layer::decode_workspace(M, threads),
                      ops_of<Backend>::template row_workspace<S>(M, C, threads));
  }

  /// y [N, C] (=); x, residual [N, C]; y may be residual.
  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    begin(pass, a);
    Layer::forward(pass, at.layer, a.layer, a.added, x, a.added);
    end(pass, at, a, y, residual);
  }

  /// The same for rows [M, C] of sequences behind what the cache holds.
  template <class Pass, class Cache>
  static void decode(const Pass& pass,
                     const layout& at,
                     const activations& a,
                     const Cache& kept,
                     matrix y,
                     input_matrix x,
                     input_matrix residual) {
    begin(pass, a);
    Layer::decode(pass, at.layer, a.layer, kept, a.added, x, a.added);
    end(pass, at, a, y, residual);
  }

  /// dx [N, C] (=) of dy [N, C]; that of residual is dy itself. Gradients of parameters accumulate
  /// (+=).
  template <class Pass>
  static void backward(const Pass& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       input_matrix dy,
                       input_matrix x) {
    rms_norm_backward(pass.context,
                      d.added,
                      pass.g.vector(at.scale),
                      dy,
                      a.added,
                      a.inv_rms,
                      pass.w.vector(at.scale),
                      input_matrix(nullptr, {0, 0}));
    Layer::backward(pass, at.layer, a.layer, d.layer, dx, d.added, x);
  }

 private:
  /// The layer adds to zeros: what the norm reads must not contain the stream.
  template <class Pass>
  static void begin(const Pass& pass, const activations& a) {
    fill(pass.context, a.added, S{0});
  }
  template <class Pass>
  static void end(
      const Pass& pass, const layout& at, const activations& a, matrix y, input_matrix residual) {
    rms_norm_forward(
        pass.context, a.normed, a.inv_rms, a.added, pass.w.vector(at.scale), Config.rms_norm_eps);
    add(pass.context, y, a.normed, residual);
  }
};

/// The layer itself, or with a norm of its output.
template <bool Normed,
          model_config Config,
          class Backend,
          scalar S,
          class Layer,
          post_norm_name Name>
using with_post_norm =
    std::conditional_t<Normed, post_normed<Config, Backend, S, Layer, Name>, Layer>;

}  // namespace mtp::inline MTP_ABI

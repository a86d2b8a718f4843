// A layer of a block of which each rank has a part (Shoeybi et al. 2019, arXiv 1909.08053, section
// 3).
#pragma once

#include <algorithm>

#include "mtp/core/tensor_group.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/sum_over_ranks.hpp"

namespace mtp::inline MTP_ABI {

/// The configuration of the part of a layer that a rank has: a share of the heads, of the width of
/// the feed-forward layer, and nothing to do for other ranks.
constexpr model_config rank_config(model_config config) {
  const int ranks = config.tensor_parallel_size;
  config.attention.head_dim = config.head_dim();
  config.attention.num_key_value_heads = config.num_key_value_heads() / ranks;
  config.attention.num_attention_heads /= ranks;
  config.feed_forward.intermediate_size /= ranks;
  config.tensor_parallel_size = 1;
  return config;
}

///     y = residual + sum over ranks r of layer_r(x)
///
/// where layer_r is the same layer, of rank_config: heads [r H / R, (r + 1) H / R), or inner
/// elements [r F / R, (r + 1) F / R). x and y are the same on all ranks, bit by bit. Each pass sums
/// rows [N, C] once forward (the paper's g) and once backward (its f). Rank 0 brings the residual,
/// so it counts once.
///
/// The layer says with summed_over_ranks(layout) which of its parameters every rank has whole
/// although its own heads alone contribute to their gradients here; those are summed as well.
template <model_config Config, class Backend, scalar S, class Layer>
struct tensor_parallel_layer : Layer {
  static constexpr index_t C = Config.hidden_size;           ///< width of the stream
  static constexpr index_t R = Config.tensor_parallel_size;  ///< ranks
  using matrix = matrix_view<S, Backend>;                    ///< rows of activations
  using input_matrix = matrix_view<const S, Backend>;        ///< rows of activations that are read
  using layout = typename Layer::layout;                     ///< parameters of this rank's part
  using activations = typename Layer::activations;           ///< what the forward pass keeps
  using scratch = typename Layer::scratch;                   ///< what the backward pass works in
  static_assert(
      requires(const layout& at) { Layer::summed_over_ranks(at); },
      "tensor_parallel: the layer cannot be divided among ranks, because it does not say which "
      "gradients are sums over them (summed_over_ranks)");

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)({Layer::workspace(N, length, threads),
                       ops_of<Backend>::template sum_over_ranks_workspace<S>(N * C, R),
                       ops_of<Backend>::template sum_over_ranks_workspace<accumulate_t<S>>(
                           Config.head_dim(), R)});
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    return (std::max)(Layer::decode_workspace(M, threads),
                      ops_of<Backend>::template sum_over_ranks_workspace<S>(M * C, R));
  }

  /// y [N, C] (=); x, residual [N, C]; y may be residual.
  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    Layer::forward(pass, at, a, y, x, brought(pass.context, y, residual));
    sum_over_ranks(pass.context, y);
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
    Layer::decode(pass, at, a, kept, y, x, brought(pass.context, y, residual));
    sum_over_ranks(pass.context, y);
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
    const auto summed = Layer::summed_over_ranks(at);
    for (const parameter& p : summed) {  // rank 0 brings what was there before
      if (rank_of(pass.context) != 0) {
        fill(pass.context, pass.g.vector(p), accumulate_t<S>{0});
      }
    }
    Layer::backward(pass, at, a, d, dx, dy, x);
    for (const parameter& p : summed) {
      sum_over_ranks(pass.context, pass.g.vector(p));
    }
    sum_over_ranks(pass.context, dx);
  }

 private:
  static int rank_of(const context<Backend>& context) {
    return detail::ranks_of("tensor_parallel", context, static_cast<int>(R)).rank();
  }
  /// What this rank adds its part to: the residual, or zeros in y.
  static input_matrix brought(context<Backend>& context, matrix y, input_matrix residual) {
    if (rank_of(context) == 0) {
      return residual;
    }
    fill(context, y, S{0});
    return y;
  }
};

namespace detail {

/// The layer that traits name, or a rank's part of it.
template <class Traits, model_config Config, class Backend, scalar S, bool Divided>
struct layer_of_traits {
  using type = typename Traits::template layer<Config, Backend, S>;
};
template <class Traits, model_config Config, class Backend, scalar S>
struct layer_of_traits<Traits, Config, Backend, S, true> {
  static constexpr model_config own = rank_config(Config);
  using type =
      tensor_parallel_layer<Config, Backend, S, typename Traits::template layer<own, Backend, S>>;
};

}  // namespace detail

/// The layer that traits name, or the part of it that a rank has.
template <class Traits, model_config Config, class Backend, scalar S>
using with_ranks = typename detail::
    layer_of_traits<Traits, Config, Backend, S, (Config.tensor_parallel_size > 1)>::type;

}  // namespace mtp::inline MTP_ABI

// Multi-head latent attention as a layer of a block (DeepSeek-V2, arXiv 2405.04434, section 2.1;
// DeepSeek-V3, arXiv 2412.19437, section 2.1.1).
#pragma once

#include <algorithm>
#include <cmath>

#include "mtp/core/arena.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/layer_kind.hpp"
#include "mtp/model/layers/latent_parts.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/head_linear.hpp"
#include "mtp/ops/latent_attention.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/rope.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::inline MTP_ABI {

///     y = residual + W_o [o_1 ; .. ; o_H],    o_h,t = sum over s <= t of p_h,t,s v_h,s
///     p_h,t,. = softmax over s <= t of scale (q_h,t . k_h,s),    scale = f / sqrt(n + r)
///
///     [q_1 ; .. ; q_H] = W_qb norm(W_qa x)    q_h = [q_n,h ; rope(q_r,h)]           [n + r]
///     [c' ; k'] = W_kva x                     c = norm(c'), k_r = rope(k')          [r_kv], [r]
///     k_h = [U_h c ; k_r]                     v_h = V_h c                           [n + r], [v]
///
/// The norms are RMSNorms; all heads share k_r. Without q_lora_rank, queries are W_q x. f is
/// rope_score_factor. The last r elements of a query and of W_kva x are rotated, pairs e and e +
/// r/2.
///
/// Whole sequences are computed in this form. Decoding absorbs U_h and V_h into what stands before
/// and behind them, so that c and k_r are all that is kept of a position:
///
///     q_h . k_h = (U_h^T q_n,h) . c + q_r,h . k_r,    o_h = V_h (sum over s of p_h,t,s c_s)
///
/// The two forms round differently, so a step of decoding has other bits than a training pass; a
/// row has the same bits in all steps.
template <model_config Config, class Backend, scalar S>
struct multi_head_latent_attention {
  using sizes = latent_sizes<Config>;                       ///< the widths of the layer
  static constexpr index_t C = sizes::C;                    ///< width of the stream
  static constexpr index_t H = sizes::H;                    ///< heads
  static constexpr index_t n = sizes::n;                    ///< not rotated
  static constexpr index_t r = sizes::r;                    ///< rotated
  static constexpr index_t V = sizes::V;                    ///< of values
  static constexpr index_t E = sizes::E;                    ///< of queries and keys
  static constexpr index_t query_rank = sizes::query_rank;  ///< r_q; 0: none
  static constexpr index_t rank = sizes::rank;              ///< r_kv
  static constexpr index_t W = sizes::W;                    ///< of a row of the cache

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using input_matrix = matrix_view<const S, Backend>;  ///< rows of activations that are read
  using sum_type = accumulate_t<S>;                    ///< accumulator type

  /// Added to the mean square in the norms of the low ranks.
  static constexpr float low_rank_eps =
      Config.attention.lora_norm_eps > 0 ? Config.attention.lora_norm_eps : Config.rms_norm_eps;
  /// Elements of a row of the rotary table.
  static constexpr index_t rotary_width = r;
  /// Decoding has the form with absorbed matrices, training has not.
  static constexpr bool decodes_as_it_trains = false;

  using layout = latent_layout<Config>;                        ///< parameters
  using activations = latent_activations<Config, Backend, S>;  ///< what the forward pass keeps
  using scratch = latent_scratch<Config, Backend, S>;          ///< gradients within a backward pass

  /// c and k_r of sequences, once for all heads. A row is written at its position and read by the
  /// rows behind it alone, so what stands behind the last position in use reaches no result.
  using cache = latent_cache_view<S, Backend>;
  /// Positions that may be taken back: all, because all are kept.
  static constexpr index_t rewindable = Config.max_position_embeddings;
  /// Takes the memory of config.max_position_embeddings for each slot from an arena, or counts it.
  template <class Arena>
  static constexpr cache make_cache(Arena& arena, index_t slots) {
    constexpr index_t P = Config.max_position_embeddings;
    return {arena.template take<S>(slots * P * W), P, W, slots, P * W};
  }

  /// What slot `to` holds (=) what slot `from` does.
  static void copy_cache(context<Backend>& context, const cache& kept, index_t to, index_t from) {
    const auto all = [&](index_t slot) {
      return vector_view<S, Backend>(kept.at(slot).data, dims<1>{kept.slot_stride});
    };
    copy(context, all(to), all(from));
  }

  /// What slot sequence.slot holds of the rows of the accepted path of a tree moves to where it
  /// would stand without branches: keep_path.
  static void keep_path(context<Backend>& context,
                        const cache& kept,
                        const sequence_view<Backend>& sequence,
                        index_t rows) {
    mtp::keep_path(context, kept, sequence, rows);
  }

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    using ops = ops_of<Backend>;
    constexpr index_t most = (std::max)(E, V);  // of keys and values
    const auto linear = [&](index_t outputs, index_t inputs) {
      return ops::template linear_workspace<S>(N, outputs, inputs, threads);
    };
    return (std::max)(
        {linear(query_rank, C),
         linear(H * E, query_rank > 0 ? query_rank : C),
         linear(W, C),
         linear(H * n, rank),
         linear(H * V, rank),
         linear(C, H * V),
         ops::template attention_workspace<S>(N, length, H * most, H * most, most, threads),
         ops::template row_workspace<S>(N, H * most, threads),
         ops::template row_workspace<S>(N, (std::max)(W, query_rank), threads)});
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    using ops = ops_of<Backend>;
    const auto linear = [&](index_t outputs, index_t inputs) {
      return ops::template linear_forward_workspace<S>(M, outputs, inputs, threads);
    };
    const index_t widest = (std::max)({H * E, H * W, query_rank});
    return absorbed_bytes(M) +
           (std::max)({linear(query_rank, C),
                       linear(H * E, query_rank > 0 ? query_rank : C),
                       linear(W, C),
                       linear(C, H * V),
                       ops::template head_linear_workspace<S>(M, H, n, rank, threads),
                       ops::template head_linear_workspace<S>(M, H, V, rank, threads),
                       ops::template latent_attention_workspace<S>(M, H, W, rank, threads),
                       ops::template row_workspace<S>(M, widest, threads)});
  }

  /// y [N, C] (=) of whole sequences; x, residual [N, C]; y may be residual.
  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    auto& context = pass.context;
    project(pass, at, a, x);
    rope_forward(context, rotated(a.query), pass.rope, pass.length, 0);
    rope_forward(context, shared_key(a.latent), pass.rope, pass.length, 0);
    linear_forward(context, a.unrotated, latent(a.latent), pass.w.matrix(at.key));
    linear_forward(context, a.value, latent(a.latent), pass.w.matrix(at.value));
    copy(context, heads(a.key, 0, n, E), heads(a.unrotated, 0, n, n));
    copy(context, rotated(a.key), repeated(shared_key(a.latent)));
    attention_forward(context,
                      heads(a.attended, 0, V, V),
                      a.statistics,
                      heads(a.query, 0, E, E),
                      heads(a.key, 0, E, E),
                      heads(a.value, 0, V, V),
                      pass.batch,
                      softmax_scale());
    linear_add_forward(context, y, a.attended, pass.w.matrix(at.output), residual);
  }

  /// The same for rows [M, C] of sequences behind what the cache holds, with absorbed matrices.
  template <class Pass>
  static void decode(const Pass& pass,
                     const layout& at,
                     const activations& a,
                     const cache& kept,
                     matrix y,
                     input_matrix x,
                     input_matrix residual) {
    auto& context = pass.context;
    const index_t M = x.extent(0);
    project(pass, at, a, x);
    rope_forward(context, rotated(a.query), pass.rope, pass.positions);
    rope_forward(context, shared_key(a.latent), pass.rope, pass.positions);
    const arena::scope scope(context.workspace());
    const matrix absorbed(context.workspace().template take<S>(M * H * W), {M, H * W});
    const matrix weighed(context.workspace().template take<S>(M * H * rank), {M, H * rank});
    head_linear_backward_input(
        context, heads(absorbed, 0, rank, W), heads(a.query, 0, n, E), pass.w.matrix(at.key));
    copy(context, heads(absorbed, rank, r, W), rotated(a.query));
    latent_attention_cached_forward(context,
                                    heads(weighed, 0, rank, rank),
                                    kept,
                                    heads(absorbed, 0, W, W),
                                    a.latent,
                                    softmax_scale(),
                                    pass.positions,
                                    pass.runs);
    head_linear_forward(context,
                        heads(a.attended, 0, V, V),
                        heads(weighed, 0, rank, rank),
                        pass.w.matrix(at.value));
    linear_add_forward(context, y, a.attended, pass.w.matrix(at.output), residual);
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
    auto& context = pass.context;
    linear_backward_weight(context, pass.g.matrix(at.output), dy, a.attended);
    linear_backward_input(context, d.attended, dy, pass.w.matrix(at.output));
    attention_backward(context,
                       heads(d.query, 0, E, E),
                       heads(d.key, 0, E, E),
                       heads(d.value, 0, V, V),
                       heads(d.attended, 0, V, V),
                       heads(a.query, 0, E, E),
                       heads(a.key, 0, E, E),
                       heads(a.value, 0, V, V),
                       heads(a.attended, 0, V, V),
                       a.statistics,
                       pass.batch,
                       softmax_scale());
    latent_backward(pass, at, a, d);
    linear_backward_weight(context, pass.g.matrix(at.down), d.latent, x);
    linear_backward_input(context, dx, d.latent, pass.w.matrix(at.down));
    query_backward(pass, at, a, d, dx, x);
  }

 private:
  using heads_view = view<S, dims<3>, Backend>;  // [N, H, width]
  using input_heads = view<const S, dims<3>, Backend>;

  static double softmax_scale() {
    return rope_score_factor(Config.attention.rope_scaling) / std::sqrt(static_cast<double>(E));
  }
  static constexpr index_t absorbed_bytes(index_t M) {
    return arena_bytes(M * H * W, sizeof(S)) + arena_bytes(M * H * rank, sizeof(S));
  }

  /// Elements [first, first + width) of each head of `rows`, heads `distance` apart: [N, H, width].
  static heads_view heads(matrix rows, index_t first, index_t width, index_t distance) {
    return {rows.data() + first, {rows.extent(0), H, width}, {rows.stride(0), distance, 1}};
  }
  /// The rotated elements of queries or keys.  [N, H, r]
  static heads_view rotated(matrix rows) { return heads(rows, n, r, E); }
  /// c of rows of latents.  [N, r_kv]
  static matrix latent(matrix rows) { return rows.slice(1, 0, rank); }
  /// k_r of rows of latents, as one head.  [N, 1, r]
  static heads_view shared_key(matrix rows) {
    return {rows.data() + rank, {rows.extent(0), 1, r}, {rows.stride(0), r, 1}};
  }
  /// The one head, once for each of H.  [N, H, r]
  static input_heads repeated(heads_view one) {
    return {one.data(), {one.extent(0), H, r}, {one.stride(0), 0, 1}};
  }

  /// Queries and latents of x, not yet rotated.
  template <class Pass>
  static void project(const Pass& pass, const layout& at, const activations& a, input_matrix x) {
    auto& context = pass.context;
    if constexpr (query_rank > 0) {
      linear_forward(context, a.query_raw, x, pass.w.matrix(at.query_down));
      rms_norm_forward(context,
                       a.query_latent,
                       a.query_inv_rms,
                       a.query_raw,
                       pass.w.vector(at.query_norm),
                       low_rank_eps);
      linear_forward(context, a.query, a.query_latent, pass.w.matrix(at.query));
    } else {
      linear_forward(context, a.query, x, pass.w.matrix(at.query));
    }
    linear_forward(context, a.raw, x, pass.w.matrix(at.down));
    rms_norm_forward(
        context, latent(a.latent), a.inv_rms, latent(a.raw), pass.w.vector(at.norm), low_rank_eps);
    copy(context, shared_key(a.latent), shared_key(a.raw));
  }

  /// d.latent = the gradient of W_kva x, of those of keys and values.
  template <class Pass>
  static void latent_backward(const Pass& pass,
                              const layout& at,
                              const activations& a,
                              const scratch& d) {
    auto& context = pass.context;
    copy(context, heads(d.unrotated, 0, n, n), heads(d.key, 0, n, E));
    linear_backward_weight(context, pass.g.matrix(at.key), d.unrotated, latent(a.latent));
    linear_backward_weight(context, pass.g.matrix(at.value), d.value, latent(a.latent));
    linear_backward_input(context, latent(d.latent), d.unrotated, pass.w.matrix(at.key));
    linear_add_backward_input(
        context, latent(d.latent), d.value, pass.w.matrix(at.value), latent(d.latent));
    rms_norm_backward(context,
                      latent(d.latent),
                      pass.g.vector(at.norm),
                      latent(d.latent),
                      latent(a.raw),
                      a.inv_rms,
                      pass.w.vector(at.norm),
                      pass.no_rows());
    // All heads have read k_r.
    sum(context, d.latent.slice(1, rank, r), rotated(d.key).transpose());
    rope_backward(context, shared_key(d.latent), pass.rope, pass.length, 0);
  }

  /// dx (+=) of the gradient of queries.
  template <class Pass>
  static void query_backward(const Pass& pass,
                             const layout& at,
                             const activations& a,
                             const scratch& d,
                             matrix dx,
                             input_matrix x) {
    auto& context = pass.context;
    rope_backward(context, rotated(d.query), pass.rope, pass.length, 0);
    if constexpr (query_rank > 0) {
      linear_backward_weight(context, pass.g.matrix(at.query), d.query, a.query_latent);
      linear_backward_input(context, d.query_latent, d.query, pass.w.matrix(at.query));
      rms_norm_backward(context,
                        d.query_latent,
                        pass.g.vector(at.query_norm),
                        d.query_latent,
                        a.query_raw,
                        a.query_inv_rms,
                        pass.w.vector(at.query_norm),
                        pass.no_rows());
      linear_backward_weight(context, pass.g.matrix(at.query_down), d.query_latent, x);
      linear_add_backward_input(context, dx, d.query_latent, pass.w.matrix(at.query_down), dx);
    } else {
      linear_backward_weight(context, pass.g.matrix(at.query), d.query, x);
      linear_add_backward_input(context, dx, d.query, pass.w.matrix(at.query), dx);
    }
  }
};

/// The layer of attention_kind::multi_head_latent.
template <>
struct attention_traits<attention_kind::multi_head_latent> {
  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using layer = multi_head_latent_attention<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI

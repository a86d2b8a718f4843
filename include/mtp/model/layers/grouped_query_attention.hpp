// Grouped-query attention with rotary positions as a layer of a block (Ainslie et al. 2023, arXiv
// 2305.13245; Su et al. 2021, arXiv 2104.09864).
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/layer_kind.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/rope_attention.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::inline MTP_ABI {

///     y = residual + W_o attention(rope(q), rope(k), v),      [q ; k ; v] = W_qkv x + b
///
/// with b where config.attention.qkv_bias, and each head of q and k through an RMSNorm of its own
/// before the rotation where config.attention.qk_norm (Qwen3). Elements e and e + E/2 of a head are
/// a pair; the first R/2 pairs are rotated, R = config.rotary_dim(), by p * theta^(-2e / R) at
/// position p.
template <model_config Config, class Backend, scalar S>
struct grouped_query_attention {
  static constexpr index_t C = Config.hidden_size;                    ///< width of the stream
  static constexpr index_t H = Config.attention.num_attention_heads;  ///< heads of queries
  static constexpr index_t G = Config.num_key_value_heads();          ///< heads of keys and values
  static constexpr index_t E = Config.head_dim();                     ///< width of a head
  static constexpr index_t qkv_size = (H + 2 * G) * E;  ///< of a row of queries, keys, values

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using input_matrix = matrix_view<const S, Backend>;  ///< rows of activations that are read
  using sum_type = accumulate_t<S>;                    ///< accumulator type

  /// Elements of a row of the rotary table: both halves of a head.
  static constexpr index_t rotary_width = E;

  /// Parameters, under the names of Hugging Face's Phi-3 (fused projections) and Qwen3 (QK-norm).
  struct layout {
    parameter qkv;     ///< W_qkv: all of q, then k, then v  [(H + 2G) E, C]
    parameter bias;    ///< b, with config.attention.qkv_bias  [(H + 2G) E]
    parameter q_norm;  ///< scale of the norm of each query, with config.attention.qk_norm  [E]
    parameter k_norm;  ///< scale of the norm of each key, with config.attention.qk_norm  [E]
    parameter output;  ///< W_o  [C, H E]

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      at.qkv = cursor.matrix(qkv_size, C).by_rows(H * E, G * E, G * E);
      if (Config.attention.qkv_bias) {
        at.bias = cursor.vector(qkv_size, parameter_role::bias).by_rows(H * E, G * E, G * E);
      }
      if (Config.attention.qk_norm) {
        at.q_norm = cursor.vector(E, parameter_role::norm);
        at.k_norm = cursor.vector(E, parameter_role::norm);
      }
      at.output = cursor.matrix(C, H * E, parameter_role::residual).by_columns();
      return at;
    }
    /// visitor(prefix + name, parameter) for each that the configuration has.
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      const auto each = [&](const char* name, const parameter& p) {
        if (p.exists()) {
          visitor(prefix + name, p);
        }
      };
      each("self_attn.qkv_proj.weight", qkv);
      each("self_attn.qkv_proj.bias", bias);
      each("self_attn.q_norm.weight", q_norm);
      each("self_attn.k_norm.weight", k_norm);
      each("self_attn.o_proj.weight", output);
    }
  };

  /// See tensor_parallel_layer: the scales that all heads share.
  static constexpr auto summed_over_ranks(const layout& at) {
    if constexpr (Config.attention.qk_norm) {
      return std::array<parameter, 2>{at.q_norm, at.k_norm};
    } else {
      return std::array<parameter, 0>{};
    }
  }

  /// What the forward pass keeps; N rows.
  struct activations {
    matrix raw;                                 ///< before QK-norm; qkv without  [N, (H + 2G) E]
    matrix_view<sum_type, Backend> inv_rms;     ///< 1 / RMS of each query and key  [N, H + G]
    matrix qkv;                                 ///< rotated  [N, (H + 2G) E]
    matrix attended;                            ///< output of attention  [N, H E]
    matrix_view<sum_type, Backend> statistics;  ///< of attention_forward  [N, 2 H]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const auto rows = [&](index_t columns) {
        return matrix(arena.template take<S>(N * columns), {N, columns});
      };
      const auto sums = [&](index_t columns) {
        return matrix_view<sum_type, Backend>(arena.template take<sum_type>(N * columns),
                                              {N, columns});
      };
      const auto qkv = rows(qkv_size);
      const auto raw = Config.attention.qk_norm ? rows(qkv_size) : qkv;
      const auto inv_rms = sums(Config.attention.qk_norm ? H + G : 0);
      const auto attended = rows(H * E);
      return {raw, inv_rms, qkv, attended, sums(2 * H)};
    }
  };

  /// Gradients that live only within a backward pass; N rows.
  struct scratch {
    matrix qkv;       ///< of queries, keys, values  [N, (H + 2G) E]
    matrix attended;  ///< of attention's output  [N, H E]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr scratch make(Arena& arena, index_t N) {
      const matrix qkv(arena.template take<S>(N * qkv_size), {N, qkv_size});
      return {qkv, matrix(arena.template take<S>(N * H * E), {N, H * E})};
    }
  };

  /// Keys and values of sequences. A row is written at its position and read by the rows behind it
  /// alone, so what stands behind the last position in use is stale and reaches no result.
  using cache = cache_view<S, Backend>;
  /// Positions that may be taken back: all, because all are kept.
  static constexpr index_t rewindable = Config.max_position_embeddings;
  /// Takes the memory of config.max_position_embeddings for each slot from an arena, or counts it.
  template <class Arena>
  static constexpr cache make_cache(Arena& arena, index_t slots) {
    constexpr index_t P = Config.max_position_embeddings;
    constexpr index_t stride = ops_of<Backend>::template kv_storage<S>(P, G, E);
    return {arena.template take<S>(slots * stride), P, G, E, slots, stride};
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
    return (std::max)({ops::template linear_workspace<S>(N, qkv_size, C, threads),
                       ops::template linear_workspace<S>(N, C, H * E, threads),
                       ops::template attention_workspace<S>(N, length, H * E, G * E, E, threads),
                       ops::template row_workspace<S>(N, qkv_size, threads)});
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    using ops = ops_of<Backend>;
    constexpr index_t P = Config.max_position_embeddings;
    return (std::max)({ops::template linear_forward_workspace<S>(M, qkv_size, C, threads),
                       ops::template linear_forward_workspace<S>(M, C, H * E, threads),
                       ops::template attention_workspace<S>(M, P, H * E, G * E, E, threads),
                       ops::template row_workspace<S>(M, qkv_size, threads)});
  }

  /// y [N, C] (=) of whole sequences; x, residual [N, C]; y may be residual.
  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    project(pass, at, a, x);
    rope_attention_forward(pass.context,
                           heads(a.attended, 0, H),
                           a.statistics,
                           query(a.qkv),
                           key(a.qkv),
                           value(a.qkv),
                           pass.rope,
                           pass.batch);
    linear_add_forward(pass.context, y, a.attended, pass.w.matrix(at.output), residual);
  }

  /// The same for rows [M, C] of sequences behind what the cache holds.
  template <class Pass>
  static void decode(const Pass& pass,
                     const layout& at,
                     const activations& a,
                     const cache& kept,
                     matrix y,
                     input_matrix x,
                     input_matrix residual) {
    project(pass, at, a, x);
    rope_attention_cached_forward(pass.context,
                                  heads(a.attended, 0, H),
                                  kept,
                                  query(a.qkv),
                                  key(a.qkv),
                                  value(a.qkv),
                                  pass.rope,
                                  pass.positions,
                                  pass.runs);
    linear_add_forward(pass.context, y, a.attended, pass.w.matrix(at.output), residual);
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
    rope_attention_backward(context,
                            query(d.qkv),
                            key(d.qkv),
                            value(d.qkv),
                            heads(d.attended, 0, H),
                            query(a.qkv),
                            key(a.qkv),
                            value(a.qkv),
                            heads(a.attended, 0, H),
                            a.statistics,
                            pass.rope,
                            pass.batch);
    if constexpr (Config.attention.qk_norm) {
      const auto norm_backward = [&](heads_view dq, heads_view q, auto inverse, parameter scale) {
        rms_norm_backward(context,
                          dq,
                          pass.g.vector(scale),
                          dq,
                          q,
                          inverse,
                          pass.w.vector(scale),
                          view<const S, dims<3>, Backend>(nullptr, {0, 0, 0}));
      };
      norm_backward(query(d.qkv), query(a.raw), a.inv_rms.slice(1, 0, H), at.q_norm);
      norm_backward(key(d.qkv), key(a.raw), a.inv_rms.slice(1, H, G), at.k_norm);
    }
    if constexpr (Config.attention.qkv_bias) {
      linear_backward_bias(context, pass.g.vector(at.bias), d.qkv);
    }
    linear_backward_weight(context, pass.g.matrix(at.qkv), d.qkv, x);
    linear_backward_input(context, dx, d.qkv, pass.w.matrix(at.qkv));
  }

 private:
  using heads_view = view<S, dims<3>, Backend>;  // [N, heads, E]

  /// Columns of `rows` seen as `count` heads from head `first` on: [N, count, E].
  static heads_view heads(matrix rows, index_t first, index_t count) {
    return {rows.data() + first * E, {rows.extent(0), count, E}, {rows.stride(0), E, 1}};
  }
  static heads_view query(matrix qkv) { return heads(qkv, 0, H); }
  static heads_view key(matrix qkv) { return heads(qkv, H, G); }
  static heads_view value(matrix qkv) { return heads(qkv, H + G, G); }

  /// a.qkv = queries, keys and values of x, not yet rotated.
  template <class Pass>
  static void project(const Pass& pass, const layout& at, const activations& a, input_matrix x) {
    auto& context = pass.context;
    if constexpr (Config.attention.qkv_bias) {
      linear_bias_forward(context, a.raw, x, pass.w.matrix(at.qkv), pass.w.vector(at.bias));
    } else {
      linear_forward(context, a.raw, x, pass.w.matrix(at.qkv));
    }
    if constexpr (Config.attention.qk_norm) {
      const auto norm = [&](heads_view normed, auto inverse, heads_view raw, parameter scale) {
        rms_norm_forward(context, normed, inverse, raw, pass.w.vector(scale), Config.rms_norm_eps);
      };
      norm(query(a.qkv), a.inv_rms.slice(1, 0, H), query(a.raw), at.q_norm);
      norm(key(a.qkv), a.inv_rms.slice(1, H, G), key(a.raw), at.k_norm);
      copy(context, value(a.qkv), value(a.raw));
    }
  }
};

/// The layer of attention_kind::grouped_query.
template <>
struct attention_traits<attention_kind::grouped_query> {
  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using layer = grouped_query_attention<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI

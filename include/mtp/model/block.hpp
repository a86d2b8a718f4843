// The transformer block: pre-norm attention and SwiGLU, each on a residual stream. Forward,
// backward, cached.
#pragma once

#include <string>

#include "mtp/core/arena.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/rope_attention.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::inline MTP_ABI {

/// Parameters of a block, under the names of Hugging Face's Phi-3 (fused projections) and Qwen3
/// (QK-norm).
struct block_layout {
  parameter input_norm;           ///< scale of the norm before attention  [C]
  parameter qkv;                  ///< W_qkv: all of q, then k, then v  [(H + 2G) E, C]
  parameter qkv_bias;             ///< b, with config.qkv_bias  [(H + 2G) E]
  parameter q_norm;               ///< scale of the norm of each query, with config.qk_norm  [E]
  parameter k_norm;               ///< scale of the norm of each key, with config.qk_norm  [E]
  parameter output;               ///< W_o  [C, H E]
  parameter post_attention_norm;  ///< scale of the norm before SwiGLU  [C]
  parameter gate_up;              ///< W_gate_up: gate, then up  [2 F, C]
  parameter down;                 ///< W_down  [C, F]

  /// Takes their places from a parameter_cursor.
  template <class Cursor>
  static constexpr block_layout make(const model_config& config, Cursor& cursor) {
    const index_t C = config.hidden_size, F = config.intermediate_size;
    block_layout at;
    at.input_norm = cursor.vector(C, parameter_role::norm);
    at.qkv = cursor.matrix(config.qkv_size(), C);
    if (config.qkv_bias) {
      at.qkv_bias = cursor.vector(config.qkv_size(), parameter_role::bias);
    }
    if (config.qk_norm) {
      at.q_norm = cursor.vector(config.head_width(), parameter_role::norm);
      at.k_norm = cursor.vector(config.head_width(), parameter_role::norm);
    }
    at.output = cursor.matrix(C, config.query_size(), parameter_role::residual);
    at.post_attention_norm = cursor.vector(C, parameter_role::norm);
    at.gate_up = cursor.matrix(2 * F, C);
    at.down = cursor.matrix(C, F, parameter_role::residual);
    return at;
  }

  /// visitor(name, parameter) for each parameter that the configuration has.
  template <class Visitor>
  void visit(const std::string& prefix, Visitor&& visitor) const {
    const auto each = [&](const char* name, const parameter& p) {
      if (p.exists()) {
        visitor(prefix + name, p);
      }
    };
    each("input_layernorm.weight", input_norm);
    each("self_attn.qkv_proj.weight", qkv);
    each("self_attn.qkv_proj.bias", qkv_bias);
    each("self_attn.q_norm.weight", q_norm);
    each("self_attn.k_norm.weight", k_norm);
    each("self_attn.o_proj.weight", output);
    each("post_attention_layernorm.weight", post_attention_norm);
    each("mlp.gate_up_proj.weight", gate_up);
    each("mlp.down_proj.weight", down);
  }
};

/// What the forward pass of a block keeps for its backward pass; N rows.
template <model_config Config, class Backend, scalar S>
struct block_activations {
  /// What sums are kept in.
  using sum_type = accumulate_t<S>;

  matrix_view<S, Backend> norm1;              ///< norm1(x)  [N, C]
  vector_view<sum_type, Backend> inv_rms1;    ///< 1 / RMS of the rows of x  [N]
  matrix_view<S, Backend> raw;                ///< before QK-norm; is qkv without  [N, (H + 2G) E]
  matrix_view<sum_type, Backend> inv_rms_qk;  ///< 1 / RMS of each query and key  [N, H + G]
  matrix_view<S, Backend> qkv;                ///< rotated  [N, (H + 2G) E]
  matrix_view<S, Backend> attended;           ///< output of attention  [N, H E]
  matrix_view<sum_type, Backend> statistics;  ///< of attention_forward  [N, 2 H]
  matrix_view<S, Backend> middle;             ///< the stream between the halves  [N, C]
  matrix_view<S, Backend> norm2;              ///< norm2(middle)  [N, C]
  vector_view<sum_type, Backend> inv_rms2;    ///< 1 / RMS of the rows of middle  [N]
  matrix_view<S, Backend> gate_up;            ///< W_gate_up norm2(middle)  [N, 2 F]
  matrix_view<S, Backend> gated;              ///< swiglu(gate_up)  [N, F]

  /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr block_activations make(Arena& arena, index_t N) {
    const index_t C = Config.hidden_size, F = Config.intermediate_size;
    const auto matrix = [&](index_t columns) {
      return matrix_view<S, Backend>(arena.template take<S>(N * columns), {N, columns});
    };
    const auto sums = [&](index_t columns) {
      return matrix_view<sum_type, Backend>(arena.template take<sum_type>(N * columns),
                                            {N, columns});
    };
    const auto vector = [&] {
      return vector_view<sum_type, Backend>(arena.template take<sum_type>(N), dims<1>{N});
    };
    const auto norm1 = matrix(C);
    const auto inv_rms1 = vector();
    const auto qkv = matrix(Config.qkv_size());
    const auto raw = Config.qk_norm ? matrix(Config.qkv_size()) : qkv;
    const auto inv_rms_qk = sums(Config.qk_norm ? Config.num_heads + Config.key_value_heads() : 0);
    const auto attended = matrix(Config.query_size());
    const auto statistics = sums(2 * Config.num_heads);
    const auto middle = matrix(C);
    const auto norm2 = matrix(C);
    const auto inv_rms2 = vector();
    const auto gate_up = matrix(2 * F);
    return {norm1,
            inv_rms1,
            raw,
            inv_rms_qk,
            qkv,
            attended,
            statistics,
            middle,
            norm2,
            inv_rms2,
            gate_up,
            matrix(F)};
  }
};

/// Gradients that live only within the backward pass of one block; N rows.
template <model_config Config, class Backend, scalar S>
struct block_gradients {
  matrix_view<S, Backend> norm;      ///< of either norm's output  [N, C]
  matrix_view<S, Backend> qkv;       ///< of queries, keys, values  [N, (H + 2G) E]
  matrix_view<S, Backend> attended;  ///< of attention's output  [N, H E]
  matrix_view<S, Backend> gate_up;   ///< of SwiGLU's input  [N, 2 F]
  matrix_view<S, Backend> gated;     ///< of SwiGLU's output  [N, F]

  /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr block_gradients make(Arena& arena, index_t N) {
    const auto matrix = [&](index_t columns) {
      return matrix_view<S, Backend>(arena.template take<S>(N * columns), {N, columns});
    };
    const auto norm = matrix(Config.hidden_size);
    const auto qkv = matrix(Config.qkv_size());
    const auto attended = matrix(Config.query_size());
    const auto gate_up = matrix(2 * index_t{Config.intermediate_size});
    return {norm, qkv, attended, gate_up, matrix(Config.intermediate_size)};
  }
};

/// The computation of a block; stateless, all memory is given.
///
///     middle = x + W_o attention(rope(W_qkv norm1(x) + b))
///     y      = middle + W_down swiglu(W_gate_up norm2(middle))
template <model_config Config, class Backend, scalar S>
class block {
 public:
  using context_type = context<Backend>;                      ///< what operations run on
  using matrix = matrix_view<S, Backend>;                     ///< rows of activations
  using values = parameter_array<const S, Backend>;           ///< of all parameters
  using sum_type = accumulate_t<S>;                           ///< what sums are kept in
  using gradients = parameter_array<sum_type, Backend>;       ///< of all parameters
  using rope_table = matrix_view<const sum_type, Backend>;    ///< cos and sin  [P, E]
  using activations = block_activations<Config, Backend, S>;  ///< what forward keeps
  using scratch = block_gradients<Config, Backend, S>;        ///< what backward works in

  /// y (=), x [N, C], N = batch * T. y may be x only if no backward pass follows. rope is the table
  /// [P, E]. Throws mtp::error as the operations do.
  static void forward(context_type& context,
                      const block_layout& at,
                      values w,
                      rope_table rope,
                      const activations& a,
                      matrix y,
                      matrix x,
                      index_t batch) {
    before_attention(context, at, w, a, x);
    rope_attention_forward(context,
                           heads(a.attended, 0, Config.num_heads),
                           a.statistics,
                           query(a.qkv),
                           key(a.qkv),
                           value(a.qkv),
                           rope,
                           batch);
    after_attention(context, at, w, a, y, x);
  }

  /// The same for one sequence that continues a cache: y (=), x [M, C] at consecutive positions
  /// [M].
  static void decode(context_type& context,
                     const block_layout& at,
                     values w,
                     rope_table rope,
                     const activations& a,
                     matrix y,
                     matrix x,
                     cache_view<S, Backend> cache,
                     vector_view<const index_t, Backend> positions) {
    before_attention(context, at, w, a, x);
    rope_attention_cached_forward(context,
                                  heads(a.attended, 0, Config.num_heads),
                                  cache,
                                  query(a.qkv),
                                  key(a.qkv),
                                  value(a.qkv),
                                  rope,
                                  positions);
    after_attention(context, at, w, a, y, x);
  }

  /// dx [N, C] holds the gradient of y and receives that of x (=); gradients of parameters
  /// accumulate (+=).
  static void backward(context_type& context,
                       const block_layout& at,
                       values w,
                       gradients g,
                       rope_table rope,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       matrix x,
                       index_t batch) {
    linear_backward_weight(context, g.matrix(at.down), dx, a.gated);
    linear_backward_input(context, d.gated, dx, w.matrix(at.down));
    swiglu_backward(context, d.gate_up, d.gated, a.gate_up);
    linear_backward_weight(context, g.matrix(at.gate_up), d.gate_up, a.norm2);
    linear_backward_input(context, d.norm, d.gate_up, w.matrix(at.gate_up));
    rms_norm_backward(context,
                      dx,
                      g.vector(at.post_attention_norm),
                      d.norm,
                      a.middle,
                      a.inv_rms2,
                      w.vector(at.post_attention_norm),
                      dx);

    linear_backward_weight(context, g.matrix(at.output), dx, a.attended);
    linear_backward_input(context, d.attended, dx, w.matrix(at.output));
    rope_attention_backward(context,
                            query(d.qkv),
                            key(d.qkv),
                            value(d.qkv),
                            heads(d.attended, 0, Config.num_heads),
                            query(a.qkv),
                            key(a.qkv),
                            value(a.qkv),
                            heads(a.attended, 0, Config.num_heads),
                            a.statistics,
                            rope,
                            batch);
    if constexpr (Config.qk_norm) {
      const auto [inv_q, inv_k] = inv_rms_of(a);
      const auto none = view<const S, dims<3>, Backend>(nullptr, {0, 0, 0});
      rms_norm_backward(context,
                        query(d.qkv),
                        g.vector(at.q_norm),
                        query(d.qkv),
                        query(a.raw),
                        inv_q,
                        w.vector(at.q_norm),
                        none);
      rms_norm_backward(context,
                        key(d.qkv),
                        g.vector(at.k_norm),
                        key(d.qkv),
                        key(a.raw),
                        inv_k,
                        w.vector(at.k_norm),
                        none);
    }
    if constexpr (Config.qkv_bias) {
      linear_backward_bias(context, g.vector(at.qkv_bias), d.qkv);
    }
    linear_backward_weight(context, g.matrix(at.qkv), d.qkv, a.norm1);
    linear_backward_input(context, d.norm, d.qkv, w.matrix(at.qkv));
    rms_norm_backward(
        context, dx, g.vector(at.input_norm), d.norm, x, a.inv_rms1, w.vector(at.input_norm), dx);
  }

 private:
  using heads_view = view<S, dims<3>, Backend>;

  /// Columns of `rows` seen as `count` heads from head `first` on: [N, count, E].
  static heads_view heads(matrix rows, index_t first, index_t count) {
    const index_t E = Config.head_width();
    return {rows.data() + first * E, {rows.extent(0), count, E}, {rows.stride(0), E, 1}};
  }
  static heads_view query(matrix qkv) { return heads(qkv, 0, Config.num_heads); }
  static heads_view key(matrix qkv) {
    return heads(qkv, Config.num_heads, Config.key_value_heads());
  }
  static heads_view value(matrix qkv) {
    return heads(qkv, Config.num_heads + Config.key_value_heads(), Config.key_value_heads());
  }

  struct inv_rms_pair {
    matrix_view<sum_type, Backend> query;  // [N, H]
    matrix_view<sum_type, Backend> key;    // [N, G]
  };
  static inv_rms_pair inv_rms_of(const activations& a) {
    return {a.inv_rms_qk.slice(1, 0, Config.num_heads),
            a.inv_rms_qk.slice(1, Config.num_heads, Config.key_value_heads())};
  }

  static void before_attention(
      context_type& context, const block_layout& at, values w, const activations& a, matrix x) {
    rms_norm_forward(context, a.norm1, a.inv_rms1, x, w.vector(at.input_norm), Config.epsilon());
    if constexpr (Config.qkv_bias) {
      linear_bias_forward(context, a.raw, a.norm1, w.matrix(at.qkv), w.vector(at.qkv_bias));
    } else {
      linear_forward(context, a.raw, a.norm1, w.matrix(at.qkv));
    }
    if constexpr (Config.qk_norm) {
      const auto [inv_q, inv_k] = inv_rms_of(a);
      rms_norm_forward(
          context, query(a.qkv), inv_q, query(a.raw), w.vector(at.q_norm), Config.epsilon());
      rms_norm_forward(
          context, key(a.qkv), inv_k, key(a.raw), w.vector(at.k_norm), Config.epsilon());
      copy(context, value(a.qkv), value(a.raw));
    }
  }

  static void after_attention(context_type& context,
                              const block_layout& at,
                              values w,
                              const activations& a,
                              matrix y,
                              matrix x) {
    linear_add_forward(context, a.middle, a.attended, w.matrix(at.output), x);
    rms_norm_forward(
        context, a.norm2, a.inv_rms2, a.middle, w.vector(at.post_attention_norm), Config.epsilon());
    linear_forward(context, a.gate_up, a.norm2, w.matrix(at.gate_up));
    swiglu_forward(context, a.gated, a.gate_up);
    linear_add_forward(context, y, a.gated, w.matrix(at.down), a.middle);
  }
};

}  // namespace mtp::inline MTP_ABI

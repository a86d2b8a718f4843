// What a layer of multi-head latent attention is made of: its widths, its parameters, and the
// memory of its passes. The layer itself is in multi_head_latent_attention.hpp.
#pragma once

#include <algorithm>
#include <string>

#include "mtp/core/view.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI {

/// The widths that a configuration gives the layer.
template <model_config Config>
struct latent_sizes {
  static constexpr index_t C = Config.hidden_size;                     ///< of the stream
  static constexpr index_t H = Config.attention.num_attention_heads;   ///< heads
  static constexpr index_t n = Config.attention.qk_nope_head_dim;      ///< not rotated
  static constexpr index_t r = Config.attention.qk_rope_head_dim;      ///< rotated
  static constexpr index_t V = Config.attention.v_head_dim;            ///< of values
  static constexpr index_t E = n + r;                                  ///< of queries and keys
  static constexpr index_t query_rank = Config.attention.q_lora_rank;  ///< r_q; 0: none
  static constexpr index_t rank = Config.attention.kv_lora_rank;       ///< r_kv
  static constexpr index_t W = rank + r;                               ///< of a row of the cache
};

/// Parameters, under the names of Hugging Face's DeepSeek-V3, whose kv_b_proj are the two
/// matrices up to the latents' keys and values.
template <model_config Config>
struct latent_layout {
  using sizes = latent_sizes<Config>;  ///< the widths

  parameter query_down;  ///< W_qa, with config.attention.q_lora_rank  [r_q, C]
  parameter query_norm;  ///< scale of the norm of W_qa x, with q_lora_rank  [r_q]
  parameter query;       ///< W_qb, or W_q without q_lora_rank  [H (n + r), r_q or C]
  parameter down;        ///< W_kva  [r_kv + r, C]
  parameter norm;        ///< scale of the norm of c'  [r_kv]
  parameter key;         ///< U_1, .. U_H  [H n, r_kv]
  parameter value;       ///< V_1, .. V_H  [H v, r_kv]
  parameter output;      ///< W_o  [C, H v]

  /// Takes their places from a parameter_cursor.
  template <class Cursor>
  static constexpr latent_layout make(Cursor& cursor) {
    latent_layout at;
    if (sizes::query_rank > 0) {
      at.query_down = cursor.matrix(sizes::query_rank, sizes::C);
      at.query_norm = cursor.vector(sizes::query_rank, parameter_role::norm);
    }
    at.query =
        cursor.matrix(sizes::H * sizes::E, sizes::query_rank > 0 ? sizes::query_rank : sizes::C);
    at.down = cursor.matrix(sizes::W, sizes::C);
    at.norm = cursor.vector(sizes::rank, parameter_role::norm);
    at.key =
        cursor.matrix(sizes::H * sizes::n, sizes::rank).read_by(parameter_use::transposed_heads);
    at.value = cursor.matrix(sizes::H * sizes::V, sizes::rank).read_by(parameter_use::heads);
    at.output = cursor.matrix(sizes::C, sizes::H * sizes::V, parameter_role::residual);
    return at;
  }
  /// visitor(prefix + name, parameter) for each that the configuration has.
  template <class Visitor>
  void visit(const std::string& prefix, Visitor&& visitor) const {
    if (sizes::query_rank > 0) {
      visitor(prefix + "self_attn.q_a_proj.weight", query_down);
      visitor(prefix + "self_attn.q_a_layernorm.weight", query_norm);
      visitor(prefix + "self_attn.q_b_proj.weight", query);
    } else {
      visitor(prefix + "self_attn.q_proj.weight", query);
    }
    visitor(prefix + "self_attn.kv_a_proj_with_mqa.weight", down);
    visitor(prefix + "self_attn.kv_a_layernorm.weight", norm);
    visitor(prefix + "self_attn.k_up_proj.weight", key);
    visitor(prefix + "self_attn.v_up_proj.weight", value);
    visitor(prefix + "self_attn.o_proj.weight", output);
  }
};

/// What the forward pass keeps; N rows.
template <model_config Config, class Backend, scalar S>
struct latent_activations {
  using sizes = latent_sizes<Config>;      ///< the widths
  using matrix = matrix_view<S, Backend>;  ///< rows of activations
  using sum_type = accumulate_t<S>;        ///< accumulator type

  matrix query_raw;                              ///< W_qa x  [N, r_q]
  vector_view<sum_type, Backend> query_inv_rms;  ///< 1 / RMS of each of its rows  [N]
  matrix query_latent;                           ///< its norm  [N, r_q]
  matrix query;                                  ///< rotated  [N, H (n + r)]
  matrix raw;                                    ///< W_kva x  [N, r_kv + r]
  vector_view<sum_type, Backend> inv_rms;        ///< 1 / RMS of each c'  [N]
  matrix latent;                                 ///< c, and k_r rotated  [N, r_kv + r]
  matrix key;                                    ///< of whole sequences  [N, H (n + r)]
  matrix value;                                  ///< of whole sequences  [N, H v]
  matrix unrotated;                              ///< U_h c, in the memory of `attended`  [N, H n]
  matrix attended;                               ///< output of attention  [N, H v]
  matrix_view<sum_type, Backend> statistics;     ///< of attention_forward  [N, 2 H]

  /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr latent_activations make(Arena& arena, index_t N) {
    const auto rows = [&](index_t columns) {
      return matrix(arena.template take<S>(N * columns), {N, columns});
    };
    const auto sums = [&](index_t count) { return arena.template take<sum_type>(N * count); };
    const auto query_raw = rows(sizes::query_rank);
    const vector_view<sum_type, Backend> query_inv_rms(sums(sizes::query_rank > 0 ? 1 : 0),
                                                       dims<1>{sizes::query_rank > 0 ? N : 0});
    const auto query_latent = rows(sizes::query_rank);
    const auto query = rows(sizes::H * sizes::E);
    const auto raw = rows(sizes::W);
    const vector_view<sum_type, Backend> inv_rms(sums(1), dims<1>{N});
    const auto latent = rows(sizes::W);
    const auto key = rows(sizes::H * sizes::E);
    const auto value = rows(sizes::H * sizes::V);
    S* const shared = arena.template take<S>(N * sizes::H * (std::max)(sizes::n, sizes::V));
    return {query_raw,
            query_inv_rms,
            query_latent,
            query,
            raw,
            inv_rms,
            latent,
            key,
            value,
            {shared, {N, sizes::H * sizes::n}},
            {shared, {N, sizes::H * sizes::V}},
            {sums(2 * sizes::H), {N, 2 * sizes::H}}};
  }
};

/// Gradients that live only within a backward pass; N rows.
template <model_config Config, class Backend, scalar S>
struct latent_scratch {
  using sizes = latent_sizes<Config>;      ///< the widths
  using matrix = matrix_view<S, Backend>;  ///< rows of activations

  matrix query;         ///< of queries  [N, H (n + r)]
  matrix query_latent;  ///< of W_qa x and its norm  [N, r_q]
  matrix key;           ///< of keys  [N, H (n + r)]
  matrix unrotated;     ///< of U_h c, heads side by side  [N, H n]
  matrix value;         ///< of values  [N, H v]
  matrix attended;      ///< of attention's output  [N, H v]
  matrix latent;        ///< of c and k_r, then of c' and k'  [N, r_kv + r]

  /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr latent_scratch make(Arena& arena, index_t N) {
    const auto rows = [&](index_t columns) {
      return matrix(arena.template take<S>(N * columns), {N, columns});
    };
    const auto query = rows(sizes::H * sizes::E);
    const auto query_latent = rows(sizes::query_rank);
    const auto key = rows(sizes::H * sizes::E);
    const auto unrotated = rows(sizes::H * sizes::n);
    const auto value = rows(sizes::H * sizes::V);
    const auto attended = rows(sizes::H * sizes::V);
    return {query, query_latent, key, unrotated, value, attended, rows(sizes::W)};
  }
};

}  // namespace mtp::inline MTP_ABI

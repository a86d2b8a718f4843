// Memory for a few rows on their way through blocks while decoding, and small steps that heads
// share.
#pragma once

#include <algorithm>
#include <span>

#include "mtp/model/block.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp {

/// Activations of up to `max_rows` rows of one block at a time, and one row of logits.
template <model_config Config, class Backend, real S>
struct decode_rows {
  using matrix = matrix_view<S, Backend>;

  block_activations<Config, Backend, S> memory = empty_activations();
  matrix stream{nullptr, {0, 0}};  // [max_rows, C]
  matrix normed{nullptr, {0, 0}};  // [max_rows, C]
  matrix logits{nullptr, {0, 0}};  // [1, V]

  template <class Arena>
  static constexpr decode_rows make(Arena& arena, index_t max_rows) {
    const index_t C = Config.hidden_size, V = Config.vocab_size;
    decode_rows made;
    made.memory = block_activations<Config, Backend, S>::make(arena, max_rows);
    made.stream = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
    made.normed = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
    made.logits = matrix(arena.template take<S>(V), {1, V});
    return made;
  }

  /// The memory of the first `rows` rows.
  block_activations<Config, Backend, S> activations(index_t rows) const {
    const auto part = [rows](const auto& all) { return all.slice(0, 0, rows); };
    const auto& m = memory;
    return {part(m.norm1),
            part(m.inv_rms1),
            part(m.raw),
            part(m.inv_rms_qk),
            part(m.qkv),
            part(m.attended),
            part(m.statistics),
            part(m.middle),
            part(m.norm2),
            part(m.inv_rms2),
            part(m.gate_up),
            part(m.gated)};
  }

 private:
  static constexpr block_activations<Config, Backend, S> empty_activations() {
    arena_plan nowhere;
    return block_activations<Config, Backend, S>::make(nowhere, 0);
  }
};

/// A cache for one attention layer of one sequence of at most max_positions.
template <model_config Config, class Backend, real S, class Arena>
constexpr cache_view<S, Backend> make_cache(Arena& arena) {
  constexpr index_t elements = ops_of<Backend>::template kv_storage<S>(
      Config.max_positions, Config.key_value_heads(), Config.head_width());
  return {arena.template take<S>(elements),
          Config.max_positions,
          Config.key_value_heads(),
          Config.head_width()};
}

/// token[0] = the most likely token of one normed row [1, C] under an output matrix; any token if
/// no logit is a number, for a draft is only a guess.
template <class S, class Backend, class Model>
void predict_row(context<Backend>& context,
                 const Model& model,
                 const parameter& output,
                 matrix_view<S, Backend> row,
                 matrix_view<S, Backend> logits,
                 std::span<token_t> token) {
  linear_forward(context, logits, row, model.values().matrix(output));
  predict(context, token, logits);
  token[0] = std::max(token[0], token_t{0});
}

}  // namespace mtp

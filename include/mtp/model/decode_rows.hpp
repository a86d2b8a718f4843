// Memory for a few rows on their way through blocks while decoding, and steps that heads share.
#pragma once

#include <algorithm>

#include "mtp/core/arena.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/model/block.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// Rows of a text, by where they stand behind its certain tokens: positions count + offset .. .
struct row_range {
  index_t offset = 0;  ///< of the first row: 0 is the first position that is not certain
  index_t rows = 0;    ///< how many rows
};

/// Up to `max_rows` rows: who they are, and activations of one block at a time.
template <model_config Config, class Backend, scalar S>
struct decode_rows {
  using matrix = matrix_view<S, Backend>;  ///< rows of activations
  using sum_type = accumulate_t<S>;        ///< what sums are kept in

  /// Activations of the block that is running.
  block_activations<Config, Backend, S> memory = empty_activations();
  matrix stream{nullptr, {0, 0}};                                ///< residual stream  [max_rows, C]
  matrix normed{nullptr, {0, 0}};                                ///< what norm gives  [max_rows, C]
  vector_view<sum_type, Backend> inverse{nullptr, dims<1>{0}};   ///< 1 / RMS of norm  [max_rows]
  vector_view<index_t, Backend> positions{nullptr, dims<1>{0}};  ///< in the text  [max_rows]
  vector_view<token_t, Backend> ids{nullptr, dims<1>{0}};        ///< tokens  [max_rows]

  /// Takes the memory from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr decode_rows make(Arena& arena, index_t max_rows) {
    const index_t C = Config.hidden_size;
    const dims<1> rows{max_rows};
    decode_rows made;
    made.memory = block_activations<Config, Backend, S>::make(arena, max_rows);
    made.stream = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
    made.normed = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
    made.inverse = {arena.template take<sum_type>(max_rows), rows};
    made.positions = {arena.template take<index_t>(max_rows), rows};
    made.ids = {arena.template take<token_t>(max_rows), rows};
    return made;
  }

  /// The memory of the first `rows` rows.
  decode_rows first(index_t rows) const {
    const auto part = [rows](const auto& all) { return all.slice(0, 0, rows); };
    const auto& m = memory;
    decode_rows some;
    some.memory = {part(m.norm1),
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
    some.stream = part(stream);
    some.normed = part(normed);
    some.inverse = part(inverse);
    some.positions = part(positions);
    some.ids = part(ids);
    return some;
  }

  /// Looks up which rows of a text these are; ids become the tokens `ahead` positions further on.
  void select(context<Backend>& context,
              const text_view<Backend>& text,
              index_t offset,
              index_t ahead) const {
    select_rows(context, positions, ids, text, offset, ahead);
  }

  /// normed = RMSNorm(x) with the scale of a parameter.  x [rows, C]
  template <class Model>
  void norm(context<Backend>& context, const Model& model, const parameter& scale, matrix x) const {
    rms_norm_forward(context, normed, inverse, x, model.values().vector(scale), Config.epsilon());
  }

 private:
  static constexpr block_activations<Config, Backend, S> empty_activations() {
    arena_plan nowhere;
    return block_activations<Config, Backend, S>::make(nowhere, 0);
  }
};

/// A cache for one attention layer of one sequence of at most max_positions.
template <model_config Config, class Backend, scalar S, class Arena>
constexpr cache_view<S, Backend> make_cache(Arena& arena) {
  constexpr index_t elements = ops_of<Backend>::template kv_storage<S>(
      Config.max_positions, Config.key_value_heads(), Config.head_width());
  return {arena.template take<S>(elements),
          Config.max_positions,
          Config.key_value_heads(),
          Config.head_width()};
}

/// How many rows of a depth stand in its cache for good. Which rows a draft has to run follows from
/// it; where the host does not know the number of certain tokens, a draft runs as many rows as a
/// cycle can have confirmed, and the same rows again give the same bits.
template <model_config Config, class Backend>
class draft_progress {
 public:
  /// A new text: no row has been run.
  void reset() { valid_ = 0; }

  /// The rows up to position `end`, not yet run, of a text of which the host knows the `count`
  /// certain tokens.
  row_range up_to(index_t end, index_t count) {
    const row_range range{valid_ - count, (std::max<index_t>)(end - valid_, 0)};
    valid_ = (std::max)(valid_, end);
    return range;
  }

  /// Of a text of `count` certain tokens, the last `behind` positions may rest on drafts that were
  /// not accepted: they count as not run.
  void rewind(index_t count, index_t behind) {
    valid_ = (std::min)(valid_, (std::max<index_t>)(count - behind, 0));
  }

  /// The rows to run for a draft, the last of them at position count - 2, after a rewind.
  row_range for_draft(const text_view<Backend>& text, index_t behind) {
    if constexpr (backend_traits<Backend>::is_host_memory) {
      const index_t count = text.state(text_count);
      rewind(count, behind);
      return up_to(count - 1, count);
    } else {
      return {-Config.depth - 2, Config.depth + 1};
    }
  }

 private:
  index_t valid_ = 0;
};

/// Turns normed rows into drafts: tokens[count + ahead + j] = the most likely token of rows[j]
/// under an output matrix.  rows [J, C], logits [J, V], predicted [J]
template <class S, class Backend, class Model>
void draft_tokens(context<Backend>& context,
                  const Model& model,
                  const parameter& output,
                  matrix_view<S, Backend> rows,
                  matrix_view<accumulate_t<S>, Backend> logits,
                  vector_view<token_t, Backend> predicted,
                  const text_view<Backend>& text,
                  index_t ahead) {
  linear_forward(context, logits, rows, model.values().matrix(output));
  predict(context, predicted, logits);
  append_drafts(context, text, predicted, ahead);
}

}  // namespace mtp::inline MTP_ABI

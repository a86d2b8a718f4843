// Configurations of small models, and batches for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/model_config.hpp"

namespace mtp::test {

/// Sizes that are multiples of nothing: V = 19, C = 12, E = 6, F = 13.
constexpr model_config tiny_config(head_kind head, int depth) {
  return {.vocab_size = 19,
          .hidden_size = 12,
          .num_hidden_layers = 2,
          .max_position_embeddings = 48,
          .attention = {.num_attention_heads = 2},
          .feed_forward = {.intermediate_size = 13},
          .prediction = {.kind = head, .depth = depth}};
}

/// The same with every option the other way, grouped heads, and H E = 16, which is not C.
constexpr model_config flipped_config(head_kind head, int depth) {
  model_config config = tiny_config(head, depth);
  config.attention.num_attention_heads = 4;
  config.attention.num_key_value_heads = 2;
  config.attention.head_dim = 4;
  config.tie_word_embeddings = true;
  config.attention.qkv_bias = true;
  config.attention.qk_norm = true;
  config.attention.partial_rotary_factor = 0.5f;
  config.attention.post_norm = true;
  config.feed_forward.post_norm = true;
  config.prediction.concat = concat_order::embedding_first;
  config.prediction.hidden_tap = norm_tap::pre_norm;
  config.prediction.recycle_tap = norm_tap::pre_norm;
  config.prediction.output_norm = output_norm_kind::shared;
  return config;
}

/// A batch that owns its tokens.
struct token_batch {
  std::vector<token_t> tokens;         // [B, T + 1 + D]
  std::vector<std::int32_t> segments;  // [B, T + 1 + D], or empty
  std::vector<std::uint8_t> mask;      // [B, T + 1 + D], or empty
  index_t batch = 0;
  index_t length = 0;

  batch_view view() const { return {tokens, segments, mask, batch, length}; }
  index_t row() const { return static_cast<index_t>(tokens.size()) / batch; }
};

/// Random tokens in one document, with nothing masked.
inline token_batch random_batch(const model_config& config,
                                index_t B,
                                index_t T,
                                std::uint64_t stream) {
  const random_stream random(seed{77}, stream);
  token_batch made;
  made.batch = B;
  made.length = T;
  const index_t count = B * (T + 1 + config.prediction.depth);
  for (index_t i = 0; i < count; ++i) {
    made.tokens.push_back(static_cast<token_t>(random.below(
        static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(config.vocab_size))));
  }
  return made;
}

/// The same with a boundary between documents in every row, at different places, and every fifth
/// token masked.
inline token_batch divided_batch(const model_config& config,
                                 index_t B,
                                 index_t T,
                                 std::uint64_t stream) {
  token_batch made = random_batch(config, B, T, stream);
  for (index_t b = 0; b < B; ++b) {
    for (index_t i = 0; i < made.row(); ++i) {
      made.segments.push_back(static_cast<std::int32_t>(i > T / 2 + b ? 1 : 0));
      made.mask.push_back(static_cast<std::uint8_t>((i + b) % 5 == 3 ? 0 : 1));
    }
  }
  return made;
}

/// Sequence b of a batch as a batch of its own.
inline token_batch row_of(const token_batch& all, index_t b) {
  const auto part = [&](const auto& list) {
    using list_type = std::decay_t<decltype(list)>;
    const auto from = list.begin() + (list.empty() ? 0 : b * all.row());
    return list_type(from, from + (list.empty() ? 0 : all.row()));
  };
  return {part(all.tokens), part(all.segments), part(all.mask), 1, all.length};
}

}  // namespace mtp::test

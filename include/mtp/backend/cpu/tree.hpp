// Trees of drafts on the CPU. Contracts: ops/tree.hpp.
#pragma once

#include <algorithm>
#include <limits>

#include "mtp/backend/cpu/attention_tile.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_tree_ops {
  static void grow_tree(cpu_context&,
                        const sequence_view<cpu>& sequence,
                        matrix_view<const token_t, cpu> candidates,
                        matrix_view<const double, cpu> log_probabilities,
                        const draft_tree& shape) {
    const index_t base = sequence.state(sequence_count) - 1;
    detail::growing_tree grown;
    sequence.tree.parents(0) = -1;
    for (index_t r = 1; r < shape.rows(); ++r) {
      if (shape.is_dynamic()) {
        grown.add(candidates.data(),
                  candidates.stride(0),
                  log_probabilities.data(),
                  log_probabilities.stride(0),
                  candidates.extent(0),
                  shape.width());
      }
      const index_t rank = shape.is_dynamic() ? grown.ranks[r] : shape.rank(r);
      const index_t depth = shape.is_dynamic() ? grown.depths[r] : shape.depth(r);
      sequence.tree.parents(r) = shape.is_dynamic() ? grown.parents[r] : shape.parent(r);
      const index_t at = base + r;
      if (at >= 0 && at < sequence.tokens.extent(0)) {
        sequence.tokens(at) =
            rank < 0 ? token_t{0} : (std::max)(candidates(depth - 1, rank), token_t{0});
      }
    }
  }

  static void accept_tree(cpu_context&,
                          const sequence_view<cpu>& sequence,
                          vector_view<const token_t, cpu> predicted,
                          index_t limit) {
    const index_t M = predicted.extent(0), count = sequence.state(sequence_count);
    const auto& tree = sequence.tree;
    const index_t base = count - 1;
    for (index_t j = 0; j < M; ++j) {
      tree.path(j) = base + j;
    }
    if (count + M - 1 > limit || count >= limit) {
      sequence.state(sequence_accepted) = -1;
      return;
    }
    index_t row = 0, accepted = 0;
    for (index_t c = 1; c < M; ++c) {  // a child has a higher number than its parent
      if (tree.parents(c) == row && sequence.tokens(base + c) == predicted(row)) {
        row = c;
        tree.path(++accepted) = base + c;
      }
    }
    for (index_t j = 0; j < accepted; ++j) {
      sequence.tokens(count + j) = predicted(tree.path(j) - base);
    }
    const bool is_token = predicted(row) >= 0;
    if (is_token) {
      sequence.tokens(count + accepted) = predicted(row);
    }
    sequence.state(sequence_count) = count + accepted + (is_token ? 1 : 0);
    sequence.state(sequence_accepted) = accepted;
  }

  template <scalar S>
  static void keep_path(cpu_context&,
                        cache_view<S, cpu> cache,
                        const sequence_view<cpu>& sequence,
                        index_t rows) {
    const auto& path = sequence.tree.path;
    const index_t stride = packed_head<S>::storage(cache.capacity, cache.head_dim);
    for (index_t g = 0; g < cache.num_key_value_heads; ++g) {
      const packed_head<S> head(
          cache.at(sequence.slot).data + g * stride, cache.capacity, cache.head_dim);
      for (index_t j = 1; j < rows; ++j) {
        if (path(j) != path(0) + j) {
          head.move(path(0) + j, path(j));
        }
      }
    }
  }

  template <scalar S>
  static void keep_path(cpu_context&,
                        latent_cache_view<S, cpu> cache,
                        const sequence_view<cpu>& sequence,
                        index_t rows) {
    const auto& path = sequence.tree.path;
    S* const slot = cache.at(sequence.slot).data;
    for (index_t j = 1; j < rows; ++j) {
      if (path(j) != path(0) + j) {
        std::copy_n(slot + path(j) * cache.width, cache.width, slot + (path(0) + j) * cache.width);
      }
    }
  }

  template <scalar S>
  static void exclude_tokens(cpu_context&,
                             matrix_view<S, cpu> logits,
                             vector_view<const token_t, cpu> tokens) {
    for (index_t m = 0; m < logits.extent(0); ++m) {
      if (tokens(m) >= 0 && tokens(m) < logits.extent(1)) {
        logits(m, tokens(m)) = static_cast<S>(-std::numeric_limits<float>::infinity());
      }
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

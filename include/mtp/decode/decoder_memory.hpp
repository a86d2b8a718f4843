// The memory of a decoder.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "mtp/core/arena.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_pass.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// What becomes of the hidden states of rows that a decoder runs.
enum class hidden_states {
  dropped,  ///< nothing
  kept,     ///< they are kept for the drafter, which needs those of every confirmed token
};
/// What a pass over rows of a sequence is for.
enum class row_output {
  none,    ///< its caches
  logits,  ///< its logits
};

/// Rows on their way through a trunk and their logits.
template <model_config Config, class Backend, scalar S>
struct logit_rows {
  using trunk_type = trunk<Config, Backend, S>;               ///< the trunk
  using rows_type = decode_rows<Config, Backend, S>;          ///< rows
  using logits_type = matrix_view<accumulate_t<S>, Backend>;  ///< rows of logits

  rows_type rows;                       ///< of a pass
  logits_type logits{nullptr, {0, 0}};  ///< of the last of them that have any  [.., V]

  /// Takes the memory for passes of `max_rows` rows, of which `with_logits` have logits, from an
  /// arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr logit_rows make(Arena& arena, index_t max_rows, index_t with_logits) {
    const auto rows =
        rows_type::template make<typename trunk_type::block_type,
                                 typename trunk_type::dense_block_type>(arena, max_rows);
    return {rows,
            {arena.template take<accumulate_t<S>>(with_logits * Config.vocab_size),
             {with_logits, Config.vocab_size}}};
  }
};

/// Why trees of drafts are refused; null where they are not.
template <model_config Config, class Backend, scalar S>
inline constexpr const char* no_trees = [] {
  using drafter = typename head_of<Config, Backend, S>::drafter;
  if (!decodes_trees<Backend>) {
    return "the backend takes none";
  }
  if (!trunk<Config, Backend, S>::block_type::takes_trees) {
    return "the attention layer takes none";
  }
  constexpr bool drafts = requires {
    requires drafter::takes_trees;
  };
  return drafts ? static_cast<const char*>(nullptr) : "heads of this kind draft none";
}();

/// Whether the drafter puts the drafts of trees into the sequence itself, depth by depth.
template <model_config Config, class Backend, scalar S>
inline constexpr bool drafter_grows_trees = requires {
  requires head_of<Config, Backend, S>::drafter::grows_trees;
};

/// Which trees are refused, and why; null where they are not.
template <model_config Config, class Backend, scalar S>
inline constexpr tree_refusals refusals_of_trees{
    no_trees<Config, Backend, S>,
    drafter_grows_trees<Config, Backend, S>
        ? "heads of this kind draft trees depth by depth, before they know all candidates"
        : nullptr};

/// All that a decoder works in: the rows of a pass with their logits, the caches of the trunk, and
/// what the head keeps.
template <model_config Config, class Backend, scalar S>
struct decoder_memory : logit_rows<Config, Backend, S> {
  using base = logit_rows<Config, Backend, S>;                      ///< rows and logits
  using head_type = typename head_of<Config, Backend, S>::drafter;  ///< what drafts

  typename base::trunk_type::caches caches;  ///< of the trunk
  head_type head;                            ///< drafts

  /// Takes the memory for the sequences of `slots` slots from an arena, or counts it with an
  /// arena_plan.
  template <class Arena>
  static constexpr decoder_memory make(Arena& arena, index_t slots) {
    using limits = row_limits<Config, Backend>;
    const auto rows = base::make(arena, limits::trunk_rows(slots), slots * limits::verification);
    const auto caches = base::trunk_type::caches::make(arena, slots);
    return {rows, caches, head_type::make(arena, slots)};
  }

  /// Throws mtp::error for more rows in all than the backend gives the bits of single ones.
  static void check_tree_rows(index_t slots, index_t each) {
    if constexpr (requires { backend_traits<Backend>::invariant_rows; }) {
      check(slots * each <= backend_traits<Backend>::invariant_rows,
            "decoder: expected trees of at most ",
            backend_traits<Backend>::invariant_rows / slots,
            " rows in each of ",
            slots,
            " slots, got ",
            each);
    }
  }

  /// Replaces rows and logits by more, with memory for the places of rows of trees: `each` rows of
  /// each sequence, or those of a chain if they are more. Returns the memory. Throws mtp::error as
  /// decoder::reserve_rows.
  buffer<std::byte, Backend> widened(context<Backend>& context, index_t slots, index_t each) {
    using limits = row_limits<Config, Backend>;
    const index_t all = slots * (std::max)(each, index_t{limits::verification});
    check_tree_rows(slots, each);
    const index_t most = (std::max)(all, limits::trunk_rows(slots));
    const auto make_in = [&](auto& arena) {
      auto made = base::make(arena, most, all);
      made.rows.places = {arena.template take<index_t>(most), dims<1>{most}};
      return made;
    };
    buffer<std::byte, Backend> storage(bytes_taken(make_in));
    arena whole(storage.data(), storage.count());
    context.reserve((std::max)(base::trunk_type::decode_workspace(most, context.threads()),
                               logits_workspace<Config, Backend, S>(all, context.threads())));
    backend_traits<Backend>::synchronize(context);
    static_cast<base&>(*this) = make_in(whole);
    return storage;
  }

  /// See decoder::keep_paths.
  void keep_paths(context<Backend>& context,
                  std::span<const sequence_rows<Backend>> sequences,
                  hidden_states states) const {
    index_t first = 0;
    for (const sequence_rows<Backend>& each : sequences) {
      const auto& [sequence, range] = each;
      if (sequence.tree.exists()) {
        caches.keep_path(context, sequence, range.rows);
        if (states == hidden_states::kept) {
          const auto ring = head.ring().at(sequence.slot);
          const auto some = this->rows.stream.slice(0, 0, range.rows);  // free until a pass
          load_rows(context, some, ring, sequence.tree.path.slice(0, 0, range.rows));
          store_rows(context, ring, some, this->rows.places.slice(0, first, range.rows));
        }
      }
      first += range.rows;
    }
  }
};

}  // namespace mtp::inline MTP_ABI

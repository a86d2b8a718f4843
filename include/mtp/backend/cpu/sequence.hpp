// A growing sequence on the CPU. Contracts: ops/sequence.hpp.
#pragma once

#include <algorithm>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_sequence_ops {
  static void select_rows(cpu_context&,
                          vector_view<index_t, cpu> positions,
                          vector_view<token_t, cpu> ids,
                          const sequence_view<cpu>& sequence,
                          index_t offset,
                          index_t ahead) {
    for (index_t m = 0; m < positions.extent(0); ++m) {
      const index_t position = sequence.state(sequence_count) + offset + m, at = position + ahead;
      positions(m) =
          sequence.tree.exists()
              ? sequence.state(sequence_count) - 1 - ahead +
                    detail::depth_in_tree(sequence.tree.parents.data(), offset + ahead + 1 + m)
              : position;
      ids(m) = position >= 0 && at >= 0 && at < sequence.tokens.extent(0) ? sequence.tokens(at)
                                                                          : token_t{0};
    }
  }

  template <scalar S>
  static void store_rows(cpu_context&,
                         matrix_view<S, cpu> ring,
                         matrix_view<const S, cpu> rows,
                         vector_view<const index_t, cpu> positions) {
    for (index_t m = 0; m < rows.extent(0); ++m) {
      if (positions(m) >= 0) {
        std::copy_n(&rows(m, 0), rows.extent(1), &ring(positions(m) % ring.extent(0), 0));
      }
    }
  }

  template <scalar S>
  static void load_rows(cpu_context&,
                        matrix_view<S, cpu> rows,
                        matrix_view<const S, cpu> ring,
                        vector_view<const index_t, cpu> positions) {
    for (index_t m = 0; m < rows.extent(0); ++m) {
      if (positions(m) >= 0) {
        std::copy_n(&ring(positions(m) % ring.extent(0), 0), rows.extent(1), &rows(m, 0));
      } else {
        std::fill_n(&rows(m, 0), rows.extent(1), static_cast<S>(0.0f));
      }
    }
  }

  static void append_drafts(cpu_context&,
                            const sequence_view<cpu>& sequence,
                            vector_view<const token_t, cpu> drafts,
                            index_t ahead) {
    for (index_t j = 0; j < drafts.extent(0); ++j) {
      const index_t at = sequence.state(sequence_count) + ahead + j;
      if (at >= 0 && at < sequence.tokens.extent(0)) {
        sequence.tokens(at) = (std::max)(drafts(j), token_t{0});
      }
    }
  }

  static void accept_drafts(cpu_context&,
                            const sequence_view<cpu>& sequence,
                            vector_view<const token_t, cpu> predicted,
                            index_t limit) {
    const index_t M = predicted.extent(0), count = sequence.state(sequence_count);
    if (count + M - 1 > limit || count >= limit) {
      sequence.state(sequence_accepted) = -1;
      return;
    }
    index_t accepted = 0;
    while (accepted < M - 1 && sequence.tokens(count + accepted) == predicted(accepted)) {
      ++accepted;
    }
    const bool is_token = predicted(accepted) >= 0;
    if (is_token) {
      sequence.tokens(count + accepted) = predicted(accepted);
    }
    sequence.state(sequence_count) = count + accepted + (is_token ? 1 : 0);
    sequence.state(sequence_accepted) = accepted;
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail

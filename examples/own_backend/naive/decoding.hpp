// A sequence that grows while it is decoded. Contracts: mtp/ops/sequence.hpp.
#pragma once

#include <algorithm>

#include "mtp/ops/sequence.hpp"
#include "naive.hpp"

namespace naive_types {

using sequence = mtp::sequence_view<naive>;
using positions = mtp::vector_view<index_t, naive>;

struct decoding_ops {
  static void select_rows(
      context&, positions where, tokens ids, const sequence& from, index_t offset, index_t ahead) {
    for (index_t m = 0; m < where.extent(0); ++m) {
      where(m) = from.state(mtp::sequence_count) + offset + m;
      const index_t at = where(m) + ahead;
      const bool exists = where(m) >= 0 && at >= 0 && at < from.tokens.extent(0);
      ids(m) = exists ? from.tokens(at) : token_t{0};
    }
  }

  static void store_rows(context&, matrix ring, in_matrix rows, in_positions where) {
    for (index_t m = 0; m < rows.extent(0); ++m) {
      for (index_t c = 0; where(m) >= 0 && c < rows.extent(1); ++c) {
        ring(where(m) % ring.extent(0), c) = rows(m, c);
      }
    }
  }
  static void load_rows(context&, matrix rows, in_matrix ring, in_positions where) {
    for (index_t m = 0; m < rows.extent(0); ++m) {
      for (index_t c = 0; c < rows.extent(1); ++c) {
        rows(m, c) = where(m) >= 0 ? ring(where(m) % ring.extent(0), c) : 0;
      }
    }
  }

  static void append_drafts(context&, const sequence& to, in_tokens drafts, index_t ahead) {
    for (index_t j = 0; j < drafts.extent(0); ++j) {
      const index_t at = to.state(mtp::sequence_count) + ahead + j;
      if (at >= 0 && at < to.tokens.extent(0)) to.tokens(at) = std::max(drafts(j), token_t{0});
    }
  }

  static void accept_drafts(context&, const sequence& to, in_tokens predicted, index_t limit) {
    const index_t M = predicted.extent(0), count = to.state(mtp::sequence_count);
    if (count + M - 1 > limit || count >= limit) {
      to.state(mtp::sequence_accepted) = -1;
      return;
    }
    index_t accepted = 0;
    while (accepted < M - 1 && to.tokens(count + accepted) == predicted(accepted)) ++accepted;
    const bool is_token = predicted(accepted) >= 0;
    if (is_token) to.tokens(count + accepted) = predicted(accepted);
    to.state(mtp::sequence_count) = count + accepted + (is_token ? 1 : 0);
    to.state(mtp::sequence_accepted) = accepted;
  }
};

}  // namespace naive_types

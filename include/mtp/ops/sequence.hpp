// A sequence that grows while it is decoded, in the backend's memory: which rows a pass takes,
// which drafts were accepted. On a device none of this needs the host.
#pragma once

#include <type_traits>

#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/sampling_rule.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// Rows of a stream and the ring that keeps the latest of them.
template <class Ring, class Rows, class Positions>
void check_ring(const char* function,
                const Ring& ring,
                const Rows& rows,
                const Positions& positions) {
  check_rows(function, "ring", ring);
  check_rows(function, "rows", rows);
  check(rows.extent(1) == ring.extent(1) && rows.extent(0) <= ring.extent(0),
        function,
        ": expected at most ",
        ring.extent(0),
        " rows of ",
        ring.extent(1),
        " elements, got ",
        rows.shape());
  check_shape(function, "positions", positions, dims<1>{rows.extent(0)});
  check_rows(function, "positions", positions);
}

}  // namespace detail

/// A tree of the drafts of a sequence: row 0 is the last confirmed token, row r the draft at place
/// count - 1 + r of its tokens. Operations that are given a sequence with a tree know a row's
/// position and the tokens in front of it by the rows that lead to it.
template <class Backend>
struct tree_view {
  vector_view<index_t, Backend> parents{nullptr, dims<1>{0}};  ///< the row in front of each  [rows]
  vector_view<index_t, Backend> path{nullptr, dims<1>{0}};     ///< see accept_tree  [rows]

  /// Whether there is a tree; else drafts are a chain.
  bool exists() const { return parents.data() != nullptr; }
};

/// A sequence on its way: confirmed tokens, then drafts, in the memory of a backend.
template <class Backend>
struct sequence_view {
  vector_view<token_t, Backend> tokens;  ///< confirmed tokens, then drafts  [capacity]
  vector_view<index_t, Backend>
      state;                      ///< sequence_state tells which number is what  [sequence_states]
  sampling_rule<Backend> rule{};  ///< how its tokens are chosen; none: by the largest logit
  index_t slot = 0;               ///< of its caches, where several sequences are decoded together
  tree_view<Backend> tree{};      ///< of its drafts; none: they are a chain
};

/// The numbers of sequence_view::state.
enum sequence_state : index_t {
  sequence_count,     ///< confirmed tokens
  sequence_accepted,  ///< drafts that the last accept_drafts accepted; -1 if it did nothing
  sequence_states,    ///< how many numbers there are
};

namespace detail {
template <class Backend>
void check_sequence(const char* function, const sequence_view<Backend>& sequence) {
  check_rows(function, "tokens", sequence.tokens);
  check_shape(function, "state", sequence.state, dims<1>{sequence_states});
  check_rows(function, "state", sequence.state);
  if (sequence.tree.exists()) {
    check(decodes_trees<Backend>, function, ": the backend takes no trees of drafts, got one");
    check_shape(function, "path", sequence.tree.path, sequence.tree.parents.shape());
    check_rows(function, "parents", sequence.tree.parents);
    check_rows(function, "path", sequence.tree.path);
  }
}

/// How many rows of a tree lead to row r, itself not counted.
template <class Parents>
MTP_HOST_DEVICE index_t depth_in_tree(const Parents& parents, index_t r) {
  index_t depth = 0;
  for (; r > 0; r = parents[r]) {
    ++depth;
  }
  return depth;
}
}  // namespace detail

/// positions[m] = count + offset + m,  ids[m] = tokens[positions[m] + ahead]        m < M
///
/// Where the sequence has a tree, row m is row offset + ahead + 1 + m of it, and positions[m] =
/// count - 1 - ahead + its depth; ids as above, by place.
///
/// positions, ids [M]; count is the number of confirmed tokens. A row whose position is negative or
/// whose token lies outside the capacity gets id 0; operations that know positions leave out rows
/// at negative ones. Throws mtp::error on wrong shapes.
template <class Backend>
void select_rows(context<Backend>& context,
                 vector_view<index_t, Backend> positions,
                 out_tokens<Backend> ids,
                 std::type_identity_t<sequence_view<Backend>> sequence,
                 index_t offset,
                 index_t ahead) {
  detail::check_sequence("select_rows", sequence);
  detail::check_shape("select_rows", "ids", ids, positions.shape());
  detail::check_rows("select_rows", "ids", ids);
  detail::check_rows("select_rows", "positions", positions);
  check(!sequence.tree.exists() ||
            (offset + ahead >= -1 &&
             offset + ahead + 1 + positions.extent(0) <= sequence.tree.parents.extent(0)),
        "select_rows: expected rows of a tree of ",
        sequence.tree.parents.extent(0),
        ", got ",
        positions.extent(0),
        " from row ",
        offset + ahead + 1,
        " on");
  MTP_DISPATCH(select_rows, context, positions, ids, sequence, offset, ahead);
}

/// ring[positions[m] mod R, c] = rows[m, c]; rows at negative positions are left out
///
/// ring [R, C] holds the latest R rows of a stream of any length; rows [M, C], M <= R, at distinct
/// positions [M]. Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void store_rows(context<Backend>& context,
                matrix_view<S, Backend> ring,
                in_matrix<S, Backend> rows,
                in_positions<Backend> positions) {
  detail::check_ring("store_rows", ring, rows, positions);
  MTP_DISPATCH(store_rows, context, ring, rows, positions);
}

/// rows[m, c] = ring[positions[m] mod R, c]; zeros at negative positions. Shapes as in store_rows.
template <scalar S, class Backend>
void load_rows(context<Backend>& context,
               matrix_view<S, Backend> rows,
               in_matrix<S, Backend> ring,
               in_positions<Backend> positions) {
  detail::check_ring("load_rows", ring, rows, positions);
  MTP_DISPATCH(load_rows, context, rows, ring, positions);
}

/// tokens[count + ahead + j] = max(drafts[j], 0)        j < J
///
/// drafts [J]: what predict or choose_tokens gave; -1, where no logit was a number, makes as good a
/// draft as any. Tokens outside the capacity are left out. Throws mtp::error on wrong shapes.
template <class Backend>
void append_drafts(context<Backend>& context,
                   sequence_view<Backend> sequence,
                   std::type_identity_t<vector_view<const token_t, Backend>> drafts,
                   index_t ahead) {
  detail::check_sequence("append_drafts", sequence);
  detail::check_rows("append_drafts", "drafts", drafts);
  MTP_DISPATCH(append_drafts, context, sequence, drafts, ahead);
}

/// Keeps the drafts that decoding token by token would have written (Stern et al. 2018, arXiv
/// 1811.03115, section 3):
///
///     accepted = the largest a <= M - 1 with tokens[count + j] = predicted[j] for all j < a
///     tokens[count + accepted] = predicted[accepted],  count += accepted + 1
///
/// predicted [M]: the token that predict or choose_tokens gave behind each of the rows at positions
/// count - 1 .. count + M - 2, of which the last M - 1 were drafts. Where predicted[accepted] is
/// -1, no logit was a number: count grows by accepted alone. Does nothing but set accepted = -1 if
/// the rows reach beyond `limit` positions or the sequence has that many tokens. The sequence has
/// room for more than `limit` tokens, because one is written behind the last row. Throws mtp::error
/// on wrong shapes.
template <class Backend>
void accept_drafts(context<Backend>& context,
                   sequence_view<Backend> sequence,
                   std::type_identity_t<vector_view<const token_t, Backend>> predicted,
                   index_t limit) {
  detail::check_sequence("accept_drafts", sequence);
  detail::check_rows("accept_drafts", "predicted", predicted);
  check(predicted.extent(0) >= 1, "accept_drafts: expected at least one predicted token");
  check(limit < sequence.tokens.extent(0),
        "accept_drafts: expected a limit below the sequence's capacity of ",
        sequence.tokens.extent(0),
        " tokens, got ",
        limit);
  MTP_DISPATCH(accept_drafts, context, sequence, predicted, limit);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(select_rows,
              as_dynamic_operand,
              "expected (context, positions [M], ids [M], sequence, offset, ahead), of one backend")
MTP_OPERATION(store_rows,
              as_dynamic_operand,
              "expected (context, ring [R, C], rows [M, C], positions [M]), dynamic views of one "
              "backend and element type, ring writable")
MTP_OPERATION(load_rows,
              as_dynamic_operand,
              "expected (context, rows [M, C], ring [R, C], positions [M]), dynamic views of one "
              "backend and element type, rows writable")
MTP_OPERATION(append_drafts,
              as_dynamic_operand,
              "expected (context, sequence, drafts [J], ahead), of one backend")
MTP_OPERATION(accept_drafts,
              as_dynamic_operand,
              "expected (context, sequence, predicted [M], limit), of one backend")
/// @endcond

}  // namespace mtp::inline MTP_ABI

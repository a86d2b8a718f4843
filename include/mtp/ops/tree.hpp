// Trees of drafts: several candidates for a position, which one pass of the trunk verifies.
#pragma once

#include <type_traits>

#include "mtp/core/cache_view.hpp"
#include "mtp/core/draft_tree.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// A sequence has a tree with room for `rows` rows.
template <class Backend>
void check_tree(const char* function, const sequence_view<Backend>& sequence, index_t rows) {
  check_sequence(function, sequence);
  check(sequence.tree.exists() && sequence.tree.parents.extent(0) >= rows,
        function,
        ": expected a sequence with a tree of at least ",
        rows,
        " rows, got one of ",
        sequence.tree.parents.extent(0));
}

/// The slot of a sequence is one of a cache.
template <class Cache, class Backend>
void check_slot(const char* function, const Cache& cache, const sequence_view<Backend>& sequence) {
  check(sequence.slot >= 0 && sequence.slot < cache.slots,
        function,
        ": expected a slot in [0, ",
        cache.slots,
        "), got ",
        sequence.slot);
}

/// The tree that grow_tree chooses by confidence, row by row: the likeliest row that has a parent
/// and an elder sibling in the tree already.
struct growing_tree {
  index_t parents[max_tree_rows] = {-1};  ///< of each row
  index_t depths[max_tree_rows] = {};     ///< of each row
  index_t ranks[max_tree_rows] = {};      ///< of each row
  index_t rows = 1;                       ///< so far

  /// Adds a row, by what grow_tree is given.
  MTP_HOST_DEVICE void add(const token_t* candidates,
                           index_t candidates_row,
                           const double* log_probabilities,
                           index_t log_probabilities_row,
                           index_t depth_limit,
                           index_t rank_limit) {
    index_t best = -1;
    double best_score = 0;
    for (index_t r = 0; r < rows; ++r) {
      if (depths[r] < depth_limit && children_[r] < rank_limit) {
        const index_t d = depths[r], rank = children_[r];
        const double own = scores_[r] + log_probabilities[d * log_probabilities_row + rank];
        if (candidates[d * candidates_row + rank] >= 0 && own == own &&
            (best < 0 || own > best_score)) {
          best = r;
          best_score = own;
        }
      }
    }
    parents[rows] = best < 0 ? 0 : best;
    depths[rows] = best < 0 ? depth_limit : depths[best] + 1;  // nothing follows what is no draft
    ranks[rows] = best < 0 ? -1 : children_[best]++;
    scores_[rows] = best_score;
    ++rows;
  }

 private:
  double scores_[max_tree_rows] = {};     // of the path to each row
  index_t children_[max_tree_rows] = {};  // of each row
};

}  // namespace detail

/// Puts the drafts of a tree behind the confirmed tokens: row r of the tree is at place base + r,
/// base = count - 1, and row 0 is the last confirmed token.
///
///     tokens[base + r]  = max(candidates[depth(r) - 1, rank(r)], 0)        0 < r < rows
///     tree.parents[r]   = parent(r), -1 for r = 0
///
/// candidates, log_probabilities [D, W]: of depth d in row d - 1, the best first. Parents and ranks
/// are those of `shape`. Of a dynamic shape they are chosen: one row after the other, always the
/// row with the largest sum of log_probabilities along its path among those whose parent and whose
/// sibling of the next better rank are in the tree, ties to the lowest parent. For
/// log_probabilities that fall with the rank these are the rows of largest sums of all (Li et al.
/// 2024, arXiv 2406.16858, section 4.2). A candidate with the token -1 or a NaN is none; where too
/// few are left, rows become children of row 0 with the token 0. Tokens outside the capacity are
/// left out. Throws mtp::error on wrong shapes, and for a shape deeper than D or wider than W.
template <class Backend>
void grow_tree(context<Backend>& context,
               sequence_view<Backend> sequence,
               std::type_identity_t<matrix_view<const token_t, Backend>> candidates,
               std::type_identity_t<matrix_view<const double, Backend>> log_probabilities,
               const draft_tree& shape) {
  const char* const name = "grow_tree";
  detail::check_tree(name, sequence, shape.rows());
  detail::check_shape(name, "log_probabilities", log_probabilities, candidates.shape());
  detail::check_rows(name, "candidates", candidates);
  detail::check_rows(name, "log_probabilities", log_probabilities);
  check(shape.rows() >= 2 && shape.width() <= candidates.extent(1) &&
            (shape.is_dynamic() || shape.depth() <= candidates.extent(0)),
        name,
        ": expected a tree of drafts for ",
        candidates.extent(1),
        " candidates at ",
        candidates.extent(0),
        " depths, got ",
        shape.rows(),
        " rows of width ",
        shape.width(),
        " and depth ",
        shape.depth());
  MTP_DISPATCH(grow_tree, context, sequence, candidates, log_probabilities, shape);
}

/// accept_drafts for a tree: goes down from row 0 as long as a child is what was predicted behind
/// its parent, and keeps the tokens of that path.
///
///     path_0 = 0,  path_{j+1} = the first row c with parents[c] = path_j and tokens[base + c] =
///                               predicted[path_j], as long as there is one;  accepted = how many
///     tokens[count + j] = predicted[path_j]  for j <= accepted,  count += accepted + 1
///     tree.path[j] = base + path_j  for j <= accepted,  base + j  for the others of the M
///
/// base = count - 1 before. predicted [M]: the token that predict or choose_tokens gave behind each
/// row. Every token is one that decoding token by token would have written: which drafts there are
/// decides how many come at once, and nothing else (Cai et al. 2024, arXiv 2401.10774). Where
/// predicted is -1 behind the last row of the path, no logit was a number: count grows by accepted
/// alone. If the M rows reach beyond `limit` positions or the sequence has that many tokens,
/// accepted = -1 and path[j] = base + j; nothing else is done. The sequence has room for more than
/// `limit` tokens. Throws mtp::error on wrong shapes.
template <class Backend>
void accept_tree(context<Backend>& context,
                 sequence_view<Backend> sequence,
                 std::type_identity_t<vector_view<const token_t, Backend>> predicted,
                 index_t limit) {
  const char* const name = "accept_tree";
  detail::check_tree(name, sequence, predicted.extent(0));
  detail::check_rows(name, "predicted", predicted);
  check(predicted.extent(0) >= 1, name, ": expected at least one predicted token");
  check(limit < sequence.tokens.extent(0),
        name,
        ": expected a limit below the sequence's capacity of ",
        sequence.tokens.extent(0),
        " tokens, got ",
        limit);
  MTP_DISPATCH(accept_tree, context, sequence, predicted, limit);
}

/// Moves what a cache holds of the slot of a sequence at place tree.path[j] to place tree.path[0] +
/// j, for each of the `rows` first j: after accept_tree, what the accepted path left there stands
/// as if there had been no branches. Where the path is the tree's first branch, nothing moves.
/// Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void keep_path(context<Backend>& context,
               cache_view<S, Backend> cache,
               std::type_identity_t<sequence_view<Backend>> sequence,
               index_t rows) {
  const char* const name = "keep_path";
  detail::check_tree(name, sequence, rows);
  detail::check_slot(name, cache, sequence);
  MTP_DISPATCH(keep_path, context, cache, sequence, rows);
}

/// The same for a cache of latents.
template <scalar S, class Backend>
void keep_path(context<Backend>& context,
               latent_cache_view<S, Backend> cache,
               std::type_identity_t<sequence_view<Backend>> sequence,
               index_t rows) {
  const char* const name = "keep_path";
  detail::check_tree(name, sequence, rows);
  detail::check_slot(name, cache, sequence);
  MTP_DISPATCH(keep_path, context, cache, sequence, rows);
}

/// logits[m, tokens[m]] = -inf; tokens outside [0, V) change nothing
///
/// logits [M, V], tokens [M]: the next choice from these logits is another token, as long as there
/// is one. Throws mtp::error on wrong shapes.
template <scalar S, class Backend>
void exclude_tokens(context<Backend>& context,
                    matrix_view<S, Backend> logits,
                    in_tokens<Backend> tokens) {
  const char* const name = "exclude_tokens";
  detail::check_rows(name, "logits", logits);
  detail::check_shape(name, "tokens", tokens, dims<1>{logits.extent(0)});
  detail::check_rows(name, "tokens", tokens);
  MTP_DISPATCH(exclude_tokens, context, logits, tokens);
}

/// @cond
// Calls with tensors, and what calls are told that fit no operation above.
MTP_OPERATION(
    grow_tree,
    as_dynamic_operand,
    "expected (context, sequence, candidates [D, W], log_probabilities [D, W] f64, shape), "
    "of one backend")
MTP_OPERATION(accept_tree,
              as_dynamic_operand,
              "expected (context, sequence, predicted [M], limit), of one backend")
MTP_OPERATION(keep_path,
              as_dynamic_operand,
              "expected (context, cache, sequence, rows), of one backend")
MTP_OPERATION(
    exclude_tokens,
    as_dynamic_operand,
    "expected (context, logits [M, V], tokens [M]), views of one backend, logits writable")
/// @endcond

}  // namespace mtp::inline MTP_ABI

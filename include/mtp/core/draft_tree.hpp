// The shape of a tree of drafts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "mtp/core/config.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Rows of a tree at most: the last confirmed token and 15 drafts.
inline constexpr index_t max_tree_rows = 16;

/// Which drafts a cycle makes where it makes more than one for a position (Cai et al. 2024, arXiv
/// 2401.10774, section 2.3). Row 0 is the last confirmed token. Any other row has a parent of a
/// lower number, stands one position behind it, and is a token of a rank: 0 is the one that the
/// head thinks likeliest at that position. A constant expression checks itself:
///
///     constexpr auto tree = mtp::draft_tree::of_widths({3, 2, 1});  // 3 + 6 + 6 drafts
class draft_tree {
 public:
  /// No tree: drafts are a chain.
  constexpr draft_tree() = default;

  /// The rows of all paths from row 0, each a list of ranks, in the order given: the path {0, 1} is
  /// the second best token behind the best one. Paths may begin alike. Throws mtp::error for no
  /// path, a rank outside [0, max_tree_rows - 1), and more than max_tree_rows rows.
  static constexpr draft_tree of_paths(
      std::initializer_list<std::initializer_list<index_t>> paths) {
    draft_tree tree = root();
    for (const auto& path : paths) {
      index_t at = 0;
      for (const index_t rank : path) {
        at = tree.child(at, rank);
      }
    }
    check(tree.rows() > 1, "draft_tree::of_paths: expected at least one draft, got none");
    return tree;
  }

  /// Each row at depth d has widths[d] children, the likeliest ones; branches stand one behind the
  /// other, the likeliest first. Throws mtp::error for no width, widths below 1, and more than
  /// max_tree_rows rows.
  static constexpr draft_tree of_widths(std::initializer_list<index_t> widths) {
    check(widths.size() > 0, "draft_tree::of_widths: expected at least one width, got none");
    for (const index_t width : widths) {
      check(width >= 1, "draft_tree::of_widths: expected widths of at least 1, got ", width);
    }
    draft_tree tree = root();
    tree.spread(0, widths.begin(), widths.end());
    return tree;
  }

  /// Rows as parent() and rank() give them: row r + 1 stands behind row parents[r] and is a token
  /// of the rank ranks[r]. Throws mtp::error for none and more than max_tree_rows rows, for parents
  /// and ranks that do not fit together, parents that do not come first, ranks outside their range,
  /// and a row that comes twice.
  static constexpr draft_tree of_rows(std::span<const index_t> parents,
                                      std::span<const index_t> ranks) {
    check(!parents.empty() && parents.size() == ranks.size(),
          "draft_tree::of_rows: expected as many parents as ranks, at least one, got ",
          parents.size(),
          " and ",
          ranks.size());
    draft_tree tree = root();
    for (std::size_t i = 0; i < parents.size(); ++i) {
      const index_t row = tree.rows();
      check(parents[i] >= 0 && parents[i] < row,
            "draft_tree::of_rows: expected row ",
            row,
            " to have a parent in [0, ",
            row,
            "), got ",
            parents[i]);
      check(tree.child(parents[i], ranks[i]) == row,
            "draft_tree::of_rows: expected each row once, got row ",
            row,
            " again");
    }
    return tree;
  }

  /// `rows` rows, chosen in each cycle: those whose tokens the head thinks likeliest together, the
  /// product of its probabilities along the path, with at most `width` tokens at a depth (Li et al.
  /// 2024, arXiv 2406.16858, section 4.2). Throws mtp::error for rows outside [2, max_tree_rows]
  /// and a width outside [1, max_tree_rows - 1].
  static constexpr draft_tree by_confidence(index_t rows, index_t width = 4) {
    check(rows >= 2 && rows <= max_tree_rows,
          "draft_tree::by_confidence: expected rows in [2, ",
          max_tree_rows,
          "], got ",
          rows);
    check(width >= 1 && width < max_tree_rows,
          "draft_tree::by_confidence: expected a width in [1, ",
          max_tree_rows - 1,
          "], got ",
          width);
    draft_tree tree;
    tree.rows_ = static_cast<std::int8_t>(rows);
    tree.width_ = static_cast<std::int8_t>(width);
    tree.dynamic_ = true;
    return tree;
  }

  /// Rows, the last confirmed token among them; 0: no tree.
  MTP_HOST_DEVICE constexpr index_t rows() const { return rows_; }
  /// Whether there is a tree.
  MTP_HOST_DEVICE constexpr bool exists() const { return rows_ > 0; }
  /// Whether parents and ranks are chosen in each cycle.
  MTP_HOST_DEVICE constexpr bool is_dynamic() const { return dynamic_; }
  /// The row in front of row r; -1 for the first one.
  MTP_HOST_DEVICE constexpr index_t parent(index_t r) const { return parents_[r]; }
  /// The rank of row r's token.
  MTP_HOST_DEVICE constexpr index_t rank(index_t r) const { return ranks_[r]; }
  /// How many positions row r stands behind the first one.
  MTP_HOST_DEVICE constexpr index_t depth(index_t r) const {
    index_t depth = 0;
    for (; r > 0; r = parent(r)) {
      ++depth;
    }
    return depth;
  }
  /// The depth of the deepest row. Of a dynamic tree, what it can be.
  MTP_HOST_DEVICE constexpr index_t depth() const {
    index_t deepest = 0;
    for (index_t r = 0; r < rows() && !dynamic_; ++r) {
      deepest = depth(r) > deepest ? depth(r) : deepest;
    }
    return dynamic_ ? rows() - 1 : deepest;
  }
  /// Tokens at a depth that ranks are counted among.
  MTP_HOST_DEVICE constexpr index_t width() const { return width_; }

  /// The first `rows` rows: parents come first, so they are a tree. None for fewer than 2.
  constexpr draft_tree first(index_t rows) const {
    if (rows >= rows_) {
      return *this;
    }
    if (rows < 2) {
      return {};
    }
    draft_tree tree;
    tree.rows_ = static_cast<std::int8_t>(rows);
    tree.dynamic_ = dynamic_;
    tree.width_ = dynamic_ ? width_ : std::int8_t{0};
    for (index_t r = 0; r < rows && !dynamic_; ++r) {
      tree.set(r, parent(r), rank(r));
    }
    return tree;
  }

  /// The same rows in the order of their depths, those of a depth in the order that they had. A
  /// dynamic tree is left as it is.
  constexpr draft_tree by_depth() const {
    if (dynamic_ || !exists()) {
      return *this;
    }
    draft_tree tree = root();
    index_t number[max_tree_rows] = {};  // that a row gets
    for (index_t level = 1; level <= depth(); ++level) {
      for (index_t r = 1; r < rows(); ++r) {
        if (depth(r) == level) {
          number[r] = tree.child(number[parent(r)], rank(r));
        }
      }
    }
    return tree;
  }
  /// How many rows stand at most `deepest` positions behind the first one; not of a dynamic tree.
  constexpr index_t rows_up_to(index_t deepest) const {
    index_t count = 0;
    for (index_t r = 0; r < rows(); ++r) {
      count += depth(r) <= deepest ? 1 : 0;
    }
    return count;
  }
  /// The row at a depth of the first branch: from row 0 on, always the first child; -1 where it
  /// ends before. Not of a dynamic tree.
  constexpr index_t row_of_first_branch(index_t at_depth) const {
    index_t row = 0;
    for (index_t r = 1; r < rows() && depth(row) < at_depth; ++r) {
      row = parent(r) == row ? r : row;
    }
    return depth(row) == at_depth ? row : -1;
  }

  /// Equal shapes.
  friend constexpr bool operator==(const draft_tree&, const draft_tree&) = default;

 private:
  static constexpr draft_tree root() {
    draft_tree tree;
    tree.rows_ = 1;
    tree.set(0, -1, 0);
    return tree;
  }
  constexpr void set(index_t r, index_t parent, index_t rank) {
    parents_[r] = static_cast<std::int8_t>(parent);
    ranks_[r] = static_cast<std::int8_t>(rank);
    width_ = static_cast<std::int8_t>(r > 0 && rank + 1 > width_ ? rank + 1 : index_t{width_});
  }
  /// The row of that rank behind row `front`, which is added if there is none.
  constexpr index_t child(index_t front, index_t rank) {
    check(rank >= 0 && rank < max_tree_rows - 1,
          "draft_tree: expected ranks in [0, ",
          max_tree_rows - 1,
          "), got ",
          rank);
    for (index_t r = 1; r < rows(); ++r) {
      if (parent(r) == front && this->rank(r) == rank) {
        return r;
      }
    }
    check(
        rows() < max_tree_rows, "draft_tree: expected at most ", max_tree_rows, " rows, got more");
    set(rows(), front, rank);
    return rows_++;
  }
  constexpr void spread(index_t front, const index_t* width, const index_t* end) {
    for (index_t rank = 0; width != end && rank < *width; ++rank) {
      spread(child(front, rank), width + 1, end);
    }
  }

  std::int8_t parents_[max_tree_rows] = {};  // arrays that kernels read, too
  std::int8_t ranks_[max_tree_rows] = {};
  std::int8_t rows_ = 0, width_ = 0;
  bool dynamic_ = false;
};

}  // namespace mtp::inline MTP_ABI

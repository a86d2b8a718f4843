// Shapes of trees of drafts.
#include "mtp/core/draft_tree.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/promises.hpp"

namespace mtp::test {

namespace {

using numbers = std::vector<index_t>;

numbers parents_of(const draft_tree& tree) {
  numbers all;
  for (index_t r = 0; r < tree.rows(); ++r) {
    all.push_back(tree.parent(r));
  }
  return all;
}
numbers ranks_of(const draft_tree& tree) {
  numbers all;
  for (index_t r = 0; r < tree.rows(); ++r) {
    all.push_back(tree.rank(r));
  }
  return all;
}

constexpr auto wide = draft_tree::of_widths({3, 2, 1});
static_assert(wide.rows() == 16 && wide.depth() == 3 && wide.width() == 3 && !wide.is_dynamic());
static_assert(draft_tree::of_widths({2, 1}) == draft_tree::of_paths({{0, 0}, {1, 0}}));
static_assert(!draft_tree{}.exists() && wide.exists());

}  // namespace

TEST_CASE("a tree of widths has its branches one behind the other, the likeliest first") {
  CHECK(parents_of(wide) == numbers{-1, 0, 1, 2, 1, 4, 0, 6, 7, 6, 9, 0, 11, 12, 11, 14});
  CHECK(ranks_of(wide) == numbers{0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 2, 0, 0, 1, 0});
  CHECK(wide.depth(0) == 0);
  CHECK(wide.depth(10) == 3);
  CHECK(parents_of(draft_tree::of_widths({1, 1, 1})) == numbers{-1, 0, 1, 2});
}

TEST_CASE("a tree of paths has each row once, behind its parent") {
  const auto tree = draft_tree::of_paths({{1}, {0, 2}, {0, 0, 3}, {0, 2}});
  CHECK(parents_of(tree) == numbers{-1, 0, 0, 2, 2, 4});
  CHECK(ranks_of(tree) == numbers{0, 1, 0, 2, 0, 3});
  CHECK(tree.depth() == 3);
  CHECK(tree.width() == 4);
}

TEST_CASE("the rows of a tree give the tree again, and rows that are none are refused") {
  for (const draft_tree& tree : {wide, draft_tree::of_paths({{1}, {0, 2}, {0, 0, 3}})}) {
    numbers parents = parents_of(tree), ranks = ranks_of(tree);
    parents.erase(parents.begin());
    ranks.erase(ranks.begin());
    CHECK(draft_tree::of_rows(parents, ranks) == tree);
  }
  const auto refused = [](const char* part, const numbers& parents, const numbers& ranks) {
    try {
      draft_tree::of_rows(parents, ranks);
    } catch (const error& e) {
      return std::string(e.what()).find(part) != std::string::npos;
    }
    return false;
  };
  CHECK(refused("as many parents as ranks, at least one, got 0 and 0", {}, {}));
  CHECK(refused("got 2 and 1", {0, 0}, {0}));
  CHECK(refused("row 2 to have a parent in [0, 2), got 2", {0, 2}, {0, 0}));
  CHECK(refused("got -1", {-1}, {0}));
  CHECK(refused("ranks in [0, 15), got 15", {0}, {15}));
  CHECK(refused("each row once, got row 2 again", {0, 0}, {1, 1}));
  numbers parents(16, 0), ranks{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0};
  parents.back() = 1;
  CHECK(refused("at most 16 rows", parents, ranks));
}

TEST_CASE("the rows of a tree in the order of their depths are the same rows") {
  const auto tree = draft_tree::of_widths({2, 2, 1}).by_depth();
  CHECK(parents_of(tree) == numbers{-1, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6});
  CHECK(ranks_of(tree) == numbers{0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0});
  CHECK(tree.by_depth() == tree);
  CHECK(tree.width() == 2);
  const auto paths = draft_tree::of_paths({{2, 0, 1}, {0}, {1, 1}}).by_depth();
  CHECK(parents_of(paths) == numbers{-1, 0, 0, 0, 1, 3, 4});
  CHECK(ranks_of(paths) == numbers{0, 2, 0, 1, 0, 1, 1});
  CHECK(paths.rows_up_to(0) == 1);
  CHECK(paths.rows_up_to(1) == 4);
  CHECK(paths.rows_up_to(2) == 6);
  CHECK(paths.rows_up_to(9) == 7);
  CHECK(draft_tree{}.by_depth() == draft_tree{});
  CHECK(draft_tree::by_confidence(5).by_depth() == draft_tree::by_confidence(5));
}

TEST_CASE("the first branch of a tree goes on with the first child") {
  for (index_t depth = 0; depth <= 3; ++depth) {
    CHECK(wide.row_of_first_branch(depth) == depth);
  }
  CHECK(wide.row_of_first_branch(4) == -1);
  CHECK(wide.by_depth().row_of_first_branch(1) == 1);
  CHECK(wide.by_depth().row_of_first_branch(2) == 4);
  CHECK(wide.by_depth().row_of_first_branch(3) == 10);
  CHECK(draft_tree::of_paths({{2}, {0, 0}}).row_of_first_branch(2) == -1);
}

TEST_CASE("the first rows of a tree are a tree") {
  for (index_t rows = 2; rows <= 16; ++rows) {
    const auto some = wide.first(rows);
    REQUIRE(some.rows() == rows);
    for (index_t r = 0; r < rows; ++r) {
      CHECK(some.parent(r) == wide.parent(r));
      CHECK(some.rank(r) == wide.rank(r));
    }
  }
  CHECK(wide.first(3).depth() == 2);
  CHECK(wide.first(3).width() == 1);
  CHECK(wide.first(20) == wide);
  CHECK_FALSE(wide.first(1).exists());
  CHECK_FALSE(wide.first(-1).exists());
  const auto dynamic = draft_tree::by_confidence(9, 5);
  CHECK(dynamic.first(4) == draft_tree::by_confidence(4, 5));
  CHECK(dynamic.width() == 5);
  CHECK(dynamic.depth() == 8);
}

TEST_CASE("what is no tree of at most 16 rows is refused") {
  CHECK(rejects("draft_tree::of_widths", [] { draft_tree::of_widths({}); }));
  CHECK(rejects("draft_tree::of_widths", [] { draft_tree::of_widths({2, 0}); }));
  CHECK(rejects("draft_tree", [] { draft_tree::of_widths({3, 3, 1}); }));
  CHECK(rejects("draft_tree", [] { draft_tree::of_widths({16}); }));
  CHECK(rejects("draft_tree::of_paths", [] { draft_tree::of_paths({}); }));
  CHECK(rejects("draft_tree::of_paths", [] { draft_tree::of_paths({{}, {}}); }));
  CHECK(rejects("draft_tree", [] { draft_tree::of_paths({{15}}); }));
  CHECK(rejects("draft_tree", [] { draft_tree::of_paths({{-1}}); }));
  CHECK(rejects("draft_tree::by_confidence", [] { draft_tree::by_confidence(1); }));
  CHECK(rejects("draft_tree::by_confidence", [] { draft_tree::by_confidence(17); }));
  CHECK(rejects("draft_tree::by_confidence", [] { draft_tree::by_confidence(4, 0); }));
  CHECK(rejects("draft_tree::by_confidence", [] { draft_tree::by_confidence(4, 16); }));
}

}  // namespace mtp::test

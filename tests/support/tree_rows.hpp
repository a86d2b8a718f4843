// Trees of drafts for tests of attention: which row stands behind which, and where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mtp/core/random.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"

namespace mtp::test {

using parent_list = std::vector<index_t>;

/// Trees of at most 24 rows: one row, a chain, a star, two branches, chains in a star, at random.
/// The number in front is not to be read.
inline std::vector<parent_list> trees() {
  const index_t unread = 1 << 20;
  std::vector<parent_list> all{
      {unread},
      {unread, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
      {unread, 0, 0, 0, 0},
      {unread, 0, 1, 0, 3, 4},
      {unread, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5},
      {unread, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
  };
  const random_stream random(mtp::seed{3}, 4);
  std::uint64_t drawn = 0;
  for (const index_t rows : {7, 16, 24}) {
    parent_list tree{unread};
    for (index_t r = 1; r < rows; ++r) {
      tree.push_back(static_cast<index_t>(random.below(drawn++, static_cast<std::uint64_t>(r))));
    }
    all.push_back(tree);
  }
  return all;
}

/// The rows from the first one to row r.
inline std::vector<index_t> path_to(const parent_list& parents, index_t r) {
  std::vector<index_t> path{r};
  while (path.front() > 0) {
    path.insert(path.begin(), parents[static_cast<std::size_t>(path.front())]);
  }
  return path;
}

/// Where rows of a tree stand whose first one is at `base`, in memory of a backend.
template <class B>
guarded<index_t, 1, B> positions_of(const parent_list& parents, index_t base) {
  std::vector<double> positions;
  for (std::size_t r = 0; r < parents.size(); ++r) {
    positions.push_back(static_cast<double>(base) +
                        static_cast<double>(path_to(parents, static_cast<index_t>(r)).size()) - 1);
  }
  return {dims<1>{static_cast<index_t>(parents.size())}, positions};
}

template <class B>
guarded<index_t, 1, B> numbers_of(const parent_list& parents) {
  return {dims<1>{static_cast<index_t>(parents.size())},
          std::vector<double>(parents.begin(), parents.end())};
}

/// Rows `rows` of `all`, one behind the other, as elements.
template <class S, int Rank, class B>
std::vector<double> picked_values(guarded<S, Rank, B>& all, const std::vector<index_t>& rows) {
  std::vector<double> elements;
  for (const index_t row : rows) {
    const auto own = values(all.view().select(0, row));
    elements.insert(elements.end(), own.begin(), own.end());
  }
  return elements;
}

/// The same as a tensor.  [rows, heads, E]
template <class S, class B>
guarded<S, 3, B> picked(guarded<S, 3, B>& all, const std::vector<index_t>& rows) {
  const dims<3> shape{
      static_cast<index_t>(rows.size()), all.view().extent(1), all.view().extent(2)};
  return {shape, picked_values(all, rows)};
}

/// 0, 1, .. base - 1, then base + r for each row r.
inline std::vector<index_t> behind(index_t base, const std::vector<index_t>& rows) {
  std::vector<index_t> all;
  for (index_t t = 0; t < base; ++t) {
    all.push_back(t);
  }
  for (const index_t row : rows) {
    all.push_back(base + row);
  }
  return all;
}

}  // namespace mtp::test

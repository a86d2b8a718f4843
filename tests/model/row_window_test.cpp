// The window of rows that drafters keep.
#include <doctest/doctest.h>

#include <map>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/model/heads/row_window.hpp"
#include "support/promises.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;

using window = row_window<cpu, float>;

constexpr index_t capacity = 8, C = 3;

void write(matrix_view<float, cpu> rows, float first) {
  for (index_t r = 0; r < rows.extent(0); ++r) {
    for (index_t c = 0; c < rows.extent(1); ++c) {
      rows(r, c) = first + static_cast<float>(r) + 0.125f * static_cast<float>(c);
    }
  }
}

/// Row `position` of the window holds what write gave for `value`.
bool holds(const window& rows, index_t position, float value) {
  const auto row = rows.rows(position, 1);
  bool all = true;
  for (index_t c = 0; c < C; ++c) {
    all = all && row(0, c) == value + 0.125f * static_cast<float>(c);
  }
  return all;
}

}  // namespace

TEST_CASE("a new window begins and ends at position 0") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  CHECK(rows.end() == 0);
  CHECK(rows.rows(0, 0).extent(0) == 0);
  CHECK(rejects("row_window", [&] { rows.rows(0, 1); }));
}

TEST_CASE("appended rows stand at the positions that follow") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  write(rows.append(2), 0);
  write(rows.append(3), 2);
  CHECK(rows.end() == 5);
  const auto middle = rows.rows(1, 3);  // [3, C]
  CHECK(middle.extent(0) == 3);
  CHECK(middle(0, 0) == 1);
  CHECK(middle(2, 2) == 3.25f);
}

TEST_CASE("truncated positions are forgotten and can be appended again") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  write(rows.append(5), 0);
  rows.truncate(3);
  CHECK(rows.end() == 3);
  CHECK(rejects("row_window", [&] { rows.rows(2, 2); }));
  write(rows.append(2), 30);
  CHECK(rows.end() == 5);
  CHECK(holds(rows, 2, 2));
  CHECK(holds(rows, 3, 30));
  rows.truncate(9);  // nothing lies behind
  CHECK(rows.end() == 5);
}

TEST_CASE("a window that is cut to nothing continues at the position of the cut") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  write(rows.append(5), 0);
  rows.forget(4);
  rows.truncate(2);
  CHECK(rows.end() == 2);
  write(rows.append(1), 2);
  CHECK(rows.end() == 3);
  CHECK(holds(rows, 2, 2));
}

TEST_CASE("forgotten rows make room, and what is kept moves along") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  write(rows.append(capacity), 0);
  rows.forget(5);
  CHECK(rejects("row_window", [&] { rows.rows(4, 1); }));
  write(rows.append(4), 8);
  CHECK(rows.end() == 12);
  for (index_t position = 5; position < 12; ++position) {
    CHECK(holds(rows, position, static_cast<float>(position)));
  }
  rows.forget(100);
  CHECK(rows.end() == 12);
}

TEST_CASE("a window refuses more rows than its memory holds and stays as it was") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  write(rows.append(6), 0);
  CHECK(rejects("row_window", [&] { rows.append(3); }));
  CHECK(rows.end() == 6);
  CHECK(holds(rows, 5, 5));
  write(rows.append(2), 6);
  CHECK(holds(rows, 7, 7));
}

TEST_CASE("a reset window begins at position 0 again") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  write(rows.append(6), 0);
  rows.forget(4);
  rows.reset();
  CHECK(rows.end() == 0);
  write(rows.append(capacity), 70);
  CHECK(holds(rows, 0, 70));
}

TEST_CASE("a random history of a window agrees with a map from positions to rows") {
  tensor<float, dims<2>, cpu> memory(dims<2>{capacity, C});
  window rows(memory.view());
  std::map<index_t, float> expected;
  index_t end = 0;
  const random_stream random(seed{5}, 0);
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const auto amount = static_cast<index_t>(random.below(3 * i, 4));
    const auto kept = static_cast<index_t>(expected.size());
    switch (random.below(3 * i + 1, 3)) {
      case 0:
        if (kept + amount <= capacity) {
          const auto value = static_cast<float>(10 * i);
          write(rows.append(amount), value);
          for (index_t r = 0; r < amount; ++r) {
            expected[end++] = value + static_cast<float>(r);
          }
        }
        break;
      case 1:
        if (amount <= kept) {  // a cut behind the first row that is kept
          end -= amount;
          rows.truncate(end);
          expected.erase(expected.lower_bound(end), expected.end());
        }
        break;
      default: {
        const index_t first = end - kept + amount;
        rows.forget(first);
        expected.erase(expected.begin(), expected.lower_bound(first));
      }
    }
    REQUIRE(rows.end() == end);
    for (const auto& [position, value] : expected) {
      REQUIRE(holds(rows, position, value));
    }
  }
}

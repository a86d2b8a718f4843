#include "mtp/backend/cpu/transpose.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

namespace mtp::test::cpu_transpose_cases {

using namespace cpu_detail;

template <real S>
index_t wrong_lanes(index_t rows, index_t columns, index_t row) {
  constexpr index_t width = panel_width<S>;
  std::vector<S> from(static_cast<std::size_t>(rows * row));  // [rows, row]
  for (std::size_t i = 0; i < from.size(); ++i) {
    from[i] = static_cast<S>(i + 1);
  }
  const index_t panels = ceil_div(rows, width);
  const S poison = S{-1};
  std::vector<S> to(static_cast<std::size_t>((panels * columns + 1) * width), poison);
  pack_lanes(to.data(), from.data(), row, rows, columns);
  index_t wrong = 0;
  for (index_t i = 0; i < panels * width; ++i) {
    for (index_t c = 0; c < columns; ++c) {
      const S expected = i < rows ? from[static_cast<std::size_t>(i * row + c)] : S{0};
      const index_t at = (i / width * columns + c) * width + i % width;
      wrong += to[static_cast<std::size_t>(at)] == expected ? 0 : 1;
    }
  }
  for (index_t l = 0; l < width; ++l) {
    wrong += to[static_cast<std::size_t>(panels * columns * width + l)] == poison ? 0 : 1;
  }
  return wrong;
}

TEST_CASE("rows become lanes, and lanes behind the last row zero") {
  for (const index_t rows : {1, 15, 16, 17, 32, 33, 64, 70}) {
    for (const index_t columns : {1, 3, 16, 17, 48}) {
      for (const index_t gap : {0, 5}) {
        CAPTURE(rows);
        CAPTURE(columns);
        CAPTURE(gap);
        CHECK(wrong_lanes<float>(rows, columns, columns + gap) == 0);
        CHECK(wrong_lanes<double>(rows, columns, columns + gap) == 0);
      }
    }
  }
}

}  // namespace mtp::test::cpu_transpose_cases

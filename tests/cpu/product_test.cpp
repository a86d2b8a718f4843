// The CPU backend's product against its definition, element by element and bit by bit.
#include "mtp/backend/cpu/product.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "cpu/chain.hpp"

namespace mtp::test::cpu_product_cases {

using namespace cpu_detail;
using cpu_products::elements;
using cpu_products::same;

namespace {

enum class init_of { zero, matrix };
enum class layout_of_a { rows, columns };
enum class layout_of_b { packed, row_major };
enum class layout_of_c { row_major, panels };

struct shape {
  index_t rows, columns, inner;
  init_of init = init_of::zero;
  layout_of_a a = layout_of_a::rows;
  layout_of_b b = layout_of_b::packed;
  layout_of_c c = layout_of_c::row_major;
  bool copies_rows = false;
};

/// Elements of C or its gaps that are wrong after the rows and panels were multiplied in blocks of
/// these sizes.
template <class Left, class Weight, class Result>
index_t wrong_elements(const shape& s, index_t row_step, index_t panel_step) {
  using Real = accumulate_t<Left>;
  constexpr index_t width = panel_width<Left>;
  const index_t panels = ceil_div(s.columns, width);
  const index_t gap = 3;

  // A [rows, inner], with gaps between what lies side by side.
  const bool by_rows = s.a == layout_of_a::rows;
  const index_t a_row = by_rows ? s.inner + gap : 1;
  const index_t a_step = by_rows ? 1 : s.rows + gap;
  std::vector<Left> a(static_cast<std::size_t>((s.rows + gap) * (s.inner + gap)), poison<Left>());
  const auto a_values = elements<Left>(s.rows * s.inner, 1);
  const auto a_at = [&](index_t i, index_t p) {
    return a_values[static_cast<std::size_t>(i * s.inner + p)];
  };
  for (index_t i = 0; i < s.rows; ++i) {
    for (index_t p = 0; p < s.inner; ++p) {
      a[static_cast<std::size_t>(i * a_row + p * a_step)] = a_at(i, p);
    }
  }

  // B [inner, columns]: whole panels, whose padding is not zero but reaches nothing; or rows.
  const bool packed = s.b == layout_of_b::packed;
  const index_t b_panel = packed ? s.inner * width : width;
  const index_t b_step = packed ? width : s.columns;
  const auto b_size = packed ? panels * s.inner * width : s.inner * s.columns;
  auto b = elements<Weight>(b_size + 1, 2);
  const auto b_at = [&](index_t p, index_t j) {
    const auto at = static_cast<std::size_t>(j / width * b_panel + p * b_step + j % width);
    return static_cast<Real>(b[at]);
  };

  // C [rows, columns] between gaps; init in the same layout.
  const bool rows_of_c = s.c == layout_of_c::row_major;
  const index_t c_row = rows_of_c ? s.columns + gap : width;
  const index_t c_panel = rows_of_c ? width : s.rows * width;
  const auto c_size = static_cast<std::size_t>(s.rows * (panels * width + gap));
  std::vector<Result> c(c_size, poison<Result>());
  const auto init = elements<Result>(static_cast<index_t>(c_size), 3);
  const auto place = [&](index_t i, index_t j) {
    return static_cast<std::size_t>(i * c_row + j / width * c_panel + j % width);
  };

  product<Left, Weight, Result> p;
  p.rows = s.rows;
  p.columns = s.columns;
  p.inner_size = s.inner;
  p.a = {a.data(), a_row, a_step};
  p.b = b.data();
  p.b_panel = b_panel;
  p.b_step = b_step;
  p.c = {c.data(), c_row, c_panel};
  if (s.init == init_of::matrix) {
    p.init = {init.data(), c_row, c_panel};
  }
  p.copies_rows = s.copies_rows;
  std::vector<Left> scratch(static_cast<std::size_t>(product_scratch<Left>), poison<Left>());
  std::vector<Real> sums(static_cast<std::size_t>(product_sums<Left, Result>(s.inner)),
                         poison<Real>());
  for (index_t i = 0; i < s.rows; i += row_step) {
    for (index_t j = 0; j < panels; j += panel_step) {
      multiply_block(p,
                     i,
                     (std::min)(i + row_step, s.rows),
                     j,
                     (std::min)(j + panel_step, panels),
                     p.packs_a() || p.packs_b() ? scratch.data() : nullptr,
                     sums.data());
    }
  }

  index_t wrong = 0;
  std::vector<bool> covered(c_size, false);
  for (index_t i = 0; i < s.rows; ++i) {
    for (index_t j = 0; j < s.columns; ++j) {
      const Real start = s.init == init_of::matrix ? static_cast<Real>(init[place(i, j)]) : Real{0};
      const auto sum = static_cast<Result>(cpu_products::chain<Left>(
          start,
          s.inner,
          [&](index_t k) { return static_cast<Real>(a_at(i, k)); },
          [&](index_t k) { return b_at(k, j); }));
      wrong += same(c[place(i, j)], sum) ? 0 : 1;
      covered[place(i, j)] = true;
    }
  }
  for (std::size_t n = 0; n < c_size; ++n) {
    wrong += covered[n] || same(c[n], poison<Result>()) ? 0 : 1;
  }
  return wrong;
}

/// Whole, and in blocks that share no border with a tile.
template <class Left, class Weight = Left, class Result = accumulate_t<Left>>
index_t wrong(const shape& s) {
  return wrong_elements<Left, Weight, Result>(s, (std::max<index_t>)(s.rows, 1), 1000) +
         wrong_elements<Left, Weight, Result>(s, 5, 2);
}

/// The same of bf16, with results in f32 and rounded.
index_t wrong_bf16(const shape& s) {
  return wrong<bf16, bf16, float>(s) + wrong<bf16, bf16, bf16>(s);
}

constexpr index_t f64_block = block_inner_size<double>;
constexpr index_t f32_block = block_inner_size<float>;
constexpr index_t bf16_block = inner_size_of_rows<bf16>;

TEST_CASE("every element is one chain, for few rows, many rows and every tail") {
  for (index_t rows = 1; rows <= 2 * tile_rows + 1; ++rows) {
    for (const index_t columns : {1, 15, 16, 17, 64, 101}) {
      for (const init_of init : {init_of::zero, init_of::matrix}) {
        CAPTURE(rows);
        CAPTURE(columns);
        CHECK(wrong<double>({.rows = rows, .columns = columns, .inner = 7, .init = init}) == 0);
        CHECK(wrong<float>({.rows = rows, .columns = 2 * columns, .inner = 3, .init = init}) == 0);
        for (const index_t inner : {1, 6, 7}) {
          CHECK(wrong_bf16({.rows = rows, .columns = 2 * columns, .inner = inner, .init = init}) ==
                0);
        }
      }
    }
  }
}

TEST_CASE("a chain goes on across the blocks of the inner size") {
  for (const index_t rows : {index_t{2}, block_rows + 1}) {
    for (const init_of init : {init_of::zero, init_of::matrix}) {
      CAPTURE(rows);
      CHECK(wrong<double>(
                {.rows = rows, .columns = 21, .inner = 2 * f64_block + 3, .init = init}) == 0);
      CHECK(wrong<float>({.rows = rows, .columns = 35, .inner = f32_block + 1, .init = init}) == 0);
      for (const index_t inner : {bf16_block / 2 + 1, bf16_block + 3}) {
        CHECK(wrong_bf16({.rows = rows, .columns = 165, .inner = inner, .init = init}) == 0);
      }
    }
  }
}

TEST_CASE("packed or as they lie, A and B give the same chains") {
  for (const index_t rows : {index_t{1}, index_t{tile_rows + 2}, packed_rows + 3}) {
    for (const layout_of_a a : {layout_of_a::rows, layout_of_a::columns}) {
      for (const layout_of_b b : {layout_of_b::packed, layout_of_b::row_major}) {
        for (const index_t columns : {16, 19}) {
          CAPTURE(rows);
          CAPTURE(columns);
          const shape s{.rows = rows,
                        .columns = columns,
                        .inner = f64_block + 5,
                        .init = init_of::matrix,
                        .a = a,
                        .b = b,
                        .copies_rows = true};
          CHECK(wrong<double>(s) == 0);
          shape pairs = s;
          for (const index_t inner : {index_t{6}, block_inner_size<bf16> + 5}) {
            pairs.inner = inner;
            pairs.columns = 2 * columns;
            CHECK(wrong_bf16(pairs) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("C may lie in panels, and the tail of the last one stays as it was") {
  for (const index_t rows : {1, 4, 13}) {
    CAPTURE(rows);
    const shape s{.rows = rows, .columns = 53, .inner = 9, .c = layout_of_c::panels};
    CHECK(wrong<double>(s) == 0);
    CHECK(wrong<float>(s) == 0);
    CHECK(wrong_bf16(s) == 0);
  }
}

TEST_CASE("weights of bf16 are widened for rows of f32, and the chain is one of f32") {
  for (const index_t rows : {1, 5, 14}) {
    CAPTURE(rows);
    const shape s{.rows = rows, .columns = 77, .inner = 11, .init = init_of::matrix};
    CHECK(wrong<float, bf16>(s) == 0);
  }
}

TEST_CASE("without steps the product is what it starts from") {
  for (const index_t rows : {1, 2, 31}) {
    for (const init_of init : {init_of::zero, init_of::matrix}) {
      CHECK(wrong<double>({.rows = rows, .columns = 18, .inner = 0, .init = init}) == 0);
      CHECK(wrong_bf16({.rows = rows, .columns = 18, .inner = 0, .init = init}) == 0);
    }
  }
}

TEST_CASE("rows collide where they are half a way of the cache apart") {
  static_assert(rows_collide<float>(512) && rows_collide<double>(256) && rows_collide<float>(1024));
  static_assert(!rows_collide<float>(511) && !rows_collide<double>(128));
}

TEST_CASE("B is packed where a panel of it is not whole") {
  product<double> p;
  p.columns = 2 * panel_width<double>;
  p.b_panel = panel_width<double>;
  CHECK_FALSE(p.packs_b());
  CHECK(p.panels() == 2);
  p.columns += 1;
  CHECK(p.packs_b());
  CHECK(p.panels() == 3);
  p.b_panel = 10 * panel_width<double>;
  CHECK_FALSE(p.packs_b());
  p.b_step = p.columns;
  CHECK(p.packs_b());
}

}  // namespace

}  // namespace mtp::test::cpu_product_cases

// Tiles of every height and width, rectangles and triangles, against one chain for each element.
#include "mtp/backend/cpu/multiply_tile.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "cpu/chain.hpp"

namespace mtp::test::cpu_multiply_tile_cases {

using namespace cpu_detail;
using cpu_products::elements;
using cpu_products::same;

namespace {

/// Elements of a tile or of its gaps that are wrong. In a triangle, what a row must not read of A
/// is NaN.
template <class Real, int Panels, int MaxRows, tile_shape Shape>
index_t wrong(index_t rows, index_t inner, const Real* init_values) {
  constexpr index_t width = panel_width<Real>;
  const bool triangle = Shape == tile_shape::triangle;
  const index_t steps = inner + (triangle ? rows - 1 : 0);
  const auto steps_of = [&](index_t i) { return triangle ? inner + i : steps; };
  const index_t a_row = 2 * steps + 5, a_step = 2;
  std::vector<Real> a(static_cast<std::size_t>(rows * a_row), poison<Real>());  // [rows, steps]
  const auto values = elements<Real>(rows * steps, 11);
  for (index_t i = 0; i < rows; ++i) {
    for (index_t p = 0; p < steps_of(i); ++p) {
      a[static_cast<std::size_t>(i * a_row + p * a_step)] =
          values[static_cast<std::size_t>(i * steps + p)];
    }
  }
  const index_t b_panel = steps * width + 7;
  const auto b = elements<Real>(Panels * b_panel, 12);
  const index_t c_row = width + 3, c_panel = rows * c_row + 1;
  std::vector<Real> c(static_cast<std::size_t>(Panels * c_panel), poison<Real>());

  multiply_rows<Panels, MaxRows, Shape>(rows,
                                        inner,
                                        rows_of<Real>{a.data(), a_row, a_step},
                                        b.data(),
                                        b_panel,
                                        panels_of<const Real>{init_values, c_row, c_panel},
                                        panels_of<Real>{c.data(), c_row, c_panel});

  index_t count = 0;
  for (index_t q = 0; q < Panels; ++q) {
    for (index_t i = 0; i < rows; ++i) {
      for (index_t j = 0; j < c_row; ++j) {
        const index_t at = q * c_panel + i * c_row + j;
        Real expected = poison<Real>();
        if (j < width) {
          expected = init_values != nullptr ? init_values[at] : Real{0};
          for (index_t p = 0; p < steps_of(i); ++p) {
            expected =
                cpu_products::multiply_add(a[static_cast<std::size_t>(i * a_row + p * a_step)],
                                           b[static_cast<std::size_t>(q * b_panel + p * width + j)],
                                           expected);
          }
        }
        count += same(c[static_cast<std::size_t>(at)], expected) ? 0 : 1;
      }
    }
  }
  return count;
}

template <class Real, int Panels, tile_shape Shape>
void check_tiles() {
  constexpr int most = tile_rows / Panels;
  for (index_t rows = 1; rows <= most; ++rows) {
    const auto init = elements<Real>(Panels * (rows * (panel_width<Real> + 3) + 1), 13);
    for (const index_t inner : {index_t{0}, index_t{1}, prefetch_steps + 3}) {
      CAPTURE(rows);
      CAPTURE(inner);
      CHECK((wrong<Real, Panels, most, Shape>(rows, inner, init.data())) == 0);
      CHECK((wrong<Real, Panels, most, Shape>(rows, inner, nullptr)) == 0);
    }
  }
}

TEST_CASE("a tile computes one chain for each element and writes nothing beside it") {
  check_tiles<double, 1, tile_shape::rectangle>();
  check_tiles<double, 3, tile_shape::rectangle>();
  check_tiles<float, 1, tile_shape::rectangle>();
  check_tiles<float, 2, tile_shape::rectangle>();
}

TEST_CASE("a row of a triangle takes one step more than the row before it, and reads no other") {
  check_tiles<double, 1, tile_shape::triangle>();
  check_tiles<float, 1, tile_shape::triangle>();
}

TEST_CASE("rows and panels are found by their strides") {
  double data[100] = {};
  const auto c = panels_of<double>::row_major(data, 40);
  CHECK(c.panel == panel_width<double>);
  CHECK(c.at(1, 2).data == data + 40 + 2 * panel_width<double>);
  const panels_of<double> apart{data, 5, 50};
  CHECK(apart.at(3, 1).data == data + 15 + 50);
  CHECK(apart.at(3, 1).row == 5);
  CHECK(apart.at(3, 1).panel == 50);
}

}  // namespace

}  // namespace mtp::test::cpu_multiply_tile_cases

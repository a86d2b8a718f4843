#include "mtp/backend/cpu/run_product.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "cpu/chain.hpp"

namespace mtp::test::cpu_run_product_cases {

using namespace cpu_detail;

TEST_CASE("a product has the bits of one chain for each element, on any number of threads") {
  constexpr index_t width = panel_width<float>, inner = 37;
  for (const index_t rows : {0, 1, 5, 130, 400}) {
    for (const index_t panels : {1, 3, 9}) {
      CAPTURE(rows);
      CAPTURE(panels);
      const index_t columns = panels * width;
      const auto a = cpu_products::elements<float>(rows * inner, 1);     // [rows, inner]
      const auto b = cpu_products::elements<float>(inner * columns, 2);  // [panels, inner, width]
      std::vector<float> expected;                                       // [rows, columns]
      for (index_t i = 0; i < rows; ++i) {
        for (index_t j = 0; j < columns; ++j) {
          float sum = 0;
          for (index_t k = 0; k < inner; ++k) {
            const index_t at = (j / width * inner + k) * width + j % width;
            sum = cpu_products::multiply_add(
                a[static_cast<std::size_t>(i * inner + k)], b[static_cast<std::size_t>(at)], sum);
          }
          expected.push_back(sum);
        }
      }
      for (const int threads : {1, 2, 3}) {
        CAPTURE(threads);
        cpu_context context({.threads = threads});
        std::vector<float> c(expected.size(), -1);
        product<float> p;
        p.rows = rows;
        p.columns = columns;
        p.inner_size = inner;
        p.a = {a.data(), inner, 1};
        p.b = b.data();
        p.b_panel = inner * width;
        p.c = {c.data(), columns, width};
        run_product(context, p);
        CHECK(c == expected);
        CHECK(context.workspace().used() == 0);
      }
    }
  }
}

TEST_CASE("every row of a product is in one task, and every thread gets as many tiles of rows") {
  const float weight = 0;
  for (const index_t threads : {1, 2, 3, 7}) {
    for (const bool packs : {false, true}) {
      for (const index_t rows : {index_t{1},
                                 index_t{tile_rows + 1},
                                 block_rows + 1,
                                 packed_rows + 1,
                                 7 * packed_rows - 5,
                                 7 * packed_rows + 5}) {
        CAPTURE(threads);
        CAPTURE(packs);
        CAPTURE(rows);
        product<float> p;
        p.rows = rows;
        p.columns = 3 * panel_width<float>;
        p.inner_size = 8;
        p.a = {&weight, packs ? 1 : 8, packs ? rows : 1};
        p.b = &weight;
        const auto d = divide_product(p, threads, threads * tasks_of_thread(packs));
        REQUIRE(d.row_tasks >= 1);
        CHECK(d.first_row(0) == 0);
        CHECK(d.first_row(d.row_tasks) >= rows);
        CHECK(d.first_row(d.row_tasks) < rows + tile_rows);
        std::vector<index_t> tiles(static_cast<std::size_t>(threads), 0);  // [threads]
        for (index_t piece = 0; piece < d.row_tasks; ++piece) {
          const index_t first = d.first_row(piece), end = d.first_row(piece + 1);
          CHECK(first < rows);
          CHECK(first < end);
          CHECK(end - first <= (packs ? packed_rows : block_rows));
          tiles[static_cast<std::size_t>(piece % threads)] += (end - first) / tile_rows;
        }
        if (d.row_tasks > threads && d.row_tasks < d.tiles) {
          const auto [least, most] = std::minmax_element(tiles.begin(), tiles.end());
          CHECK(*most - *least <= ceil_div(d.row_tasks, threads));
          CHECK(d.row_tasks % threads == 0);
        }
      }
    }
  }
}

}  // namespace mtp::test::cpu_run_product_cases

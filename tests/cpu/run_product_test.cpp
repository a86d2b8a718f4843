#include "mtp/backend/cpu/run_product.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "cpu/chain.hpp"

namespace mtp::test::cpu_run_product_cases {

using namespace cpu_detail;

TEST_CASE("a product has the bits of one chain for each element, on any number of threads") {
  constexpr index_t width = panel_width<float>, inner = 37;
  for (const index_t rows : {0, 1, 5, 130}) {
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

}  // namespace mtp::test::cpu_run_product_cases

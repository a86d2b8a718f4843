// The ways in which a tile by a weight in FP8 is computed give the same bits.
#include "mtp/backend/cpu/e4m3_tile.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"
#include "support/reference/e4m3.hpp"

namespace mtp::test::cpu_e4m3_tile_cases {

using namespace cpu_detail;

namespace {

/// A tile of `rows` rows of x and a panel of any numbers at all.
template <e4m3_form Form, class S>
std::vector<float> tile(index_t rows, index_t inputs) {
  const e4m3_layout at{e4m3_layout::width, inputs};
  const auto w = reference::random_e4m3(at.outputs, inputs, 1);
  std::vector<std::byte> panel(static_cast<std::size_t>(at.bytes()));
  for (index_t n = 0; n < at.outputs; ++n) {
    cpu_quantize_ops::set_e4m3_output(panel.data(),
                                      at.outputs,
                                      inputs,
                                      n,
                                      w.numbers.data() + n * inputs,
                                      w.scales.data() + n * at.groups(),
                                      quantized_format::e4m3);
  }
  const index_t stride = inputs + 3;
  std::vector<S> x;
  for (const double value : normal(rows * stride, 5)) {
    x.push_back(stored<S>(value));
  }
  std::vector<float> c(static_cast<std::size_t>(rows * e4m3_layout::width), 0.5f);
  multiply_e4m3_rows<Form>(rows, at, panel.data(), x.data(), stride, c.data());
  return c;
}

}  // namespace

TEST_CASE_TEMPLATE("numbers widened in registers give the bits of plain loops", S, float, bf16) {
  for (index_t rows = 1; rows <= e4m3_tile_rows; ++rows) {
    for (const index_t inputs : {1, 2, 9, 128, 129, 140, 401}) {
      CAPTURE(rows);
      CAPTURE(inputs);
      CHECK(
          same_bits(tile<fastest_e4m3, S>(rows, inputs), tile<e4m3_form::plain, S>(rows, inputs)));
    }
  }
}

}  // namespace mtp::test::cpu_e4m3_tile_cases

// The ways in which a tile in 8 bits sums integers give the same bits.
#include "mtp/backend/cpu/int8_tile.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace mtp::test::cpu_int8_tile_cases {

using namespace cpu_detail;

namespace {

/// A tile of `rows` rows of x and a panel of any bytes at all.
template <dot_form Form>
std::vector<float> tile(index_t rows, index_t inputs) {
  const quantized_layout at{quantized_layout::width, inputs};
  std::vector<std::byte> panel(static_cast<std::size_t>(at.bytes()));
  const auto random = uniform(at.bytes(), 1, 0, 256);
  for (std::size_t i = 0; i < panel.size(); ++i) {
    panel[i] = static_cast<std::byte>(static_cast<int>(random[i]));
  }
  const auto numbers = normal(at.groups() * quantized_layout::width, 2);
  for (index_t group = 0; group < at.groups(); ++group) {
    for (index_t lane = 0; lane < quantized_layout::width; ++lane) {
      const bf16 scale(static_cast<float>(
          numbers[static_cast<std::size_t>(group * quantized_layout::width + lane)]));
      std::memcpy(panel.data() + at.group_offset(0, group) + at.scale_offset(lane, group),
                  &scale,
                  sizeof scale);
    }
  }
  std::vector<std::byte> memory(1 << 16);
  void* aligned = memory.data();
  std::size_t space = memory.size();
  REQUIRE(std::align(64, 1 << 15, aligned, space) != nullptr);
  arena room(static_cast<std::byte*>(aligned), 1 << 15);
  const auto x = split_rows::make(room, rows, inputs);
  for (index_t r = 0; r < rows; ++r) {
    std::vector<float> row;
    for (const double value : normal(inputs, static_cast<std::uint64_t>(10 + r))) {
      row.push_back(static_cast<float>(value));
    }
    x.set(r, row.data(), inputs);
  }
  std::vector<float> c(static_cast<std::size_t>(rows * quantized_layout::width), 0.5f);
  multiply_int8_rows<Form>(rows, at, panel.data(), x, c.data());
  return c;
}

}  // namespace

TEST_CASE("dot products by the processor's instruction have the bits of plain loops") {
  for (index_t rows = 1; rows <= int8_tile_rows; ++rows) {
    for (const index_t inputs : {1, 4, 9, 128, 131, 140, 400}) {
      CAPTURE(rows);
      CAPTURE(inputs);
      CHECK(same_bits(tile<fastest_dot>(rows, inputs), tile<dot_form::plain>(rows, inputs)));
    }
  }
}

}  // namespace mtp::test::cpu_int8_tile_cases

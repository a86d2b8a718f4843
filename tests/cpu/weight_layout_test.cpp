#include "mtp/backend/cpu/weight_layout.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

namespace mtp::test::cpu_weight_layout_cases {

using namespace cpu_detail;

TEST_CASE("weights of neighbouring outputs lie side by side, panel after panel") {
  constexpr index_t width = panel_width<float>, inputs = 3;
  static_assert(weight_storage<float>(width, inputs) == width * inputs);
  static_assert(weight_storage<float>(width + 1, inputs) == 2 * width * inputs);
  static_assert(weight_offset<float>(1, 0, width + 1, inputs) == 1);
  static_assert(weight_offset<float>(0, 1, width + 1, inputs) == width);
  static_assert(weight_offset<float>(width, 2, width + 1, inputs) == width * (inputs + 2));
}

TEST_CASE_TEMPLATE("a transposed weight has each element in its place, and zeros as padding",
                   S,
                   double,
                   float,
                   bf16) {
  cpu_context context({.threads = 2});
  const auto size = [](index_t count) { return static_cast<std::size_t>(count); };
  for (const index_t outputs : {1, 31, 32, 33, 70}) {
    for (const index_t inputs : {1, 5, 64, 65}) {
      CAPTURE(outputs);
      CAPTURE(inputs);
      std::vector<S> from(size(weight_storage<S>(outputs, inputs)), S(0));
      std::vector<S> expected(size(weight_storage<S>(inputs, outputs)), S(0));
      for (index_t n = 0; n < outputs; ++n) {
        for (index_t k = 0; k < inputs; ++k) {
          // Numbers of 8 bits, which differ among neighbours.
          const auto number = static_cast<S>(static_cast<float>((n * inputs + k) % 251 + 1));
          from[size(weight_offset<S>(n, k, outputs, inputs))] = number;
          expected[size(weight_offset<S>(k, n, inputs, outputs))] = number;
        }
      }
      std::vector<S> to(expected.size(), S(-1));
      transpose_weight(context, to.data(), from.data(), outputs, inputs);
      CHECK(to == expected);
    }
  }
}

}  // namespace mtp::test::cpu_weight_layout_cases

// Copies and ranges. Who includes this says for which cases: see support/cpu_cases.hpp and
// support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/ops/create.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"

namespace mtp::test::create {

TEST_CASE_TEMPLATE_DEFINE("clone copies bits of any view into a contiguous tensor", Case, cloned) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  const guarded<S, 2, B> x(dims<2>(5, 7), {1, 6}, uniform(35, 71));  // [5, 7] stride (1, 6)
  const auto y = clone(context, x.view());                           // [5, 7]
  static_assert(std::is_same_v<decltype(y), const tensor<S, dims<2>, B>>);
  CHECK(y.shape() == dims<2>(5, 7));
  CHECK(same_bits(y.to_host(), elements(x.view())));
  const tensor<token_t, extents<2>, B> tokens({}, {4, 5});             // [2]
  const tensor<token_t, extents<2>, B> same = clone(context, tokens);  // [2]
  CHECK(same.to_host() == tokens.to_host());
  CHECK(same.data() != tokens.data());
  const tensor<S, dims<2>, B> nothing(dims<2>(0, 3));  // [0, 3]
  CHECK(clone(context, nothing).shape() == dims<2>(0, 3));
}

TEST_CASE_TEMPLATE_DEFINE("arange counts up and down, without its end", Case, ranges) {
  using B = typename Case::backend;
  CHECK(arange<float, B>(0, 1, 0.25).to_host() == std::vector<float>{0, 0.25, 0.5, 0.75});
  CHECK(arange<float, B>(0, 1.01, 0.25).to_host() == std::vector<float>{0, 0.25, 0.5, 0.75, 1});
  CHECK(arange<double, B>(3, 0, -1).to_host() == std::vector<double>{3, 2, 1});
  CHECK(arange<token_t, B>(2, 5).to_host() == std::vector<token_t>{2, 3, 4});
  CHECK(arange<token_t, B>(5, 0, -2).to_host() == std::vector<token_t>{5, 3, 1});
  CHECK(arange<token_t, B>(6, 0, -2).to_host() == std::vector<token_t>{6, 4, 2});
  CHECK(arange<index_t, B>(0, 7, 3).to_host() == std::vector<index_t>{0, 3, 6});
  CHECK(arange<bf16, B>(1, 3).to_host().at(1) == 2);
  CHECK(arange<float, B>(0, 0).count() == 0);
  CHECK(arange<float, B>(0, -1).count() == 0);
  CHECK(arange<token_t, B>(0, 1, -1).count() == 0);
  // i step, not a sum of steps.
  CHECK(arange<float, B>(0, 1000, 0.1).to_host().at(7654) == static_cast<float>(7654 * 0.1));
}

TEST_CASE_TEMPLATE_DEFINE("arange refuses what cannot be counted or held", Case, ranges_refused) {
  using B = typename Case::backend;
  constexpr double inf = std::numeric_limits<double>::infinity();
  constexpr index_t most = std::numeric_limits<index_t>::max();
  constexpr index_t least = std::numeric_limits<index_t>::min();
  CHECK_THROWS_WITH_AS(static_cast<void>(arange<float, B>(0, 1, 0)),
                       "arange: expected finite numbers and a step that is not 0, got 0, 1 and 0",
                       error);
  CHECK_THROWS_AS(static_cast<void>(arange<float, B>(0, inf)), error);
  CHECK_THROWS_AS(static_cast<void>(arange<float, B>(-inf, 0)), error);
  CHECK_THROWS_AS(static_cast<void>(arange<float, B>(0, 1, inf)), error);
  CHECK_THROWS_AS(static_cast<void>(arange<double, B>(0, 1e300, 1e-300)), error);
  CHECK_THROWS_AS(static_cast<void>(arange<token_t, B>(0, 1, 0)), error);
  CHECK_THROWS_WITH_AS(static_cast<void>(arange<std::uint8_t, B>(250, 257)),
                       "arange: the elements cannot hold 250 to 256",
                       error);
  CHECK_THROWS_AS(static_cast<void>(arange<std::uint8_t, B>(3, -3, -2)), error);
  CHECK_THROWS_AS(static_cast<void>(arange<index_t, B>(least, most)), error);
  CHECK(arange<index_t, B>(least, most, most).to_host() ==
        std::vector<index_t>{least, -1, most - 1});
  CHECK(arange<index_t, B>(most, least, least).to_host() == std::vector<index_t>{most, -1});
}

TEST_CASE_TEMPLATE_APPLY(cloned, cases);
TEST_CASE_TEMPLATE_APPLY(ranges, one_case);
TEST_CASE_TEMPLATE_APPLY(ranges_refused, one_case);

}  // namespace mtp::test::create

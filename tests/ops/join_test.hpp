// Tensors joined along a dimension. Who includes this says for which cases: see
// support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <type_traits>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/ops/join.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"

namespace mtp::test::joining {

TEST_CASE_TEMPLATE_DEFINE("concatenate puts parts behind each other along any axis", Case, joined) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  for (int axis = 0; axis < 3; ++axis) {
    CAPTURE(axis);
    std::array<index_t, 3> sizes{4, 3, 5}, more = sizes, none = sizes, all = sizes;
    more[static_cast<std::size_t>(axis)] = 7;
    none[static_cast<std::size_t>(axis)] = 0;
    all[static_cast<std::size_t>(axis)] += 7;
    const guarded<S, 3, B> a(dims<3>(sizes), {1, 4, 12}, uniform(60, 61));  // [4, 3, 5], turned
    const guarded<S, 3, B> b(dims<3>(more), uniform(dims<3>(more).count(), 62));
    const guarded<S, 3, B> nothing{dims<3>(none)};
    guarded<S, 3, B> y{dims<3>(all)};
    concatenate(context, y.view(), axis, a.view(), nothing.view(), b.view());
    for (index_t i = 0; i < all[0]; ++i) {
      for (index_t j = 0; j < all[1]; ++j) {
        for (index_t k = 0; k < all[2]; ++k) {
          std::array<index_t, 3> at{i, j, k};
          index_t& along = at[static_cast<std::size_t>(axis)];
          const index_t first = sizes[static_cast<std::size_t>(axis)];
          const bool second = along >= first;
          along -= second ? first : 0;
          const S expected = second ? b.view()(at[0], at[1], at[2]) : a.view()(at[0], at[1], at[2]);
          REQUIRE(static_cast<double>(y.view()(i, j, k)) == static_cast<double>(expected));
        }
      }
    }
    CHECK(y.intact());
    const tensor<S, dims<3>, B> made = concatenate(context, axis, a.view(), b.view());
    CHECK(same_bits(made.to_host(), elements(y.view())));
  }
}

TEST_CASE_TEMPLATE_DEFINE("stack puts parts beside each other along a new axis", Case, stacked) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context(0);
  const guarded<S, 2, B> a(dims<2>(3, 4), uniform(12, 63));          // [3, 4]
  const guarded<S, 2, B> b(dims<2>(3, 4), {1, 3}, uniform(12, 64));  // [3, 4] stride (1, 3)
  for (int axis = 0; axis < 3; ++axis) {
    CAPTURE(axis);
    const dims<3> shape = axis == 0   ? dims<3>(2, 3, 4)
                          : axis == 1 ? dims<3>(3, 2, 4)
                                      : dims<3>(3, 4, 2);
    guarded<S, 3, B> y(shape);  // [3, 4] with 2 at `axis`
    stack(context, y.view(), axis, a.view(), b.view());
    CHECK(same_bits(elements(y.view().select(axis, 0)), elements(a.view())));
    CHECK(same_bits(elements(y.view().select(axis, 1)), elements(b.view())));
    CHECK(y.intact());
    const tensor<S, dims<3>, B> made = stack(context, axis, a.view(), b.view());  // as y
    CHECK(made.shape() == shape);
    CHECK(same_bits(made.to_host(), elements(y.view())));
  }
}

TEST_CASE_TEMPLATE_DEFINE("tensors are joined as views are", Case, joined_tensors) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const tensor<token_t, extents<2>, B> a({}, {1, 2});          // [2]
  const tensor<token_t, dims<1>, B> b(dims<1>(1), {3});        // [1]
  const tensor<token_t, extents<>, B> c({}, {7}), d({}, {8});  // []
  CHECK(concatenate(context, 0, a, b, a).to_host() == std::vector<token_t>{1, 2, 3, 1, 2});
  CHECK(stack(context, 0, c, d).to_host() == std::vector<token_t>{7, 8});
  CHECK(stack(context, 1, a, a).to_host() == std::vector<token_t>{1, 1, 2, 2});
  tensor<token_t, extents<3>, B> y;  // [3]
  concatenate(context, y, 0, b, a);
  CHECK(y.to_host() == std::vector<token_t>{3, 1, 2});
}

TEST_CASE_TEMPLATE_DEFINE("parts that do not fit are refused before anything is written",
                          Case,
                          parts_refused) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context(0);
  const guarded<float, 2, B> a(dims<2>(2, 3), uniform(6, 65));  // [2, 3]
  const guarded<float, 2, B> b(dims<2>(2, 4), uniform(8, 66));  // [2, 4]
  guarded<float, 2, B> y(dims<2>(4, 3));                        // [4, 3]
  guarded<float, 3, B> z(dims<3>(2, 2, 3));                     // [2, 2, 3]
  CHECK_THROWS_WITH_AS(concatenate(context, y.view(), 0, a.view(), b.view()),
                       "concatenate: expected parts of shape [2, 3], got [2, 4]",
                       error);
  CHECK_THROWS_WITH_AS(concatenate(context, y.view(), 0, a.view(), a.view(), a.view()),
                       "concatenate: expected y of size 6 in dimension 0, got shape [4, 3]",
                       error);
  CHECK_THROWS_AS(concatenate(context, y.view(), 2, a.view()), error);
  CHECK_THROWS_AS(concatenate(context, y.view(), -1, a.view()), error);
  CHECK_THROWS_AS(static_cast<void>(concatenate(context, 0, a.view(), b.view())), error);
  CHECK_THROWS_AS(static_cast<void>(concatenate(context, 2, a.view())), error);
  CHECK_THROWS_WITH_AS(stack(context, z.view(), 0, a.view(), b.view()),
                       "stack: expected parts of shape [2, 3], got [2, 4]",
                       error);
  CHECK_THROWS_WITH_AS(stack(context, z.view(), 2, a.view(), a.view()),
                       "stack: expected y of shape [2, 3, 2], got [2, 2, 3]",
                       error);
  CHECK_THROWS_AS(stack(context, z.view(), 3, a.view(), a.view()), error);
  CHECK_THROWS_AS(static_cast<void>(stack(context, -1, a.view())), error);
  CHECK(y.untouched());
  CHECK(z.untouched());
}

TEST_CASE_TEMPLATE_APPLY(joined, cases);
TEST_CASE_TEMPLATE_APPLY(stacked, cases);
TEST_CASE_TEMPLATE_APPLY(joined_tensors, one_case);
TEST_CASE_TEMPLATE_APPLY(parts_refused, one_case);

}  // namespace mtp::test::joining

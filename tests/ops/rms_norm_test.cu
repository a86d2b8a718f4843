#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/rms_norm_test.hpp"

namespace mtp::test::rms_norm {

TEST_CASE_TEMPLATE_DEFINE("column sums match the reference, with the same bits for any alignment",
                          Case,
                          column_sums) {
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<staged>::make_context(0);
  for (const index_t R : {1, 2, 17, 300, 1100}) {
    for (const index_t C : {1, 8, 37, 64}) {
      CAPTURE(R);
      CAPTURE(C);
      const auto numbers = normal(R * C, 1);
      const guarded<S, 2, staged> rows(dims<2>{R, C}, strides(round_up(C, 8), 1), numbers);
      const guarded<S, 2, staged> shifted(dims<2>{R, C}, strides(C + 3, 1), numbers);
      guarded<A, 1, staged> sums(dims<1>{C}, uniform(C, 2)), others(dims<1>{C}, uniform(C, 2));
      const array<2> x = array_of(rows.view());
      array<1> expected = array_of(sums.view()), terms = magnitude(expected);
      for (index_t r = 0; r < R; ++r) {
        for (index_t c = 0; c < C; ++c) {
          expected(c) += x(r, c);
          terms(c) += std::abs(x(r, c));
        }
      }
      const auto add_to = [&](auto& to, const auto& from) {
        context.on_device(
            [&](const auto& on_to, const auto& on_from) {
              cuda_detail::add_column_sums(
                  context, "column_sums", on_to.data(), on_from.data(), on_from.stride(0), R, C);
            },
            to.view(),
            from.view());
      };
      add_to(sums, rows);
      add_to(others, shifted);
      CHECK(within(sums.view(), expected.elements, result_bounds<A>(R + 1, terms, expected)));
      CHECK(same_bits(others.view(), sums.view()));
      CHECK(sums.intact());
    }
  }
}
TEST_CASE_TEMPLATE_APPLY(column_sums, cases);

}  // namespace mtp::test::rms_norm

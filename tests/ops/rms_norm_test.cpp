#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/rms_norm_test.hpp"

namespace mtp::test::rms_norm {

// Squares of these rows do not fit into S, nor does the square of 1 / rms: everything is compared
// with the same row 2^scale times smaller, whose reference does not care.
TEST_CASE_TEMPLATE_DEFINE("rms_norm of rows whose squares overflow is that of smaller rows",
                          Case,
                          large_rows) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const int most = std::numeric_limits<A>::max_exponent - 1;
  for (const int scale : {most / 2 + 2, most - 10, most}) {
    for (const norm_sizes& s :
         std::vector<norm_sizes>{{1, 1, 1, 0}, {3, 2, 7, 1}, {2, 1, 64, 0}, {3, 1, 257, 4}}) {
      CAPTURE(scale);
      CAPTURE(s.C);
      const dims<3> shape{s.N, s.H, s.C};
      const index_t count = s.N * s.H * s.C;
      const auto scaled = [](std::vector<double> elements, int exponent) {
        for (double& element : elements) {
          element = std::ldexp(element, exponent);
        }
        return elements;
      };
      guarded<S, 3, B> small(shape, spaced(s), uniform(count, 1, -0.99, 0.99));
      guarded<S, 3, B> x(shape, spaced(s), scaled(values(small.view()), scale));
      guarded<S, 3, B> dy(shape, spaced(s), scaled(normal(count, 2), 40));
      guarded<S, 1, B> weight(dims<1>{s.C}, uniform(s.C, 4, 0.5, 1.5));
      guarded<S, 3, B> y(shape, spaced(s)), dx(shape, spaced(s));
      guarded<A, 2, B> inv_rms(dims<2>{s.N, s.H});
      rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), epsilon);
      const array<3> xs = array_of(small.view()), dys = array_of(dy.view());
      const array<1> weights = array_of(weight.view());
      const array<2> r = reference::inverse_rms(xs, 0);
      const array<3> expected = reference::rms_norm_forward(xs, weights, 0);
      // 1 / rms may be subnormal, and has two bits less then.
      CHECK(within(
          scaled(values(inv_rms.view()), scale), r.elements, result_bounds<A>(s.C / 2 + 9, r, r)));
      CHECK(within(y.view(),
                   expected.elements,
                   result_bounds<S>(s.C / 2 + 11, magnitude(expected), expected)));
      CHECK(y.intact());

      guarded<A, 1, B> dweight(dims<1>{s.C}, scaled(uniform(s.C, 5), 40));
      const array<1> before = array_of(dweight.view());
      rms_norm_backward(context,
                        dx.view(),
                        dweight.view(),
                        dy.view(),
                        x.view(),
                        inv_rms.view(),
                        weight.view(),
                        mtp::view<const S, dims<3>, B>(nullptr, shape));
      const array<3> gradients = reference::rms_norm_backward_input(dys, xs, r, weights);
      const array<3> terms = reference::rms_norm_backward_input(
          magnitude(dys), magnitude(xs), r, magnitude(weights), 1);
      CHECK(within(scaled(values(dx.view()), scale),
                   gradients.elements,
                   result_bounds<S>(2 * s.C + 30, terms, gradients)));
      const array<1> dweights = before + reference::rms_norm_backward_weight(dys, xs, r);
      const array<1> dweight_terms =
          magnitude(before) + reference::rms_norm_backward_weight(magnitude(dys), magnitude(xs), r);
      CHECK(within(dweight.view(),
                   dweights.elements,
                   result_bounds<A>(s.N * s.H + s.C / 2 + 12, dweight_terms, dweights)));

      // With a residual of the gradient's size, in place.
      guarded<S, 3, B> residual(shape, spaced(s), scaled(normal(count, 6), 40 - scale));
      array<3> sums = array_of(residual.view());
      sums.elements = scaled(sums.elements, scale);
      const array<3> sum_terms = terms + magnitude(sums);
      sums = gradients + sums;
      rms_norm_backward(context,
                        residual.view(),
                        vector_view<A, B>(nullptr, dims<1>{s.C}),
                        dy.view(),
                        x.view(),
                        inv_rms.view(),
                        weight.view(),
                        residual.view());
      CHECK(within(scaled(values(residual.view()), scale),
                   sums.elements,
                   result_bounds<S>(2 * s.C + 31, sum_terms, sums)));
      CHECK(residual.intact());
    }
  }
}

TEST_CASE_TEMPLATE_APPLY(large_rows, cases);

}  // namespace mtp::test::rms_norm

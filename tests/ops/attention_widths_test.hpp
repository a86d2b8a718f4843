// Attention with a scale of its own and values of another width than keys. Who includes this says
// for which cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/ops/attention.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::attention_widths {

struct width_sizes {
  index_t batch, T, H, G, E, V;
};

inline const width_sizes sizes[] = {{1, 1, 1, 1, 1, 3},
                                    {2, 5, 2, 1, 3, 1},
                                    {1, 17, 4, 2, 33, 8},
                                    {2, 13, 3, 3, 8, 35},
                                    {1, 70, 2, 2, 48, 32},
                                    {1, 33, 2, 2, 32, 64},
                                    {3, 50, 2, 1, 16, 16}};

/// Queries, keys, values and gradients, and what the operations make of them.
template <class S, class B>
struct subject {
  index_t batch, H, G, N, V;
  double scale;
  guarded<S, 3, B> q, k, v, dout, out, dq, dk, dv;
  guarded<accumulate_t<S>, 2, B> statistics;

  explicit subject(const width_sizes& s)
      : batch(s.batch),
        H(s.H),
        G(s.G),
        N(s.batch * s.T),
        V(s.V),
        scale(1.7 / std::sqrt(static_cast<double>(s.E))),
        q(rows(s.H, s.E), spaced(s.H, s.E), normal(N * s.H * s.E, 1)),
        k(rows(s.G, s.E), spaced(s.G, s.E), normal(N * s.G * s.E, 2)),
        v(rows(s.G, V), spaced(s.G, V), normal(N * s.G * V, 3)),
        dout(rows(s.H, V), spaced(s.H, V), normal(N * s.H * V, 4)),
        out(rows(s.H, V), spaced(s.H, V)),
        dq(rows(s.H, s.E), spaced(s.H, s.E)),
        dk(rows(s.G, s.E), spaced(s.G, s.E)),
        dv(rows(s.G, V), spaced(s.G, V)),
        statistics(dims<2>{N, 2 * s.H}, strides(2 * s.H + 3, 1)) {}

  dims<3> rows(index_t heads, index_t width) const { return {N, heads, width}; }

  void forward(context<B>& context) {
    attention_forward(
        context, out.view(), statistics.view(), q.view(), k.view(), v.view(), batch, scale);
  }
  void backward(context<B>& context) {
    attention_backward(context,
                       dq.view(),
                       dk.view(),
                       dv.view(),
                       dout.view(),
                       q.view(),
                       k.view(),
                       v.view(),
                       out.view(),
                       statistics.view(),
                       batch,
                       scale);
  }
  std::vector<double> elements() {
    return join(join(values(out.view()), values(statistics.view())),
                join(join(values(dq.view()), values(dk.view())), values(dv.view())));
  }
};

/// The reference divides scores by sqrt(E): queries times `factor` have the scale instead.
template <class S, class B>
double factor_of(const subject<S, B>& a) {
  return a.scale * std::sqrt(static_cast<double>(a.q.view().extent(2)));
}
inline array<3> scaled(array<3> x, double factor) {
  for (double& element : x.elements) {
    element *= factor;
  }
  return x;
}

TEST_CASE_TEMPLATE_DEFINE("attention with a scale and wide or narrow values matches the reference",
                          Case,
                          matches) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const width_sizes& s : some_of<B>(sizes)) {
    CAPTURE(s.T);
    CAPTURE(s.E);
    CAPTURE(s.V);
    subject<S, B> a(s);
    const double factor = factor_of(a);
    const array<3> q = scaled(array_of(a.q.view()), factor), k = array_of(a.k.view());
    const array<3> v = array_of(a.v.view());
    a.forward(context);
    const expected_forward<Case> forward(q, k, v, s.batch);
    CHECK(within(a.out.view(), forward.out.elements, forward.out_bounds));
    CHECK(within(a.statistics.view(), forward.statistics.elements, forward.statistics_bounds));
    a.backward(context);
    const expected_backward<Case> backward(q, k, v, array_of(a.dout.view()), s.batch);
    const array<3> dq = scaled(backward.dq, factor);
    CHECK(
        within(a.dq.view(), dq.elements, stored_bounds<S>(dq, scaled(backward.dq_errors, factor))));
    CHECK(within(
        a.dk.view(), backward.dk.elements, stored_bounds<S>(backward.dk, backward.dk_errors)));
    CHECK(within(
        a.dv.view(), backward.dv.elements, stored_bounds<S>(backward.dv, backward.dv_errors)));
    for (auto* const each : {&a.out, &a.dq, &a.dk, &a.dv}) {
      CHECK(each->intact());
    }
    CHECK(a.statistics.intact());
    for (auto* const each : {&a.q, &a.k, &a.v, &a.dout}) {
      CHECK(each->untouched());
    }
    CHECK(workspace_is_idle(context));
  }
}

TEST_CASE_TEMPLATE_DEFINE("gradients of attention with a scale match differences",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const width_sizes& s : {width_sizes{2, 4, 2, 1, 3, 5}, width_sizes{1, 20, 4, 2, 34, 8}}) {
      subject<S, B> a(s);
      const array<3> dout = array_of(a.dout.view());
      a.forward(context);
      a.backward(context);
      const auto differs = [&](guarded<S, 3, B>& x, guarded<S, 3, B>& dx) {
        const auto start = values(x.view());
        const auto loss = [&](std::span<const double> at) {
          x.set(std::vector<double>(at.begin(), at.end()));
          a.forward(context);
          return reference::inner(dout, array_of(a.out.view()));
        };
        const bool same = static_cast<bool>(gradient_matches(loss, start, values(dx.view())));
        x.set(start);
        return same;
      };
      CHECK(differs(a.q, a.dq));
      CHECK(differs(a.k, a.dk));
      CHECK(differs(a.v, a.dv));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention with a scale gives the same bits however it is computed",
                          Case,
                          ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const width_sizes& s :
       {width_sizes{2, 49, 4, 2, 24, 33}, width_sizes{1, 30, 2, 2, 40, 16}}) {
    subject<S, B> a(s);
    CHECK(same_in_all_ways<B>([&](auto& context) {
      a.forward(context);
      a.backward(context);
      return a.elements();
    }));
    // A sequence by itself, and its beginning.
    auto context = testing<B>::make_context();
    subject<S, B> one(s);
    for (const index_t T : {s.T, s.T / 2}) {
      const auto part = [&](auto& x) { return x.view().slice(0, 0, T); };
      attention_forward(context,
                        part(one.out),
                        part(one.statistics),
                        part(one.q),
                        part(one.k),
                        part(one.v),
                        1,
                        one.scale);
      CHECK(same_bits(part(one.out), part(a.out)));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention with the usual scale and width has the bits of the short call",
                          Case,
                          usual) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const width_sizes& s : {width_sizes{2, 33, 4, 2, 16, 16}, width_sizes{1, 40, 3, 1, 9, 9}}) {
    subject<S, B> a(s), b(s);
    a.scale = 1 / std::sqrt(static_cast<double>(s.E));
    a.forward(context);
    a.backward(context);
    attention_forward(
        context, b.out.view(), b.statistics.view(), b.q.view(), b.k.view(), b.v.view(), s.batch);
    attention_backward(context,
                       b.dq.view(),
                       b.dk.view(),
                       b.dv.view(),
                       b.dout.view(),
                       b.q.view(),
                       b.k.view(),
                       b.v.view(),
                       b.out.view(),
                       b.statistics.view(),
                       s.batch);
    CHECK(same_bits(a.elements(), b.elements()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention with a scale rejects what does not fit", Case, wrong) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  subject<S, B> a({1, 4, 2, 1, 6, 5}), wide({1, 4, 2, 1, 6, 7}), longer({1, 5, 2, 1, 6, 5});
  const auto rejected = [&](auto& out, auto& v, double scale) {
    return rejects("attention_forward",
                   [&] {
                     attention_forward(context,
                                       out.view(),
                                       a.statistics.view(),
                                       a.q.view(),
                                       a.k.view(),
                                       v.view(),
                                       1,
                                       scale);
                   }) &&
           rejects("attention_backward", [&] {
             attention_backward(context,
                                a.dq.view(),
                                a.dk.view(),
                                a.dv.view(),
                                out.view(),
                                a.q.view(),
                                a.k.view(),
                                v.view(),
                                a.out.view(),
                                a.statistics.view(),
                                1,
                                scale);
           });
  };
  CHECK(rejected(wide.out, a.v, 1));
  CHECK(rejected(a.out, wide.v, 1));
  CHECK(rejected(a.out, longer.v, 1));
  CHECK(rejected(a.out, a.v, 0));
  CHECK(rejected(a.out, a.v, std::nan("")));
  // Without a scale, values are as wide as keys.
  CHECK(rejects("attention_forward", [&] {
    attention_forward(
        context, a.out.view(), a.statistics.view(), a.q.view(), a.k.view(), a.v.view(), 1);
  }));
  CHECK(a.out.untouched());
  CHECK(a.dq.untouched());
}

TEST_CASE_TEMPLATE_APPLY(matches, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(usual, cases);
TEST_CASE_TEMPLATE_APPLY(wrong, one_case);

}  // namespace mtp::test::attention_widths

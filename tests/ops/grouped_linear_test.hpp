// Linear maps of experts against linear maps, expert by expert. Who includes this says for which
// cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "mtp/ops/grouped_linear.hpp"
#include "mtp/ops/linear.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/linear.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::grouped_linear {

using reference::array;
using reference::array_of;

struct group_sizes {
  std::vector<index_t> counts;  // rows of each expert
  index_t N, K;                 // outputs of each, inputs
};

// One expert with an odd number of outputs; experts without rows at the beginning, within and at
// the end; all rows with one; around the rows of a tile, of a piece of rows, of a block, and of a
// pack that the CPU copies; long chains; no rows at all; very different numbers of rows; rows that
// the CPU takes as lanes, with and without a tail of rows, outputs and inputs.
inline const std::vector<group_sizes>& sizes() {
  static const std::vector<group_sizes> all = {{{3}, 5, 7},
                                               {{0, 2, 0, 0, 1, 0}, 32, 33},
                                               {{0, 9, 0}, 64, 31},
                                               {{11, 12, 13, 1}, 32, 64},
                                               {{15, 16, 17, 33}, 32, 72},
                                               {{97, 0, 1, 130}, 64, 70},
                                               {{400, 3, 2}, 32, 20},
                                               {{1, 1, 1, 1, 1, 1, 1, 1}, 96, 264},
                                               {{5, 30}, 32, 600},
                                               {{2, 26}, 32, 1100},
                                               {{0, 0}, 32, 8},
                                               {{25, 2}, 288, 512},
                                               {{1, 18}, 32, 2200},
                                               {{29}, 45, 100},
                                               {{64, 70, 191, 192}, 96, 113}};
  return all;
}

/// Rows of experts, their matrices, and gradients of both.
template <class S, class B>
struct groups {
  using A = accumulate_t<S>;
  index_t R = 0, E, N, K;
  std::vector<double> ends{0};
  guarded<index_t, 1, B> offsets;
  guarded<S, 2, B> x, dy;
  guarded_weight<S, B> w;

  explicit groups(const group_sizes& s)
      : E(static_cast<index_t>(s.counts.size())),
        N(s.N),
        K(s.K),
        offsets(dims<1>{E + 1}),
        x(dims<2>{total(s), s.K}, strides(s.K + 5, 1), uniform(total(s) * s.K, 1)),
        dy(dims<2>{total(s), s.N}, strides(s.N + 3, 1), uniform(total(s) * s.N, 3)),
        w(E * s.N, s.K, uniform(E * s.N * s.K, 2)) {
    for (const index_t count : s.counts) {
      R += count;
      ends.push_back(static_cast<double>(R));
    }
    offsets.set(ends);
  }

  static index_t total(const group_sizes& s) {
    index_t sum = 0;
    for (const index_t count : s.counts) {
      sum += count;
    }
    return sum;
  }
  index_t begin(index_t e) const { return static_cast<index_t>(ends[static_cast<std::size_t>(e)]); }
  index_t count(index_t e) const { return begin(e + 1) - begin(e); }
  /// A part of rows or of their gradients.
  template <class View>
  auto part(const View& rows, index_t e) const {
    return rows.slice(0, begin(e), count(e));
  }
  bool untouched() const {
    return offsets.untouched() && x.untouched() && dy.untouched() && w.untouched();
  }
};

TEST_CASE_TEMPLATE_DEFINE("a row gets from its expert the bits that linear_forward gives it alone",
                          Case,
                          forward_bits) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const group_sizes& s : some_of<B>(sizes())) {
    groups<S, B> g(s);
    CAPTURE(g.R);
    CAPTURE(g.E);
    CAPTURE(g.N);
    CAPTURE(g.K);
    auto one = testing<B>::make_context();
    std::vector<S> alone;
    for (index_t e = 0; e < g.E; ++e) {
      for (index_t r = 0; r < g.count(e); ++r) {
        guarded<S, 2, B> y(dims<2>{1, g.N});
        linear_forward(
            one, y.view(), g.x.view().slice(0, g.begin(e) + r, 1), g.w.view().rows(e * g.N, g.N));
        alone = join(std::move(alone), elements(y.view()));
      }
    }
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      guarded<S, 2, B> y(dims<2>{g.R, g.N}, strides(g.N + 5, 1));
      grouped_linear_forward(context, y.view(), g.x.view(), g.w.view(), g.offsets.view());
      CHECK(same_bits(elements(y.view()), alone));
      CHECK(y.intact());
      CHECK(workspace_is_idle(context));
    });
    CHECK(g.untouched());
  }
}

/// Rounding errors of a sum of k products, as for linear maps.
template <class S, class Y = S>
std::vector<double> bounds(index_t k, const array<2>& sum, const array<2>& value) {
  return result_bounds<Y>(std::is_same_v<S, bf16> ? 2 * (k + 1) : k + 1, sum, value);
}

TEST_CASE_TEMPLATE_DEFINE("linear maps of experts match the reference", Case, all_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const group_sizes& s : some_of<B>(sizes())) {
    groups<S, B> g(s);
    CAPTURE(g.R);
    CAPTURE(g.N);
    CAPTURE(g.K);
    guarded<S, 2, B> y(dims<2>{g.R, g.N}), dx(dims<2>{g.R, g.K}, strides(g.K + 1, 1));
    guarded_weight<A, B> dw(g.E * g.N, g.K, uniform(g.E * g.N * g.K, 5));
    const array<2> before = dw.rows();
    grouped_linear_forward(context, y.view(), g.x.view(), g.w.view(), g.offsets.view());
    grouped_linear_backward_input(context, dx.view(), g.dy.view(), g.w.view(), g.offsets.view());
    grouped_linear_backward_weight(context, dw.view(), g.dy.view(), g.x.view(), g.offsets.view());
    const array<2> ws = g.w.rows(), sums = dw.rows();
    for (index_t e = 0; e < g.E; ++e) {
      CAPTURE(e);
      const auto expert = [&](const array<2>& all) {
        const auto first = all.elements.begin() + e * g.N * g.K;
        return array_of<2>({g.N, g.K}, std::vector<double>(first, first + g.N * g.K));
      };
      const array<2> x = array_of(g.part(g.x.view(), e)), d = array_of(g.part(g.dy.view(), e));
      const array<2> own = expert(ws);
      const array<2> product = reference::linear_forward(x, own);
      CHECK(
          within(g.part(y.view(), e),
                 product.elements,
                 bounds<S>(g.K, reference::linear_forward(magnitude(x), magnitude(own)), product)));
      const array<2> back = reference::linear_backward_input(d, own);
      CHECK(within(
          g.part(dx.view(), e),
          back.elements,
          bounds<S>(g.N, reference::linear_backward_input(magnitude(d), magnitude(own)), back)));
      const array<2> sum = expert(before) + reference::linear_backward_weight(d, x);
      CHECK(within(expert(sums).elements,
                   sum.elements,
                   bounds<S, A>(g.count(e),
                                magnitude(expert(before)) +
                                    reference::linear_backward_weight(magnitude(d), magnitude(x)),
                                sum)));
    }
    CHECK(dw.padding_is_zero());
    CHECK(dw.intact());
    CHECK(y.intact());
    CHECK(dx.intact());
    CHECK(g.untouched());
  }
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_DEFINE(
    "gradients of linear maps of experts are the same however they are computed", Case, ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  for (const std::size_t i : {std::size_t{1}, std::size_t{4}, std::size_t{8}}) {
    groups<S, B> g(sizes()[i]);
    CAPTURE(i);
    CHECK(same_in_all_ways<B>([&](auto& context) {
      guarded<S, 2, B> dx(dims<2>{g.R, g.K});
      guarded_weight<A, B> dw(g.E * g.N, g.K, uniform(g.E * g.N * g.K, 5));
      grouped_linear_backward_input(context, dx.view(), g.dy.view(), g.w.view(), g.offsets.view());
      grouped_linear_backward_weight(context, dw.view(), g.dy.view(), g.x.view(), g.offsets.view());
      return join(values(dx.view()), dw.rows().elements);
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE("gradients of linear maps of experts match differences",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  groups<double, B> g({{2, 0, 3}, 32, 4});
  guarded<double, 2, B> y(dims<2>{g.R, g.N}), dx(dims<2>{g.R, g.K});
  guarded_weight<double, B> dw(
      g.E * g.N, g.K, std::vector<double>(static_cast<std::size_t>(g.E * g.N * g.K), 0.0));
  grouped_linear_backward_input(context, dx.view(), g.dy.view(), g.w.view(), g.offsets.view());
  grouped_linear_backward_weight(context, dw.view(), g.dy.view(), g.x.view(), g.offsets.view());
  const array<2> d = array_of(g.dy.view());
  const auto loss = [&](auto x, auto w) {
    grouped_linear_forward(context, y.view(), x, w, g.offsets.view());
    return reference::inner(d, array_of(y.view()));
  };
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        guarded<double, 2, B> moved(dims<2>{g.R, g.K}, std::vector<double>(at.begin(), at.end()));
        return loss(moved.view(), g.w.view());
      },
      values(g.x.view()),
      values(dx.view())));
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        guarded_weight<double, B> moved(g.E * g.N, g.K, std::vector<double>(at.begin(), at.end()));
        return loss(g.x.view(), moved.view());
      },
      g.w.rows().elements,
      dw.rows().elements));
}

TEST_CASE_TEMPLATE_DEFINE("linear maps of experts reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  groups<S, B> g({{2, 1}, 64, 5}), other({{2, 1}, 64, 6}), longer({{2, 2}, 64, 5});
  guarded<index_t, 1, B> none(dims<1>{1}, std::vector<double>{0});
  guarded<index_t, 1, B> three(dims<1>{4}, std::vector<double>{0, 1, 2, 3});
  guarded<S, 2, B> y(dims<2>{3, 64}), dx(dims<2>{3, 5}), spread(dims<2>{3, 64}, strides(128, 2));
  guarded_weight<A, B> dw(128, 5, uniform(640, 1)), wide_dw(128, 6, uniform(768, 1));
  const auto forward = [&](auto to, auto x, auto w, auto offsets) {
    return rejects("grouped_linear_forward",
                   [&] { grouped_linear_forward(context, to, x, w, offsets); });
  };
  const auto backward = [&](auto to, auto dy, auto w, auto offsets) {
    return rejects("grouped_linear_backward_input",
                   [&] { grouped_linear_backward_input(context, to, dy, w, offsets); });
  };
  const auto weight = [&](auto to, auto dy, auto x, auto offsets) {
    return rejects("grouped_linear_backward_weight",
                   [&] { grouped_linear_backward_weight(context, to, dy, x, offsets); });
  };
  const auto x = g.x.view(), dy = g.dy.view();
  const auto w = g.w.view();
  const auto offsets = g.offsets.view();
  CHECK(forward(y.view(), other.x.view(), w, offsets));
  CHECK(forward(y.view(), longer.x.view(), w, offsets));
  CHECK(forward(y.view(), x, other.w.view(), offsets));
  CHECK(forward(y.view(), x, w, none.view()));
  CHECK(forward(y.view(), x, w, three.view()));
  CHECK(forward(spread.view(), x, w, offsets));
  CHECK(backward(dx.view(), longer.dy.view(), w, offsets));
  CHECK(backward(dx.view(), dy, other.w.view(), offsets));
  CHECK(backward(dx.view(), dy, w, three.view()));
  CHECK(backward(dx.view(), spread.view(), w, offsets));
  CHECK(weight(dw.view(), longer.dy.view(), x, offsets));
  CHECK(weight(dw.view(), dy, other.x.view(), offsets));
  CHECK(weight(wide_dw.view(), dy, x, offsets));
  CHECK(weight(dw.view(), dy, x, three.view()));
  if constexpr (backend_traits<B>::is_host_memory) {
    for (const std::vector<double>& bad :
         {std::vector<double>{0, 2, 4}, {0, 2, 2}, {1, 2, 3}, {0, 4, 3}, {0, -1, 3}}) {
      guarded<index_t, 1, B> wrong(dims<1>{3}, bad);
      CHECK(forward(y.view(), x, w, wrong.view()));
      CHECK(backward(dx.view(), dy, w, wrong.view()));
      CHECK(weight(dw.view(), dy, x, wrong.view()));
    }
    // Matrices that the layout cannot split.
    guarded_weight<S, B> odd(6, 5, uniform(30, 1));
    guarded<S, 2, B> few(dims<2>{3, 3});
    CHECK(forward(few.view(), x, odd.view(), offsets));
  }
  CHECK(y.untouched());
  CHECK(dx.untouched());
  CHECK(spread.untouched());
  CHECK(dw.untouched());
  CHECK(wide_dw.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_bits, cases);
TEST_CASE_TEMPLATE_APPLY(all_values, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::grouped_linear

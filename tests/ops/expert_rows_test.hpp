// Rows on their way to experts and back, against the reference. Who includes this says for which
// cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mtp/ops/expert_rows.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/expert_rows.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::expert_rows {

using reference::array;
using reference::array_of;

struct row_sizes {
  index_t N, k, E, C;
};

// One pair; one expert; most experts without rows; more pairs than a block has threads; columns
// around the widths of vectors and packs.
inline const row_sizes sizes[] = {{1, 1, 1, 1},
                                  {3, 2, 1, 5},
                                  {5, 2, 4, 17},
                                  {7, 3, 64, 32},
                                  {0, 2, 3, 8},
                                  {9, 8, 8, 33},
                                  {131, 6, 16, 72},
                                  {600, 2, 5, 3},
                                  {33, 1, 260, 257}};

/// Experts of N rows; some get most of them.
inline std::vector<double> skewed_experts(const row_sizes& s, std::uint64_t stream = 1) {
  std::vector<double> experts;
  for (const double u : uniform(s.N * s.k, stream, 0.0, 1.0)) {
    experts.push_back(std::floor(u * u * u * static_cast<double>(s.E) * 0.999));
  }
  return experts;
}

/// Pairs sorted by their experts.
template <class B>
struct grouping {
  guarded<index_t, 2, B> experts;
  guarded<index_t, 1, B> offsets, pairs;
  guarded<index_t, 2, B> rows;

  grouping(const row_sizes& s, const std::vector<double>& chosen)
      : experts(dims<2>{s.N, s.k}, strides(s.k + 1, 1), chosen),
        offsets(dims<1>{s.E + 1}),
        pairs(dims<1>{s.N * s.k}),
        rows(dims<2>{s.N, s.k}, strides(s.k + 2, 1)) {}
  template <class Context>
  void run(Context& context) {
    group_rows(context, offsets.view(), pairs.view(), rows.view(), experts.view());
  }
};

TEST_CASE_TEMPLATE_DEFINE("group_rows sorts pairs by expert and keeps their order",
                          Case,
                          sorted_pairs) {
  using B = typename Case::backend;
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    for (const row_sizes& s : some_of<B>(sizes)) {
      CAPTURE(s.N);
      CAPTURE(s.E);
      for (const bool one_expert : {false, true}) {
        const auto last = static_cast<double>(s.E - 1);
        grouping<B> g(s,
                      one_expert ? std::vector<double>(static_cast<std::size_t>(s.N * s.k), last)
                                 : skewed_experts(s));
        g.run(context);
        std::vector<index_t> offsets{0}, pairs, rows(static_cast<std::size_t>(s.N * s.k));
        for (const auto& own : reference::pairs_of_experts(array_of(g.experts.view()), s.E)) {
          for (const index_t pair : own) {
            rows[static_cast<std::size_t>(pair)] = static_cast<index_t>(pairs.size());
            pairs.push_back(pair);
          }
          offsets.push_back(static_cast<index_t>(pairs.size()));
        }
        CHECK(same_bits(elements(g.offsets.view()), offsets));
        CHECK(same_bits(elements(g.pairs.view()), pairs));
        CHECK(same_bits(elements(g.rows.view()), rows));
        CHECK(g.offsets.intact());
        CHECK(g.pairs.intact());
        CHECK(g.rows.intact());
        CHECK(g.experts.untouched());
      }
    }
  });
}

TEST_CASE_TEMPLATE_DEFINE("add_group_sizes adds the sizes", Case, group_sizes) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  guarded<S, 1, B> counts(dims<1>{3}, std::vector<double>{1, 0.5, 2});
  guarded<index_t, 1, B> offsets(dims<1>{4}, std::vector<double>{0, 4, 4, 9});
  add_group_sizes(context, counts.view(), offsets.view());
  CHECK(within(counts.view(), {5, 0.5, 7}, 0.0));
  CHECK(counts.intact());
  CHECK(offsets.untouched());
}

/// Rows of C elements, `gap` elements apart.
template <class S, class B>
guarded<S, 2, B> random_rows(index_t N, index_t C, index_t gap, std::uint64_t stream) {
  return {dims<2>{N, C}, strides(C + gap, 1), normal(N * C, stream)};
}

TEST_CASE_TEMPLATE_DEFINE("gather_rows copies the rows of pairs", Case, gathered) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const row_sizes& s : some_of<B>(sizes)) {
    for (const index_t gap : {0, 3, 16}) {
      CAPTURE(s.N);
      CAPTURE(gap);
      grouping<B> g(s, skewed_experts(s));
      g.run(context);
      auto x = random_rows<S, B>(s.N, s.C, gap, 2);
      guarded<S, 2, B> y(dims<2>{s.N * s.k, s.C}, strides(s.C + gap, 1));
      gather_rows(context, y.view(), x.view(), g.pairs.view());
      std::vector<S> expected;
      for (const index_t pair : elements(g.pairs.view())) {
        expected = join(std::move(expected), elements(x.view().select(0, pair / s.k)));
      }
      CHECK(same_bits(elements(y.view()), expected));
      CHECK(y.intact());
      CHECK(x.untouched());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("scatter_rows and its gradient match the reference", Case, scattered) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const row_sizes& s : some_of<B>(sizes)) {
    for (const index_t gap : {0, 3}) {
      CAPTURE(s.N);
      CAPTURE(s.k);
      CAPTURE(s.C);
      grouping<B> g(s, skewed_experts(s));
      g.run(context);
      const index_t R = s.N * s.k;
      auto x = random_rows<S, B>(R, s.C, gap, 2), residual = random_rows<S, B>(s.N, s.C, gap, 3);
      auto weights = random_rows<A, B>(s.N, s.k, 1, 4);
      const array<2> xs = array_of(x.view()), rs = array_of(residual.view());
      const array<2> ws = array_of(weights.view()), rows = array_of(g.rows.view());
      guarded<S, 2, B> y(dims<2>{s.N, s.C}, strides(s.C + gap, 1));
      scatter_rows(context, y.view(), residual.view(), x.view(), g.rows.view(), weights.view());
      const array<2> sum = reference::scatter_rows(rs, xs, rows, ws);
      const array<2> largest =
          reference::scatter_rows(magnitude(rs), magnitude(xs), rows, magnitude(ws));
      CHECK(within(y.view(), sum.elements, result_bounds<S>(s.k + 1, largest, sum)));
      CHECK(y.intact());
      CHECK(x.untouched());
      CHECK(weights.untouched());

      array<2> ones(ws.sizes);
      ones.elements.assign(ones.elements.size(), 1.0);
      guarded<S, 2, B> plain(dims<2>{s.N, s.C}, strides(s.C + gap, 1));
      const view<A, dims<2>, B> none(nullptr, {0, 0});
      scatter_rows(context, plain.view(), residual.view(), x.view(), g.rows.view(), none);
      const array<2> plain_sum = reference::scatter_rows(rs, xs, rows, ones);
      CHECK(
          within(plain.view(),
                 plain_sum.elements,
                 result_bounds<S>(s.k + 1,
                                  reference::scatter_rows(magnitude(rs), magnitude(xs), rows, ones),
                                  plain_sum)));

      auto dy = random_rows<S, B>(s.N, s.C, gap, 5);
      const array<2> dys = array_of(dy.view());
      guarded<S, 2, B> dx(dims<2>{R, s.C}, strides(s.C + gap, 1));
      guarded<A, 2, B> dweights(dims<2>{s.N, s.k}, strides(s.k + 3, 1));
      scatter_rows_backward(
          context, dx.view(), dweights.view(), dy.view(), x.view(), g.rows.view(), weights.view());
      const array<2> expected = reference::scattered_gradient(dys, rows, ws);
      CHECK(
          within(dx.view(), expected.elements, result_bounds<S>(1, magnitude(expected), expected)));
      const array<2> dots = reference::gradient_of_weights(dys, xs, rows);
      CHECK(within(
          dweights.view(),
          dots.elements,
          result_bounds<A>(
              s.C, reference::gradient_of_weights(magnitude(dys), magnitude(xs), rows), dots)));
      CHECK(dx.intact());
      CHECK(dweights.intact());
      CHECK(dy.untouched());
      CHECK(x.untouched());

      scatter_rows(
          context, residual.view(), residual.view(), x.view(), g.rows.view(), weights.view());
      CHECK(same_bits(residual.view(), y.view()));
      CHECK(residual.intact());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "scatter_rows adds in the order of a row's experts, whatever their numbers", Case, order) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const double large = std::is_same_v<A, double> ? 0x1p60 : 0x1p30;
  // 1 is lost beside the large number, unless that is gone before.
  guarded<S, 2, B> x(dims<2>{3, 1}, std::vector<double>{1, large, -large});
  guarded<S, 2, B> residual(dims<2>{1, 1}, std::vector<double>{0}), y(dims<2>{1, 1});
  guarded<A, 2, B> weights(dims<2>{1, 3}, std::vector<double>{1, 1, 1});
  for (const auto& [rows, sum] : {std::pair<std::vector<double>, double>{{1, 2, 0}, 1},
                                  std::pair<std::vector<double>, double>{{0, 1, 2}, 0}}) {
    guarded<index_t, 2, B> places(dims<2>{1, 3}, rows);
    scatter_rows(context, y.view(), residual.view(), x.view(), places.view(), weights.view());
    CHECK(within(y.view(), {sum}, 0.0));
  }
}

TEST_CASE_TEMPLATE_DEFINE("gradients of scatter_rows match differences", Case, gradients) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  const row_sizes s{5, 2, 3, 7};
  grouping<B> g(s, skewed_experts(s));
  g.run(context);
  auto x = random_rows<double, B>(10, 7, 0, 2), residual = random_rows<double, B>(5, 7, 0, 3);
  auto weights = random_rows<double, B>(5, 2, 0, 4), dy = random_rows<double, B>(5, 7, 0, 5);
  guarded<double, 2, B> dx(dims<2>{10, 7}), dweights(dims<2>{5, 2}), y(dims<2>{5, 7});
  scatter_rows_backward(
      context, dx.view(), dweights.view(), dy.view(), x.view(), g.rows.view(), weights.view());
  const array<2> d = array_of(dy.view());
  const auto loss = [&](auto x_rows, auto weight_rows) {
    scatter_rows(context, y.view(), residual.view(), x_rows, g.rows.view(), weight_rows);
    return reference::inner(d, array_of(y.view()));
  };
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        guarded<double, 2, B> moved(dims<2>{10, 7}, std::vector<double>(at.begin(), at.end()));
        return loss(moved.view(), weights.view());
      },
      values(x.view()),
      values(dx.view())));
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        guarded<double, 2, B> moved(dims<2>{5, 2}, std::vector<double>(at.begin(), at.end()));
        return loss(x.view(), moved.view());
      },
      values(weights.view()),
      values(dweights.view())));
}

TEST_CASE_TEMPLATE_DEFINE(
    "rows have the same bits on their way to experts and back among any number of rows",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const row_sizes s{70, 3, 8, 133};
  const auto chosen = skewed_experts(s);
  auto x = random_rows<S, B>(s.N, s.C, 3, 2), dy = random_rows<S, B>(s.N, s.C, 3, 3);
  auto weights = random_rows<A, B>(s.N, s.k, 1, 4);
  const auto run = [&](auto& context, index_t first, index_t M) {
    const row_sizes part{M, s.k, s.E, s.C};
    grouping<B> g(
        part,
        std::vector<double>(chosen.begin() + first * s.k, chosen.begin() + (first + M) * s.k));
    g.run(context);
    guarded<S, 2, B> gathered(dims<2>{M * s.k, s.C}), y(dims<2>{M, s.C}), dx(dims<2>{M * s.k, s.C});
    guarded<A, 2, B> dweights(dims<2>{M, s.k});
    const auto rows = x.view().slice(0, first, M), d = dy.view().slice(0, first, M);
    const auto w = weights.view().slice(0, first, M);
    gather_rows(context, gathered.view(), rows, g.pairs.view());
    scatter_rows(context, y.view(), d, gathered.view(), g.rows.view(), w);
    scatter_rows_backward(
        context, dx.view(), dweights.view(), d, gathered.view(), g.rows.view(), w);
    std::vector<double> all;
    for (index_t m = 0; m < M; ++m) {
      all = join(std::move(all), values(y.view().select(0, m)));
      all = join(std::move(all), values(dweights.view().select(0, m)));
      for (index_t j = 0; j < s.k; ++j) {
        all = join(std::move(all), values(dx.view().select(0, g.rows.view()(m, j))));
      }
    }
    return all;
  };
  auto one = testing<B>::make_context();
  std::vector<double> alone;
  for (index_t m = 0; m < s.N; ++m) {
    alone = join(std::move(alone), run(one, m, 1));
  }
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    CHECK(same_bits(run(context, 0, s.N), alone));
  });
}

TEST_CASE_TEMPLATE_DEFINE(
    "operations on the rows of experts reject wrong shapes and change nothing", Case, rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const row_sizes s{3, 2, 4, 5};
  grouping<B> g(s, skewed_experts(s));
  guarded<index_t, 1, B> few(dims<1>{5}), one(dims<1>{1});
  guarded<index_t, 2, B> odd(dims<2>{3, 3});
  const auto group = [&](auto offsets, auto pairs, auto rows) {
    return rejects("group_rows",
                   [&] { group_rows(context, offsets, pairs, rows, g.experts.view()); });
  };
  CHECK(group(one.view(), g.pairs.view(), g.rows.view()));
  CHECK(group(g.offsets.view(), few.view(), g.rows.view()));
  CHECK(group(g.offsets.view(), g.pairs.view(), odd.view()));
  if constexpr (backend_traits<B>::is_host_memory) {
    for (const double wrong : {-1.0, 4.0}) {
      auto chosen = skewed_experts(s);
      chosen[3] = wrong;
      grouping<B> bad(s, chosen);
      CHECK(rejects("group_rows", [&] { bad.run(context); }));
      CHECK(bad.offsets.untouched());
    }
  }
  CHECK(g.offsets.untouched());
  CHECK(g.pairs.untouched());
  CHECK(g.rows.untouched());
  g.run(context);
  guarded<S, 1, B> counts(dims<1>{3}, uniform(3, 1));
  CHECK(rejects("add_group_sizes",
                [&] { add_group_sizes(context, counts.view(), g.offsets.view()); }));
  auto x = random_rows<S, B>(3, 5, 0, 2), wide = random_rows<S, B>(3, 6, 0, 2);
  auto outputs = random_rows<S, B>(6, 5, 0, 3);
  guarded<S, 2, B> y(dims<2>{6, 5}), spread(dims<2>{6, 5}, strides(10, 2)), sum(dims<2>{3, 5});
  guarded<A, 2, B> weights(dims<2>{3, 2}, uniform(6, 4)), other(dims<2>{3, 3}, uniform(9, 4));
  guarded<A, 2, B> dweights(dims<2>{3, 2});
  const auto gather = [&](auto to, auto from, auto pairs) {
    return rejects("gather_rows", [&] { gather_rows(context, to, from, pairs); });
  };
  CHECK(gather(y.view(), wide.view(), g.pairs.view()));
  CHECK(gather(y.view(), x.view(), few.view()));
  CHECK(gather(spread.view(), x.view(), g.pairs.view()));
  CHECK(gather(y.view(), x.view().slice(0, 0, 0), g.pairs.view()));
  const auto scatter = [&](auto residual, auto rows_of_experts, auto rows, auto w) {
    return rejects("scatter_rows",
                   [&] { scatter_rows(context, sum.view(), residual, rows_of_experts, rows, w); });
  };
  CHECK(scatter(wide.view(), outputs.view(), g.rows.view(), weights.view()));
  CHECK(scatter(x.view(), x.view(), g.rows.view(), weights.view()));
  CHECK(scatter(x.view(), spread.view(), g.rows.view(), weights.view()));
  CHECK(scatter(x.view(), outputs.view(), odd.view(), weights.view()));
  CHECK(scatter(x.view(), outputs.view(), g.rows.view(), other.view()));
  const auto backward = [&](auto dx, auto dw, auto dy, auto rows_of_experts, auto w) {
    return rejects("scatter_rows_backward", [&] {
      scatter_rows_backward(context, dx, dw, dy, rows_of_experts, g.rows.view(), w);
    });
  };
  CHECK(backward(sum.view(), dweights.view(), x.view(), outputs.view(), weights.view()));
  CHECK(backward(y.view(), other.view(), x.view(), outputs.view(), weights.view()));
  CHECK(backward(y.view(), dweights.view(), wide.view(), outputs.view(), weights.view()));
  CHECK(backward(y.view(), dweights.view(), x.view(), x.view(), weights.view()));
  CHECK(backward(spread.view(), dweights.view(), x.view(), outputs.view(), weights.view()));
  CHECK(backward(y.view(), dweights.view(), x.view(), outputs.view(), other.view()));
  CHECK(y.untouched());
  CHECK(spread.untouched());
  CHECK(sum.untouched());
  CHECK(dweights.untouched());
  CHECK(counts.untouched());
  CHECK(other.untouched());
}

TEST_CASE_TEMPLATE_APPLY(sorted_pairs, one_case);
TEST_CASE_TEMPLATE_APPLY(group_sizes, cases);
TEST_CASE_TEMPLATE_APPLY(gathered, cases);
TEST_CASE_TEMPLATE_APPLY(scattered, cases);
TEST_CASE_TEMPLATE_APPLY(order, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, one_case);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::expert_rows

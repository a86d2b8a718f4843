// The router of a mixture of experts against the reference. Who includes this says for which cases:
// see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/ops/route.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/route.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::route_cases {

using reference::array;
using reference::array_of;

struct routing_sizes {
  index_t N, E, k, n_group, topk_group;
};

// One expert; all experts; groups of one, of two and of many, all of them kept or some; more
// experts and groups than a warp has lanes; no rows.
inline const routing_sizes sizes[] = {{1, 1, 1, 1, 1},
                                      {3, 4, 2, 1, 1},
                                      {5, 8, 3, 4, 2},
                                      {7, 8, 8, 1, 1},
                                      {2, 16, 4, 4, 4},
                                      {9, 6, 2, 6, 3},
                                      {33, 64, 6, 8, 4},
                                      {0, 4, 2, 2, 1},
                                      {5, 66, 5, 33, 7},
                                      {6, 7, 1, 1, 1},
                                      {4, 256, 8, 8, 4}};

/// What a call of route is given and what it writes.
template <class S, class B>
struct routing {
  using A = accumulate_t<S>;
  guarded<A, 2, B> logits;
  guarded<S, 1, B> bias;
  guarded<index_t, 2, B> experts;
  guarded<A, 2, B> weights, scores;
  routing_rule rule;

  routing(const routing_sizes& s, const std::vector<double>& logit_values, const routing_rule& how)
      : logits(dims<2>{s.N, s.E}, strides(s.E + 3, 1), logit_values),
        bias(dims<1>{s.E}, normal(s.E, 2, 0.2)),
        experts(dims<2>{s.N, s.k}, strides(s.k + 1, 1)),
        weights(dims<2>{s.N, s.k}, strides(s.k + 2, 1)),
        scores(dims<2>{s.N, s.E}, strides(s.E + 5, 1)),
        rule(how) {
    rule.n_group = s.n_group;
    rule.topk_group = s.topk_group;
  }
  routing(const routing_sizes& s, const routing_rule& how = {})
      : routing(s, normal(s.N * s.E, 1, 1.5), how) {}

  void run(context<B>& context, bool biased = true) {
    const auto given = bias.view();
    route(context,
          experts.view(),
          weights.view(),
          scores.view(),
          logits.view(),
          biased ? given : view<S, dims<1>, B>(nullptr, dims<1>{0}),
          rule);
  }
  bool intact() const {
    return experts.intact() && weights.intact() && scores.intact() && logits.untouched() &&
           bias.untouched();
  }
};

/// Rules with all combinations of what a rule may say.
inline std::vector<routing_rule> rules() {
  std::vector<routing_rule> all;
  for (const auto function : {scoring_function::sigmoid, scoring_function::softmax}) {
    for (const bool norm : {true, false}) {
      all.push_back({.scoring_func = function,
                     .norm_topk_prob = norm,
                     .routed_scaling_factor = norm ? 2.5 : 1.0});
    }
  }
  return all;
}

/// Relative: the exponential within 4 roundings, the sum, the division; for softmax also the
/// argument, which is off by a rounding of up to `spread`, in numerator and denominator.
template <class A>
std::vector<double> score_bounds(const array<2>& logits,
                                 const array<2>& scores,
                                 scoring_function function) {
  std::vector<double> bounds;
  const bool softmax = function == scoring_function::softmax;
  for (index_t n = 0; n < scores.size(0); ++n) {
    double least = HUGE_VAL, largest = -HUGE_VAL;
    for (index_t e = 0; e < scores.size(1); ++e) {
      least = std::min(least, logits(n, e));
      largest = std::max(largest, logits(n, e));
    }
    const double roundings =
        8 + (softmax ? 2 * (largest - least) + 6 + static_cast<double>(scores.size(1)) : 0);
    for (index_t e = 0; e < scores.size(1); ++e) {
      bounds.push_back(gamma(roundings, unit_roundoff<A>) * scores(n, e) +
                       static_cast<double>(std::numeric_limits<A>::min()));
    }
  }
  return bounds;
}

/// The numbers of a row in the type in which choices are compared.
template <class A, class View>
std::vector<A> row_of(const View& matrix, index_t n) {
  std::vector<A> row;
  for (index_t e = 0; e < matrix.extent(1); ++e) {
    row.push_back(static_cast<A>(matrix(n, e)));
  }
  return row;
}

TEST_CASE_TEMPLATE_DEFINE("route matches the reference", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const routing_sizes& s : sizes) {
    for (const routing_rule& rule : rules()) {
      for (const bool biased : {true, false}) {
        CAPTURE(s.N);
        CAPTURE(s.E);
        CAPTURE(s.k);
        CAPTURE(s.n_group);
        CAPTURE(biased);
        routing<S, B> r(s, rule);
        r.run(context, biased);
        CHECK(r.intact());
        const array<2> logits = array_of(r.logits.view()), scores = array_of(r.scores.view());
        const array<2> expected = reference::route_scores(logits, rule.scoring_func);
        CHECK(within(r.scores.view(),
                     expected.elements,
                     score_bounds<A>(logits, expected, rule.scoring_func)));
        std::vector<A> bias(static_cast<std::size_t>(s.E), A{0});
        for (index_t e = 0; e < s.E && biased; ++e) {
          bias[static_cast<std::size_t>(e)] = static_cast<A>(r.bias.view()(e));
        }
        std::vector<index_t> experts;
        for (index_t n = 0; n < s.N; ++n) {
          experts =
              join(std::move(experts),
                   reference::chosen_experts(row_of<A>(r.scores.view(), n), bias, s.k, r.rule));
        }
        CHECK(same_bits(elements(r.experts.view()), experts));
        const array<2> weights =
            reference::route_weights(scores, array_of(r.experts.view()), r.rule);
        std::vector<double> bounds;
        for (const double weight : weights.elements) {  // the sum, a division, a product
          bounds.push_back(gamma(static_cast<double>(s.k) + 3, unit_roundoff<A>) * weight +
                           smallest_number<A>);
        }
        CHECK(within(r.weights.view(), weights.elements, bounds));
      }
    }
  }
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_DEFINE("of equal choices the lower number is chosen", Case, ties) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const routing_sizes s{2, 70, 4, 7, 2};
  routing<S, B> r(s, std::vector<double>(static_cast<std::size_t>(s.N * s.E), 0.5), {});
  r.run(context, false);
  CHECK(same_bits(elements(r.experts.view()), {0, 1, 2, 3, 0, 1, 2, 3}));
  auto logits = std::vector<double>(static_cast<std::size_t>(s.N * s.E), 0.5);
  logits[44] = logits[69] = logits[70 + 35] = 1;  // one better in each of two groups, then in one
  routing<S, B> better(s, logits, {});
  better.run(context, false);
  CHECK(same_bits(elements(better.experts.view()), {44, 69, 40, 41, 35, 0, 1, 2}));
}

TEST_CASE_TEMPLATE_DEFINE(
    "the bias chooses and does not weigh, and no bias brings back a group that was not chosen",
    Case,
    biases) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  // Choices below zero: a mask of 0 would prefer the experts of the other group.
  routing<S, B> r({1, 4, 2, 2, 1}, {0, 0, 0, 0}, {});
  r.bias.set({-2, -3, -5, -8});
  r.run(context);
  CHECK(same_bits(elements(r.experts.view()), {0, 1}));
  CHECK(within(r.weights.view(), {0.5, 0.5}, 0.0));
  // The best expert of all stands alone in its group; two good ones beat it together.
  routing<S, B> pair({1, 4, 2, 2, 1}, {0, 0, 0, 0}, {});
  pair.bias.set({3, 0, 2, 2});
  pair.run(context);
  CHECK(same_bits(elements(pair.experts.view()), {2, 3}));
  // An expert that nobody may choose stays out as long as its group has others.
  routing<S, B> barred({1, 4, 1, 2, 1}, {0, 0, 0, 0}, {});
  barred.bias.set({-HUGE_VAL, 1, 0.25, 0});
  barred.run(context);
  CHECK(same_bits(elements(barred.experts.view()), {2}));
}

TEST_CASE_TEMPLATE_DEFINE("weights of a row whose scores are all zero are zero", Case, zeros) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  routing<S, B> r({1, 4, 2, 1, 1}, std::vector<double>(4, -HUGE_VAL), {});
  r.run(context, false);
  CHECK(same_bits(elements(r.experts.view()), {0, 1}));
  CHECK(within(r.weights.view(), {0, 0}, 0.0));
}

TEST_CASE_TEMPLATE_DEFINE("a NaN chooses the first experts with weights of NaN",
                          Case,
                          not_a_number) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const routing_rule& rule : rules()) {
    const routing_sizes s{3, 70, 3, 7, 2};
    routing<S, B> r(s, rule), healthy(s, rule);
    r.logits.view()(1, 69) = unwritten<accumulate_t<S>>();
    r.run(context);
    healthy.run(context);
    for (index_t n = 0; n < s.N; ++n) {
      for (index_t j = 0; j < s.k; ++j) {
        CHECK(r.experts.view()(n, j) == (n == 1 ? j : healthy.experts.view()(n, j)));
        CHECK(std::isnan(static_cast<double>(r.weights.view()(n, j))) == (n == 1));
      }
    }
  }
  // Infinities of both signs in a group, which have no sum.
  routing<S, B> infinite({1, 8, 2, 2, 1}, normal(8, 1), {});
  auto bias = std::vector<double>(8, -HUGE_VAL);
  bias[1] = bias[5] = HUGE_VAL;
  bias[7] = 0;
  infinite.bias.set(bias);
  infinite.run(context);
  CHECK(same_bits(elements(infinite.experts.view()), {0, 1}));
  CHECK(std::isnan(static_cast<double>(infinite.weights.view()(0, 0))));
}

TEST_CASE_TEMPLATE_DEFINE("route_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const routing_sizes& s : sizes) {
    for (int way = 0; way < 8; ++way) {
      const routing_rule rule = rules()[static_cast<std::size_t>(way) / 2];
      const bool with_scores = way % 2 == 0;
      CAPTURE(s.N);
      CAPTURE(s.E);
      CAPTURE(s.k);
      CAPTURE(way);
      routing<S, B> r(s, rule);
      r.run(context);
      guarded<A, 2, B> dweights(dims<2>{s.N, s.k}, strides(s.k + 3, 1), normal(s.N * s.k, 3));
      guarded<S, 2, B> dlogits(dims<2>{s.N, s.E}, strides(s.E + 1, 1));
      guarded<A, 2, B> dscores(dims<2>{s.N, s.E}, strides(s.E + 2, 1), normal(s.N * s.E, 4, 0.1));
      const auto all = dscores.view();
      route_backward(context,
                     dlogits.view(),
                     dweights.view(),
                     r.experts.view(),
                     r.scores.view(),
                     with_scores ? all : view<A, dims<2>, B>(nullptr, {0, 0}),
                     r.rule);
      CHECK(dlogits.intact());
      CHECK(dweights.untouched());
      const array<2> d = array_of(dweights.view()), experts = array_of(r.experts.view());
      const array<2> scores = array_of(r.scores.view());
      const array<2> given = with_scores ? array_of(all) : array<2>(scores.sizes);
      const array<2> expected = reference::route_backward(d, experts, scores, given, r.rule);
      const array<2> magnitudes = reference::route_backward(
          reference::magnitude(d), experts, scores, reference::magnitude(given), r.rule, 1);
      std::vector<double> bounds;
      for (std::size_t i = 0; i < expected.elements.size(); ++i) {
        // Sums of k terms, one within the other, and six roundings around each; with softmax one
        // of E terms besides.
        bounds.push_back(
            stored_bound<S>(expected.elements[i],
                            (gamma(static_cast<double>(3 * s.k + s.E) + 12, unit_roundoff<A>) +
                             gamma(static_cast<double>(s.E + s.k) + 12, 0x1p-53)) *
                                magnitudes.elements[i]));
      }
      CHECK(within(dlogits.view(), expected.elements, bounds));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("gradients of route match differences", Case, gradients) {
  using B = typename Case::backend;
  auto context = testing<B>::make_context();
  for (const routing_rule& rule : rules()) {
    // Scores lie between 0 and 1, and biases 10 apart: no difference moves a choice.
    const routing_sizes s{4, 9, 3, 3, 2};
    routing<double, B> r(s, rule);
    r.bias.set({10, 70, 30, 90, 20, 0, 60, 50, 40});
    r.run(context);
    guarded<double, 2, B> dweights(dims<2>{s.N, s.k}, normal(s.N * s.k, 3));
    guarded<double, 2, B> dlogits(dims<2>{s.N, s.E});
    route_backward(context,
                   dlogits.view(),
                   dweights.view(),
                   r.experts.view(),
                   r.scores.view(),
                   view<double, dims<2>, B>(nullptr, {0, 0}),
                   r.rule);
    const auto chosen = elements(r.experts.view());
    const array<2> d = array_of(dweights.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          routing<double, B> moved(s, std::vector<double>(at.begin(), at.end()), rule);
          moved.bias.set(values(r.bias.view()));
          moved.run(context);
          check(elements(moved.experts.view()) == chosen, "a difference moved a choice");
          return reference::inner(d, array_of(moved.weights.view()));
        },
        values(r.logits.view()),
        values(dlogits.view())));
  }
}

TEST_CASE_TEMPLATE_DEFINE("the gradient of the balance of sequences matches the reference",
                          Case,
                          balance) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  for (const routing_sizes& s : sizes) {
    for (const index_t T : {index_t{1}, index_t{3}, s.N}) {
      if (T == 0 || s.N % T != 0) {
        continue;
      }
      CAPTURE(s.N);
      CAPTURE(s.E);
      CAPTURE(T);
      testing<B>::each_way([&](auto& context, const std::string& way) {
        CAPTURE(way);
        routing<S, B> r(s);
        route(context,
              r.experts.view(),
              r.weights.view(),
              r.scores.view(),
              r.logits.view(),
              r.bias.view(),
              r.rule);
        guarded<A, 2, B> dscores(dims<2>{s.N, s.E}, strides(s.E + 2, 1));
        guarded<double, 1, B> row_values(dims<1>{s.N}, uniform(s.N, 7));
        const std::vector<double> before = values(row_values.view());
        sequence_balance_backward(
            context, dscores.view(), row_values.view(), r.scores.view(), r.experts.view(), T, 0.5);
        const array<2> scores = array_of(r.scores.view()), experts = array_of(r.experts.view());
        const array<2> expected = reference::sequence_balance_backward(scores, experts, T, 0.5);
        const array<2> largest = reference::sequence_balance_backward(scores, experts, T, 0.5, 1);
        std::vector<double> bounds;
        for (const double magnitude : largest.elements) {
          bounds.push_back((gamma(static_cast<double>(2 * s.E) + 10, unit_roundoff<A>) +
                            gamma(static_cast<double>(2 * s.E) + 10, 0x1p-53)) *
                               magnitude +
                           smallest_number<A>);
        }
        CHECK(within(dscores.view(), expected.elements, bounds));
        CHECK(dscores.intact());
        double loss = 0;
        for (index_t n = 0; n < s.N; ++n) {
          loss += values(row_values.view())[static_cast<std::size_t>(n)] -
                  before[static_cast<std::size_t>(n)];
        }
        // All terms are positive: 2 E + 4 roundings of a row's share, and sums of N rows in double.
        const double value = reference::sequence_balance(scores, experts, T, 0.5);
        CHECK(std::abs(loss - value) <=
              gamma(static_cast<double>(2 * s.E) + 4, unit_roundoff<A>) * value +
                  gamma(static_cast<double>(3 * s.N), 0x1p-53) *
                      (value + static_cast<double>(s.N)));
        CHECK(row_values.intact());
        const vector_view<double, B> unwanted(nullptr, dims<1>{0});
        guarded<A, 2, B> alone(dims<2>{s.N, s.E});
        sequence_balance_backward(
            context, alone.view(), unwanted, r.scores.view(), r.experts.view(), T, 0.5);
        CHECK(same_bits(values(alone.view()), values(dscores.view())));
        if (std::is_same_v<S, double> && s.N * s.E < 100) {
          CHECK(gradient_matches(
              [&](std::span<const double> at) {
                const auto moved =
                    array_of<2>({s.N, s.E}, std::vector<double>(at.begin(), at.end()));
                return reference::sequence_balance(moved, experts, T, 0.5);
              },
              scores.elements,
              values(dscores.view())));
        }
      });
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "route gives a row the same bits among any number of rows, however it is computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const routing_sizes s{200, 64, 6, 8, 4};
  routing<S, B> all(s);
  auto one = testing<B>::make_context();
  const auto run = [&](auto& context, index_t first, index_t M) {
    guarded<index_t, 2, B> experts(dims<2>{M, s.k});
    guarded<A, 2, B> weights(dims<2>{M, s.k}), scores(dims<2>{M, s.E});
    guarded<S, 2, B> dlogits(dims<2>{M, s.E});
    route(context,
          experts.view(),
          weights.view(),
          scores.view(),
          all.logits.view().slice(0, first, M),
          all.bias.view(),
          all.rule);
    route_backward(context,
                   dlogits.view(),
                   weights.view(),
                   experts.view(),
                   scores.view(),
                   scores.view(),
                   all.rule);
    std::vector<double> numbers;
    for (index_t m = 0; m < M; ++m) {
      numbers = join(std::move(numbers), values(experts.view().select(0, m)));
      numbers = join(std::move(numbers), values(weights.view().select(0, m)));
      numbers = join(std::move(numbers), values(scores.view().select(0, m)));
      numbers = join(std::move(numbers), values(dlogits.view().select(0, m)));
    }
    return numbers;
  };
  std::vector<double> alone;
  for (index_t m = 0; m < s.N; ++m) {
    alone = join(std::move(alone), run(one, m, 1));
  }
  testing<B>::each_way([&](auto& context, const std::string& way) {
    CAPTURE(way);
    CHECK(same_bits(run(context, 0, s.N), alone));
  });
}

TEST_CASE_TEMPLATE_DEFINE("route rejects wrong shapes and rules and changes nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const routing_sizes s{3, 8, 2, 4, 2};
  routing<S, B> r(s);
  guarded<A, 2, B> longer(dims<2>{4, 8}, uniform(32, 1)), wider(dims<2>{3, 3}, uniform(9, 1));
  guarded<A, 2, B> spread(dims<2>{3, 8}, strides(16, 2), uniform(24, 1));
  guarded<S, 1, B> short_bias(dims<1>{7}, uniform(7, 1));
  guarded<index_t, 2, B> many(dims<2>{3, 5});
  guarded<S, 2, B> dlogits(dims<2>{3, 8}), odd(dims<2>{3, 7});
  const auto forward =
      [&](auto experts, auto weights, auto scores, auto logits, auto bias, routing_rule rule) {
        return rejects("route",
                       [&] { route(context, experts, weights, scores, logits, bias, rule); });
      };
  const auto e = r.experts.view();
  const auto w = r.weights.view(), p = r.scores.view(), l = r.logits.view();
  const auto b = r.bias.view();
  CHECK(forward(e, w, p, longer.view(), b, r.rule));
  CHECK(forward(e, wider.view(), p, l, b, r.rule));
  CHECK(forward(e, w, longer.view(), l, b, r.rule));
  CHECK(forward(e, w, p, spread.view(), b, r.rule));
  CHECK(forward(e, w, spread.view(), l, b, r.rule));
  CHECK(forward(e, w, p, l, short_bias.view(), r.rule));
  CHECK(forward(many.view(), w, p, l, b, r.rule));
  const auto with = [&](index_t n_group, index_t topk_group) {
    routing_rule rule = r.rule;
    rule.n_group = n_group;
    rule.topk_group = topk_group;
    return rule;
  };
  CHECK(forward(e, w, p, l, b, with(3, 1)));
  CHECK(forward(e, w, p, l, b, with(0, 1)));
  CHECK(forward(e, w, p, l, b, with(4, 5)));
  CHECK(forward(e, w, p, l, b, with(4, 0)));
  CHECK(forward(e, w, p, l, b, with(8, 1)));  // groups of one cannot give two
  CHECK(r.experts.untouched());
  CHECK(r.weights.untouched());
  CHECK(r.scores.untouched());
  r.run(context);
  const auto backward = [&](auto d, auto dw, auto experts, auto scores, routing_rule rule) {
    return rejects("route_backward",
                   [&] { route_backward(context, d, dw, experts, scores, scores, rule); });
  };
  CHECK(backward(odd.view(), w, e, p, r.rule));
  CHECK(backward(dlogits.view(), wider.view(), e, p, r.rule));
  CHECK(backward(dlogits.view(), w, many.view(), p, r.rule));
  CHECK(backward(dlogits.view(), w, e, longer.view(), r.rule));
  CHECK(backward(dlogits.view(), w, e, spread.view(), r.rule));
  CHECK(backward(dlogits.view(), w, e, p, with(3, 1)));
  CHECK(rejects("route_backward",
                [&] { route_backward(context, dlogits.view(), w, e, p, longer.view(), r.rule); }));
  CHECK(rejects("route_backward",
                [&] { route_backward(context, dlogits.view(), w, e, p, spread.view(), r.rule); }));
  guarded<A, 2, B> dscores(dims<2>{3, 8});
  guarded<double, 1, B> row_values(dims<1>{3}), fewer(dims<1>{2});
  const auto balance = [&](auto to, auto scores, auto experts, index_t T, auto&& values) {
    return rejects("sequence_balance_backward", [&] {
      sequence_balance_backward(context, to, values.view(), scores, experts, T, 1.0);
    });
  };
  CHECK(balance(dscores.view(), longer.view(), e, 3, row_values));
  CHECK(balance(spread.view(), p, e, 3, row_values));
  CHECK(balance(dscores.view(), p, e, 2, row_values));
  CHECK(balance(dscores.view(), p, e, 0, row_values));
  CHECK(balance(dscores.view(), p, e.slice(0, 0, 2), 3, row_values));
  CHECK(balance(dscores.view(), p, e, 3, fewer));
  CHECK(dscores.untouched());
  CHECK(row_values.untouched());
  CHECK(fewer.untouched());
  CHECK(dlogits.untouched());
  CHECK(odd.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(ties, cases);
TEST_CASE_TEMPLATE_APPLY(biases, cases);
TEST_CASE_TEMPLATE_APPLY(zeros, cases);
TEST_CASE_TEMPLATE_APPLY(not_a_number, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, one_case);
TEST_CASE_TEMPLATE_APPLY(balance, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::route_cases

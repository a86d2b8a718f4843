// Output matrix, softmax and cross entropy as one operation against the reference.
#include "mtp/ops/linear_cross_entropy.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/linear_cross_entropy.hpp"
#include "support/text.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;
using reference::magnitude;
using reference::target_list;

struct loss_sizes {
  index_t R, C, V, J;
};

// The last two have more rows than a chunk.
const loss_sizes sizes[] = {{1, 1, 1, 1},
                            {3, 2, 1, 2},
                            {5, 7, 2, 1},
                            {4, 16, 15, 3},
                            {7, 17, 16, 1},
                            {6, 5, 17, 2},
                            {9, 33, 19, 4},
                            {13, 8, 31, 1},
                            {2, 31, 32, 1},
                            {11, 3, 33, 70},
                            {14, 65, 100, 2},
                            {20, 9, 1000, 2},
                            {0, 3, 5, 1},
                            {3, 4, 6, 0},
                            {1030, 3, 7, 1},
                            {53, 2, 20011, 1}};

/// Targets of which every fourth is missing, and all of every fifth row.
target_list random_targets(const loss_sizes& s) {
  const random_stream random(mtp::seed{11}, 2);
  target_list targets;
  for (index_t i = 0; i < s.R * s.J; ++i) {
    const auto position = static_cast<std::uint64_t>(i);
    const bool missing = random.below(2 * position, 4) == 0 || i / s.J % 5 == 3;
    targets.push_back(missing ? -1 - static_cast<token_t>(i % 3)
                              : static_cast<token_t>(random.below(
                                    2 * position + 1, static_cast<std::uint64_t>(s.V))));
  }
  return targets;
}

/// Inputs and outputs of one call.
template <class S>
struct loss_case {
  loss_sizes size;
  target_list targets;
  guarded<S, 2> hidden, weights, losses, dhidden;
  guarded_weight<S> w, dw;
  std::vector<token_t> predicted;

  explicit loss_case(const loss_sizes& s, double deviation = 1)
      : size(s),
        targets(random_targets(s)),
        hidden(dims<2>{s.R, s.C}, strides(s.C + 3, 1), normal(s.R * s.C, 1, deviation)),
        weights(dims<2>{s.R, s.J}, strides(s.J + 1, 1), uniform(s.R * s.J, 2, 0, 1)),
        losses(dims<2>{s.R, s.J}, strides(s.J + 2, 1)),
        dhidden(dims<2>{s.R, s.C}, strides(s.C + 3, 1)),
        w(s.V, s.C, normal(s.V * s.C, 3)),
        dw(s.V, s.C, uniform(s.V * s.C, 4)),
        predicted(static_cast<std::size_t>(s.R), -7) {}

  matrix_view<const token_t, cpu> target_view() const {
    return {targets.data(), dims<2>{size.R, size.J}};
  }
  void run(cpu_context& context) {
    linear_cross_entropy(context,
                         losses.view(),
                         view_of(predicted),
                         dhidden.view(),
                         dw.view(),
                         hidden.view(),
                         w.view(),
                         target_view(),
                         weights.view());
  }
  void run_forward(cpu_context& context) {
    linear_cross_entropy_forward(
        context, losses.view(), view_of(predicted), hidden.view(), w.view(), target_view());
  }
  std::vector<S> results() const {
    return join(join(elements(losses.view()), elements(dhidden.view())), dw.storage());
  }
};

TEST_CASE_TEMPLATE("linear_cross_entropy matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  const double u = unit_roundoff<S>;
  for (const loss_sizes& s : sizes) {
    for (const double deviation : {0.3, 8.0}) {
      CAPTURE(s.R);
      CAPTURE(s.V);
      CAPTURE(s.J);
      CAPTURE(deviation);
      loss_case<S> a(s, deviation);
      const array<2> hidden = array_of(a.hidden.view()), w = a.w.rows(), before = a.dw.rows();
      const array<2> weights = array_of(a.weights.view());
      const array<2> z = reference::linear_forward(hidden, w);
      const array<2> z_terms = reference::linear_forward(magnitude(hidden), magnitude(w));
      const array<2> losses = reference::cross_entropy(z, a.targets, s.J);
      const array<2> dz = reference::cross_entropy_backward(z, a.targets, weights);

      // A logit is off by at most dz_error; subtracting the maximum rounds once more. A probability
      // is then off by a factor, and a loss by the sum of the errors of its terms.
      const auto V = static_cast<double>(s.V);
      array<2> loss_bound(losses.sizes), dz_bound(z.sizes), dz_terms(z.sizes);
      for (index_t r = 0; r < s.R; ++r) {
        double logit_error = 0, largest = 0, total = 0;
        for (index_t v = 0; v < s.V; ++v) {
          logit_error = std::max(logit_error, dot_bound(s.C, u, z_terms(r, v)));
          largest = std::max(largest, std::abs(z(r, v)));
        }
        logit_error += 2 * u * (largest + logit_error);
        const double probability_error = std::expm1(2 * logit_error) + gamma(V + 12, u);
        const double normalizer = reference::log_sum_exp(z, r);
        for (index_t j = 0; j < s.J; ++j) {
          const token_t target = a.targets[static_cast<std::size_t>(r * s.J + j)];
          if (target >= 0) {
            loss_bound(r, j) = 2 * logit_error + gamma(V + 12, u) +
                               gamma(4, u) * (2 * largest + std::abs(normalizer) + std::log(V));
            total += weights(r, j);
            dz_terms(r, target) += weights(r, j);
            dz_bound(r, target) += gamma(static_cast<double>(s.J) + 2, u) * weights(r, j);
          }
        }
        for (index_t v = 0; v < s.V; ++v) {
          const double p = total * std::exp(z(r, v) - normalizer);
          dz_terms(r, v) += p;
          dz_bound(r, v) += p * (probability_error + gamma(static_cast<double>(2 * s.J) + 4, u)) +
                            4 * total * static_cast<double>(std::numeric_limits<S>::min());
        }
      }
      const auto sum_of = [&](index_t count, const array<2>& errors, const array<2>& terms) {
        array<2> result = errors;
        for (std::size_t i = 0; i < result.elements.size(); ++i) {
          result.elements[i] += dot_bound(count + 1, u, terms.elements[i]);
        }
        return result.elements;
      };

      a.run(context);
      CHECK(within(a.losses.view(), losses.elements, loss_bound.elements));
      CHECK(within(a.dhidden.view(),
                   reference::linear_backward_input(dz, w).elements,
                   sum_of(s.V,
                          reference::linear_backward_input(dz_bound, magnitude(w)),
                          reference::linear_backward_input(dz_terms, magnitude(w)))));
      CHECK(within(a.dw.rows().elements,
                   (before + reference::linear_backward_weight(dz, hidden)).elements,
                   sum_of(s.R,
                          reference::linear_backward_weight(dz_bound, magnitude(hidden)),
                          magnitude(before) +
                              reference::linear_backward_weight(dz_terms, magnitude(hidden)))));
      CHECK(a.predicted == reference::predict(z));
      CHECK(a.losses.intact());
      CHECK(a.dhidden.intact());
      CHECK(a.dw.intact());
      CHECK(a.dw.padding_is_zero());
      CHECK(a.hidden.untouched());
      CHECK(a.weights.untouched());

      loss_case<S> forward(s, deviation);
      forward.run_forward(context);
      CHECK(same_bits(forward.losses.view(), a.losses.view()));
      CHECK(forward.predicted == a.predicted);
      CHECK(forward.losses.intact());

      loss_case<S> in_place(s, deviation);
      linear_cross_entropy(context,
                           in_place.losses.view(),
                           view_of(in_place.predicted),
                           in_place.hidden.view(),
                           in_place.dw.view(),
                           in_place.hidden.view(),
                           in_place.w.view(),
                           in_place.target_view(),
                           in_place.weights.view());
      CHECK(same_bits(in_place.hidden.view(), a.dhidden.view()));
      CHECK(same_bits(in_place.dw.storage(), a.dw.storage()));
      CHECK(in_place.hidden.intact());
    }
  }
}

TEST_CASE("linear_cross_entropy gradients match differences of the weighted losses") {
  cpu_context context({.threads = 2});
  for (const loss_sizes& s : {loss_sizes{6, 4, 7, 2}, loss_sizes{33, 18, 101, 2}}) {
    loss_case<double> a(s, 0.5);
    const array<2> before = a.dw.rows(), weights = array_of(a.weights.view());
    a.run(context);
    array<2> dw = a.dw.rows();
    for (std::size_t i = 0; i < dw.elements.size(); ++i) {
      dw.elements[i] -= before.elements[i];
    }
    const gradcheck_options options{.error = 0x1p-50};  // of that difference
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          loss_case<double> moved(s, 0.5);
          moved.hidden.set(std::vector<double>(at.begin(), at.end()));
          moved.run_forward(context);
          return reference::inner(weights, array_of(moved.losses.view()));
        },
        values(a.hidden.view()),
        values(a.dhidden.view())));
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          loss_case<double> moved(s, 0.5);
          moved.w = guarded_weight<double>(s.V, s.C, std::vector<double>(at.begin(), at.end()));
          moved.run_forward(context);
          return reference::inner(weights, array_of(moved.losses.view()));
        },
        a.w.rows().elements,
        dw.elements,
        options));
  }
}

TEST_CASE_TEMPLATE("losses and predictions of a row have the same bits among any rows and threads",
                   S,
                   float,
                   double) {
  cpu_context one({.threads = 1});
  for (const loss_sizes& s : {loss_sizes{200, 40, 301, 2}, loss_sizes{60, 5, 20011, 1}}) {
    loss_case<S> a(s);
    const auto run = [&](cpu_context& context, index_t first, index_t M) {
      guarded<S, 2> losses(dims<2>{M, s.J});
      std::vector<token_t> predicted(static_cast<std::size_t>(M));
      linear_cross_entropy_forward(context,
                                   losses.view(),
                                   view_of(predicted),
                                   a.hidden.view().slice(0, first, M),
                                   a.w.view(),
                                   a.target_view().slice(0, first, M));
      std::vector<S> all;
      for (index_t m = 0; m < M; ++m) {
        all = join(std::move(all), elements(losses.view().select(0, m)));
        all.push_back(static_cast<S>(predicted[static_cast<std::size_t>(m)]));
      }
      return all;
    };
    std::vector<S> alone;
    for (index_t m = 0; m < s.R; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context context({.threads = threads});
      CHECK(same_bits(run(context, 0, s.R), alone));
      for (index_t M = 1; M <= 17; ++M) {
        CAPTURE(M);
        CHECK(same_bits(run(context, 0, M),
                        std::vector<S>(alone.begin(), alone.begin() + M * (s.J + 1))));
      }
    }
  }
}

TEST_CASE_TEMPLATE("linear_cross_entropy gives the same bits for any number of threads",
                   S,
                   float,
                   double) {
  for (const loss_sizes& s : {loss_sizes{200, 40, 301, 2}, loss_sizes{60, 5, 20011, 1}}) {
    CHECK(same_for_all_threads([&](cpu_context& context) {
      loss_case<S> a(s);
      a.run(context);
      return a.results();
    }));
  }
}

TEST_CASE_TEMPLATE("rows without targets or weights have no gradient", S, float, double) {
  cpu_context context({.threads = 1});
  const loss_sizes s{7, 5, 19, 2};
  loss_case<S> without_targets(s), without_weights(s);
  const array<2> before = without_targets.dw.rows();
  without_targets.targets.assign(14, -1);
  without_targets.run(context);
  CHECK(within(without_targets.losses.view(), std::vector<double>(14), 0.0));
  CHECK(within(without_targets.dhidden.view(), std::vector<double>(35), 0.0));
  CHECK(within(without_targets.dw.rows().elements, before.elements, 0.0));
  CHECK(std::none_of(without_targets.predicted.begin(),
                     without_targets.predicted.end(),
                     [](token_t token) { return token < 0; }));

  without_weights.weights.set(std::vector<double>(14));
  without_weights.run(context);
  CHECK(within(without_weights.dhidden.view(), std::vector<double>(35), 0.0));
  CHECK(within(without_weights.dw.rows().elements, before.elements, 0.0));
  loss_case<S> weighted(s);
  weighted.run(context);
  CHECK(same_bits(without_weights.losses.view(), weighted.losses.view()));
}

TEST_CASE_TEMPLATE("logits that are not finite show in losses and gradients of their row alone",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 2});
  const S strange[] = {std::numeric_limits<S>::quiet_NaN(),
                       std::numeric_limits<S>::infinity(),
                       -std::numeric_limits<S>::infinity()};
  for (const index_t V : {1, 5, 19, 50}) {
    for (const S value : strange) {
      const loss_sizes s{6, 3, V, 2};
      loss_case<S> a(s), usual(s);
      const std::vector<token_t> targets = {0, -1, 0, 0, 0, 0, -1, -1, 0, 0, 0, -1};
      const std::vector<double> weights = {1, 1, 1, -1, 1, 1, 1, 1, 0, 0, 1, 1};
      a.targets = usual.targets = targets;
      a.weights.set(weights);
      usual.weights.set(weights);
      for (const index_t r : {1, 3, 4}) {
        a.hidden.view()(r, 1) = value;
      }
      a.run(context);
      usual.run(context);
      CAPTURE(V);
      CAPTURE(value);
      for (const index_t r : {0, 2, 5}) {
        CHECK(same_bits(a.losses.view().select(0, r), usual.losses.view().select(0, r)));
        CHECK(same_bits(a.dhidden.view().select(0, r), usual.dhidden.view().select(0, r)));
      }
      const auto nan_count = [](const std::vector<double>& numbers) {
        return std::count_if(
            numbers.begin(), numbers.end(), [](double number) { return std::isnan(number); });
      };
      CHECK(nan_count(values(a.losses.view().select(0, 1))) == 2);
      CHECK(nan_count(values(a.losses.view().select(0, 3))) == 0);  // no targets
      CHECK(nan_count(values(a.losses.view().select(0, 4))) == 2);
      CHECK(nan_count(values(a.dhidden.view().select(0, 1))) == 3);  // weights 1 and -1
      CHECK(nan_count(values(a.dhidden.view().select(0, 3))) == 0);
      CHECK(nan_count(values(a.dhidden.view().select(0, 4))) == 0);  // no weights
      CHECK(nan_count(a.dw.rows().elements) == V * 3);
      CHECK(a.dw.padding_is_zero());
    }
  }
}

TEST_CASE_TEMPLATE("predictions ignore NaN and go to the lowest index of the largest logit",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 2});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const index_t V : {1, 2, 7, 16, 19, 33, 100}) {
    std::vector<std::vector<double>> rows;
    const auto with = [&](std::vector<double> row, index_t at, double value) {
      row[static_cast<std::size_t>(at)] = value;
      return row;
    };
    const std::vector<double> same(static_cast<std::size_t>(V), -2.0);
    const std::vector<double> nothing(static_cast<std::size_t>(V), nan);
    rows.push_back(same);
    rows.push_back(nothing);
    rows.push_back(std::vector<double>(static_cast<std::size_t>(V), -infinity));
    rows.push_back(std::vector<double>(static_cast<std::size_t>(V), infinity));
    for (index_t v = 0; v < V; ++v) {
      rows.push_back(with(same, v, 1));
      rows.push_back(with(same, v, nan));
      rows.push_back(with(same, v, infinity));
      rows.push_back(with(same, v, -infinity));
      rows.push_back(with(nothing, v, -3));
      rows.push_back(with(nothing, v, -infinity));
      rows.push_back(with(with(same, V - 1, 4), v, 4));
      rows.push_back(with(with(same, V - 1, 4), v, nan));
      rows.push_back(with(with(same, V / 2, 0.0), v, -0.0));
    }
    const auto M = static_cast<index_t>(rows.size());
    array<2> z({M, V});
    for (index_t m = 0; m < M; ++m) {
      for (index_t v = 0; v < V; ++v) {
        z(m, v) = rows[static_cast<std::size_t>(m)][static_cast<std::size_t>(v)];
      }
    }
    guarded<S, 2> logits(dims<2>{M, V}, strides(V + 3, 1), z.elements);
    std::vector<token_t> predicted(static_cast<std::size_t>(M), -7);
    predict(context, view_of(predicted), logits.view());
    CAPTURE(V);
    CHECK(same_bits(predicted, reference::predict(z)));
    CHECK(logits.untouched());

    // All logits equal: every token is as likely as any other.
    guarded_weight<S> w(V, 1, std::vector<double>(static_cast<std::size_t>(V), 2.0));
    guarded<S, 2> hidden(dims<2>{1, 1}, std::vector<double>{3}), losses(dims<2>{1, 1});
    const token_t target = static_cast<token_t>(V - 1);
    std::vector<token_t> one = {-7};
    linear_cross_entropy_forward(context,
                                 losses.view(),
                                 view_of(one),
                                 hidden.view(),
                                 w.view(),
                                 matrix_view<const token_t, cpu>(&target, dims<2>{1, 1}));
    CHECK(one.front() == 0);
    CHECK(within(losses.view(),
                 {std::log(static_cast<double>(V))},
                 gamma(static_cast<double>(V) + 20, unit_roundoff<S>) * 12));
  }
}

TEST_CASE("linear_cross_entropy rejects wrong shapes and targets and changes nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  const loss_sizes s{4, 3, 6, 2};
  loss_case<S> a(s);
  a.targets = {0, 1, 2, 3, 4, 5, -1, 0};
  guarded<S, 2> hidden_wide(dims<2>{4, 4}, uniform(16, 1)), longer(dims<2>{5, 3}, uniform(15, 1));
  guarded<S, 2> spread(dims<2>{4, 3}, strides(6, 2), uniform(12, 1));
  guarded<S, 2> losses_wide(dims<2>{4, 3}), weights_wide(dims<2>{4, 3}, uniform(12, 1));
  guarded_weight<S> w_wide(6, 4, uniform(24, 1)), dw_other(5, 3, uniform(15, 1));
  const std::vector<token_t> outside = {0, 1, 2, 3, 6, 5, -1, 0};
  const auto targets = a.target_view();
  const matrix_view<const token_t, cpu> bad(outside.data(), dims<2>{4, 2});
  const auto call = [&](auto losses,
                        std::vector<token_t>& predicted,
                        auto dhidden,
                        auto dw,
                        auto hidden,
                        auto w,
                        auto targets_,
                        auto weights) {
    return rejects("linear_cross_entropy", [&] {
      linear_cross_entropy(
          context, losses, view_of(predicted), dhidden, dw, hidden, w, targets_, weights);
    });
  };
  const auto l = a.losses.view(), dh = a.dhidden.view(), h = a.hidden.view(), g = a.weights.view();
  const auto dw = a.dw.view(), w = a.w.view();
  std::vector<token_t> short_predicted(3, -7);
  CHECK(call(losses_wide.view(), a.predicted, dh, dw, h, w, targets, g));
  CHECK(call(l, short_predicted, dh, dw, h, w, targets, g));
  CHECK(call(l, a.predicted, longer.view(), dw, h, w, targets, g));
  CHECK(call(l, a.predicted, spread.view(), dw, h, w, targets, g));
  CHECK(call(l, a.predicted, dh, dw_other.view(), h, w, targets, g));
  CHECK(call(l, a.predicted, dh, dw, hidden_wide.view(), w, targets, g));
  CHECK(call(l, a.predicted, dh, dw, spread.view(), w, targets, g));
  CHECK(call(l, a.predicted, dh, dw, longer.view(), w, targets, g));
  CHECK(call(l, a.predicted, dh, dw, h, w_wide.view(), targets, g));
  CHECK(call(l, a.predicted, dh, dw, h, w, bad, g));
  CHECK(call(l, a.predicted, dh, dw, h, w, targets, weights_wide.view()));
  const auto forward =
      [&](auto losses, std::vector<token_t>& predicted, auto hidden, auto w_, auto targets_) {
        return rejects("linear_cross_entropy_forward", [&] {
          linear_cross_entropy_forward(context, losses, view_of(predicted), hidden, w_, targets_);
        });
      };
  CHECK(forward(losses_wide.view(), a.predicted, h, w, targets));
  CHECK(forward(l, short_predicted, h, w, targets));
  CHECK(forward(l, a.predicted, hidden_wide.view(), w, targets));
  CHECK(forward(l, a.predicted, spread.view(), w, targets));
  CHECK(forward(l, a.predicted, h, w_wide.view(), targets));
  CHECK(forward(l, a.predicted, h, w, bad));
  CHECK(
      rejects("predict", [&] { predict(context, view_of(short_predicted), hidden_wide.view()); }));
  CHECK(rejects("predict", [&] { predict(context, view_of(a.predicted), spread.view()); }));
  CHECK(a.losses.untouched());
  CHECK(losses_wide.untouched());
  CHECK(a.dhidden.untouched());
  CHECK(a.hidden.untouched());
  CHECK(spread.untouched());
  CHECK(longer.untouched());
  CHECK(a.dw.untouched());
  CHECK(dw_other.untouched());
  CHECK(a.predicted == std::vector<token_t>(4, -7));
  CHECK(short_predicted == std::vector<token_t>(3, -7));
}

}  // namespace

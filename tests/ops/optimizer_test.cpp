// AdamW and the sum of squares against the reference.
#include "mtp/ops/optimizer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/optimizer.hpp"
#include "support/tolerance.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::adamw_state;
using reference::array_of;

const index_t counts[] = {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 257, 1000};

adamw_coefficients coefficients_of(int step, double weight_decay, double gradient_scale) {
  return {.learning_rate = 3e-3,
          .beta1 = 0.9,
          .beta2 = 0.95,
          .epsilon = 1e-8,
          .weight_decay = weight_decay,
          .gradient_scale = gradient_scale,
          .correction1 = 1 - std::pow(0.9, step),
          .correction2 = 1 - std::pow(0.95, step)};
}

/// All elements as ranges of odd lengths.
std::vector<adamw_range> ranges_of(index_t P, bool decays) {
  std::vector<adamw_range> ranges;
  for (index_t first = 0; first < P;) {
    const index_t count = std::min({P - first, index_t{1777}, 1 + first});
    ranges.push_back({first, static_cast<std::int32_t>(count), decays ? 1 : 0});
    first += count;
  }
  return ranges;
}

template <class View>
void update(cpu_context& context,
            View value,
            View first,
            View second,
            View gradient,
            const adamw_coefficients& c) {
  const auto ranges = ranges_of(value.extent(0), true);
  adamw_update(context,
               value,
               value,
               first,
               second,
               gradient,
               vector_view<const adamw_range, cpu>(ranges.data(),
                                                   dims<1>{static_cast<index_t>(ranges.size())}),
               c);
}

template <class View>
double squares_of(cpu_context& context, View x) {
  guarded<double, 1> result(dims<1>{1});
  sum_of_squares(context, result.view(), x);
  REQUIRE(result.intact());
  return result.view()(0);
}

TEST_CASE_TEMPLATE("adamw_update matches the reference step by step", S, float, double) {
  cpu_context context({.threads = 2});
  const double u = unit_roundoff<S>;
  for (const index_t P : counts) {
    for (const double weight_decay : {0.0, 0.1}) {
      for (const double gradient_scale : {1.0, 0.3}) {
        guarded<S, 1> value(dims<1>{P}, normal(P, 1));
        guarded<S, 1> first(dims<1>{P}, std::vector<double>(static_cast<std::size_t>(P)));
        guarded<S, 1> second(dims<1>{P}, std::vector<double>(static_cast<std::size_t>(P)));
        for (int step = 1; step <= 6; ++step) {
          CAPTURE(P);
          CAPTURE(step);
          guarded<S, 1> gradient(dims<1>{P}, normal(P, static_cast<std::uint64_t>(step + 1)));
          const auto c = coefficients_of(step, weight_decay, gradient_scale);
          std::vector<double> values_now, firsts, seconds, value_bound, first_bound, second_bound;
          for (index_t p = 0; p < P; ++p) {
            const adamw_state before{static_cast<double>(value.view()(p)),
                                     static_cast<double>(first.view()(p)),
                                     static_cast<double>(second.view()(p))};
            const auto g = static_cast<double>(gradient.view()(p));
            const adamw_state after = reference::adamw(before, g, c);
            // Coefficients are rounded once, products and sums once each: at most six roundings of
            // each term.
            const double first_error = gamma(6, u) * (std::abs(c.beta1 * before.first) +
                                                      std::abs((1 - c.beta1) * gradient_scale * g));
            const double second_error = gamma(8, u) * after.second;
            const double denominator = std::sqrt(after.second / c.correction2) + c.epsilon;
            const double rate = c.learning_rate / c.correction1 / denominator;
            values_now.push_back(after.value);
            firsts.push_back(after.first);
            seconds.push_back(after.second);
            first_bound.push_back(first_error + smallest_number<S>);
            second_bound.push_back(second_error + smallest_number<S>);
            value_bound.push_back(gamma(4, u) * std::abs(before.value) +
                                  rate * (first_error + gamma(14, u) * std::abs(after.first)));
          }
          update(context, value.view(), first.view(), second.view(), gradient.view(), c);
          CHECK(within(value.view(), values_now, value_bound));
          CHECK(within(first.view(), firsts, first_bound));
          CHECK(within(second.view(), seconds, second_bound));
          CHECK(value.intact());
          CHECK(first.intact());
          CHECK(second.intact());
          CHECK(gradient.untouched());
        }
      }
    }
  }
}

TEST_CASE("the first step of adamw_update moves every value by the learning rate") {
  cpu_context context({.threads = 1});
  guarded<double, 1> value(dims<1>{4}, std::vector<double>(4, 1.0)),
      gradient(dims<1>{4}, std::vector<double>{5, -5, 1e-3, -1e3});
  guarded<double, 1> first(dims<1>{4}, std::vector<double>(4)),
      second(dims<1>{4}, std::vector<double>(4));
  const auto c = coefficients_of(1, 0, 1);
  update(context, value.view(), first.view(), second.view(), gradient.view(), c);
  const double rate = c.learning_rate;
  // Epsilon takes away 1e-8 / 1e-3 of the rate at most.
  CHECK(within(value.view(), {1 - rate, 1 + rate, 1 - rate, 1 + rate}, 2e-5 * rate));
}

TEST_CASE("adamw_update leaves zeros with zero gradients as they are") {
  cpu_context context({.threads = 1});
  const std::vector<double> zeros(37);
  guarded<float, 1> value(dims<1>{37}, zeros), first(dims<1>{37}, zeros),
      second(dims<1>{37}, zeros);
  guarded<float, 1> gradient(dims<1>{37}, zeros);
  for (int step = 1; step <= 3; ++step) {
    update(context,
           value.view(),
           first.view(),
           second.view(),
           gradient.view(),
           coefficients_of(step, 0.1, 0.5));
  }
  CHECK(within(value.view(), zeros, 0.0));
  CHECK(within(first.view(), zeros, 0.0));
  CHECK(within(second.view(), zeros, 0.0));
}

TEST_CASE_TEMPLATE("adamw_update and sum_of_squares give the same bits for any number of threads",
                   S,
                   float,
                   double) {
  const index_t P = 100003;
  guarded<S, 1> gradient(dims<1>{P}, normal(P, 1));
  CHECK(same_for_all_threads([&](cpu_context& context) {
    guarded<S, 1> value(dims<1>{P}, normal(P, 2)), first(dims<1>{P}, normal(P, 3));
    guarded<S, 1> second(dims<1>{P}, uniform(P, 4, 0, 1));
    update(context,
           value.view(),
           first.view(),
           second.view(),
           gradient.view(),
           coefficients_of(3, 0.1, 0.7));
    return join(join(elements(value.view()), elements(first.view())), elements(second.view()));
  }));
  CHECK(same_for_all_threads([&](cpu_context& context) {
    return std::vector<double>{squares_of(context, gradient.view())};
  }));
}

TEST_CASE_TEMPLATE("sum_of_squares matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const index_t P : {0, 1, 2, 7, 15, 16, 17, 33, 1000, 16383, 16384, 16385, 50021}) {
    CAPTURE(P);
    guarded<S, 1> x(dims<1>{P}, normal(P, 1));
    const double expected = reference::sum_of_squares(array_of(x.view()));
    CHECK(within({squares_of(context, x.view())}, {expected}, dot_bound(P, 0x1p-53, expected)));
    CHECK(x.untouched());
  }
}

TEST_CASE_TEMPLATE("sum_of_squares shows what is not a number wherever it stands",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 2});
  for (const index_t P : {1, 17, 40000}) {
    for (const index_t at : {index_t{0}, P / 2, P - 1}) {
      guarded<S, 1> x(dims<1>{P}, normal(P, 1));
      x.view()(at) = std::numeric_limits<S>::quiet_NaN();
      CHECK(std::isnan(squares_of(context, x.view())));
      x.view()(at) = -std::numeric_limits<S>::infinity();
      CHECK(squares_of(context, x.view()) == std::numeric_limits<double>::infinity());
    }
  }
}

TEST_CASE("sum_of_squares does not overflow where its elements do not") {
  cpu_context context({.threads = 1});
  guarded<float, 1> x(dims<1>{3}, std::vector<double>{3e38, 1e-30, 2});
  const double expected = reference::sum_of_squares(array_of(x.view()));
  CHECK(within({squares_of(context, x.view())}, {expected}, dot_bound(3, 0x1p-53, expected)));
}

TEST_CASE("optimizer operations reject wrong shapes and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  guarded<S, 1> value(dims<1>{5}, uniform(5, 1)), first(dims<1>{5}, uniform(5, 2));
  guarded<S, 1> second(dims<1>{5}, uniform(5, 3)), gradient(dims<1>{5}, uniform(5, 4));
  guarded<S, 1> longer(dims<1>{6}, uniform(6, 5)), spread(dims<1>{5}, strides(2), uniform(5, 6));
  const auto refused = [&](auto value_, auto first_, auto second_, auto gradient_) {
    return rejects("adamw_update", [&] {
      update(context, value_, first_, second_, gradient_, coefficients_of(1, 0.1, 1));
    });
  };
  const auto a = value.view(), b = first.view(), c = second.view(), d = gradient.view();
  for (const auto wrong : {longer.view(), spread.view()}) {
    CHECK(refused(wrong, b, c, d));
    CHECK(refused(a, wrong, c, d));
    CHECK(refused(a, b, wrong, d));
    CHECK(refused(a, b, c, wrong));
  }
  CHECK(rejects("sum_of_squares", [&] {
    sum_of_squares(context, guarded<double, 1>(dims<1>{1}).view(), spread.view());
  }));
  CHECK(value.untouched());
  CHECK(first.untouched());
  CHECK(second.untouched());
  CHECK(gradient.untouched());
  CHECK(longer.untouched());
  CHECK(spread.untouched());
}

}  // namespace

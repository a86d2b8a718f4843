// The optimizer over all parameters of a model, against the reference in double.
#include "mtp/train/adamw.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "support/compare.hpp"
#include "support/model.hpp"
#include "support/random.hpp"
#include "support/reference/optimizer.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::train_adamw_cases {

namespace {

// With biases, norms of every sort and a head.
constexpr model_config config = flipped_config(head_kind::sequential, 2);

/// A model with random values in place of ones and zeros, and gradients with padding of zeros.
template <class S>
struct bench {
  using model_type = language_model<config, cpu, S>;
  static constexpr auto& layout = model_type::layout;

  explicit bench(const adamw_options& options = {})
      : context({.threads = 2, .workspace_bytes = 0}),
        model(context, seed{5}),
        optimizer(context, model, options),
        gradients(static_cast<std::size_t>(layout.storage)) {
    std::uint64_t stream = 1;
    layout.visit([&](const std::string&, const parameter& p) {
      const auto noise = normal(p.count(), stream++);
      for_each_element<S>(
          p, [&](std::size_t i, std::size_t at) { values()[at] = static_cast<S>(noise[i]); });
    });
  }

  static std::span<S> span_of(parameter_array<S, cpu> array) {
    return {array.data(), static_cast<std::size_t>(array.count())};
  }
  std::span<S> values() { return span_of(model.values()); }
  std::span<S> first() { return span_of(optimizer.first()); }
  std::span<S> second() { return span_of(optimizer.second()); }

  /// New gradients everywhere but in the padding.
  void draw_gradients(std::uint64_t round) {
    std::uint64_t stream = 1000 * round;
    layout.visit([&](const std::string&, const parameter& p) {
      const auto noise = normal(p.count(), stream++);
      for_each_element<S>(
          p, [&](std::size_t i, std::size_t at) { gradients[at] = static_cast<S>(noise[i]); });
    });
  }

  void update(double learning_rate, double gradient_scale = 1, index_t begin = 0) {
    optimizer.update(context,
                     model,
                     parameter_array<S, cpu>(gradients.data(), layout.storage),
                     learning_rate,
                     gradient_scale,
                     begin);
  }

  std::vector<S> everything() {
    std::vector<S> all;
    for (const auto part : {values(), first(), second()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

  cpu_context context;
  model_type model;
  adamw<config, cpu, S> optimizer;
  std::vector<S> gradients;
};

TEST_CASE_TEMPLATE("every parameter follows the reference, step by step", S, float, double) {
  const adamw_options options{.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-6, .weight_decay = 0.2};
  bench<S> tested(options);
  const double u = unit_roundoff<S>;
  for (int step = 1; step <= 4; ++step) {
    CAPTURE(step);
    tested.draw_gradients(static_cast<std::uint64_t>(step));
    const double rate = 1e-2 * step, scale = step % 2 == 0 ? 0.3 : 1.0;
    std::vector<double> value, first, second, value_bound, first_bound, second_bound;
    bench<S>::layout.visit([&](const std::string& name, const parameter& p) {
      const bool decays = p.inputs > 0;
      REQUIRE(decays ==
              (name.find("norm") == std::string::npos && name.find("bias") == std::string::npos));
      const adamw_coefficients c{.learning_rate = rate,
                                 .beta1 = 0.8,
                                 .beta2 = 0.9,
                                 .epsilon = 1e-6,
                                 .weight_decay = decays ? 0.2 : 0,
                                 .gradient_scale = scale,
                                 .correction1 = 1 - std::pow(0.8, step),
                                 .correction2 = 1 - std::pow(0.9, step)};
      for_each_element<S>(p, [&](std::size_t, std::size_t at) {
        const reference::adamw_state before{static_cast<double>(tested.values()[at]),
                                            static_cast<double>(tested.first()[at]),
                                            static_cast<double>(tested.second()[at])};
        const auto g = static_cast<double>(tested.gradients[at]);
        const auto after = reference::adamw(before, g, c);
        // Coefficients are rounded once, products and sums once each.
        const double first_error =
            gamma(6, u) * (std::abs(0.8 * before.first) + std::abs(0.2 * scale * g));
        const double denominator = std::sqrt(after.second / c.correction2) + c.epsilon;
        value.push_back(after.value);
        first.push_back(after.first);
        second.push_back(after.second);
        first_bound.push_back(first_error + smallest_number<S>);
        second_bound.push_back(gamma(8, u) * after.second + smallest_number<S>);
        value_bound.push_back(gamma(4, u) * std::abs(before.value) +
                              rate / c.correction1 / denominator *
                                  (first_error + gamma(14, u) * std::abs(after.first)));
      });
    });
    tested.update(rate, scale);
    const auto now = [&](std::span<S> all) {
      std::vector<double> elements;
      bench<S>::layout.visit([&](const std::string&, const parameter& p) {
        for_each_element<S>(p, [&](std::size_t, std::size_t at) {
          elements.push_back(static_cast<double>(all[at]));
        });
      });
      return elements;
    };
    CHECK(within(now(tested.values()), value, value_bound));
    CHECK(within(now(tested.first()), first, first_bound));
    CHECK(within(now(tested.second()), second, second_bound));
    CHECK(tested.optimizer.updates() == step);
  }
}

TEST_CASE("without gradients matrices decay, norms and biases keep their bits") {
  bench<float> tested({.weight_decay = 0.5});
  const std::vector<float> before(tested.values().begin(), tested.values().end());
  tested.update(0.1);
  int matrices = 0, vectors = 0;
  bench<float>::layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto was = rows_of<float>(std::span<const float>(before), p);
    const auto is = rows_of<float>(std::span<const float>(tested.values()), p);
    if (p.is_vector()) {
      ++vectors;
      CHECK(same_bits(is, was));
    } else {
      ++matrices;
      std::vector<double> expected = to_double(was);
      for (double& value : expected) {
        value *= 1 - 0.1 * 0.5;
      }
      CHECK(within(to_double(is), expected, 1e-6));
    }
  });
  CHECK(matrices > 10);
  CHECK(vectors > 10);
}

TEST_CASE("padding stays zero in values and moments") {
  bench<float> tested;
  std::vector<bool> used(static_cast<std::size_t>(bench<float>::layout.storage));
  bench<float>::layout.visit([&](const std::string&, const parameter& p) {
    for_each_element<float>(p, [&](std::size_t, std::size_t at) { used[at] = true; });
  });
  const auto padding = std::count(used.begin(), used.end(), false);
  REQUIRE(padding > 0);
  for (std::uint64_t step = 1; step <= 3; ++step) {
    tested.draw_gradients(step);
    tested.update(0.1, 0.7);
  }
  std::vector<float> found;
  for (const auto part : {tested.values(), tested.first(), tested.second()}) {
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) {
        found.push_back(part[i]);
      }
    }
  }
  CHECK(same_bits(found, std::vector<float>(static_cast<std::size_t>(3 * padding))));
}

TEST_CASE("parameters before the first that is trained keep their bits, and have no moments") {
  bench<float> tested;
  tested.draw_gradients(1);
  const std::vector<float> before(tested.values().begin(), tested.values().end());
  const auto begin = static_cast<std::size_t>(bench<float>::layout.head_begin);
  tested.update(0.1, 1, bench<float>::layout.head_begin);
  const auto head_of_array = [&](std::span<float> all) {
    return std::vector<float>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(begin));
  };
  CHECK(same_bits(
      head_of_array(tested.values()),
      std::vector<float>(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(begin))));
  CHECK(same_bits(head_of_array(tested.first()), std::vector<float>(begin)));
  CHECK(same_bits(head_of_array(tested.second()), std::vector<float>(begin)));
  bench<float>::layout.head.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    CHECK_FALSE(same_bits(rows_of<float>(std::span<const float>(tested.values()), p),
                          rows_of<float>(std::span<const float>(before), p)));
  });
}

TEST_CASE("an optimizer with restored moments and count goes on with the same bits") {
  bench<float> whole, second_half;
  for (std::uint64_t step = 1; step <= 3; ++step) {
    whole.draw_gradients(step);
    whole.update(0.05);
  }
  std::copy(whole.values().begin(), whole.values().end(), second_half.values().begin());
  std::copy(whole.first().begin(), whole.first().end(), second_half.first().begin());
  std::copy(whole.second().begin(), whole.second().end(), second_half.second().begin());
  second_half.optimizer.set_updates(whole.optimizer.updates());
  for (auto* const run : {&whole, &second_half}) {
    run->draw_gradients(4);
    run->update(0.05);
  }
  CHECK(same_bits(second_half.everything(), whole.everything()));
  CHECK(second_half.optimizer.updates() == 4);
}

TEST_CASE("options that make no optimizer are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{1});
  const auto refused = [&](const adamw_options& options) {
    try {
      const adamw<config, cpu> made(context, model, options);
    } catch (const error&) {
      return true;
    }
    return false;
  };
  CHECK_FALSE(refused({}));
  CHECK_FALSE(refused({.beta1 = 0, .beta2 = 0, .epsilon = 1e-12, .weight_decay = 0}));
  for (const double beta : {-0.1, 1.0, 1.5, nan}) {
    CAPTURE(beta);
    CHECK(refused({.beta1 = beta}));
    CHECK(refused({.beta2 = beta}));
  }
  for (const double value : {-1e-9, nan}) {
    CHECK(refused({.epsilon = value}));
    CHECK(refused({.weight_decay = value}));
  }
  CHECK(refused({.epsilon = 0}));
  CHECK(refused({.epsilon = 1e-50}));  // 0 in f32
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(refused({.epsilon = infinity}));
  CHECK(refused({.weight_decay = infinity}));
}

}  // namespace

}  // namespace mtp::test::train_adamw_cases

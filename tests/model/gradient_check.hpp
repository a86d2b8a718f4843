// Gradients of whole models: against central differences, under every scope, and as sums.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/model.hpp"
#include "support/random.hpp"

namespace mtp::test {

/// Options with a weight of its own for every depth, so that no two can be mistaken.
template <model_config Config>
loss_options<Config.prediction.depth> distinct_options(
    loss_normalization normalization, gradient_scope scope = gradient_scope::joint) {
  loss_options<Config.prediction.depth> options;
  options.normalization = normalization;
  options.scope = scope;
  options.lambda = 0.7;
  for (std::size_t k = 0; k < options.weights.size(); ++k) {
    options.weights[k] = 1 / (1 + 0.4 * static_cast<double>(k));
  }
  return options;
}

/// The gradient of every parameter is that of the total: vectors element by element, matrices along
/// random directions. Where the model chooses, as a router does, a difference that moved a choice
/// would be a jump, many times larger than its bound.
template <model_config Config>
void check_differences(const token_batch& batch, loss_normalization normalization) {
  subject<Config, double> tested(1);
  const auto options = distinct_options<Config>(normalization);
  const auto gradients = tested.gradients(batch, options);
  tested.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    if (p.role == parameter_role::routing_bias) {
      return;  // what stands in its place is no gradient
    }
    const auto x = tested.rows(p);
    const auto total = [&](std::span<const double> moved) {
      tested.set(p, moved);
      return tested.losses(batch, options).total;
    };
    CHECK(gradient_matches(
        total, x, rows_of<double>(gradients, p), {.all_coordinates = 64, .directions = 8}));
    tested.set(p, x);
  });
}

/// What each scope lets through: detached, the trunk learns from the next-token loss alone and the
/// head as ever; heads_only, the trunk gets nothing at all. Losses are the same for all.
template <model_config Config>
void check_scopes(const token_batch& batch) {
  subject<Config, double> tested;
  constexpr auto normalization = loss_normalization::valid_targets;
  auto joint_options = distinct_options<Config>(normalization);
  auto next_token_options = joint_options;
  next_token_options.lambda = 0;
  const auto detached_options = distinct_options<Config>(normalization, gradient_scope::detached);
  const auto frozen_options = distinct_options<Config>(normalization, gradient_scope::heads_only);

  const auto joint = tested.gradients(batch, joint_options);
  const auto next_token = tested.gradients(batch, next_token_options);
  const auto detached = tested.gradients(batch, detached_options);
  const auto frozen = tested.gradients(batch, frozen_options);

  const double total = tested.losses(batch, joint_options).total;
  CHECK(tested.losses(batch, detached_options).total == total);
  CHECK(tested.losses(batch, frozen_options).total == total);

  bool heads_reach_trunk = false;
  tested.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto part = [&](const std::vector<double>& all) { return rows_of<double>(all, p); };
    double largest = 0;
    for (const double value : part(joint)) {
      largest = std::max(largest, std::abs(value));
    }
    CHECK(largest > 0);
    if (p.offset >= tested.layout.head_begin) {
      CHECK(within(part(detached), part(joint), 1e-13 * largest));
      CHECK(within(part(frozen), part(joint), 1e-13 * largest));
    } else {
      CHECK(within(part(detached), part(next_token), 1e-13 * largest));
      CHECK(same_bits(part(frozen), std::vector<double>(part(frozen).size(), 0.0)));
      heads_reach_trunk |= !within(part(joint), part(next_token), 1e-6 * largest);
    }
  });
  CHECK(heads_reach_trunk ==
        (Config.prediction.depth > 0));  // otherwise the comparisons above say nothing
}

/// Gradients are added to what is there, and the padding of weights stays zero.
template <model_config Config>
void check_accumulation(const token_batch& batch) {
  subject<Config, double> tested;
  const auto options = distinct_options<Config>(loss_normalization::positions);
  const auto once = tested.gradients(batch, options);
  std::vector<double> sum(once.size(), 0.0), start(once.size(), 0.0);
  std::vector<bool> is_element(once.size(), false);
  tested.layout.visit([&](const std::string&, const parameter& p) {
    const auto offset = static_cast<std::uint64_t>(p.offset);
    const auto noise = normal(p.count(), 500 + offset);
    for_each_element<double>(p, [&](std::size_t i, std::size_t at) {
      start[at] = noise[i];
      is_element[at] = true;
    });
  });
  sum = start;
  tested.add_gradients(sum, batch, options);
  tested.add_gradients(sum, batch, options);
  std::vector<double> expected(once.size()), bound(once.size());
  for (std::size_t i = 0; i < once.size(); ++i) {
    expected[i] = start[i] + 2 * once[i];
    // Many small numbers are added one by one: to a sum that begins elsewhere, with other
    // roundings.
    bound[i] = is_element[i] ? 1e-12 * (1 + std::abs(expected[i])) : 0;
  }
  CHECK(within(sum, expected, bound));
}

/// The tests of one configuration.
template <model_config Config>
void check_gradients() {
  SUBCASE("one document, divided by positions") {
    check_differences<Config>(random_batch(Config, 2, 7, 1), loss_normalization::positions);
  }
  SUBCASE("documents and masks, divided by positions") {
    check_differences<Config>(divided_batch(Config, 2, 7, 2), loss_normalization::positions);
  }
  SUBCASE("documents and masks, divided by valid targets") {
    check_differences<Config>(divided_batch(Config, 2, 7, 3), loss_normalization::valid_targets);
  }
  SUBCASE("scopes") {
    check_scopes<Config>(divided_batch(Config, 2, 7, 4));
  }
  SUBCASE("accumulation") {
    check_accumulation<Config>(divided_batch(Config, 2, 7, 5));
  }
}

}  // namespace mtp::test

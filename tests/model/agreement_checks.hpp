// What traces of a model on two backends have in common, and what a backend promises of its own.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "model/agreement.hpp"
#include "support/compare.hpp"
#include "support/normal_bound.hpp"

namespace mtp::test {

/// |actual - expected| <= share * (largest |expected| of the array + floor) for every element.
inline comparison near_array(const std::vector<double>& actual,
                             const std::vector<double>& expected,
                             double share,
                             double floor = 0) {
  double largest = floor;
  for (const double x : expected) {
    largest = std::max(largest, std::abs(x));
  }
  return within(actual, expected, share * largest);
}

inline void check_arrays(const model_trace::arrays& actual,
                         const model_trace::arrays& expected,
                         double share,
                         double floor) {
  REQUIRE(actual.size() == expected.size());
  for (const auto& entry : expected) {
    const auto& name = entry.first;
    const auto& values = entry.second;
    CAPTURE(name);
    REQUIRE(actual.count(name) == 1);
    CHECK(near_array(actual.at(name), values, share, floor));
  }
}

inline bool same_text(const model_trace::text& a, const model_trace::text& b) {
  return same_bits(a.tokens, b.tokens) && same_bits(a.logits, b.logits);
}

/// What a result may be off, relative to the largest element of its array. Sums have some hundred
/// terms, and a model some dozen of them one after the other, each of which may double a relative
/// error of its input. In f32 and f64 a thousand units in the last place; bf16 rounds every
/// activation to 2^-9.
template <class S>
constexpr double share_of() {
  return std::is_same_v<S, double> ? 1e-11 : std::is_same_v<S, float> ? 1e-4 : 0.06;
}

/// Compares how far training moved the parameters. Element by element would be too much to ask:
/// AdamW moves a parameter by about the learning rate whatever its gradient's size, so one whose
/// gradient is nothing but rounding errors may go either way.
template <class S>
void check_trained(const model_trace& actual, const model_trace& expected) {
  double moved = 0, differs = 0;
  for (const auto& [name, values] : expected.trained) {
    const auto& before = expected.initial.at(name);
    const auto& other = actual.trained.at(name);
    REQUIRE(other.size() == values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      moved += std::abs(values[i] - before[i]);
      differs += std::abs(values[i] - other[i]);
    }
  }
  CHECK(differs <= share_of<S>() * 10 * moved);
  CHECK(moved > 0);
}

/// The trace of one backend agrees with that of another, and speculative text is plain text.
template <class S>
void check_agreement(const model_trace& actual, const model_trace& expected) {
  constexpr double share = share_of<S>();
  for (const auto& entry : expected.initial) {
    const auto& name = entry.first;
    const auto& values = entry.second;
    CAPTURE(name);
    REQUIRE(actual.initial.count(name) == 1);
    std::vector<double> bound;
    for (const double value : values) {
      bound.push_back(normal_bound<S>(value));
    }
    CHECK(within(actual.initial.at(name), values, bound));
  }
  CHECK(near_array(actual.losses, expected.losses, share));
  // Gradients of a parameter are compared with the largest of all: some are nothing but noise.
  double largest = 0;
  for (const auto& [name, values] : expected.gradients) {
    for (const double x : values) {
      largest = std::max(largest, std::abs(x));
    }
  }
  check_arrays(actual.gradients, expected.gradients, share, 0.02 * largest);
  CHECK(actual.loads == expected.loads);
  CHECK(near_array(actual.step_losses, expected.step_losses, share));
  CHECK(near_array(actual.gradient_norms, expected.gradient_norms, share));
  check_trained<S>(actual, expected);

  // In f64 nothing is near enough to a tie for a rounding error to decide on a token.
  if (std::is_same_v<S, double>) {
    CHECK(same_bits(actual.plain.tokens, expected.plain.tokens));
    CHECK(actual.speculative.forward_passes == expected.speculative.forward_passes);
    CHECK(near_array(actual.plain.logits, expected.plain.logits, 1e-9));
    CHECK(same_bits(actual.drawn.tokens, expected.drawn.tokens));
    CHECK(actual.drawn.tokens !=
          std::vector<token_t>(actual.plain.tokens.begin(), actual.plain.tokens.begin() + 12));
  }
  REQUIRE(actual.plain.tokens.size() == expected.plain.tokens.size());
  CHECK(same_text(actual.speculative, actual.plain));
}

/// A run gives the same bits twice.
inline void check_same_bits(const model_trace& again, const model_trace& actual) {
  CHECK(same_bits(again.losses, actual.losses));
  CHECK(same_bits(again.step_losses, actual.step_losses));
  CHECK(same_bits(again.gradient_norms, actual.gradient_norms));
  for (const auto& entry : actual.trained) {
    const auto& name = entry.first;
    const auto& values = entry.second;
    CAPTURE(name);
    CHECK(same_bits(again.trained.at(name), values));
  }
  for (const auto& entry : actual.gradients) {
    const auto& name = entry.first;
    const auto& values = entry.second;
    CAPTURE(name);
    CHECK(same_bits(again.gradients.at(name), values));
  }
  CHECK(same_text(again.speculative, actual.speculative));
}

}  // namespace mtp::test

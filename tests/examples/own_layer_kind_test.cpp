// Kinds of layers from outside the library owe what its own do: with heads that draft nothing, and
// in every element type.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "examples/own_layer_config.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::examples_own_layer_kind_cases {

namespace {

constexpr model_config plain = own_layers(head_kind::none, 0);

/// All gradients of a model, parameter after parameter, row by row.
template <class S>
std::vector<double> gradients_of(cpu_context& context,
                                 const language_model<plain, cpu, S>& model,
                                 const token_batch& batch) {
  model_loss<plain, cpu, S> loss(context, batch.batch, batch.length);
  buffer<accumulate_t<S>, cpu> gradients(model.layout.storage);
  loss.with_gradients(context,
                      model,
                      {gradients.data(), gradients.count()},
                      batch.view(),
                      default_loss_options<plain>());
  std::vector<double> all;
  model.layout.visit([&](const std::string&, const parameter& p) {
    for_each_element<S>(p, [&](std::size_t, std::size_t at) {
      all.push_back(static_cast<double>(gradients.data()[at]));
    });
  });
  return all;
}

}  // namespace

TEST_CASE("gradients of layers from outside are the same in bf16, but for its roundings") {
  cpu_context context({.threads = 2});
  language_model<plain, cpu, bf16> rounded(context, seed{3});
  language_model<plain, cpu, double> exact(context, seed{3});
  std::vector<double> values;
  rounded.layout.visit([&](const std::string&, const parameter& p) {
    for_each_element<bf16>(p, [&](std::size_t, std::size_t at) {
      values.push_back(static_cast<double>(rounded.values().data()[at]));
    });
  });
  std::size_t next = 0;
  exact.layout.visit([&](const std::string&, const parameter& p) {
    for_each_element<double>(
        p, [&](std::size_t, std::size_t at) { exact.values().data()[at] = values[next++]; });
  });
  const token_batch batch = random_batch(plain, 3, 17, 6);
  const auto actual = gradients_of(context, rounded, batch);
  const auto expected = gradients_of(context, exact, batch);
  REQUIRE(actual.size() == expected.size());
  double difference = 0, square = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    square += expected[i] * expected[i];
  }
  // An activation has a relative error of 2^-9, and some twenty stand behind one another.
  CHECK(std::sqrt(difference / square) < 20 * std::ldexp(1.0, -9));
}

TEST_CASE("layers from outside keep their promises without a head") {
  check_layers<own_layers(head_kind::none, 0)>();
}

TEST_CASE("layers from outside keep their promises under shared logits") {
  check_layers<own_layers(head_kind::shared_logit, 2)>();
}

TEST_CASE("layers from outside keep their promises in bf16") {
  check_decoding<own_layers(head_kind::none, 0), bf16>();
}

}  // namespace mtp::test::examples_own_layer_kind_cases

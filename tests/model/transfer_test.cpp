// Models copied between element types, trunks between heads, and tensors between backends.
#include "mtp/model/transfer.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"
#include "support/decoding.hpp"

namespace mtp::test::model_transfer_cases {

namespace {

constexpr model_config config = flipped_config(head_kind::sequential, 2);

constexpr model_config headless = flipped_config(head_kind::none, 0);

/// Every element without padding of the parameters that `at` visits, in their order.
template <class Layout, model_config Config, class S>
std::vector<double> numbers(const Layout& at, const language_model<Config, cpu, S>& model) {
  const auto host = mtp::detail::host_copy(model.values());
  std::vector<double> all;
  at.visit([&](const std::string&, const parameter& p) {
    for (index_t i = 0; i < p.count(); ++i) {
      all.push_back(
          static_cast<double>(host[static_cast<std::size_t>(mtp::detail::place_of<cpu, S>(p, i))]));
    }
  });
  return all;
}
template <model_config Config, class S>
std::vector<double> numbers(const language_model<Config, cpu, S>& model) {
  return numbers(model.layout, model);
}

template <class S>
std::vector<double> rounded(const std::vector<double>& values) {
  std::vector<double> all;
  for (const double value : values) {
    all.push_back(static_cast<double>(static_cast<S>(static_cast<accumulate_t<S>>(value))));
  }
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("a model takes the parameters of another one of its own type", S, double, bf16) {
  cpu_context context({.threads = 1});
  const language_model<config, cpu, S> from(context, seed{1});
  language_model<config, cpu, S> to(context, seed{2});
  REQUIRE_FALSE(same_bits(numbers(to), numbers(from)));
  copy_parameters(to, from);
  CHECK(same_bits(numbers(to), numbers(from)));
}

TEST_CASE("parameters are rounded to the narrower type, and widened exactly") {
  cpu_context context({.threads = 1});
  const language_model<config, cpu, double> precise(context, seed{1});
  language_model<config, cpu, float> single(context, seed{2});
  language_model<config, cpu, bf16> half(context, seed{3});
  copy_parameters(single, precise);
  CHECK(same_bits(numbers(single), rounded<float>(numbers(precise))));
  copy_parameters(half, precise);
  CHECK(same_bits(numbers(half), rounded<bf16>(numbers(precise))));
  copy_parameters(single, half);
  CHECK(same_bits(numbers(single), numbers(half)));
}

// Options of heads do not belong to the trunk; everything else does.
static_assert(same_trunk(headless, config));
static_assert(!same_trunk(headless, tiny_config(head_kind::none, 0)));
static_assert(!same_trunk(headless, [] {
  model_config longer = config;
  ++longer.num_hidden_layers;
  return longer;
}()));

TEST_CASE("a model takes the trunk of one without a head, and keeps its head") {
  cpu_context context({.threads = 1});
  const language_model<headless, cpu, float> from(context, seed{1});
  language_model<config, cpu, float> to(context, seed{2});
  const auto head = numbers(to.head_layout(), to);
  REQUIRE_FALSE(same_bits(numbers(to.trunk_layout(), to), numbers(from)));
  copy_trunk(to, from);
  CHECK(same_bits(numbers(to.trunk_layout(), to), numbers(from)));
  CHECK(same_bits(numbers(to.head_layout(), to), head));
}

TEST_CASE("a trunk is rounded to the narrower type") {
  cpu_context context({.threads = 1});
  const language_model<config, cpu, double> from(context, seed{1});
  language_model<headless, cpu, bf16> to(context, seed{2});
  copy_trunk(to, from);
  CHECK(same_bits(numbers(to), rounded<bf16>(numbers(from.trunk_layout(), from))));
}

TEST_CASE("a seed gives the same parameters in every element type, up to rounding") {
  cpu_context context({.threads = 1});
  const language_model<config, cpu, double> precise(context, seed{4});
  const language_model<config, cpu, bf16> half(context, seed{4});
  CHECK(same_bits(numbers(half), rounded<bf16>(numbers(precise))));
}

TEST_CASE("a tensor moves to another backend with its elements") {
  const std::vector<float> elements{1, 2, 3, 4, 5, 6};
  const tensor<float, extents<2, 3>, cpu> here(extents<2, 3>{}, elements);
  const auto there = here.to<cpu>();
  CHECK(there.to_host() == elements);
  CHECK(there.data() != here.data());
}

TEST_CASE("a head that was trained for one token drafts further with what it gives itself") {
  constexpr int P = 96;
  cpu_context context({.threads = 1});
  language_model<spoken_config(head_kind::sequential, 1, P), cpu> from(context, seed{1});
  make_perfect(from);
  language_model<spoken_config(head_kind::recurrent, 3, P), cpu> recurrent(context, seed{2});
  language_model<spoken_config(head_kind::sequential, 2, P), cpu> sequential(context, seed{3});
  copy_recycled(recurrent, from);
  copy_recycled(sequential, from);
  const auto trunk = numbers(from.trunk_layout(), from);
  const auto module = numbers(from.head_layout(), from);
  CHECK(same_bits(numbers(recurrent.trunk_layout(), recurrent), trunk));
  CHECK(same_bits(numbers(recurrent.head_layout(), recurrent), module));
  std::vector<double> twice = module;
  twice.insert(twice.end(), module.begin(), module.end());
  CHECK(same_bits(numbers(sequential.head_layout(), sequential), twice));

  generator<spoken_config(head_kind::sequential, 1, P), cpu> short_drafts(context, from);
  generator<spoken_config(head_kind::recurrent, 3, P), cpu> long_drafts(context, recurrent);
  const std::vector<token_t> prompt{3, 10};
  const auto text = short_drafts.generate(prompt, {.max_new_tokens = 40});
  const auto& further = long_drafts.generate(prompt, {.max_new_tokens = 40});
  CHECK(further.tokens == text.tokens);
  CHECK(further.accepted[2] == further.drafted[2]);
  CHECK(further.forward_passes < text.forward_passes);
}

}  // namespace mtp::test::model_transfer_cases

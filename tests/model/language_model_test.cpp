// The parameters of models: names, numbers, initial values.
#include "mtp/model/language_model.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test::model_language_model_cases {

namespace {

template <model_config Config, class S = float>
std::vector<S> initial_values(std::uint64_t value, int threads = 1) {
  cpu_context context({.threads = threads});
  const language_model<Config, cpu, S> model(context, seed{value});
  const auto all = model.values();
  return {all.data(), all.data() + all.count()};
}

/// Rows of every parameter by name.
template <model_config Config, class S = float>
std::map<std::string, std::vector<S>> initial_rows(std::uint64_t value) {
  const auto all = initial_values<Config, S>(value);
  std::map<std::string, std::vector<S>> rows;
  language_model<Config, cpu, S>::layout.visit([&](const std::string& name, const parameter& p) {
    CHECK(rows.emplace(name, rows_of<S>(all, p)).second);  // names are unique
  });
  return rows;
}

TEST_CASE("one seed gives one set of parameters, on any number of threads") {
  constexpr auto config = flipped_config(head_kind::sequential, 2);
  const auto expected = initial_values<config>(42);
  CHECK(same_bits(initial_values<config>(42), expected));
  CHECK(same_bits(initial_values<config>(42, 3), expected));
  CHECK_FALSE(same_bits(initial_values<config>(43), expected));
}

/// Elements of storage that belong to no parameter are zero.
template <model_config Config>
void check_padding() {
  auto all = initial_values<Config>(1);
  bool zero = true, any = false;
  language_model<Config, cpu, float>::layout.visit([&](const std::string&, const parameter& p) {
    for_each_element<float>(p, [&](std::size_t, std::size_t at) { all[at] = 0; });
    any = any || p.storage > p.count();
  });
  for (const float value : all) {
    zero = zero && value == 0;
  }
  CHECK(any);
  CHECK(zero);
}

TEST_CASE("padding starts as zero") {
  check_padding<tiny_config(head_kind::sequential, 2)>();
  check_padding<flipped_config(head_kind::independent, 2)>();
}

TEST_CASE("the trunk of one seed is the same under every head") {
  const auto trunk = initial_rows<tiny_config(head_kind::none, 0)>(7);
  const auto check = [&](const std::map<std::string, std::vector<float>>& other) {
    for (const auto& entry : trunk) {
      const std::string& name = entry.first;
      CAPTURE(name);
      REQUIRE(other.count(name) == 1);
      CHECK(same_bits(other.at(name), entry.second));
    }
    for (const auto& entry : other) {
      const std::string& name = entry.first;
      CAPTURE(name);
      CHECK((trunk.count(name) == 1 || name.rfind("mtp.", 0) == 0));
    }
  };
  check(initial_rows<tiny_config(head_kind::sequential, 2)>(7));
  check(initial_rows<tiny_config(head_kind::recurrent, 2)>(7));
  check(initial_rows<tiny_config(head_kind::parallel, 2)>(7));
  check(initial_rows<tiny_config(head_kind::independent, 2)>(7));
  check(initial_rows<tiny_config(head_kind::shared_logit, 2)>(7));
}

TEST_CASE("depths start with different values") {
  const auto rows = initial_rows<tiny_config(head_kind::sequential, 2)>(7);
  CHECK_FALSE(same_bits(rows.at("mtp.0.eh_proj.weight"), rows.at("mtp.1.eh_proj.weight")));
  CHECK_FALSE(same_bits(rows.at("layers.0.mlp.down_proj.weight"),
                        rows.at("layers.1.mlp.down_proj.weight")));
}

TEST_CASE("initial values are a function of seed, parameter and element") {
  // The third parameter of the trunk: embed_tokens, input_layernorm, qkv_proj.
  const auto rows = initial_rows<tiny_config(head_kind::none, 0), double>(11);
  const auto& qkv = rows.at("layers.0.self_attn.qkv_proj.weight");
  const random_stream random(seed{11}, 2);
  std::vector<double> expected;
  for (std::size_t i = 0; i < qkv.size(); ++i) {
    expected.push_back(1 / std::sqrt(12.0) * random.normal(i));
  }
  CHECK(within(qkv, expected, 1e-15));
}

constexpr model_config wide_config() {
  model_config config = flipped_config(head_kind::independent, 2);
  config.vocab_size = 300;
  config.hidden_size = 64;
  config.attention.head_dim = 16;
  config.feed_forward.intermediate_size = 100;
  config.tie_word_embeddings = false;
  return config;
}

TEST_CASE("initial values have the spread that their role asks for") {
  const auto all = initial_values<wide_config(), double>(3);
  constexpr auto& layout = language_model<wide_config(), cpu, double>::layout;
  layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto rows = rows_of<double>(all, p);
    double deviation = 1 / std::sqrt(static_cast<double>(p.inputs));
    switch (p.role) {
      case parameter_role::norm:
        CHECK(same_bits(rows, std::vector<double>(rows.size(), 1.0)));
        return;
      case parameter_role::bias:
      case parameter_role::zero:
        CHECK(same_bits(rows, std::vector<double>(rows.size(), 0.0)));
        return;
      case parameter_role::residual:
        deviation /= std::sqrt(2.0 * 2);  // two layers
        break;
      default:
        break;
    }
    double sum = 0, squares = 0;
    for (const double value : rows) {
      sum += value;
      squares += value * value;
    }
    const auto n = static_cast<double>(rows.size());
    CHECK(std::abs(sum / n) <= 5 * deviation / std::sqrt(n));
    CHECK(std::abs(squares / n / (deviation * deviation) - 1) <= 5 * std::sqrt(2 / n));
  });
}

TEST_CASE("roles are what the names say") {
  constexpr auto& layout = language_model<wide_config(), cpu, float>::layout;
  layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
    auto expected = parameter_role::matrix;
    if (has("norm")) expected = parameter_role::norm;
    if (has("bias")) expected = parameter_role::bias;
    if (has("o_proj") || has("down_proj")) expected = parameter_role::residual;
    if (has("embed_tokens")) expected = parameter_role::embedding;
    if (has("residual.weight")) expected = parameter_role::zero;
    CHECK(p.role == expected);
  });
}

template <model_config Config>
index_t parameter_count() {
  return language_model<Config, cpu, float>::parameter_count();
}

// V C + L (C + qkv C + C HE + C + 2F C + C F) + C + V C
constexpr index_t tiny_block = 12 + 36 * 12 + 12 * 12 + 12 + 26 * 12 + 12 * 13;
constexpr index_t tiny_trunk = 19 * 12 + 2 * tiny_block + 12 + 19 * 12;
// The flipped one has H E = 16, G E = 8, bias and two norms of width 4; output and embedding are
// one.
constexpr index_t flipped_block =
    12 + 32 * 12 + 32 + 4 + 4 + 12 * 16 + 12 + 12 + 26 * 12 + 12 * 13 + 12;
constexpr index_t flipped_trunk = 19 * 12 + 2 * flipped_block + 12;

TEST_CASE("the number of parameters is that of a computation by hand") {
  CHECK(parameter_count<tiny_config(head_kind::none, 0)>() == tiny_trunk);
  CHECK(parameter_count<flipped_config(head_kind::none, 0)>() == flipped_trunk);
  CHECK(parameter_count<tiny_config(head_kind::shared_logit, 3)>() == tiny_trunk);
  CHECK(parameter_count<tiny_config(head_kind::sequential, 3)>() ==
        tiny_trunk + 3 * (12 + 12 + 12 * 24 + tiny_block + 12));
  CHECK(parameter_count<flipped_config(head_kind::sequential, 3)>() ==
        flipped_trunk + 3 * (12 + 12 + 12 * 24 + flipped_block));
  CHECK(parameter_count<tiny_config(head_kind::recurrent, 3)>() ==
        tiny_trunk + (12 + 12 + 12 * 24 + tiny_block + 12));
  CHECK(parameter_count<tiny_config(head_kind::parallel, 3)>() ==
        tiny_trunk + 3 * (tiny_block + 12));
  CHECK(parameter_count<tiny_config(head_kind::independent, 3)>() ==
        tiny_trunk + 3 * (12 * 12 + 12 + 19 * 12));
}

TEST_CASE("a parallel head of depth D on L layers is as large as L + D layers without a head") {
  constexpr model_config parallel = [] {
    model_config config = tiny_config(head_kind::parallel, 3);
    config.prediction.output_norm = output_norm_kind::shared;
    return config;
  }();
  constexpr model_config deeper = [] {
    model_config config = tiny_config(head_kind::none, 0);
    config.num_hidden_layers += 3;
    return config;
  }();
  CHECK(parameter_count<parallel>() == parameter_count<deeper>());
}

TEST_CASE("parameters are named as in the checkpoints of others") {
  std::set<std::string> expected{"embed_tokens.weight", "norm.weight", "lm_head.weight"};
  for (const std::string block : {"layers.0.", "layers.1.", "mtp.0.block."}) {
    for (const char* name : {"input_layernorm.weight",
                             "self_attn.qkv_proj.weight",
                             "self_attn.o_proj.weight",
                             "post_attention_layernorm.weight",
                             "mlp.gate_up_proj.weight",
                             "mlp.down_proj.weight"}) {
      expected.insert(block + name);
    }
  }
  for (const char* name : {"enorm.weight", "hnorm.weight", "eh_proj.weight", "norm.weight"}) {
    expected.insert(std::string("mtp.0.") + name);
  }
  std::set<std::string> found;
  for (const auto& [name, rows] : initial_rows<tiny_config(head_kind::sequential, 1)>(1)) {
    found.insert(name);
  }
  CHECK(found == expected);
}

TEST_CASE("names are unique in every head kind") {
  initial_rows<flipped_config(head_kind::none, 0)>(1);
  initial_rows<flipped_config(head_kind::sequential, 3)>(1);
  initial_rows<flipped_config(head_kind::recurrent, 3)>(1);
  initial_rows<flipped_config(head_kind::parallel, 3)>(1);
  initial_rows<flipped_config(head_kind::independent, 3)>(1);
  initial_rows<flipped_config(head_kind::shared_logit, 3)>(1);
}

TEST_CASE("the table of rotary positions holds cosines, then sines") {
  constexpr auto config = tiny_config(head_kind::none, 0);
  cpu_context context({.threads = 1});
  const language_model<config, cpu, double> model(context, seed{1});
  const auto rope = model.rope();
  REQUIRE(rope.extent(0) == config.max_position_embeddings);
  REQUIRE(rope.extent(1) == 6);
  std::vector<double> expected;
  for (int p = 0; p < config.max_position_embeddings; ++p) {
    for (int half = 0; half < 2; ++half) {
      for (int e = 0; e < 3; ++e) {
        const double angle = p / std::pow(10000.0, 2.0 * e / 6);
        expected.push_back(half == 0 ? std::cos(angle) : std::sin(angle));
      }
    }
  }
  CHECK(within(rope, expected, 1e-13));  // the angle itself is rounded, and up to 47
}

}  // namespace

}  // namespace mtp::test::model_language_model_cases

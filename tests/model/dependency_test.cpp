// What every depth of every head kind depends on: tokens and parameters, bit by bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test::model_dependency_cases {

namespace {

constexpr int D = 3;

/// Whether the definition of the head lets the logits of depth k at position i see token t_j.
constexpr bool sees_token(const prediction_config& head, index_t k, index_t i, index_t j) {
  const bool modules = head.kind == head_kind::sequential || head.kind == head_kind::recurrent;
  const bool chained = head.chain == chain_input::previous_output;
  // Without a chain, rows 0 .. i of depth k have the trunk's hidden states and tokens k .. i + k.
  return j <= i || (modules && j <= i + k && (chained || j >= k));
}

std::string at(std::size_t k, index_t b, index_t i) {
  return "depth " + std::to_string(k) + ", row " + std::to_string(b) + ", position " +
         std::to_string(i) + "; ";
}

/// Changes one token after the other and compares which logits changed with which may and must.
template <model_config Config>
void check_token_dependencies() {
  const index_t B = 2, T = 6, V = Config.vocab_size;
  subject<Config, double> tested(2, B, T);
  const token_batch batch = random_batch(Config, B, T, 9);
  const auto before = tested.logits(batch);
  const bool has_depths = Config.prediction.kind != head_kind::shared_logit;
  REQUIRE(before.size() ==
          (has_depths ? static_cast<std::size_t>(Config.prediction.depth) + 1 : 1));
  for (index_t j = 0; j < batch.row(); ++j) {
    token_batch other = batch;
    token_t& token = other.tokens[static_cast<std::size_t>(j)];  // of row 0
    token = static_cast<token_t>((token + 1) % V);
    const auto after = tested.logits(other);
    std::string leaks, misses;
    for (std::size_t k = 0; k < before.size(); ++k) {
      for (index_t b = 0; b < B; ++b) {
        for (index_t i = 0; i < T; ++i) {
          const auto row = static_cast<std::size_t>((b * T + i) * V);
          const bool changed = std::memcmp(&before[k][row],
                                           &after[k][row],
                                           static_cast<std::size_t>(V) * sizeof(double)) != 0;
          const bool sees = b == 0 && sees_token(Config.prediction, static_cast<index_t>(k), i, j);
          leaks += changed && !sees ? at(k, b, i) : "";
          misses += sees && !changed ? at(k, b, i) : "";
        }
      }
    }
    CAPTURE(j);
    CHECK(leaks == "");
    CHECK(misses == "");
  }
}

TEST_CASE("next-token logits depend on exactly the tokens up to their position") {
  check_token_dependencies<tiny_config(head_kind::none, 0)>();
  check_token_dependencies<tiny_config(head_kind::shared_logit, D)>();
}

TEST_CASE("depth k of the sequential head depends on exactly the tokens up to k positions ahead") {
  check_token_dependencies<tiny_config(head_kind::sequential, D)>();
  check_token_dependencies<flipped_config(head_kind::sequential, D)>();
}

TEST_CASE("depth k of the recurrent head depends on exactly the tokens up to k positions ahead") {
  check_token_dependencies<tiny_config(head_kind::recurrent, D)>();
}

TEST_CASE("all depths of the parallel head depend on exactly the tokens up to their position") {
  check_token_dependencies<tiny_config(head_kind::parallel, D)>();
}

TEST_CASE("all depths of the independent head depend on exactly the tokens up to their position") {
  check_token_dependencies<tiny_config(head_kind::independent, D)>();
}

/// Changes one parameter after the other; reaches(name) = the depths that must change, as text.
template <model_config Config, class Reaches>
void check_parameter_dependencies(const Reaches& reaches) {
  subject<Config, double> tested;
  const token_batch batch = random_batch(Config, 2, 7, 10);
  const auto before = tested.logits(batch);
  tested.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const auto kept = tested.rows(p);
    tested.shift(p, 4000);
    const auto after = tested.logits(batch);
    tested.set(p, kept);
    std::string changed;
    for (std::size_t k = 0; k < before.size(); ++k) {
      changed += same_bits(after[k], before[k]) ? "" : std::to_string(k);
    }
    CHECK(changed == std::string(reaches(name)));
  });
  for (std::size_t k = 0; k < before.size(); ++k) {
    CHECK(same_bits(tested.logits(batch)[k], before[k]));  // all parameters were set back
  }
}

bool starts_with(const std::string& name, const char* prefix) {
  return name.rfind(prefix, 0) == 0;
}

TEST_CASE("parameters of depth k of the sequential head reach depths k and beyond") {
  check_parameter_dependencies<tiny_config(head_kind::sequential, D)>([](const std::string& name) {
    if (starts_with(name, "mtp.0.")) return "123";
    if (starts_with(name, "mtp.1.")) return "23";
    if (starts_with(name, "mtp.2.")) return "3";
    return "0123";
  });
}

TEST_CASE("parameters of depth k of sequential modules that read the trunk reach depth k alone") {
  constexpr model_config config = [] {
    model_config made = tiny_config(head_kind::sequential, D);
    made.prediction.chain = chain_input::target_hidden;
    return made;
  }();
  check_token_dependencies<config>();
  check_parameter_dependencies<config>([](const std::string& name) {
    if (starts_with(name, "mtp.0.")) return "1";
    if (starts_with(name, "mtp.1.")) return "2";
    if (starts_with(name, "mtp.2.")) return "3";
    return "0123";
  });
}

TEST_CASE("norms before the output matrix reach their own depth alone if streams are recycled") {
  constexpr model_config config = [] {
    model_config made = tiny_config(head_kind::sequential, D);
    made.prediction.hidden_tap = norm_tap::pre_norm;
    made.prediction.recycle_tap = norm_tap::pre_norm;
    return made;
  }();
  check_parameter_dependencies<config>([](const std::string& name) {
    if (name == "norm.weight") return "0";
    if (name == "mtp.0.norm.weight") return "1";
    if (name == "mtp.1.norm.weight") return "2";
    if (starts_with(name, "mtp.0.")) return "123";
    if (starts_with(name, "mtp.1.")) return "23";
    if (starts_with(name, "mtp.2.")) return "3";
    return "0123";
  });
}

TEST_CASE("the module of the recurrent head reaches all depths but the next token") {
  check_parameter_dependencies<tiny_config(head_kind::recurrent, D)>(
      [](const std::string& name) { return starts_with(name, "mtp.") ? "123" : "0123"; });
}

TEST_CASE("parameters of depth k of the parallel head reach depth k alone") {
  check_parameter_dependencies<tiny_config(head_kind::parallel, D)>([](const std::string& name) {
    if (starts_with(name, "mtp.0.")) return "1";
    if (starts_with(name, "mtp.1.")) return "2";
    if (starts_with(name, "mtp.2.")) return "3";
    // The trunk's last block is the next-token head, and so is its norm.
    return starts_with(name, "layers.1.") || name == "norm.weight" ? "0" : "0123";
  });
}

TEST_CASE("the shared norm of the parallel head reaches all depths") {
  check_parameter_dependencies<flipped_config(head_kind::parallel, D)>([](const std::string& name) {
    if (starts_with(name, "mtp.0.")) return "1";
    if (starts_with(name, "mtp.1.")) return "2";
    if (starts_with(name, "mtp.2.")) return "3";
    return starts_with(name, "layers.1.") ? "0" : "0123";
  });
}

TEST_CASE("parameters of depth k of the independent head reach depth k alone") {
  check_parameter_dependencies<tiny_config(head_kind::independent, D)>([](const std::string& name) {
    if (starts_with(name, "mtp.0.")) return "1";
    if (starts_with(name, "mtp.1.")) return "2";
    if (starts_with(name, "mtp.2.")) return "3";
    return name == "lm_head.weight" ? "0" : "0123";
  });
}

TEST_CASE("the next-token logits of every head kind with the trunk of none are those of none") {
  subject<tiny_config(head_kind::none, 0), float> plain;
  const token_batch batch = random_batch(tiny_config(head_kind::none, 0), 2, 7, 11);
  const auto expected = plain.logits(batch);
  const auto compare = [&](auto& other) {
    using other_type = std::remove_reference_t<decltype(other)>;
    // Tokens beyond T are inputs of deeper depths only.
    token_batch longer = random_batch(other_type::model_type::config, 2, 7, 12);
    for (index_t b = 0; b < 2; ++b) {
      for (index_t i = 0; i < 7; ++i) {
        longer.tokens[static_cast<std::size_t>(b * longer.row() + i)] =
            batch.tokens[static_cast<std::size_t>(b * batch.row() + i)];
      }
    }
    CHECK(same_bits(other.logits(longer)[0], expected[0]));
  };
  SUBCASE("shared_logit") {
    subject<tiny_config(head_kind::shared_logit, D), float> other;
    compare(other);
    CHECK(other.logits(random_batch(tiny_config(head_kind::shared_logit, D), 2, 7, 1)).size() == 1);
  }
  SUBCASE("sequential") {
    subject<tiny_config(head_kind::sequential, 1), float> other;
    compare(other);
  }
  SUBCASE("parallel") {
    subject<tiny_config(head_kind::parallel, 1), float> other;
    compare(other);
  }
  SUBCASE("independent") {
    subject<tiny_config(head_kind::independent, 1), float> other;
    compare(other);
  }
}

template <model_config Config>
std::set<std::string> names() {
  std::set<std::string> all;
  language_model<Config, cpu, float>::layout.visit(
      [&](const std::string& name, const parameter&) { all.insert(name); });
  return all;
}

TEST_CASE("the recurrent head has the parameters of a sequential head of depth 1") {
  const auto recurrent = names<tiny_config(head_kind::recurrent, D)>();
  CHECK(recurrent == names<tiny_config(head_kind::sequential, 1)>());
  CHECK(recurrent != names<tiny_config(head_kind::sequential, D)>());
}

TEST_CASE("the recurrent head computes what a sequential head of equal modules computes") {
  subject<tiny_config(head_kind::recurrent, D), float> recurrent;
  subject<tiny_config(head_kind::sequential, D), float> sequential;
  recurrent.layout.visit([&](const std::string& name, const parameter& from) {
    sequential.layout.visit([&](const std::string& other, const parameter& to) {
      const bool same_module = starts_with(name, "mtp.0.") && starts_with(other, "mtp.") &&
                               other.substr(6) == name.substr(6);
      if (other == name || same_module) {
        sequential.set(to, to_double(recurrent.rows(from)));
      }
    });
  });
  const token_batch batch = random_batch(tiny_config(head_kind::recurrent, D), 2, 7, 13);
  const auto expected = recurrent.logits(batch), actual = sequential.logits(batch);
  REQUIRE(actual.size() == expected.size());
  for (std::size_t k = 0; k < actual.size(); ++k) {
    CHECK(same_bits(actual[k], expected[k]));
  }
}

}  // namespace

}  // namespace mtp::test::model_dependency_cases

// Configurations as text, and back.
#include "mtp/io/describe.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "support/decoding.hpp"

namespace mtp::test::io_describe_cases {

namespace {

using entries_type = std::map<std::string, std::string>;

/// Every field differs from its default.
constexpr model_config unusual{.vocab_size = 1031,
                               .hidden_size = 60,
                               .num_hidden_layers = 3,
                               .max_position_embeddings = 77,
                               .rms_norm_eps = 3e-6f,
                               .attention = {.kind = {.name = "latent"},
                                             .num_attention_heads = 6,
                                             .num_key_value_heads = 2,
                                             .head_dim = 8,
                                             .rope_theta = 1234567.5f,
                                             .rope_scaling = {.kind = rope_scaling_kind::yarn,
                                                              .factor = 2.5f,
                                                              .original_max_position_embeddings = 5,
                                                              .low_freq_factor = 1.5f,
                                                              .high_freq_factor = 5,
                                                              .beta_fast = 17,
                                                              .beta_slow = 3,
                                                              .attention_factor = 1.25f,
                                                              .mscale_all_dim = 0.5f},
                                             .partial_rotary_factor = 0.5f,
                                             .qkv_bias = true,
                                             .qk_norm = true,
                                             .post_norm = true,
                                             .q_lora_rank = 11,
                                             .kv_lora_rank = 13,
                                             .qk_nope_head_dim = 32,
                                             .qk_rope_head_dim = 14,
                                             .v_head_dim = 64,
                                             .lora_norm_eps = 2e-6f},
                               .feed_forward = {.kind = {.name = "mixture"},
                                                .intermediate_size = 91,
                                                .post_norm = true,
                                                .first_k_dense_replace = 1,
                                                .n_routed_experts = 12,
                                                .num_experts_per_tok = 3,
                                                .moe_intermediate_size = 48,
                                                .n_shared_experts = 2,
                                                .n_group = 4,
                                                .topk_group = 2,
                                                .norm_topk_prob = false,
                                                .routed_scaling_factor = 2.5f,
                                                .scoring_func = scoring_function::softmax,
                                                .e_score_correction_bias = false},
                               .prediction = {.kind = head_kind::recurrent,
                                              .depth = 3,
                                              .concat = concat_order::embedding_first,
                                              .hidden_tap = norm_tap::pre_norm,
                                              .recycle_tap = norm_tap::pre_norm,
                                              .chain = chain_input::target_hidden,
                                              .output_norm = output_norm_kind::shared},
                               .tie_word_embeddings = true};

TEST_CASE("every field is visited once, and counts") {
  std::set<std::string> names;
  std::size_t fields = 0;
  visit_fields(unusual, [&](const char* name, const auto&) {
    names.insert(name);
    ++fields;
  });
  CHECK(names.size() == fields);
  // Changing any one field back to its default shows.
  const model_config plain{};
  for (const std::string& name : names) {
    CAPTURE(name);
    model_config other = unusual;
    visit_fields(other, [&](const char* field, auto& value) {
      visit_fields(plain, [&](const char* from, const auto& usual) {
        if constexpr (std::is_same_v<decltype(value), std::remove_cvref_t<decltype(usual)>&>) {
          if (std::string(field) == name && std::string(from) == name) {
            value = usual;
          }
        }
      });
    });
    CHECK(other != unusual);
    std::vector<std::string> differing;
    io::visit_differences(
        other, io::describe(unusual), [&](const char* field, const auto&, const auto&) {
          differing.push_back(field);
        });
    CHECK(differing == std::vector<std::string>{name});
  }
}

TEST_CASE("a description says all of a configuration") {
  CHECK(io::config_of(io::describe(unusual)) == unusual);
  const model_config plain{};
  CHECK(io::config_of(io::describe(plain)) == resolved(plain));
  CHECK(io::describe(plain).contains("config.head_dim"));
}

TEST_CASE("what earlier versions did not have is left out where it says nothing") {
  const entries_type plain = io::describe(model_config{});
  for (const char* name : {"config.attention",
                           "config.feed_forward",
                           "config.first_k_dense_replace",
                           "config.n_routed_experts",
                           "config.scoring_func",
                           "config.e_score_correction_bias",
                           "config.partial_rotary_factor",
                           "config.attention_post_norm",
                           "config.feed_forward_post_norm",
                           "config.chain",
                           "config.mscale_all_dim",
                           "config.q_lora_rank",
                           "config.kv_lora_rank",
                           "config.qk_nope_head_dim",
                           "config.qk_rope_head_dim",
                           "config.v_head_dim"}) {
    CHECK_FALSE(plain.contains(name));
    CHECK(io::describe(unusual).contains(name));
  }
}

TEST_CASE("a description that makes no sense is refused by the name of the entry") {
  const auto refused = [](const std::string& name, const std::string& text) {
    entries_type entries = io::describe(unusual);
    entries["config." + name] = text;
    return fails_with("config_of: the entry \"config." + name + "\" cannot be \"" + text + "\"",
                      [&] { static_cast<void>(io::config_of(entries)); });
  };
  for (const char* text : {"", "x", "1x", " 1", "1.5", "99999999999"}) {
    CAPTURE(text);
    CHECK(refused("vocab_size", text));
  }
  CHECK(refused("rms_norm_eps", "1e-6x"));
  CHECK(refused("qk_norm", "yes"));
  CHECK(refused("concat", "hidden"));
  CHECK(refused("head", "unheard_of"));
  CHECK(refused("attention", "a_name_of_more_than_23_letters"));
  entries_type entries = io::describe(unusual);
  entries.erase("config.depth");
  CHECK(fails_with("config_of: there is no entry \"config.depth\"",
                   [&] { static_cast<void>(io::config_of(entries)); }));
}

/// The description of a template argument, as a program reads it while it runs.
template <model_config Config>
entries_type described() {
  return io::describe(Config);
}

TEST_CASE("every field of a template argument is the same while a program runs") {
  CHECK(described<unusual>() == io::describe(unusual));
  CHECK(described<model_config{}>() == io::describe(model_config{}));
}

TEST_CASE("a configuration prints as its fields") {
  std::ostringstream text;
  text << unusual;
  CHECK(text.str().rfind("vocab_size = 1031, hidden_size = 60, ", 0) == 0);
  CHECK(text.str().find("rope_theta = 1234567.5, qkv_bias = true") != std::string::npos);
  CHECK(text.str().find("attention = latent") != std::string::npos);
}

}  // namespace

}  // namespace mtp::test::io_describe_cases

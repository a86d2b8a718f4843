// config.json of each family, and what is refused by the name of its field.
#include "mtp/io/pretrained/read_config.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <utility>

#include "io/scratch.hpp"
#include "mtp/io/pretrained/config_json.hpp"

namespace mtp::test::io_pretrained_read_config_cases {

namespace {

using mtp::io::read_config;
using mtp::testing::scratch_directory;
using nlohmann::json;

/// What the model cards of the families have in common.
json config_of(const std::string& model_type) {
  return {{"model_type", model_type},
          {"architectures", json::array({"AnyForCausalLM"})},
          {"vocab_size", 1000},
          {"hidden_size", 96},
          {"intermediate_size", 200},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 6},
          {"num_key_value_heads", 2},
          {"head_dim", 24},
          {"hidden_act", "silu"},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 50000.0},
          {"tie_word_embeddings", true},
          {"torch_dtype", "bfloat16"},
          {"use_cache", true}};
}

mtp::io::pretrained_config read(const json& config) {
  const scratch_directory scratch;
  mtp::testing::put(scratch / "config.json", config.dump());
  const auto from_folder = read_config(scratch.path());
  CHECK(from_folder.config == read_config(scratch / "config.json").config);
  return from_folder;
}

std::string refused(const json& config) {
  try {
    static_cast<void>(read(config));
  } catch (const mtp::error& error) {
    return error.what();
  }
  return "accepted";
}

json with(json config, const std::string& field, const json& value) {
  config[field] = value;
  return config;
}

void refuses(const json& config, const std::string& part) {
  const std::string message = refused(config);
  CAPTURE(message);
  CAPTURE(part);
  CHECK(message.find(part) != std::string::npos);
}

constexpr mtp::model_config expected{.vocab_size = 1000,
                                     .hidden_size = 96,
                                     .num_hidden_layers = 3,
                                     .max_position_embeddings = 512,
                                     .rms_norm_eps = 1e-5f,
                                     .attention = {.num_attention_heads = 6,
                                                   .num_key_value_heads = 2,
                                                   .head_dim = 24,
                                                   .rope_theta = 50000},
                                     .feed_forward = {.intermediate_size = 200},
                                     .tie_word_embeddings = true};

}  // namespace

TEST_CASE("each family has its trunk") {
  for (const char* plain : {"llama", "mistral"}) CHECK(read(config_of(plain)).config == expected);
  auto qwen2 = expected, qwen3 = expected;
  qwen2.attention.qkv_bias = true;
  qwen3.attention.qk_norm = true;
  CHECK(read(config_of("qwen2")).config == qwen2);
  CHECK(read(config_of("mimo")).config == qwen2);
  CHECK(read(config_of("qwen3")).config == qwen3);
  CHECK(read(config_of("qwen3")).family == &mtp::io::llama_names);
}

TEST_CASE("GLM-4 and the language model of GLM-OCR") {
  auto glm = expected;
  glm.attention.partial_rotary_factor = 0.5f;
  glm.attention.post_norm = true;
  glm.feed_forward.post_norm = true;
  json config = config_of("glm4");
  refuses(config, "attention_bias is missing");
  config["attention_bias"] = false;
  CHECK(read(config).config == glm);
  CHECK(read(config).family == &mtp::io::glm4_names);
  CHECK(read(with(config, "partial_rotary_factor", 0.5)).config == glm);
  const auto inside = [](double factor) {
    return json{{"rope_type", "default"}, {"partial_rotary_factor", factor}};
  };
  CHECK(read(with(config, "rope_parameters", inside(0.25))).config.rotary_dim() == 6);
  refuses(with(with(config, "rope_parameters", inside(0.25)), "partial_rotary_factor", 0.5),
          "partial_rotary_factor differs");
  refuses(with(config, "partial_rotary_factor", 0.05), "heads are rotated in pairs");
  refuses(with(config, "partial_rotary_factor", 1.5), "at most 1");
  refuses(with(config, "medusa_num_heads", 2), "the family has none");
  auto biased = glm;
  biased.attention.qkv_bias = true;
  CHECK(read(with(config, "attention_bias", true)).config == biased);

  json text = with(config_of("glm_ocr_text"), "num_nextn_predict_layers", 1);
  text["tie_word_embeddings"] = false;
  text["rope_parameters"] = inside(0.5);
  text["rope_parameters"]["mrope_section"] = {8, 12, 12};
  const auto ocr =
      read({{"model_type", "glm_ocr"}, {"text_config", text}, {"vision_config", json::object()}});
  glm.tie_word_embeddings = false;
  glm.prediction.kind = mtp::head_kind::sequential;
  glm.prediction.depth = 1;
  glm.prediction.concat = mtp::concat_order::embedding_first;
  CHECK(ocr.config == glm);
  CHECK(ocr.family == &mtp::io::glm_ocr_names);
  refuses({{"model_type", "glm_ocr"}}, "text_config is missing");
}

TEST_CASE("latent attention and experts of DeepSeek-V3 and GLM") {
  json config = config_of("deepseek_v3");
  config.erase("num_key_value_heads");
  config["hidden_size"] = 128;
  for (const auto& [field, value] : {std::pair{"kv_lora_rank", 24},
                                     {"qk_nope_head_dim", 32},
                                     {"qk_rope_head_dim", 8},
                                     {"v_head_dim", 64},
                                     {"n_routed_experts", 12},
                                     {"num_experts_per_tok", 3},
                                     {"moe_intermediate_size", 48},
                                     {"n_shared_experts", 2},
                                     {"n_group", 4},
                                     {"topk_group", 2},
                                     {"first_k_dense_replace", 1}}) {
    config[field] = value;
  }
  config["routed_scaling_factor"] = 2.5;
  mtp::model_config model = expected;
  model.hidden_size = 128;
  model.attention = {.kind = mtp::attention_kind::multi_head_latent,
                     .num_attention_heads = 6,
                     .num_key_value_heads = 6,
                     .rope_theta = 50000,
                     .kv_lora_rank = 24,
                     .qk_nope_head_dim = 32,
                     .qk_rope_head_dim = 8,
                     .v_head_dim = 64,
                     .lora_norm_eps = 1e-6f};
  model.feed_forward = {.kind = mtp::feed_forward_kind::mixture_of_experts,
                        .intermediate_size = 200,
                        .first_k_dense_replace = 1,
                        .n_routed_experts = 12,
                        .num_experts_per_tok = 3,
                        .moe_intermediate_size = 48,
                        .n_shared_experts = 2,
                        .n_group = 4,
                        .topk_group = 2,
                        .norm_topk_prob = true,
                        .routed_scaling_factor = 2.5f,
                        .scoring_func = mtp::scoring_function::sigmoid,
                        .e_score_correction_bias = true};
  CHECK(read(config).config == model);
  CHECK(read(config).family == &mtp::io::deepseek_v3_names);
  auto ranked = model;
  ranked.attention.q_lora_rank = 40;
  CHECK(read(with(config, "q_lora_rank", 40)).config == ranked);
  auto sparse = model;
  sparse.feed_forward.first_k_dense_replace = 2;
  CHECK(read(with(config, "mlp_layer_types", {"dense", "dense", "sparse"})).config == sparse);

  json lite = config;
  lite["model_type"] = "glm4_moe_lite";
  CHECK(read(lite).config == model);
  CHECK(read(lite).family == &mtp::io::deepseek_v3_names);

  for (const auto& [field, value, why] :
       {std::tuple<const char*, json, const char*>{"num_key_value_heads", 2, "latent attention"},
        {"qk_nope_head_dim", 33, "a multiple of 32"},
        {"v_head_dim", 16, "a multiple of 32"},
        {"qk_rope_head_dim", 7, "in pairs"},
        {"rope_interleave", false, "side by side"},
        {"attention_bias", true, "no bias"},
        {"index_topk", 2048, "do not have it"},
        {"n_group", 5, "does not divide"},
        {"topk_group", 5, "fewer groups"},
        {"num_experts_per_tok", 7, "that are kept"},
        {"num_experts_per_tok", 13, "fewer experts"},
        {"moe_intermediate_size", 40, "a multiple of 16"},
        {"scoring_func", "softmax", "only sigmoid"},
        {"topk_method", "greedy", "only noaux_tc"},
        {"moe_layer_freq", 2, "has experts"},
        {"first_k_dense_replace", 4, "fewer blocks"},
        {"mlp_layer_types", {"sparse", "dense", "sparse"}, "for the first blocks"},
        {"mlp_layer_types", {"dense", "sparse"}, "for the first blocks"},
        {"mlp_layer_types", "dense", "for the first blocks"},
        {"medusa_num_heads", 2, "the family has none"}}) {
    refuses(with(config, field, value), std::string(field) + " = ");
    refuses(with(config, field, value), why);
  }
  refuses(with(config, "hidden_size", 100), "hidden_size = 100");
}

TEST_CASE("experts of GLM-4.5, Qwen3-MoE and Mixtral") {
  json config = config_of("glm4_moe");
  config["attention_bias"] = true;
  config["use_qk_norm"] = true;
  config["n_routed_experts"] = 8;
  config["num_experts_per_tok"] = 2;
  config["moe_intermediate_size"] = 32;
  mtp::model_config glm = expected;
  glm.attention.qkv_bias = true;
  glm.attention.qk_norm = true;
  glm.attention.partial_rotary_factor = 0.5f;
  glm.feed_forward.kind = mtp::feed_forward_kind::mixture_of_experts;
  glm.feed_forward.n_routed_experts = 8;
  glm.feed_forward.num_experts_per_tok = 2;
  glm.feed_forward.moe_intermediate_size = 32;
  glm.feed_forward.norm_topk_prob = true;
  glm.feed_forward.scoring_func = mtp::scoring_function::sigmoid;
  glm.feed_forward.e_score_correction_bias = true;
  CHECK(read(config).config == glm);
  CHECK(read(config).family == &mtp::io::glm4_moe_names);
  const json module = with(config, "num_nextn_predict_layers", 1);
  CHECK(read(module).config.prediction.depth == 1);
  CHECK(read(module).family == &mtp::io::glm4_moe_names);

  json qwen = config_of("qwen3_moe");
  qwen["num_experts"] = 8;
  qwen["num_experts_per_tok"] = 2;
  qwen["moe_intermediate_size"] = 32;
  mtp::model_config softmax = expected;
  softmax.feed_forward = glm.feed_forward;
  softmax.feed_forward.scoring_func = mtp::scoring_function::softmax;
  softmax.feed_forward.e_score_correction_bias = false;
  auto unnormed = softmax;
  unnormed.attention.qk_norm = true;
  unnormed.feed_forward.norm_topk_prob = false;
  CHECK(read(qwen).config == unnormed);
  CHECK(read(qwen).family == &mtp::io::glm4_moe_names);
  refuses(with(qwen, "decoder_sparse_step", 2), "every block has experts");
  refuses(with(qwen, "mlp_only_layers", {1}), "every block has experts");
  CHECK(read(with(qwen, "mlp_only_layers", json::array())).config == unnormed);

  json mixtral = config_of("mixtral");
  mixtral["num_local_experts"] = 8;
  mixtral["num_experts_per_tok"] = 2;
  mixtral["intermediate_size"] = 64;
  mixtral.erase("rope_theta");
  softmax.feed_forward.intermediate_size = 64;
  softmax.feed_forward.moe_intermediate_size = 64;
  softmax.attention.rope_theta = 1000000;
  CHECK(read(mixtral).config == softmax);
  CHECK(read(mixtral).family == &mtp::io::mixtral_names);

  for (const auto& [model, family] : {std::pair{glm, &mtp::io::glm4_moe_names},
                                      {unnormed, &mtp::io::glm4_moe_names},
                                      {softmax, &mtp::io::mixtral_names}}) {
    const auto again = read(mtp::io::config_json(model, *family, "float32"));
    CHECK(again.family == family);
    CHECK(again.config == model);
  }
}

TEST_CASE("a missing field has the default of transformers, null counts as missing") {
  json config = config_of("llama");
  for (const char* field : {"num_key_value_heads",
                            "head_dim",
                            "rms_norm_eps",
                            "rope_theta",
                            "tie_word_embeddings",
                            "hidden_act"}) {
    CAPTURE(field);
    json without = config;
    without.erase(field);
    CHECK(read(without).config == read(with(config, field, nullptr)).config);
    config.erase(field);
  }
  const auto read_back = read(config).config;
  CHECK(read_back.attention.num_key_value_heads == 6);
  CHECK(read_back.attention.head_dim == 16);
  CHECK(read_back.rms_norm_eps == 1e-6f);
  CHECK(read_back.attention.rope_theta == 10000);
  CHECK_FALSE(read_back.tie_word_embeddings);
  for (const char* field : {"vocab_size",
                            "hidden_size",
                            "intermediate_size",
                            "num_hidden_layers",
                            "num_attention_heads",
                            "max_position_embeddings"}) {
    json without = config_of("llama");
    without.erase(field);
    refuses(without, std::string(field) + " is missing");
  }
  json qwen3 = config_of("qwen3");
  qwen3.erase("head_dim");  // transformers would take 128
  refuses(qwen3, "head_dim is missing");
}

TEST_CASE("values of other types and out of range are refused") {
  for (const json& value : {json(-1),
                            json(0),
                            json(1.5),
                            json("96"),
                            json(true),
                            json(2147483648u),
                            json::array({96}),
                            json(18446744073709551615u)}) {
    refuses(with(config_of("llama"), "hidden_size", value),
            "hidden_size: expected a whole number from 1 to 2147483647, got ");
  }
  CHECK(read(with(config_of("llama"), "vocab_size", 2147483647)).config.vocab_size == 2147483647);
  refuses(with(config_of("llama"), "rms_norm_eps", -1e-5), "rms_norm_eps: expected a number");
  refuses(with(config_of("llama"), "rms_norm_eps", 1e300), "rms_norm_eps: expected a number");
  refuses(with(config_of("llama"), "rms_norm_eps", 0), "rms_norm_eps = 0 is not supported");
  refuses(with(config_of("llama"), "rope_theta", "1e4"), "rope_theta: expected a number");
  refuses(with(config_of("llama"), "tie_word_embeddings", 1), "expected true or false, got 1");
  refuses(with(config_of("llama"), "num_key_value_heads", 4),
          "does not divide num_attention_heads");
  refuses(with(config_of("llama"), "head_dim", 15), "head_dim = 15 is not supported");
  json uneven = with(config_of("llama"), "hidden_size", 97);
  uneven.erase("head_dim");
  refuses(uneven, "it does not divide hidden_size");
  refuses(with(config_of("llama"), "rope_scaling", 4), "rope_scaling: expected an object, got 4");
}

TEST_CASE("what the library lacks is refused by the name of its field") {
  refuses(config_of("gpt_neox"), "model_type = \"gpt_neox\" is not supported: the known ones are");
  refuses(json::object(), "model_type = null is not supported");
  const auto llama = [](const char* field, const json& value) {
    refuses(with(config_of("llama"), field, value), std::string(field) + " = ");
  };
  llama("hidden_act", "gelu");
  llama("attention_bias", true);
  llama("mlp_bias", true);
  llama("partial_rotary_factor", 0.5);
  llama("num_local_experts", 8);
  llama("kv_lora_rank", 512);
  CHECK(refused(with(config_of("llama"), "attention_bias", false)) == "accepted");
  refuses(with(config_of("qwen2"), "dual_chunk_attention_config", json::object()),
          "dual_chunk_attention_config = {} is not supported");
  refuses(with(config_of("llama"), "quantization_config", {{"quant_method", "gptq"}}),
          "quantization_config: quant_method = \"gptq\" is not supported");
  json fp8{{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
  CHECK(refused(with(config_of("llama"), "quantization_config", fp8)) == "accepted");
  fp8["weight_block_size"] = {64, 128};
  refuses(with(config_of("llama"), "quantization_config", fp8), "weight_block_size = [64,128]");
}

TEST_CASE("a sliding window is refused where it is in force") {
  refuses(with(config_of("mistral"), "sliding_window", 511), "sliding_window = 511");
  CHECK(refused(with(config_of("mistral"), "sliding_window", 512)) == "accepted");
  CHECK(refused(with(config_of("mistral"), "sliding_window", nullptr)) == "accepted");
  json qwen = with(config_of("qwen2"), "sliding_window", 100);
  CHECK(refused(qwen) == "accepted");
  qwen["use_sliding_window"] = true;
  refuses(qwen, "sliding_window = 100");
  qwen["max_window_layers"] = 2;
  refuses(qwen, "sliding_window = 100");
  qwen["max_window_layers"] = 3;
  CHECK(refused(qwen) == "accepted");
  qwen["layer_types"] = {"full_attention", "sliding_attention", "full_attention"};
  refuses(qwen, "sliding_window = 100");
  qwen["layer_types"] = {"full_attention", "full_attention", "full_attention"};
  CHECK(refused(qwen) == "accepted");
}

TEST_CASE("the rotation is read from its old and its new place") {
  const auto rope = [](const json& config) { return read(config).config.attention; };
  json config = config_of("llama");
  config.erase("rope_theta");
  const json theta{{"rope_type", "default"}, {"rope_theta", 123}};
  CHECK(rope(with(config, "rope_parameters", theta)).rope_theta == 123);
  refuses(with(config_of("llama"), "rope_parameters", theta), "rope_theta differs");
  refuses(with(with(config, "rope_parameters", theta), "rope_scaling", theta), "has both");

  json scaling{{"type", "linear"}, {"factor", 2.5}};
  mtp::rope_scaling_config linear{.kind = mtp::rope_scaling_kind::linear, .factor = 2.5f};
  CHECK(rope(with(config, "rope_scaling", scaling)).rope_scaling == linear);

  scaling = {{"rope_type", "llama3"},
             {"factor", 32},
             {"low_freq_factor", 1},
             {"high_freq_factor", 4.0},
             {"original_max_position_embeddings", 8192}};
  const mtp::rope_scaling_config llama3{.kind = mtp::rope_scaling_kind::llama3,
                                        .factor = 32,
                                        .original_max_position_embeddings = 8192,
                                        .low_freq_factor = 1,
                                        .high_freq_factor = 4};
  CHECK(rope(with(config, "rope_scaling", scaling)).rope_scaling == llama3);
  scaling.erase("high_freq_factor");
  refuses(with(config, "rope_scaling", scaling), "rope_scaling: high_freq_factor must be there");

  scaling = {{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 128}};
  mtp::rope_scaling_config yarn{
      .kind = mtp::rope_scaling_kind::yarn, .factor = 4, .original_max_position_embeddings = 128};
  CHECK(rope(with(config, "rope_scaling", scaling)).rope_scaling == yarn);
  scaling["mscale"] = 1;
  scaling["mscale_all_dim"] = 1;
  yarn.attention_factor = 1;
  CHECK(rope(with(config, "rope_scaling", scaling)).rope_scaling == yarn);
  scaling["attention_factor"] = 1.5;
  scaling["beta_fast"] = 16;
  yarn.attention_factor = 1.5f;
  yarn.beta_fast = 16;
  CHECK(rope(with(config, "rope_scaling", scaling)).rope_scaling == yarn);
  refuses(with(config, "rope_scaling", with(scaling, "truncate", false)), "truncate = false");
  refuses(with(config, "rope_scaling", with(scaling, "factor", 0.5)), "factor = 0.5");
  refuses(with(config, "rope_scaling", {{"rope_type", "longrope"}}), "rope_type = \"longrope\"");
  refuses(with(config, "rope_scaling", with(theta, "partial_rotary_factor", 0.5)),
          "partial_rotary_factor = 0.5");
}

TEST_CASE("heads are found by their fields") {
  const auto deepseek = read(with(config_of("qwen3"), "num_nextn_predict_layers", 1));
  CHECK(deepseek.family == &mtp::io::deepseek_names);
  CHECK(deepseek.why == "model_type is qwen3, num_nextn_predict_layers is 1");
  CHECK(deepseek.config.prediction.kind == mtp::head_kind::sequential);
  CHECK(deepseek.config.prediction.depth == 1);
  CHECK(deepseek.config.prediction.concat == mtp::concat_order::embedding_first);
  CHECK(deepseek.config.prediction.hidden_tap == mtp::norm_tap::post_norm);

  const auto mimo = read(with(config_of("mimo"), "num_nextn_predict_layers", 1));
  CHECK(mimo.family == &mtp::io::mimo_names);
  CHECK(mimo.config.prediction.concat == mtp::concat_order::hidden_first);
  CHECK(mimo.config.prediction.hidden_tap == mtp::norm_tap::pre_norm);

  for (const char* type : {"mimo_v2", "mimo_v2_flash"}) {
    const json config = with(config_of(type), "layernorm_epsilon", 1e-4);
    const auto v2 = read(with(config, "partial_rotary_factor", 0.334));
    CHECK(v2.family == &mtp::io::mimo_v2_names);
    CHECK(v2.why ==
          std::string("model_type is ") + type + ", without num_nextn_predict_layers it is 3");
    CHECK(v2.config.rms_norm_eps == 1e-4f);
    CHECK(v2.config.rotary_dim() == 8);  // of 24
    CHECK(v2.config == read(config).config);
    CHECK(v2.config.prediction ==
          mtp::prediction_config{.kind = mtp::head_kind::sequential,
                                 .depth = 3,
                                 .concat = mtp::concat_order::embedding_first,
                                 .hidden_tap = mtp::norm_tap::pre_norm,
                                 .chain = mtp::chain_input::target_hidden});
    CHECK(read(with(config, "num_nextn_predict_layers", 1)).config.prediction.depth == 1);
    CHECK(read(with(config, "num_nextn_predict_layers", 0)).config.prediction ==
          mtp::prediction_config{});
    // What released models have is refused, all of it at once.
    json released = with(config, "sliding_window", 128);
    released["add_swa_attention_sink_bias"] = true;
    released["v_head_dim"] = 16;
    released["swa_num_key_value_heads"] = 3;
    released["attention_value_scale"] = 0.707;
    released["n_routed_experts"] = 256;
    refuses(released,
            "what MiMo-V2 has here is not supported: sliding_window = 128 (a window in some "
            "blocks), add_swa_attention_sink_bias = true (sinks of attention), v_head_dim = 16 "
            "(values of another width than keys), swa_num_key_value_heads = 3 (blocks with other "
            "heads), attention_value_scale = 0.707 (a scale of values), n_routed_experts = 256 "
            "(experts in the trunk and not in modules)");
    for (const auto& [field, value] : {std::pair<const char*, json>{"sliding_window", 511},
                                       {"sliding_window_size", 511},
                                       {"attention_chunk_size", 511},
                                       {"add_full_attention_sink_bias", true},
                                       {"swa_num_attention_heads", 12},
                                       {"swa_head_dim", 48},
                                       {"swa_v_head_dim", 48},
                                       {"swa_rope_theta", 10000.0}}) {
      refuses(with(config, field, value), field);
    }
    CHECK(read(with(config, "sliding_window", 512)).config == v2.config);
  }

  const auto medusa = read(with(config_of("llama"), "medusa_num_heads", 3));
  CHECK(medusa.family == &mtp::io::medusa_names);
  CHECK(medusa.config.prediction.kind == mtp::head_kind::independent);
  CHECK(medusa.config.prediction.depth == 3);
  refuses(with(with(config_of("llama"), "medusa_num_heads", 3), "medusa_num_layers", 2),
          "medusa_num_layers = 2");

  const auto meta = read(with(config_of("llama"), "n_future_tokens", 4));
  CHECK(meta.family == &mtp::io::meta_names);
  CHECK(meta.config.prediction.kind == mtp::head_kind::parallel);
  CHECK(meta.config.prediction.depth == 3);
  CHECK(meta.config.prediction.output_norm == mtp::output_norm_kind::shared);

  CHECK(read(with(config_of("llama"), "n_future_tokens", 1)).config == expected);
  CHECK(read(with(config_of("llama"), "num_nextn_predict_layers", 0)).config == expected);
  refuses(with(with(config_of("llama"), "n_future_tokens", 4), "medusa_num_heads", 2),
          "expected one of");
}

TEST_CASE("a byte order mark and other line ends are accepted, other text is not") {
  const scratch_directory scratch;
  std::string text = config_of("llama").dump(2);
  for (std::size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 2)) {
    text.replace(at, 1, "\r\n");
  }
  mtp::testing::put(scratch / "config.json", "\xef\xbb\xbf" + text);
  CHECK(read_config(scratch.path()).config == expected);
  mtp::testing::put(scratch / "config.json", text + text);
  CHECK_THROWS_WITH_AS(static_cast<void>(read_config(scratch.path())),
                       doctest::Contains("not valid JSON"),
                       mtp::error);
}

TEST_CASE("a configuration is written so that it is read again") {
  const auto round = [](const mtp::model_config& config, const mtp::io::family_names& family) {
    const auto again = read(mtp::io::config_json(config, family, "float32"));
    CHECK(again.family == &family);
    return again.config;
  };
  auto glm = expected;
  glm.attention.partial_rotary_factor = 0.25f;
  glm.attention.qkv_bias = true;
  glm.attention.post_norm = true;
  glm.feed_forward.post_norm = true;
  CHECK(round(glm, mtp::io::glm4_names) == glm);
  // Numbers are as short as in other programs' files.
  const json written = mtp::io::config_json(expected, mtp::io::llama_names, "float32");
  CHECK(written.at("rms_norm_eps").dump() == "1e-05");
  CHECK(written.at("rope_theta").dump() == "50000.0");
  const mtp::model_config& plain = expected;
  auto qwen2 = expected, qwen3 = expected, scaled = expected;
  qwen2.attention.qkv_bias = true;
  qwen3.attention.qk_norm = true;
  for (const auto& config : {plain, qwen2, qwen3}) {
    CHECK(round(config, mtp::io::llama_names) == config);
  }
  using enum mtp::rope_scaling_kind;
  for (const mtp::rope_scaling_config& scaling :
       {mtp::rope_scaling_config{.kind = linear, .factor = 1.1f},
        mtp::rope_scaling_config{.kind = llama3,
        .factor = 8,
        .original_max_position_embeddings = 99,
        .low_freq_factor = 1.5f,
        .high_freq_factor = 5},
        mtp::rope_scaling_config{.kind = yarn,
        .factor = 4,
        .original_max_position_embeddings = 99,
        .beta_fast = 16,
        .beta_slow = 2,
        .attention_factor = 0.75f},
        mtp::rope_scaling_config{
            .kind = yarn, .factor = 4, .original_max_position_embeddings = 99}}) {
    scaled.attention.rope_scaling = scaling;
    CHECK(round(scaled, mtp::io::llama_names) == scaled);
  }
  auto deepseek = qwen3, mimo = qwen2, medusa = expected, meta = expected;
  deepseek.prediction = {
      .kind = mtp::head_kind::sequential, .depth = 2, .concat = mtp::concat_order::embedding_first};
  mimo.prediction = {.kind = mtp::head_kind::sequential,
                     .depth = 1,
                     .hidden_tap = mtp::norm_tap::pre_norm,
                     .recycle_tap = mtp::norm_tap::pre_norm};
  medusa.prediction = {.kind = mtp::head_kind::independent, .depth = 3};
  meta.prediction = {
      .kind = mtp::head_kind::parallel, .depth = 3, .output_norm = mtp::output_norm_kind::shared};
  CHECK(round(deepseek, mtp::io::deepseek_names) == deepseek);
  CHECK(round(mimo, mtp::io::mimo_names) == mimo);
  auto mimo_v2 = expected;
  mimo_v2.attention.partial_rotary_factor = 0.334f;
  CHECK(round(mimo_v2, mtp::io::mimo_v2_names) == mimo_v2);
  mimo_v2.prediction = {.kind = mtp::head_kind::sequential,
                        .depth = 2,
                        .concat = mtp::concat_order::embedding_first,
                        .hidden_tap = mtp::norm_tap::pre_norm,
                        .chain = mtp::chain_input::target_hidden};
  CHECK(round(mimo_v2, mtp::io::mimo_v2_names) == mimo_v2);
  CHECK(round(medusa, mtp::io::medusa_names) == medusa);
  CHECK(round(meta, mtp::io::meta_names) == meta);

  const auto fails = [](const mtp::model_config& config, const mtp::io::family_names& family) {
    CHECK_THROWS_AS(static_cast<void>(mtp::io::config_json(config, family, "float32")), mtp::error);
  };
  fails(medusa, mtp::io::deepseek_names);
  fails(deepseek, mtp::io::llama_names);
  fails(plain, mtp::io::mimo_names);
  auto both = qwen2;
  both.attention.qk_norm = true;
  fails(both, mtp::io::llama_names);
  auto window = expected;
  window.attention.kind = {.name = "sliding_window"};
  fails(window, mtp::io::llama_names);
}

}  // namespace mtp::test::io_pretrained_read_config_cases

#include "mtp/io/gguf/convert.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <doctest/doctest.h>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/gguf/bytes.hpp"
#include "io/scratch.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/tokenizer.hpp"
#include "support/places.hpp"

namespace mtp::test::io_gguf_convert_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;
using mtp::index_t;

std::string whole(std::uint32_t value) {
  return bytes_of_number(4u) + bytes_of_number(value);
}
std::string real(float value) {
  return bytes_of_number(6u) + bytes_of_number(value);
}
std::string yes_or_no(bool value) {
  return bytes_of_number(7u) + std::string(1, value ? '\1' : '\0');
}
std::string text(const std::string& value) {
  return bytes_of_number(8u) + gguf_text(value);
}
std::string texts(const std::vector<std::string>& values) {
  std::string all = bytes_of_number(9u) + bytes_of_number(8u) + bytes_of_number(values.size());
  for (const auto& each : values) all += gguf_text(each);
  return all;
}
std::string wholes(const std::vector<std::int32_t>& values) {
  std::string all = bytes_of_number(9u) + bytes_of_number(5u) + bytes_of_number(values.size());
  for (const auto each : values) all += bytes_of_number(each);
  return all;
}

/// A file that a test changes before it is written: C = 8, H = 2, G = 1, E = 4, F = 4, one block,
/// eight tokens. Element i of the n-th tensor is 1000 n + i.
struct model_file {
  std::map<std::string, std::string> entries;
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> tensors;
  std::vector<float> frequencies = {1, 1};

  explicit model_file(const std::string& type = "llama")
      : entries{{"general.architecture", text(type)},
                {type + ".block_count", whole(1)},
                {type + ".context_length", whole(64)},
                {type + ".embedding_length", whole(8)},
                {type + ".feed_forward_length", whole(4)},
                {type + ".attention.head_count", whole(2)},
                {type + ".attention.head_count_kv", whole(1)},
                {type + ".attention.layer_norm_rms_epsilon", real(1e-5f)},
                {type + ".rope.freq_base", real(500.0f)},
                {"tokenizer.ggml.model", text("gpt2")},
                {"tokenizer.ggml.pre", text("gpt-2")},
                {"tokenizer.ggml.tokens",
                 texts({"<s>", "</s>", "a", "b", "ab", "<tool>", "[PAD6]", "[PAD7]"})},
                {"tokenizer.ggml.token_type", wholes({3, 3, 1, 1, 1, 4, 5, 5})},
                {"tokenizer.ggml.merges", texts({"a b"})},
                {"tokenizer.ggml.bos_token_id", whole(0)},
                {"tokenizer.ggml.eos_token_id", whole(1)}},
        tensors{{"token_embd.weight", {8, 8}},
                {"output_norm.weight", {8}},
                {"blk.0.attn_norm.weight", {8}},
                {"blk.0.attn_q.weight", {8, 8}},
                {"blk.0.attn_k.weight", {8, 4}},
                {"blk.0.attn_v.weight", {8, 4}},
                {"blk.0.attn_output.weight", {8, 8}},
                {"blk.0.ffn_norm.weight", {8}},
                {"blk.0.ffn_gate.weight", {8, 4}},
                {"blk.0.ffn_up.weight", {8, 4}},
                {"blk.0.ffn_down.weight", {4, 8}}} {
    if (type == "qwen2") {
      tensors.push_back({"blk.0.attn_q.bias", {8}});
      tensors.push_back({"blk.0.attn_k.bias", {4}});
      tensors.push_back({"blk.0.attn_v.bias", {4}});
    } else if (type == "qwen3") {
      tensors.push_back({"blk.0.attn_q_norm.weight", {4}});
      tensors.push_back({"blk.0.attn_k_norm.weight", {4}});
    }
  }

  std::string bytes() const {
    gguf_parts parts;
    for (const auto& [key, value] : entries) parts.entries.push_back(gguf_text(key) + value);
    for (std::size_t n = 0; n < tensors.size(); ++n) {
      const auto& [name, sizes] = tensors[n];
      parts.tensors.push_back(gguf_description(name, sizes, 0, parts.data.size()));
      const std::uint64_t count = sizes[0] * (sizes.size() > 1 ? sizes[1] : 1);
      for (std::uint64_t i = 0; i < count; ++i) {
        parts.data += bytes_of_number(
            name == "rope_freqs.weight" ? frequencies[i] : static_cast<float>(1000 * n + i));
      }
      parts.data.append((32 - parts.data.size() % 32) % 32, '\0');
    }
    return parts.bytes();
  }
};

/// A checkpoint that was made of a file.
struct converted {
  scratch_directory scratch;
  std::filesystem::path folder = scratch / "folder";

  explicit converted(const std::string& bytes, gguf_values values = gguf_values::exact) {
    put(scratch / "file.gguf", bytes);
    convert_gguf(scratch / "file.gguf", folder, values);
  }
  model_config config() const { return read_config(folder).config; }
  std::vector<float> values(const std::string& name) const {
    const tensor_files files(folder);
    REQUIRE(files.find(name) != nullptr);
    std::vector<float> all(static_cast<std::size_t>(files.find(name)->info->count()));
    const stored_tensor tensor = *files.find(name);
    std::vector<std::byte> bytes(all.size() *
                                 static_cast<std::size_t>(element_size(tensor.info->type)));
    tensor.file->read(*tensor.info, 0, tensor.info->count(), bytes.data());
    widen(tensor.info->type, bytes.data(), tensor.info->count(), all.data());
    return all;
  }
};

/// The message with which a file is refused; nothing is written then.
std::string refused(const std::string& bytes) {
  const scratch_directory scratch;
  put(scratch / "file.gguf", bytes);
  const std::string message =
      refusal([&] { convert_gguf(scratch / "file.gguf", scratch / "folder"); });
  CHECK(!std::filesystem::exists(scratch / "folder"));
  return message;
}
std::string refused(const model_file& file) {
  return refused(file.bytes());
}

/// The message for a file with another value.
std::string refused_with(const std::string& key, const std::string& value) {
  model_file file;
  file.entries[key] = value;
  return refused(file);
}

#define CHECK_CONTAINS(text, part)                                     \
  do {                                                                 \
    const std::string text_ = (text);                                  \
    CHECK_MESSAGE(contains(text_, part), "the text is '", text_, "'"); \
  } while (false)

}  // namespace

// ---- what is written ----------------------------------------------------------------------------

TEST_CASE("a GGUF file becomes a folder with a configuration and all tensors") {
  const converted made(model_file().bytes());
  CHECK(made.config() ==
        resolved(
            {.vocab_size = 8,
             .hidden_size = 8,
             .num_hidden_layers = 1,
             .max_position_embeddings = 64,
             .rms_norm_eps = 1e-5f,
             .attention = {.num_attention_heads = 2, .num_key_value_heads = 1, .rope_theta = 500},
             .feed_forward = {.intermediate_size = 4},
             .tie_word_embeddings = true}));
  CHECK(tensor_files(made.folder).tensors().size() == 11);
  CHECK(made.values("model.norm.weight")[3] == 1003);
  CHECK(made.values("model.layers.0.input_layernorm.weight")[7] == 2007);
  CHECK(made.values("model.layers.0.self_attn.v_proj.weight")[9] == 5009);
  CHECK(made.values("model.layers.0.self_attn.o_proj.weight")[9] == 6009);
  CHECK(made.values("model.layers.0.post_attention_layernorm.weight")[0] == 7000);
  CHECK(made.values("model.layers.0.mlp.gate_proj.weight")[31] == 8031);
  CHECK(made.values("model.layers.0.mlp.up_proj.weight")[31] == 9031);
  CHECK(made.values("model.layers.0.mlp.down_proj.weight")[31] == 10'031);
  CHECK(read_json(made.folder / "config.json").at("torch_dtype") == "float32");
  CHECK(read_json(made.folder / "config.json").at("eos_token_id") == 1);
  CHECK(read_json(made.folder / "generation_config.json").at("eos_token_id") == 1);
}

TEST_CASE("rows of queries and keys of Llama alone are put back into halves") {
  // Heads of 6, where the order is not its own inverse. The rows of a head in a file of Llama that
  // are its rows 0, 1, ..:
  const std::vector<index_t> order{0, 2, 4, 1, 3, 5};
  for (const std::string type : {"llama", "qwen2", "qwen3"}) {
    CAPTURE(type);
    model_file file(type);
    file.entries[type + ".attention.key_length"] = whole(6);
    file.entries[type + ".attention.value_length"] = whole(6);
    for (auto& [name, sizes] : file.tensors) {
      if (contains(name, "attn_q.")) sizes.back() = 12;
      if (contains(name, "attn_k.") || contains(name, "attn_v.")) sizes.back() = 6;
      if (contains(name, "attn_output.")) sizes.front() = 12;
      if (contains(name, "q_norm") || contains(name, "k_norm")) sizes.back() = 6;
    }
    const converted made(file.bytes());
    for (const auto& [name, n] : {std::pair<std::string, int>{"q", 3}, {"k", 4}}) {
      const auto values = made.values("model.layers.0.self_attn." + name + "_proj.weight");
      for (std::size_t row = 0; row < values.size() / 8; ++row) {
        const index_t stored = type != "llama" ? static_cast<index_t>(row)
                                               : static_cast<index_t>(row / 6 * 6) + order[row % 6];
        CHECK(values[row * 8 + 5] == static_cast<float>(1000 * n + 8 * stored + 5));
      }
    }
    CHECK(made.config().attention.qkv_bias == (type == "qwen2"));
    CHECK(made.config().attention.qk_norm == (type == "qwen3"));
  }
}

TEST_CASE("an output matrix of its own is written and unties the embedding") {
  model_file file;
  file.tensors.push_back({"output.weight", {8, 8}});
  const converted made(file.bytes());
  CHECK(!made.config().tie_word_embeddings);
  CHECK(made.values("lm_head.weight")[1] == 11'001);
}

TEST_CASE("values are exact by default and rounded once on request") {
  const std::string bytes = content(mtp::test::golden_folder() / "gguf/tiny.gguf");
  const converted exact(bytes), rounded(bytes, gguf_values::bf16);
  const tensor_files one(exact.folder), two(rounded.folder);
  const std::string up = "model.layers.0.mlp.up_proj.weight";      // Q4_1
  const std::string gate = "model.layers.0.mlp.gate_proj.weight";  // BF16
  CHECK(one.find(up)->info->type == element::f32);
  CHECK(one.find(gate)->info->type == element::bf16);
  CHECK(two.find(up)->info->type == element::bf16);
  CHECK(exact.values(gate) == rounded.values(gate));
  std::vector<float> values = exact.values(up);
  CHECK(values != rounded.values(up));
  for (float& each : values) each = mtp::bf16(each);
  CHECK(values == rounded.values(up));
  CHECK(read_json(rounded.folder / "config.json").at("torch_dtype") == "bfloat16");
}

TEST_CASE("the tokenizer of a GGUF file has its merges and marks and no unused tokens") {
  model_file file;
  file.entries["tokenizer.ggml.add_bos_token"] = yes_or_no(true);
  file.entries["tokenizer.ggml.eot_token_id"] = whole(5);
  file.entries["tokenizer.ggml.eom_token_id"] = whole(1);
  file.entries["tokenizer.chat_template"] = text("{{ 'a \xc3\xa4 template' }}");
  const converted made(file.bytes());
  const tokenizer tokens = read_tokenizer(made.folder / "tokenizer.json");
  CHECK(tokens.vocab_size() == 6);
  CHECK(tokens.encode("abb<tool>a") == std::vector<mtp::token_t>{0, 4, 3, 5, 2});
  CHECK(tokens.encode("</s>", {.parse_special = true}) == std::vector<mtp::token_t>{0, 1});
  CHECK(!refusal([&] { tokens.encode("</s>"); }).empty());
  CHECK(tokens.is_special(1));
  CHECK(!tokens.is_special(5));

  const auto about = read_json(made.folder / "tokenizer_config.json");
  CHECK(about.at("bos_token") == "<s>");
  CHECK(about.at("eos_token") == "</s>");
  CHECK(!about.contains("pad_token"));
  CHECK(about.at("chat_template") == "{{ 'a \xc3\xa4 template' }}");
  CHECK(read_json(made.folder / "generation_config.json").at("eos_token_id") ==
        nlohmann::json::array({1, 5}));
}

TEST_CASE("pre-tokenizers of GGUF files are those of the models that they are named after") {
  const auto made = [](const std::string& name) {
    model_file file;
    file.entries["tokenizer.ggml.pre"] = text(name);
    return read_tokenizer(converted(file.bytes()).folder / "tokenizer.json").model();
  };
  CHECK(made("gpt-2").pieces == pretokenizer::gpt2);
  CHECK(made("smollm").pieces == pretokenizer::smollm);
  CHECK(made("deepseek-v3").pieces == pretokenizer::deepseek_v3);
  CHECK(made("qwen2").pieces == pretokenizer::qwen2);
  CHECK(made("qwen2").normalizer == text_normalizer::nfc);
  CHECK(made("llama-bpe").pieces == pretokenizer::llama3);
  CHECK(made("llama-bpe").ignore_merges);
  CHECK(made("llama-bpe").prefix == std::vector<mtp::token_t>{0});
  CHECK(made("gpt-2").prefix.empty());
}

TEST_CASE("scalings of the rotation are read from metadata and from frequencies") {
  model_file file;
  file.entries["llama.rope.scaling.type"] = text("yarn");
  file.entries["llama.rope.scaling.factor"] = real(4);
  file.entries["llama.rope.scaling.original_context_length"] = whole(16);
  CHECK(converted(file.bytes()).config().attention.rope_scaling ==
        rope_scaling_config{rope_scaling_kind::yarn, 4, 16});
  file.entries["llama.rope.scaling.type"] = text("linear");
  CHECK(converted(file.bytes()).config().attention.rope_scaling ==
        rope_scaling_config{rope_scaling_kind::linear, 4});
  file.tensors.push_back({"rope_freqs.weight", {2}});
  CHECK_CONTAINS(refused(file), "the file has rope_freqs.weight as well");
  file.entries.erase("llama.rope.scaling.type");
  file.entries.erase("llama.rope.scaling.factor");
  file.entries["llama.rope.freq_base"] = real(1e8f);
  file.frequencies = {1, 32};  // the wave of the second is longer than 8192 positions
  CHECK(converted(file.bytes()).config().attention.rope_scaling ==
        rope_scaling_config{rope_scaling_kind::llama3, 32, 8192});
  file.frequencies = {2, 32};
  CHECK_CONTAINS(refused(file), "expected the divisors of Llama 3.1");
  file.frequencies = {std::numeric_limits<float>::quiet_NaN(), 32};
  CHECK_CONTAINS(refused(file), "expected the divisors of Llama 3.1");
  file.tensors.back().second = {3};
  file.frequencies = {1, 1, 1};
  CHECK_CONTAINS(refused(file), "rope_freqs.weight: expected 2 elements, got 3");
}

// ---- what is refused ----------------------------------------------------------------------------

TEST_CASE("architectures and entries of unknown meaning are refused by name") {
  CHECK_CONTAINS(refused_with("general.architecture", text("gemma3")),
                 "general.architecture: expected llama, qwen2 or qwen3, got 'gemma3'");
  CHECK_CONTAINS(refused_with("llama.attention.sliding_window", whole(16)),
                 "llama.attention.sliding_window is not supported");
  CHECK_CONTAINS(refused_with("llama.expert_count", whole(8)), "feed-forward layers are dense");
  CHECK_CONTAINS(refused_with("llama.attention.value_length", whole(2)),
                 "values are as wide as keys");
  CHECK_CONTAINS(refused_with("llama.rope.dimension_count", whole(2)), "whole heads are rotated");
  CHECK_CONTAINS(refused_with("llama.rope.scaling.type", text("longrope")),
                 "only none, linear and yarn are");
  CHECK_CONTAINS(refused_with("llama.rope.scaling.factor", real(2)),
                 "there is no rope.scaling.type");
  CHECK_CONTAINS(refused_with("llama.rope.freq_base", real(-1)),
                 "expected a positive number, got -1");
  CHECK_CONTAINS(refused_with("llama.block_count", whole(0)), "llama.block_count: expected 1 to");
  CHECK_CONTAINS(refused_with("llama.block_count", text("1")), "expected a whole number");
  CHECK_CONTAINS(refused_with("llama.attention.head_count", whole(3)),
                 "blk.0.attn_q.weight: expected shape [6, 8], got [8, 8]");
  model_file file;
  file.entries.erase("llama.attention.layer_norm_rms_epsilon");
  CHECK_CONTAINS(refused(file), "layer_norm_rms_epsilon: expected a positive number");
}

TEST_CASE("all tensors that are missing or wrong or unknown are listed at once") {
  model_file file;
  file.tensors[2].first = "blk.0.extra.weight";
  file.tensors[6].second = {4, 8};
  const std::string message = refused(file);
  CHECK_CONTAINS(message, "missing: blk.0.attn_norm.weight");
  CHECK_CONTAINS(message, "unknown: blk.0.extra.weight");
  CHECK_CONTAINS(message, "blk.0.attn_output.weight: expected shape [8, 8], got [8, 4]");
  file = model_file();
  file.tensors[0].second = {8, 8, 1};
  CHECK_CONTAINS(refused(file), "expected a matrix token_embd.weight");
  CHECK_CONTAINS(refused_with("llama.block_count", whole(2)), "missing: blk.1.ffn_down.weight");
  CHECK_CONTAINS(refused_with("llama.block_count", whole(0x7fffffff)),
                 "the file has fewer tensors than blocks");
}

TEST_CASE(
    "tokenizers of other kinds and with tokens that do not exist are refused (CVE-2025-49847)") {
  CHECK_CONTAINS(refused_with("tokenizer.ggml.model", text("llama")),
                 "tokenizer.ggml.model: expected 'gpt2', a byte-level BPE, got 'llama'");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.pre", text("tekken")), "deepseek-v3; got 'tekken'");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.bos_token_id", whole(6)),
                 "expected a token below 6, got 6");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.eos_token_id", whole(0xffffffff)), "got 4294967295");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.token_type", wholes({3, 3})),
                 "expected 8 whole numbers");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.token_type", wholes({3, 3, 1, 1, 1, 4, 5, 7})),
                 "types from 1 to 6, got 7");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.token_type", wholes({3, 3, 1, 1, 1, 4, 5, -1})),
                 "got 18446744073709551615");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.merges", texts({"a c"})), "merge 0");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.merges", texts({"ab"})),
                 "expected two tokens with a space");
  CHECK_CONTAINS(refused_with("tokenizer.ggml.tokens", texts({})), "tokens is missing or empty");
  CHECK_CONTAINS(
      refused_with("tokenizer.ggml.tokens", texts({"<s>", "</s>", "a", "a", "ab", "", "", ""})),
      "comes twice");
  CHECK_CONTAINS(
      refused_with("tokenizer.ggml.tokens", texts({"<s>", "</s>", "", "b", "ab", "", "", ""})),
      "token 2 has no text");
  model_file file;
  file.entries["tokenizer.ggml.add_bos_token"] = yes_or_no(true);
  file.entries.erase("tokenizer.ggml.bos_token_id");
  CHECK_CONTAINS(refused(file), "add_bos_token: expected bos_token_id, which is missing");
  file.tensors[0].second = {8, 4};
  file.entries.erase("tokenizer.ggml.add_bos_token");
  CHECK_CONTAINS(refused(file), "the tokenizer has 6 tokens, the model only 4");
}

TEST_CASE("texts of a GGUF file that are not UTF-8 are refused") {
  CHECK_CONTAINS(refused_with("tokenizer.ggml.tokens",
                              texts({"<s>", "</s\xff>", "a", "b", "ab", "<tool>", "", ""})),
                 "UTF-8");
  CHECK_CONTAINS(refused_with("tokenizer.chat_template", text("\xff")), "UTF-8");
}

TEST_CASE("a folder that holds a checkpoint is left as it is") {
  const converted made(model_file().bytes());
  const std::string before = content(made.folder / "model.safetensors");
  CHECK_CONTAINS(refusal([&] { convert_gguf(made.scratch / "file.gguf", made.folder); }),
                 "convert_gguf: '" + made.folder.string() + "' holds a checkpoint already");
  CHECK(content(made.folder / "model.safetensors") == before);
}

}  // namespace mtp::test::io_gguf_convert_cases

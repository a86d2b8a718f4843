// Checkpoints of each family: what is saved in its names is loaded again, bit for bit.
#include "mtp/io/pretrained/save.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "io/pretrained/saved.hpp"
#include "io/scratch.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/families.hpp"

namespace mtp::test::io_pretrained_save_cases {

namespace {

using mtp::index_t;
using mtp::io::load_pretrained;
using mtp::io::save_parameters;
using mtp::testing::check_family;
using mtp::testing::content;
using mtp::testing::names_in;
using mtp::testing::number;
using mtp::testing::perturb;
using mtp::testing::same_bits;
using mtp::testing::scratch_directory;
using mtp::testing::values_of;

/// H E is not C, G is not H, and C is not 2 F, so that no part has the size of another.
constexpr mtp::model_config sizes(mtp::head_kind kind, int depth) {
  return {.vocab_size = 11,
          .hidden_size = 6,
          .num_hidden_layers = 2,
          .max_position_embeddings = 8,
          .attention = {.num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 4},
          .feed_forward = {.intermediate_size = 5},
          .prediction = {.kind = kind, .depth = depth}};
}

const std::vector<std::string> block_tensors{"input_layernorm.weight",
                                             "self_attn.q_proj.weight",
                                             "self_attn.k_proj.weight",
                                             "self_attn.v_proj.weight",
                                             "self_attn.o_proj.weight",
                                             "post_attention_layernorm.weight",
                                             "mlp.gate_proj.weight",
                                             "mlp.up_proj.weight",
                                             "mlp.down_proj.weight"};

/// The names of a trunk of two blocks, and of blocks in other places.
std::set<std::string> trunk_names(const std::vector<std::string>& more_blocks = {}) {
  std::set<std::string> names{"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"};
  std::vector<std::string> blocks{"model.layers.0.", "model.layers.1."};
  blocks.insert(blocks.end(), more_blocks.begin(), more_blocks.end());
  for (const auto& block : blocks) {
    for (const auto& tensor : block_tensors) names.insert(block + tensor);
  }
  return names;
}

template <mtp::model_config Config>
std::set<std::string> saved_names(const mtp::io::family_names& family) {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  const mtp::language_model<Config, mtp::cpu> model(context, mtp::seed{1});
  save_parameters(scratch.path(), model, family);
  return names_in(scratch.path());
}

template <mtp::model_config Config, class S>
std::string refused(const std::filesystem::path& path,
                    mtp::language_model<Config, mtp::cpu, S>& model,
                    const mtp::io::family_names& family) {
  try {
    static_cast<void>(load_pretrained(path, model, family));
  } catch (const mtp::error& error) {
    return error.what();
  }
  return "accepted";
}

constexpr auto plain = sizes(mtp::head_kind::none, 0);
constexpr auto tied = [] {
  auto config = plain;
  config.tie_word_embeddings = true;
  return config;
}();
constexpr auto qwen2 = [] {
  auto config = plain;
  config.attention.qkv_bias = true;
  return config;
}();
constexpr auto qwen3 = [] {
  auto config = tied;
  config.attention.qk_norm = true;
  return config;
}();
constexpr auto glm = [] {
  auto config = sizes(mtp::head_kind::sequential, 1);
  config.attention.head_dim = 8;  // 4 of 8 elements are rotated: each of the four parts has two
  config.attention.partial_rotary_factor = 0.5f;
  config.attention.qkv_bias = true;
  config.attention.post_norm = true;
  config.feed_forward.post_norm = true;
  config.prediction.concat = mtp::concat_order::embedding_first;
  return config;
}();
constexpr auto sequential = sizes(mtp::head_kind::sequential, 2);  // hidden_first
constexpr auto tied_sequential = [] {
  auto config = sequential;
  config.tie_word_embeddings = true;
  return config;
}();
constexpr auto recurrent = [] {
  auto config = sizes(mtp::head_kind::recurrent, 3);
  config.tie_word_embeddings = true;
  config.attention.qkv_bias = true;
  return config;
}();
constexpr auto chained_to_the_trunk = [] {
  auto config = sequential;
  config.attention.head_dim = 8;
  config.attention.partial_rotary_factor = 0.5f;
  config.prediction.concat = mtp::concat_order::embedding_first;
  config.prediction.chain = mtp::chain_input::target_hidden;
  return config;
}();
constexpr auto medusa = sizes(mtp::head_kind::independent, 2);
constexpr auto parallel = [] {
  auto config = sizes(mtp::head_kind::parallel, 2);
  config.prediction.output_norm = mtp::output_norm_kind::shared;
  return config;
}();

}  // namespace

TEST_CASE("trunks of each family: every tensor matters, and is written as it was read") {
  CHECK(check_family<plain>(mtp::io::llama_names) == 0);
  CHECK(check_family<qwen2>(mtp::io::llama_names) == 0);
  CHECK(check_family<qwen3, mtp::bf16>(mtp::io::llama_names) == 0);
}

TEST_CASE("heads of each family: every tensor matters, and is written as it was read") {
  // Of each module embedding and output matrix twice; perturbing an original is refused as well.
  CHECK(check_family<sequential>(mtp::io::deepseek_names) == 2 * 2 + 2);
  CHECK(check_family<tied_sequential>(mtp::io::deepseek_names) == 2 * 2 + 1);
  CHECK(check_family<recurrent>(mtp::io::mimo_names) == 0);
  CHECK(check_family<chained_to_the_trunk>(mtp::io::mimo_v2_names) == 0);
  CHECK(check_family<glm>(mtp::io::glm_ocr_names) == 2 + 2);
  CHECK(check_family<medusa>(mtp::io::medusa_names) == 0);
  CHECK(check_family<parallel>(mtp::io::meta_names) == 0);
}

TEST_CASE("tensors have the names of the family's own programs") {
  CHECK(saved_names<plain>(mtp::io::llama_names) == trunk_names());

  auto names = trunk_names();
  names.erase("lm_head.weight");
  CHECK(saved_names<tied>(mtp::io::llama_names) == names);

  names = trunk_names({"model.layers.2.", "model.layers.3."});
  for (const std::string module : {"model.layers.2.", "model.layers.3."}) {
    for (const char* name : {"enorm.weight",
                             "hnorm.weight",
                             "eh_proj.weight",
                             "embed_tokens.weight",
                             "shared_head.norm.weight",
                             "shared_head.head.weight"}) {
      names.insert(module + name);
    }
  }
  CHECK(saved_names<sequential>(mtp::io::deepseek_names) == names);

  names = trunk_names();
  for (const std::string head : {"medusa_head.0.", "medusa_head.1."}) {
    for (const char* name : {"0.linear.weight", "0.linear.bias", "1.weight"}) {
      names.insert(head + name);
    }
  }
  CHECK(saved_names<medusa>(mtp::io::medusa_names) == names);

  const auto ocr = saved_names<glm>(mtp::io::glm_ocr_names);
  CHECK(ocr.size() == 3 + 3 * 13 + 6);
  for (const char* name : {"model.language_model.embed_tokens.weight",
                           "model.language_model.layers.1.post_mlp_layernorm.weight",
                           "model.language_model.layers.2.mlp.gate_up_proj.weight",
                           "model.language_model.layers.2.eh_proj.weight"}) {
    CHECK(ocr.contains(name));
  }

  const auto mimo_v2 = saved_names<chained_to_the_trunk>(mtp::io::mimo_v2_names);
  CHECK(mimo_v2.size() == 3 + 4 * 9 + 2 * 4);
  for (const char* name : {"model.layers.1.post_attention_layernorm.weight",
                           "model.mtp.layers.0.pre_mlp_layernorm.weight",
                           "model.mtp.layers.1.self_attn.v_proj.weight",
                           "model.mtp.layers.1.eh_proj.weight",
                           "model.mtp.layers.1.final_layernorm.weight"}) {
    CHECK(mimo_v2.contains(name));
  }

  const auto meta = saved_names<parallel>(mtp::io::meta_names);
  CHECK(meta.size() == 3 + 4 * 9);
  for (const char* name : {"tok_embeddings.weight",
                           "output.weight",
                           "norm.weight",
                           "layers.1.attention.wq.weight",
                           "extra_heads.1.feed_forward.w3.weight"}) {
    CHECK(meta.contains(name));
  }
}

TEST_CASE("halves of the projection, and pairs of rotated rows, go where the family has them") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  constexpr index_t C = 6, E = 4;
  const auto read = [](const std::filesystem::path& folder, const std::string& name) {
    const mtp::io::tensor_files files(folder);
    const auto* const tensor = files.find(name);
    std::vector<float> values(static_cast<std::size_t>(tensor->info->count()));
    tensor->file->read(
        *tensor->info, 0, tensor->info->count(), reinterpret_cast<std::byte*>(values.data()));
    return values;
  };
  {
    mtp::language_model<sequential, mtp::cpu> model(context, mtp::seed{1});
    save_parameters(scratch / "deepseek", model, mtp::io::deepseek_names);
    const auto file = read(scratch / "deepseek", "model.layers.3.eh_proj.weight");
    const auto ours = model.values().matrix(model.head_layout().parts[1].projection);
    for (index_t r = 0; r < C; ++r) {
      for (index_t c = 0; c < C; ++c) {
        CHECK(file[static_cast<std::size_t>(r * 2 * C + c)] == ours(r, C + c));
        CHECK(file[static_cast<std::size_t>(r * 2 * C + C + c)] == ours(r, c));
      }
    }
  }
  {
    mtp::language_model<parallel, mtp::cpu> model(context, mtp::seed{1});
    save_parameters(scratch / "meta", model, mtp::io::meta_names);
    const auto keys = read(scratch / "meta", "extra_heads.0.attention.wk.weight");  // [2 E, C]
    const auto values = read(scratch / "meta", "extra_heads.0.attention.wv.weight");
    const auto ours = model.values().matrix(model.head_layout().block[0].attention.qkv);
    for (index_t g = 0; g < 2; ++g) {
      for (index_t e = 0; e < E / 2; ++e) {
        for (index_t c = 0; c < C; ++c) {
          const auto file_row = [&](index_t row) { return static_cast<std::size_t>(row * C + c); };
          const index_t head = 4 * E + g * E;  // behind 4 heads of q
          CHECK(keys[file_row(g * E + 2 * e)] == ours(head + e, c));
          CHECK(keys[file_row(g * E + 2 * e + 1)] == ours(head + E / 2 + e, c));
          CHECK(values[file_row(g * E + e)] == ours(6 * E + g * E + e, c));
        }
      }
    }
  }
}

TEST_CASE("rotated elements come first in the heads of a file, the others behind them") {
  // Element e of a head of the file, E = 8, R = 4: pairs are 4 apart here, side by side in GLM's
  // files, 2 apart in those of other programs.
  mtp::io::file_piece piece;
  piece.rows = 16;
  piece.columns = 1;
  piece.head_rows = 8;
  piece.rotary_rows = 4;
  const auto rows = [&] {
    std::vector<index_t> all;
    for (index_t e = 8; e < 16; ++e) all.push_back(piece.parameter_row(e) - 8);
    return all;
  };
  CHECK(rows() == std::vector<index_t>{0, 1, 4, 5, 2, 3, 6, 7});
  piece.interleaved = true;
  CHECK(rows() == std::vector<index_t>{0, 4, 1, 5, 2, 3, 6, 7});
  piece.rotary_rows = 8;
  CHECK(rows() == std::vector<index_t>{0, 4, 1, 5, 2, 6, 3, 7});
}

TEST_CASE("shards hold what one file does") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  mtp::language_model<sequential, mtp::cpu> model(context, mtp::seed{1}), other(context, {2});
  number(model);
  save_parameters(scratch / "x", model, mtp::io::deepseek_names, {.shard_bytes = 700});
  const mtp::io::tensor_files files(scratch / "x");
  CHECK(files.files().size() > 5);
  for (const auto& file : files.files()) {
    index_t bytes = 0;
    for (const auto& info : file->tensors()) bytes += static_cast<index_t>(info.end - info.begin);
    CHECK((bytes <= 700 || file->tensors().size() == 1));
    CHECK(file->metadata().at("format") == "pt");
  }
  CHECK(load_pretrained(scratch / "x", other, mtp::io::deepseek_names).has_head());
  CHECK(same_bits(values_of(model), values_of(other)));
}

TEST_CASE("no head is lost: a family without names for it does not save it") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  const mtp::language_model<medusa, mtp::cpu> model(context, mtp::seed{1});
  std::string message;
  try {
    save_parameters(scratch / "x", model, mtp::io::llama_names);
  } catch (const mtp::error& error) {
    message = error.what();
  }
  CHECK(message.find("has no names for these parameters") != std::string::npos);
  CHECK(message.find("mtp.1.lm_head.weight") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(scratch / "x"));
}

TEST_CASE("a folder with a checkpoint is not written over") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  const mtp::language_model<plain, mtp::cpu> model(context, mtp::seed{1});
  save_parameters(scratch.path(), model, mtp::io::llama_names);
  const std::string before = content(scratch / "model.safetensors");
  CHECK_THROWS_WITH_AS(
      save_parameters(scratch.path(), model, mtp::io::llama_names, {.shard_bytes = 100}),
      doctest::Contains("holds a checkpoint already: model.safetensors"),
      mtp::error);
  CHECK(content(scratch / "model.safetensors") == before);
}

TEST_CASE("heads: what a checkpoint lacks is reported, what it has is not dropped in silence") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  mtp::language_model<plain, mtp::cpu> trunk(context, mtp::seed{1});
  mtp::language_model<sequential, mtp::cpu> whole(context, mtp::seed{2});
  save_parameters(scratch / "trunk", trunk, mtp::io::llama_names);
  save_parameters(scratch / "whole", whole, mtp::io::deepseek_names);

  const auto before = values_of(whole);
  const auto report = load_pretrained(scratch / "trunk", whole, mtp::io::deepseek_names);
  CHECK_FALSE(report.has_head());
  CHECK(report.head_absent.size() == 2 * (4 + 7 - 1 + 1) - 2 * 1);
  const auto after = values_of(whole), of_trunk = values_of(trunk);
  const auto trunk_end = static_cast<std::ptrdiff_t>(of_trunk.size());
  CHECK(same_bits(std::vector(after.begin(), after.begin() + trunk_end), of_trunk));
  CHECK(same_bits(std::vector(after.begin() + trunk_end, after.end()),
                  std::vector(before.begin() + trunk_end, before.end())));
  CHECK_FALSE(load_pretrained(scratch / "trunk", whole, mtp::io::llama_names).has_head());

  const std::string message = refused(scratch / "whole", trunk, mtp::io::llama_names);
  CHECK(message.find("unexpected: model.layers.2.eh_proj.weight [6, 12]") != std::string::npos);
  CHECK(same_bits(values_of(trunk), of_trunk));
  const auto left = load_pretrained(
      scratch / "whole", trunk, mtp::io::llama_names, mtp::io::extra_tensors::left_out);
  CHECK(left.left_out.size() == 2 * (4 + 9 + 2));
}

TEST_CASE("tied embeddings may be stored twice, if both are the same") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  mtp::language_model<tied, mtp::cpu> model(context, mtp::seed{1});
  save_parameters(scratch / "once", model, mtp::io::llama_names);
  const mtp::io::tensor_files files(scratch / "once");
  std::vector<mtp::io::tensor_source> sources;
  for (const auto& [name, tensor] : files.tensors()) {
    const mtp::io::stored_tensor place = tensor;
    const auto read = [place](index_t first, index_t count, std::byte* to) {
      place.file->read(*place.info, first, count, to);
    };
    sources.push_back({name, place.info->type, place.info->shape, read});
    if (name == "model.embed_tokens.weight") {
      sources.push_back({"lm_head.weight", place.info->type, place.info->shape, read});
    }
  }
  std::filesystem::create_directory(scratch / "twice");
  mtp::io::write_safetensors(scratch / "twice" / "model.safetensors", sources, {});
  CHECK(refused(scratch / "twice", model, mtp::io::llama_names) == "accepted");
  perturb(scratch / "twice", "lm_head.weight");
  CHECK(
      refused(scratch / "twice", model, mtp::io::llama_names)
          .find("lm_head.weight differs from model.embed_tokens.weight, which it should repeat") !=
      std::string::npos);
}

TEST_CASE("all that does not fit is said at once, and nothing changes") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  mtp::language_model<plain, mtp::cpu> model(context, mtp::seed{1});
  const auto write = [&](const std::string& name, auto edit) {
    save_parameters(scratch / name, model, mtp::io::llama_names);
    const mtp::io::tensor_files files(scratch / name);
    std::vector<mtp::io::tensor_source> sources;
    for (const auto& [tensor, place] : files.tensors()) {
      mtp::io::tensor_source source{tensor,
                                    place.info->type,
                                    place.info->shape,
                                    [place = place](index_t first, index_t count, std::byte* to) {
                                      place.file->read(*place.info, first, count, to);
                                    }};
      if (edit(source)) sources.push_back(std::move(source));
    }
    mtp::io::write_safetensors(scratch / name / "model.safetensors", sources, {});
  };
  write("bad", [](mtp::io::tensor_source& source) {
    if (source.name == "model.layers.0.mlp.down_proj.weight") source.shape = {5, 6};
    if (source.name == "model.layers.1.self_attn.q_proj.weight") source.shape = {96};
    if (source.name == "model.layers.1.self_attn.k_proj.weight") {
      source.type = mtp::io::element::i32;
    }
    if (source.name == "model.norm.weight") source.name = "model.final_norm.weight";
    return source.name != "lm_head.weight";
  });
  const auto before = values_of(model);
  number(model);
  const auto numbered = values_of(model);
  const std::string message = refused(scratch / "bad", model, mtp::io::llama_names);
  CAPTURE(message);
  for (const char* part :
       {"model.layers.0.mlp.down_proj.weight: expected shape [6, 5], got [5, 6]; transposed?",
        "model.layers.1.self_attn.q_proj.weight: expected shape [16, 6], got [96]\n",
        "model.layers.1.self_attn.k_proj.weight: expected F64, F32, F16, BF16 or F8_E4M3, got I32",
        "missing: model.norm.weight",
        "missing: lm_head.weight",
        "unexpected: model.final_norm.weight [6]"}) {
    CAPTURE(part);
    CHECK(message.find(part) != std::string::npos);
  }
  CHECK(same_bits(values_of(model), numbered));
}

TEST_CASE("a checkpoint has a config.json that reads as its model") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context;
  const mtp::language_model<sequential, mtp::cpu> model(context, mtp::seed{1});
  mtp::io::save_pretrained(scratch / "x", model, mtp::io::deepseek_names);
  const auto read = mtp::io::read_config(scratch / "x");
  CHECK(read.family == &mtp::io::deepseek_names);
  CHECK(read.config.prediction.depth == 2);
  CHECK(content(scratch / "x" / "config.json").find("\"torch_dtype\": \"float32\"") !=
        std::string::npos);
  CHECK_THROWS_AS(mtp::io::save_pretrained(scratch / "y", model, mtp::io::mimo_names), mtp::error);
  CHECK_FALSE(std::filesystem::exists(scratch / "y"));
}

}  // namespace mtp::test::io_pretrained_save_cases

// Makes a checkpoint in the format of Hugging Face from a GGUF file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/gguf/file.hpp"
#include "mtp/io/gguf/model.hpp"
#include "mtp/io/gguf/tokenizer.hpp"
#include "mtp/io/pretrained/config_json.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/write_tensors.hpp"
#include "mtp/io/tokenizer/save_tokenizer.hpp"

namespace mtp::inline MTP_ABI::io {

/// The type of the tensors that convert_gguf writes.
enum class gguf_values {
  exact,  ///< BF16 for tensors of BF16, F32 for all others: the values that `dequantize` gives
  bf16,   ///< BF16: those values, rounded once. Half the bytes; what loading as bf16 would give
};

namespace detail {

/// The element type that a tensor is written in.
inline element converted_type(const gguf_tensor& tensor, gguf_values values) {
  const bool is_short = values == gguf_values::bf16 || tensor.type == gguf_type::bf16;
  return is_short ? element::bf16 : element::f32;
}

/// to[i] (=) element first + i of what a piece becomes. In the files of Llama, rows 2 i and 2 i + 1
/// of a head are its rows i and E/2 + i.
inline void read_converted(
    const gguf_file& file, const gguf_piece& piece, index_t first, index_t count, float* to) {
  const gguf_tensor& tensor = *file.find(piece.from);
  if (piece.interleaved == 0) {
    file.read(tensor, first, count, to);
    return;
  }
  const index_t columns = piece.shape[1], E = piece.interleaved;
  while (count > 0) {
    const index_t row = first / columns, column = first % columns;
    const index_t head = row / E, e = row % E;
    const index_t stored = head * E + 2 * (e % (E / 2)) + e / (E / 2);
    const index_t some = (std::min)(count, columns - column);
    file.read(tensor, stored * columns + column, some, to);
    first += some;
    count -= some;
    to += some;
  }
}

inline std::vector<tensor_source> converted_tensors(const std::shared_ptr<const gguf_file>& file,
                                                    const gguf_model& model,
                                                    gguf_values values) {
  std::vector<tensor_source> sources;
  for (const gguf_piece& piece : model.pieces) {
    const element type = converted_type(*file->find(piece.from), values);
    sources.push_back(
        {piece.to, type, piece.shape, [=](index_t first, index_t count, std::byte* to) {
           std::vector<float> row(static_cast<std::size_t>(count));
           read_converted(*file, piece, first, count, row.data());
           if (type == element::f32) {
             std::memcpy(to, row.data(), row.size() * sizeof(float));
             return;
           }
           const std::vector<bf16> rounded(row.begin(), row.end());
           std::memcpy(to, rounded.data(), rounded.size() * sizeof(bf16));
         }});
  }
  return sources;
}

/// The entries of tokenizer_config.json that chat programs read.
inline nlohmann::json converted_tokenizer_config(const gguf_metadata& from,
                                                 const tokenizer& tokens) {
  nlohmann::json json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"clean_up_tokenization_spaces", false},
                      {"add_bos_token", !tokens.model().prefix.empty()},
                      {"add_eos_token", !tokens.model().suffix.empty()}};
  constexpr const char* names[][2] = {{"bos", "bos_token"},
                                      {"eos", "eos_token"},
                                      {"unknown", "unk_token"},
                                      {"padding", "pad_token"}};
  for (const auto& [key, name] : names) {
    const auto token = gguf_token(from, key, tokens.vocab_size());
    if (token) json[name] = tokens.token_of(*token);
  }
  if (const auto text = from.text("tokenizer.chat_template")) {
    check(is_utf8(*text), from.where(), "tokenizer.chat_template is not UTF-8");
    json["chat_template"] = *text;
  }
  return json;
}

/// Adds the tokens that begin and end a text to a configuration.
inline void add_ends(nlohmann::json& json, const gguf_metadata& from, index_t end) {
  if (const auto token = gguf_token(from, "bos", end)) json["bos_token_id"] = *token;
  const std::vector<token_t> ends = gguf_end_tokens(from, end);
  if (ends.size() == 1) json["eos_token_id"] = ends.front();
  if (ends.size() > 1) json["eos_token_id"] = ends;
}

}  // namespace detail

/// Writes a GGUF file as a checkpoint in the format of Hugging Face, which everything in this
/// library and other programs read: model.safetensors (or several files and their index),
/// tokenizer.json, tokenizer_config.json with the chat template, generation_config.json with the
/// tokens that end a text, and config.json, which comes last. Makes the folder if it is not there.
///
/// The architectures are llama, qwen2 and qwen3, the tokenizers byte-level BPE. The files of Llama
/// have the rows of q and k in the order of Meta's rotation; they are put back into that of Hugging
/// Face. Needs a few MiB of memory beyond the tokenizer, whatever the size of the tensors.
///
/// Throws mtp::error, before anything is written, for a file that gguf_file, read_gguf_model or
/// read_gguf_tokenizer refuses, and for a folder that holds a checkpoint; and if writing fails.
inline void convert_gguf(const std::filesystem::path& path,
                         const std::filesystem::path& folder,
                         gguf_values values = gguf_values::exact) {
  const auto file = std::make_shared<const gguf_file>(path);
  const gguf_metadata& metadata = file->metadata();
  const gguf_model model = read_gguf_model(*file);
  const tokenizer tokens = read_gguf_tokenizer(metadata);
  check(tokens.vocab_size() <= model.config.vocab_size,
        metadata.where(),
        "the tokenizer has ",
        tokens.vocab_size(),
        " tokens, the model only ",
        model.config.vocab_size);
  const element type = detail::converted_type(*file->find("token_embd.weight"), values);
  nlohmann::json config =
      config_json(model.config, llama_names, type == element::f32 ? "float32" : "bfloat16");
  detail::add_ends(config, metadata, tokens.vocab_size());
  nlohmann::json generation = nlohmann::json::object();
  detail::add_ends(generation, metadata, tokens.vocab_size());
  const nlohmann::json about = detail::converted_tokenizer_config(metadata, tokens);

  namespace written = pretrained_detail;
  written::check_empty(folder, "convert_gguf");
  constexpr index_t shard_bytes = 5'000'000'000;
  save_tokenizer(folder / "tokenizer.json", tokens);
  written::write_json(folder / "tokenizer_config.json", about);
  written::write_json(folder / "generation_config.json", generation);
  written::write_shards(
      folder, written::in_shards(detail::converted_tensors(file, model, values), shard_bytes));
  written::write_json(folder / "config.json", config);
}

}  // namespace mtp::inline MTP_ABI::io

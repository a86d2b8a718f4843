// The tokenizer in a GGUF file.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/gguf/metadata.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"
#include "mtp/io/tokenizer/vocabulary.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// A pre-tokenizer by its name in GGUF files, and what goes with it in the models of that name but
/// is not in the files.
struct gguf_pretokenizer {
  std::string_view name;
  pretokenizer kind;
  text_normalizer normalizer = text_normalizer::none;
  bool ignore_merges = false;
  bool begins_text = false;  // the token that begins a text is added, unless the file says no
};
inline constexpr std::array<gguf_pretokenizer, 8> gguf_pretokenizers{
    {{"gpt-2", pretokenizer::gpt2},
     {"smollm", pretokenizer::smollm},
     {"starcoder", pretokenizer::smollm},
     {"refact", pretokenizer::smollm},
     {"llama-bpe", pretokenizer::llama3, text_normalizer::none, true, true},
     {"llama3", pretokenizer::llama3, text_normalizer::none, true, true},
     {"qwen2", pretokenizer::qwen2, text_normalizer::nfc},
     {"deepseek-v3", pretokenizer::deepseek_v3}}};

/// Types of tokens, by their numbers in GGUF files.
enum class gguf_token_type : std::uint64_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// The types of all tokens; normal where the file has none.
inline std::vector<std::uint64_t> gguf_token_types(const gguf_metadata& from, std::size_t count) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  const gguf_value* const value = from.find(key);
  if (value == nullptr) return std::vector<std::uint64_t>(count, 1);
  std::vector<std::uint64_t> types;
  if (const auto* const some = std::get_if<std::vector<std::uint64_t>>(value)) types = *some;
  if (const auto* const some = std::get_if<std::vector<std::int64_t>>(value)) {
    for (const std::int64_t each : *some) types.push_back(static_cast<std::uint64_t>(each));
  }
  check(types.size() == count,
        from.where(),
        key,
        ": expected ",
        count,
        " whole numbers, one for each token, got ",
        types.size());
  for (const std::uint64_t each : types) {
    check(each >= 1 && each <= 6, from.where(), key, ": expected types from 1 to 6, got ", each);
  }
  return types;
}

/// Whether the text is found in place of whatever merges would make of it.
inline bool is_added(gguf_token_type type) {
  return type == gguf_token_type::control || type == gguf_token_type::user_defined ||
         type == gguf_token_type::unknown;
}

/// Whether all of a text is UTF-8.
inline bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const character next = character_at(text, at);
    if (next.value == no_character) return false;
    at += next.bytes;
  }
  return true;
}

}  // namespace detail

/// The token of an entry: for "bos" that of tokenizer.ggml.bos_token_id. Throws mtp::error
/// if it is not below `end`.
inline std::optional<token_t> gguf_token(const gguf_metadata& from,
                                         std::string_view name,
                                         index_t end) {
  const std::string key = "tokenizer.ggml." + std::string(name) + "_token_id";
  const auto id = from.count(key);
  if (!id) return {};
  check(*id < static_cast<std::uint64_t>(end),
        from.where(),
        key,
        ": expected a token below ",
        end,
        ", got ",
        *id);
  return static_cast<token_t>(*id);
}

/// The tokens that end a text: eos, eot and eom, where they are there.
inline std::vector<token_t> gguf_end_tokens(const gguf_metadata& from, index_t end) {
  std::vector<token_t> tokens;
  for (const char* const name : {"eos", "eot", "eom"}) {
    const auto token = gguf_token(from, name, end);
    if (token && std::find(tokens.begin(), tokens.end(), *token) == tokens.end()) {
      tokens.push_back(*token);
    }
  }
  return tokens;
}

/// The byte-level tokenizer of a GGUF file, as Hugging Face's tokenizer.json of the same model has
/// it. Control tokens become special ones, and unused ones at the end of the vocabulary are left
/// out. Throws mtp::error, with the entry, for other kinds of tokenizers, such as SentencePiece's,
/// for an unknown pre-tokenizer, and for a vocabulary or merges that make no tokenizer.
inline tokenizer read_gguf_tokenizer(const gguf_metadata& from) {
  const auto refuse_unless = [&](bool holds, const auto&... parts) {
    check(holds, from.where(), "tokenizer.ggml.", parts...);
  };
  const std::string kind = from.text("tokenizer.ggml.model").value_or("none");
  refuse_unless(kind == "gpt2", "model: expected 'gpt2', a byte-level BPE, got '", kind, "'");
  const std::string pre = from.text("tokenizer.ggml.pre").value_or("none");
  const auto& known = detail::gguf_pretokenizers;
  const auto* const pieces =
      std::find_if(known.begin(), known.end(), [&](const auto& each) { return each.name == pre; });
  std::string names;
  for (const auto& each : known) names += (names.empty() ? "" : ", ") + std::string(each.name);
  refuse_unless(pieces != known.end(), "pre: expected one of ", names, "; got '", pre, "'");

  const auto* const tokens = from.texts("tokenizer.ggml.tokens");
  const auto* const merges = from.texts("tokenizer.ggml.merges");
  refuse_unless(tokens != nullptr && !tokens->empty(), "tokens is missing or empty");
  refuse_unless(merges != nullptr, "merges is missing");
  constexpr std::size_t most = std::size_t{1} << 24;
  refuse_unless(
      tokens->size() <= most, "tokens: expected ", most, " at most, got ", tokens->size());
  const std::vector<std::uint64_t> types = detail::gguf_token_types(from, tokens->size());
  const auto type_of = [&](std::size_t i) {
    return static_cast<detail::gguf_token_type>(types[i]);
  };
  std::size_t count = tokens->size();
  while (count > 0 && type_of(count - 1) == detail::gguf_token_type::unused) --count;

  detail::vocabulary vocabulary(count, from.where());
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& text = (*tokens)[i];
    const auto id = static_cast<token_t>(i);
    refuse_unless(!text.empty(), "tokens: token ", id, " has no text");
    refuse_unless(detail::is_utf8(text), "tokens: the text of token ", id, " is not UTF-8");
    if (detail::is_added(type_of(i))) {
      vocabulary.add({.id = id,
                      .content = text,
                      .special = type_of(i) != detail::gguf_token_type::user_defined});
    } else {
      vocabulary.add(text, id);
    }
  }
  for (const std::string& each : *merges) vocabulary.add_merge(each);
  tokenizer_model model = vocabulary.take();
  model.pieces = pieces->kind;
  model.normalizer = pieces->normalizer;
  model.ignore_merges = pieces->ignore_merges;

  const auto end = static_cast<index_t>(count);
  const auto add = [&](const char* flag, bool otherwise, const char* name, auto& to) {
    if (!from.flag("tokenizer.ggml." + std::string(flag)).value_or(otherwise)) return;
    const auto token = gguf_token(from, name, end);
    refuse_unless(token.has_value(), flag, ": expected ", name, "_token_id, which is missing");
    to.push_back(*token);
  };
  add("add_bos_token", pieces->begins_text, "bos", model.prefix);
  add("add_eos_token", false, "eos", model.suffix);
  std::string where = from.where();
  where.resize(where.size() - 2);  // its ": "
  return tokenizer(std::move(model), std::move(where));
}

}  // namespace mtp::inline MTP_ABI::io

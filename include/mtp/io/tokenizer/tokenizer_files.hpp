// Reads the files of GPT-2's tokenizer, and tiktoken's.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/strict_json.hpp"
#include "mtp/io/tokenizer/json_place.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"
#include "mtp/io/tokenizer/tokenizer_json.hpp"
#include "mtp/io/tokenizer/vocabulary.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// Calls sink(number from 1, line) with the lines of a text, without their ends.
template <class Sink>
void for_each_line(std::string_view text, Sink&& sink) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    sink(number, line);
  }
}

/// The bytes that base64 stands for (RFC 4648, section 4, with padding); none if it is not that.
inline std::optional<std::string> bytes_of_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return {};
  std::string bytes;
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool is_padding =
        c == '=' && i + 2 >= text.size() && (i + 1 == text.size() || text.back() == '=');
    if (is_padding) {
      bits <<= 6;
    } else if (c >= 'A' && c <= 'Z') {
      bits = bits << 6 | static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      bits = bits << 6 | static_cast<std::uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      bits = bits << 6 | static_cast<std::uint32_t>(c - '0' + 52);
    } else if (c == '+' || c == '/') {
      bits = bits << 6 | (c == '+' ? 62u : 63u);
    } else {
      return {};
    }
    if (i % 4 == 3) {
      for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xff);
      bits = 0;
    }
  }
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  bytes.resize(bytes.size() - padding);
  return bytes;
}

/// The tokens of a file of ranks: on each line base64, a space and the rank.
inline std::vector<std::string> parse_ranks(std::string_view text, const std::string& where) {
  constexpr std::size_t longest = 1024;
  std::vector<std::pair<std::size_t, std::string>> lines;
  for_each_line(text, [&](std::size_t number, std::string_view line) {
    if (line.empty()) return;
    const std::size_t space = line.find(' ');
    const std::string_view digits = space == line.npos ? "" : line.substr(space + 1);
    std::size_t rank = 0;
    const char* const end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, rank);
    std::optional<std::string> bytes = bytes_of_base64(line.substr(0, space));
    check(bytes && bytes->size() <= longest && !digits.empty() && parsed.ec == std::errc{} &&
              parsed.ptr == end,
          where,
          "line ",
          number,
          ": expected base64 of 1 to ",
          longest,
          " bytes, a space and a rank, got '",
          line.substr(0, 100),
          "'");
    lines.emplace_back(rank, std::move(*bytes));
  });
  std::vector<std::string> tokens(lines.size());
  for (auto& [rank, bytes] : lines) {
    check(rank < tokens.size(),
          where,
          "expected ranks below ",
          tokens.size(),
          ", the number of lines, got ",
          rank);
    check(tokens[rank].empty(), where, "rank ", rank, " comes twice");
    tokens[rank] = std::move(bytes);
  }
  return tokens;
}

/// Every way to put a token together from two is a merge, whose rank is that of the token.
inline std::vector<token_merge> merges_of_ranks(const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, token_t> ids;
  for (std::size_t i = 0; i < tokens.size(); ++i) ids.emplace(tokens[i], static_cast<token_t>(i));
  std::vector<token_merge> merges;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view whole = tokens[i];
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      const auto left = ids.find(whole.substr(0, cut)), right = ids.find(whole.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back(
          {left->second, right->second, static_cast<token_t>(i), static_cast<std::uint32_t>(i)});
    }
  }
  return merges;
}

}  // namespace detail

/// Reads GPT-2's files: encoder.json, also called vocab.json, and vocab.bpe, also called
/// merges.txt. `special` are tokens of the vocabulary that are special. Throws mtp::error with the
/// file, the place in it, what was expected and what came.
inline tokenizer read_gpt2_tokenizer(const std::filesystem::path& vocab,
                                     const std::filesystem::path& merges,
                                     const std::vector<std::string>& special = {"<|endoftext|>"}) {
  const std::string where = "tokenizer: '" + vocab.string() + "'";
  const nlohmann::json file = detail::parse_strictly(detail::tokenizer_bytes(vocab), where + ": ");
  const detail::json_place root(file, where + ": ");
  const std::size_t most = root.object().size();
  detail::vocabulary result(most, where + ", '" + merges.string() + "': ");
  for (const auto& [text, id] : file.items()) result.add(text, root.at(text).token(most));
  for (const std::string& each : special) {
    result.add({.id = root.at(each).token(most), .content = each, .special = true});
  }
  detail::for_each_line(detail::tokenizer_bytes(merges),
                        [&](std::size_t number, std::string_view line) {
                          const bool is_version = number == 1 && line.starts_with("#version");
                          if (!line.empty() && !is_version) result.add_merge(line);
                        });
  tokenizer_model model = result.take();
  model.pieces = pretokenizer::gpt2;
  return tokenizer(std::move(model), where);
}

/// Reads tiktoken's file of ranks. It does not say how texts are cut and which tokens are special,
/// so these are given; numbers between them and the ranks may have no token. Throws mtp::error with
/// the file, the line, what was expected and what came.
inline tokenizer read_tiktoken(const std::filesystem::path& path,
                               pretokenizer pieces,
                               std::vector<added_token> added = {}) {
  const std::string where = "tokenizer: '" + path.string() + "'";
  tokenizer_model model;
  model.tokens = detail::parse_ranks(detail::tokenizer_bytes(path), where + ": ");
  model.merges = detail::merges_of_ranks(model.tokens);
  model.pieces = pieces;
  model.ignore_merges = true;
  constexpr token_t most = token_t{1} << 24;
  for (const added_token& each : added) {
    check(each.id >= 0 && each.id < most && !each.content.empty(),
          where,
          ": expected added tokens with a text and a number from 0 to ",
          most - 1,
          ", got '",
          each.content,
          "' and ",
          each.id);
    const auto place = static_cast<std::size_t>(each.id);
    if (place >= model.tokens.size()) model.tokens.resize(place + 1);
    if (model.tokens[place].empty()) model.tokens[place] = each.content;
  }
  model.added = std::move(added);
  return tokenizer(std::move(model), where);
}

}  // namespace mtp::inline MTP_ABI::io

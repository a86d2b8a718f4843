// Vocabularies and merges as files write them: characters that stand for bytes, pairs of texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/tokenizer/byte_level.hpp"
#include "mtp/io/tokenizer/tokenizer_model.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// Collects tokens and merges by the texts of a file, in any order, and makes a model of them.
class vocabulary {
 public:
  /// Room for so many tokens, the most that a file can have. `where` begins the messages.
  vocabulary(std::size_t most, std::string where) : where_(std::move(where)), texts_(most) {}

  /// A token. Its number is below the most.
  void add(const std::string& text, token_t id) {
    std::optional<std::string>& place = texts_[static_cast<std::size_t>(id)];
    check(!place, where_, "tokens '", place.value_or(""), "' and '", text, "' have one id, ", id);
    check(ids_.emplace(text, id).second, where_, "token '", text, "' comes twice");
    place = text;
    ++count_;
  }

  /// A token that is found before all others. It may be in the vocabulary, with the same number.
  void add(const added_token& token) {
    const auto found = ids_.find(token.content);
    if (found == ids_.end()) {
      add(token.content, token.id);
    } else {
      check(found->second == token.id,
            where_,
            "added token '",
            token.content,
            "' has the id ",
            token.id,
            ", but in the vocabulary ",
            found->second);
    }
    model_.added.push_back(token);
  }

  /// The next merge, of two tokens whose texts together are a token.
  void add_merge(std::string_view left, std::string_view right) {
    const std::size_t rank = model_.merges.size();
    check(rank < (std::numeric_limits<std::uint32_t>::max)(), where_, "there are too many merges");
    const auto id_of = [&](const std::string& text, const char* what) {
      const auto found = ids_.find(text);
      check(found != ids_.end(),
            where_,
            "merge ",
            rank,
            ", '",
            left,
            "' and '",
            right,
            "': ",
            what,
            " is no token");
      return found->second;
    };
    model_.merges.push_back({id_of(std::string(left), "the first"),
                             id_of(std::string(right), "the second"),
                             id_of(std::string(left) + std::string(right), "what they make"),
                             static_cast<std::uint32_t>(rank)});
  }

  /// A merge as one text, with a space between the two tokens.
  void add_merge(std::string_view pair) {
    const std::size_t space = pair.find(' ');
    check(space != std::string_view::npos && space > 0 && space + 1 < pair.size() &&
              pair.find(' ', space + 1) == std::string_view::npos,
          where_,
          "merge ",
          model_.merges.size(),
          ": expected two tokens with a space between them, got '",
          pair,
          "'");
    add_merge(pair.substr(0, space), pair.substr(space + 1));
  }

  /// The tokens and merges of a byte-level vocabulary. Throws mtp::error if a number has no token.
  tokenizer_model take() {
    constexpr byte_level bytes;
    return take([&](const std::string& text) {
      // What has other characters stands for itself: special tokens in the vocabulary.
      return bytes.bytes(text).value_or(text);
    });
  }

  /// The same where U+2581 stands for a space, and "<0x0A>" for a byte. Throws mtp::error also if a
  /// byte has no token.
  tokenizer_model take_characters() {
    character_rules rules;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const auto found = ids_.find(byte_text(byte));
      check(found != ids_.end(), where_, "expected a token for each byte, got none for ", byte);
      rules.bytes.push_back(found->second);
    }
    model_.characters = std::move(rules);
    tokenizer_model made = take([](std::string text) {
      for (std::size_t at = 0; (at = text.find(space_mark, at)) != std::string::npos; ++at) {
        text.replace(at, space_mark.size(), " ");
      }
      return text;
    });
    for (std::size_t byte = 0; byte < 256; ++byte) {
      made.tokens[static_cast<std::size_t>(made.characters->bytes[byte])] =
          std::string(1, static_cast<char>(byte));
    }
    return made;
  }

  /// How such a vocabulary writes a byte.
  static std::string byte_text(std::size_t byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    return std::string("<0x") + digits[byte / 16] + digits[byte % 16] + '>';
  }

 private:
  template <class Bytes>
  tokenizer_model take(const Bytes& bytes_of) {
    for (std::size_t i = 0; i < count_; ++i) {
      check(texts_[i].has_value(), where_, "id ", i, " has no token, of ", count_, " tokens");
    }
    for (std::size_t i = 0; i < count_; ++i) model_.tokens.push_back(bytes_of(*texts_[i]));
    for (const added_token& each : model_.added) {
      model_.tokens[static_cast<std::size_t>(each.id)] = each.content;
    }
    return std::move(model_);
  }

  std::string where_;
  std::vector<std::optional<std::string>> texts_;  // by number
  std::unordered_map<std::string, token_t> ids_;
  std::size_t count_ = 0;
  tokenizer_model model_;
};

}  // namespace mtp::inline MTP_ABI::io::detail

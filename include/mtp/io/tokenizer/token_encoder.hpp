// Encodes texts with a tokenizer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/tokenizer/pair_merger.hpp"
#include "mtp/io/tokenizer/pieces.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"

namespace mtp::inline MTP_ABI::io {

/// Encodes many texts with one tokenizer: remembers words, and allocates nothing for a piece. One
/// for each thread.
class token_encoder {
 public:
  /// The tokenizer must outlive it. The cache has 2^`cache_bits` words of 64 bytes.
  explicit token_encoder(const tokenizer& tokens, int cache_bits = 14)
      : tokenizer_(tokens), words_(cache_bits) {}
  /// A tokenizer must outlive it, so none may be a temporary.
  explicit token_encoder(const tokenizer&&, int = 14) = delete;

  /// Appends the tokens of a text. Throws as tokenizer::encode does; `to` is then as before.
  void encode(std::string_view text, std::vector<token_t>& to, encode_options options = {}) {
    const std::size_t before = to.size();
    try {
      append(text, to, options);
    } catch (...) {
      to.resize(before);
      throw;
    }
  }

 private:
  using role = tokenizer::role;

  void append(std::string_view text, std::vector<token_t>& to, encode_options options) {
    check(text.size() <= (std::numeric_limits<std::int32_t>::max)(),
          tokenizer_.where_,
          "encode: expected a text of less than 2^31 bytes, got ",
          text.size());
    const tokenizer_model& model = tokenizer_.model_;
    if (options.add_special_tokens) to.insert(to.end(), model.prefix.begin(), model.prefix.end());
    const std::size_t which = options.parse_special ? 1 : 0;
    const auto found = [&](token_t token) { to.push_back(token); };
    const auto in_normalized = [&](std::string_view gap, bool is_first) {
      tokenizer_.in_normalized_[which].split(
          gap,
          tokenizer_.classes_,
          [&](std::string_view rest) {
            if (tokenizer_.has_metaspace()) {
              append_pieces(tokenizer_.spaced(rest, is_first && rest.data() == gap.data()), to);
            } else {
              append_pieces(rest, to);
            }
          },
          found);
    };
    tokenizer_.in_text_[which].split(
        text,
        tokenizer_.classes_,
        [&](std::string_view gap) {
          const bool is_first = gap.data() == text.data();
          if (tokenizer_.has_normalizer()) {
            in_normalized(tokenizer_.normalized(gap), is_first);
          } else {
            in_normalized(gap, is_first);
          }
        },
        found);
    if (options.add_special_tokens) to.insert(to.end(), model.suffix.begin(), model.suffix.end());
  }

  void append_pieces(std::string_view text, std::vector<token_t>& to) {
    detail::piece_scanner(tokenizer_.model_.pieces, tokenizer_.classes_)
        .for_each(text, [&](std::string_view piece) {
          std::span<const token_t> tokens = words_.find(piece);
          if (tokens.empty()) {
            tokens = tokens_of(piece);
            words_.put(piece, tokens);
          }
          to.insert(to.end(), tokens.begin(), tokens.end());
        });
  }

  std::span<const token_t> tokens_of(std::string_view piece) {
    row_.clear();
    if (tokenizer_.model_.ignore_merges) {
      const std::optional<token_t> whole = tokenizer_.id_of(piece);
      if (whole && tokenizer_.roles_[static_cast<std::size_t>(*whole)] == role::ordinary) {
        row_.push_back(*whole);
        return row_;
      }
    }
    if (tokenizer_.model_.characters) {
      add_characters(piece);
      return merger_.merge(tokenizer_.merges_, row_);
    }
    for (const char byte : piece) {
      const token_t token = tokenizer_.bytes_[static_cast<unsigned char>(byte)];
      check(token >= 0,
            tokenizer_.where_,
            "encode: expected a token for each byte of the text, got none for byte ",
            static_cast<int>(static_cast<unsigned char>(byte)));
      row_.push_back(token);
    }
    return merger_.merge(tokenizer_.merges_, row_);
  }

  void add_characters(std::string_view piece) {
    for (std::size_t at = 0; at < piece.size();) {
      const std::string_view character = piece.substr(at, detail::character_at(piece, at).bytes);
      at += character.size();
      const std::optional<token_t> token = tokenizer_.id_of(character);
      if (token && tokenizer_.roles_[static_cast<std::size_t>(*token)] != role::special) {
        row_.push_back(*token);
        continue;
      }
      for (const char byte : character) {
        row_.push_back(tokenizer_.model_.characters->bytes[static_cast<unsigned char>(byte)]);
      }
    }
  }

  const tokenizer& tokenizer_;
  word_cache words_;
  pair_merger merger_;
  std::vector<token_t> row_;
};

inline std::vector<token_t> tokenizer::encode(std::string_view text, encode_options options) const {
  constexpr int few = 6;
  std::vector<token_t> tokens;
  token_encoder(*this, few).encode(text, tokens, options);
  return tokens;
}

}  // namespace mtp::inline MTP_ABI::io

// Texts to tokens and back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/tokenizer/added_tokens.hpp"
#include "mtp/io/tokenizer/merge_table.hpp"
#include "mtp/io/tokenizer/nfc.hpp"
#include "mtp/io/tokenizer/pieces.hpp"
#include "mtp/io/tokenizer/tokenizer_model.hpp"

namespace mtp::inline MTP_ABI::io {

/// What encoding makes of special tokens.
struct encode_options {
  /// Whether the text of a special token within the text becomes that token. A text from outside
  /// could otherwise end its own part of a prompt.
  bool parse_special = false;
  /// Whether the model's prefix and suffix, such as the token that begins a text, are added.
  bool add_special_tokens = true;
};

/// What decoding makes of special tokens.
enum class special_output {
  dropped,  ///< they have no text
  kept,     ///< their text is shown
};

/// A tokenizer with byte-pair merges (Sennrich, Haddow and Birch 2016). A text is normalized, added
/// tokens are taken out of it, the rest is cut into pieces, and the bytes of each piece are merged,
/// or its characters. Any bytes are a text: without a normalizer, without added tokens that take
/// white space, and byte-level, decode(encode(text)) is the text. It never changes, so threads can
/// share it.
class tokenizer {
 public:
  /// Checks the whole model. `where` begins the messages, such as the name of a file. Throws
  /// mtp::error if a token has the bytes of another, if a merge or an added token has other bytes
  /// than its token, if a pair or an added token comes twice, and if a merge or a byte makes a
  /// special token.
  explicit tokenizer(tokenizer_model model, std::string where = "tokenizer");

  /// What it was made of.
  const tokenizer_model& model() const { return model_; }
  /// Numbers of tokens. A few below may have no text, and then are no tokens.
  index_t vocab_size() const { return static_cast<index_t>(model_.tokens.size()); }

  /// The token with these bytes, if there is one.
  std::optional<token_t> id_of(std::string_view bytes) const {
    const auto found = ids_.find(bytes);
    if (found == ids_.end()) return {};
    return found->second;
  }

  /// The bytes of a token. Throws mtp::error if there is no such token.
  std::string_view token_of(token_t token) const {
    check(contains(token),
          where_,
          "token_of: expected a token with a text, from 0 to ",
          vocab_size() - 1,
          ", got ",
          token);
    return model_.tokens[static_cast<std::size_t>(token)];
  }

  /// Whether it is a special token. Throws as token_of does.
  bool is_special(token_t token) const {
    token_of(token);
    return roles_[static_cast<std::size_t>(token)] == role::special;
  }

  /// The tokens of a text. With character_rules, U+2581 counts as a space, which its files write
  /// so. Throws mtp::error if a byte has no token, and for texts of 2^31 bytes and more. Many texts
  /// are faster with a token_encoder.
  std::vector<token_t> encode(std::string_view text, encode_options options = {}) const;

  /// The bytes of tokens, one after another; what character_rules drop is dropped. Throws
  /// mtp::error with the place of what is no token.
  std::string decode(std::span<const token_t> tokens,
                     special_output shown = special_output::kept) const {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      check(contains(tokens[i]),
            where_,
            "decode: expected tokens with a text, from 0 to ",
            vocab_size() - 1,
            ", got ",
            tokens[i],
            " at position ",
            i);
      const auto place = static_cast<std::size_t>(tokens[i]);
      if (shown == special_output::kept || roles_[place] != role::special)
        text += model_.tokens[place];
    }
    if (model_.characters && model_.characters->drops_space && text.starts_with(' ')) {
      text.erase(0, 1);
    }
    return text;
  }

 private:
  friend class token_encoder;

  enum class role : std::uint8_t { ordinary, added, special };

  bool contains(token_t token) const {
    return token >= 0 && token < vocab_size() &&
           !model_.tokens[static_cast<std::size_t>(token)].empty();
  }
  std::vector<bool> fallback_tokens() const;
  void check_tokens();
  /// Whether spaces are put in front of what is left between all added tokens, otherwise by the
  /// normalizer in front of it.
  bool has_metaspace() const {
    return model_.characters && (model_.characters->space == leading_space::first_if_missing ||
                                 model_.characters->space == leading_space::each_if_missing);
  }
  bool has_normalizer() const { return nfc_ || (model_.characters && !has_metaspace()); }
  std::string normalized(std::string_view part) const;
  std::string spaced(std::string_view part, bool is_first) const;
  void check_merges();
  void check_added();

  struct hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };

  std::string where_;
  tokenizer_model model_;
  detail::unicode_classes classes_;
  std::optional<detail::nfc_normalizer> nfc_;
  detail::merge_table merges_;
  std::array<token_t, 256> bytes_;  // the token of each byte, or -1
  std::unordered_map<std::string, token_t, hash, std::equal_to<>> ids_;
  std::vector<role> roles_;  // of each token
  // Looked for in the text and in the normalized text; first the ordinary ones, then all.
  std::array<detail::added_matcher, 2> in_text_, in_normalized_;
};

// ---- implementation -----------------------------------------------------------------------------

inline tokenizer::tokenizer(tokenizer_model model, std::string where)
    : where_(std::move(where) + ": "), model_(std::move(model)), merges_(model_.merges.size()) {
  if (model_.normalizer == text_normalizer::nfc) nfc_.emplace();
  check_tokens();
  check_merges();
  check_added();
  for (const auto* const part : {&model_.prefix, &model_.suffix}) {
    for (const token_t token : *part) token_of(token);
  }
}

/// Whether each token stands for a byte of a character that is no token.
inline std::vector<bool> tokenizer::fallback_tokens() const {
  std::vector<bool> is_fallback(model_.tokens.size());
  if (!model_.characters) return is_fallback;
  check(model_.pieces == pretokenizer::none && !nfc_,
        where_,
        "expected no pre-tokenizer and no normalizer where merges begin with characters");
  const std::vector<token_t>& bytes = model_.characters->bytes;
  check(bytes.size() == bytes_.size(), where_, "expected 256 tokens of bytes, got ", bytes.size());
  for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
    check(contains(bytes[byte]) && token_of(bytes[byte]) == std::string(1, static_cast<char>(byte)),
          where_,
          "token ",
          bytes[byte],
          ": expected the token of byte ",
          byte);
    is_fallback[static_cast<std::size_t>(bytes[byte])] = true;
  }
  return is_fallback;
}

/// A part of a text in which added tokens are looked for once more.
inline std::string tokenizer::normalized(std::string_view part) const {
  return nfc_ ? (*nfc_)(part) : spaced(part, false);
}

/// A part with a space for each U+2581, and with one in front of it where the rule says so.
inline std::string tokenizer::spaced(std::string_view part, bool is_first) const {
  std::string text;
  text.reserve(part.size() + 1);
  for (std::size_t at = 0; at < part.size();) {
    const bool is_mark = part.substr(at).starts_with(space_mark);
    text += is_mark ? ' ' : part[at];
    at += is_mark ? space_mark.size() : 1;
  }
  const leading_space rule = model_.characters->space;
  const bool is_missing = rule == leading_space::each || text.front() != ' ';
  if (rule != leading_space::none && is_missing &&
      (is_first || rule != leading_space::first_if_missing)) {
    text.insert(text.begin(), ' ');
  }
  return text;
}

inline void tokenizer::check_tokens() {
  constexpr std::size_t most = std::size_t{1} << 24;
  check(!model_.tokens.empty() && model_.tokens.size() <= most,
        where_,
        "expected 1 to ",
        most,
        " tokens, got ",
        model_.tokens.size());
  bytes_.fill(-1);
  const std::vector<bool> is_fallback = fallback_tokens();
  roles_.resize(model_.tokens.size());
  ids_.reserve(model_.tokens.size());
  for (std::size_t i = 0; i < model_.tokens.size(); ++i) {
    const std::string& bytes = model_.tokens[i];
    const auto id = static_cast<token_t>(i);
    if (bytes.empty() || is_fallback[i]) continue;
    const auto [place, is_new] = ids_.emplace(bytes, id);
    check(is_new, where_, "token ", id, ": has the bytes of token ", place->second);
    if (bytes.size() == 1) bytes_[static_cast<unsigned char>(bytes[0])] = id;
  }
}

inline void tokenizer::check_merges() {
  for (std::size_t i = 0; i < model_.merges.size(); ++i) {
    const token_merge& each = model_.merges[i];
    for (const token_t token : {each.left, each.right, each.result}) {
      check(contains(token),
            where_,
            "merge ",
            i,
            ": expected tokens with a text, from 0 to ",
            vocab_size() - 1,
            ", got ",
            token);
    }
    const std::string_view left = token_of(each.left), right = token_of(each.right);
    const std::string_view result = token_of(each.result);
    check(result.size() == left.size() + right.size() && result.starts_with(left) &&
              result.ends_with(right),
          where_,
          "merge ",
          i,
          ": token ",
          each.result,
          " has other bytes than tokens ",
          each.left,
          " and ",
          each.right,
          " together");
    check(each.rank != detail::merge_step::no_rank, where_, "merge ", i, ": the rank is too large");
    check(merges_.add(each),
          where_,
          "merge ",
          i,
          ": the pair of tokens ",
          each.left,
          " and ",
          each.right,
          " comes twice");
  }
}

inline void tokenizer::check_added() {
  std::unordered_map<token_t, std::size_t> seen;
  for (std::size_t i = 0; i < model_.added.size(); ++i) {
    const added_token& each = model_.added[i];
    check(contains(each.id),
          where_,
          "added token ",
          i,
          ": expected a token with a text, from 0 to ",
          vocab_size() - 1,
          ", got ",
          each.id);
    check(token_of(each.id) == each.content,
          where_,
          "added token ",
          i,
          ": its text is not that of token ",
          each.id);
    check(seen.emplace(each.id, i).second,
          where_,
          "added token ",
          i,
          ": token ",
          each.id,
          " comes twice");
    roles_[static_cast<std::size_t>(each.id)] = each.special ? role::special : role::added;
    const bool is_changed = each.normalized && has_normalizer();
    const std::string text = is_changed ? normalized(each.content) : each.content;
    auto& matchers = each.normalized ? in_normalized_ : in_text_;
    if (!each.special) matchers[0].add(text, each);
    matchers[1].add(text, each);
  }
  // What merges and bytes make of a text is no special token.
  for (std::size_t i = 0; i < model_.merges.size(); ++i) {
    const token_t result = model_.merges[i].result;
    check(roles_[static_cast<std::size_t>(result)] != role::special,
          where_,
          "merge ",
          i,
          ": expected an ordinary token, got the special token ",
          result);
  }
  std::vector<token_t> bytes(bytes_.begin(), bytes_.end());
  if (model_.characters) {
    bytes.insert(bytes.end(), model_.characters->bytes.begin(), model_.characters->bytes.end());
  }
  for (const token_t token : bytes) {
    check(token < 0 || roles_[static_cast<std::size_t>(token)] != role::special,
          where_,
          "special token ",
          token,
          ": expected a text of more than one byte");
  }
}

}  // namespace mtp::inline MTP_ABI::io

// What encode is made of.
#include "mtp/io/tokenizer/token_encoder.hpp"

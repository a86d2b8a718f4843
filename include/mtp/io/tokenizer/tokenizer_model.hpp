// All that a tokenizer is: what files of tokenizers are read into and written from.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/io/tokenizer/added_tokens.hpp"
#include "mtp/io/tokenizer/merge_table.hpp"
#include "mtp/io/tokenizer/pieces.hpp"

namespace mtp::inline MTP_ABI::io {

/// What becomes of a text before it is cut into pieces.
enum class text_normalizer {
  none,  ///< it stays
  nfc,   ///< Normalization Form C of Unicode 15.0
};

/// How files of tokenizers with character_rules write a space, U+2581.
inline constexpr std::string_view space_mark = "\u2581";

/// Where a tokenizer puts a space that the text does not have. A part is what lies between added
/// tokens, and none gets a space if it is empty.
enum class leading_space {
  none,              ///< nowhere
  first_if_missing,  ///< in front of the text, unless it begins with one (Metaspace, "first")
  each_if_missing,   ///< in front of each part that begins with none (Metaspace, "always")
  each,              ///< in front of each part (Prepend)
};

/// How a tokenizer differs from byte-level ones whose merges begin with characters, as
/// SentencePiece's do (Kudo and Richardson 2018, arXiv 1808.06226).
struct character_rules {
  std::vector<token_t> bytes;                 ///< 256: of each byte of a character that is no token
  leading_space space = leading_space::none;  ///< where spaces are put
  bool drops_space = false;                   ///< decoding drops a space that begins the text
};

/// A tokenizer as data.
struct tokenizer_model {
  std::vector<std::string> tokens;  ///< the bytes of each token, by its number; none: no token
  std::vector<token_merge> merges;  ///< pairs that become tokens, in any order
  std::vector<added_token> added;   ///< their numbers are places of `tokens` as well
  text_normalizer normalizer = text_normalizer::none;  ///< comes first
  pretokenizer pieces = pretokenizer::gpt2;            ///< comes behind it
  bool ignore_merges = false;   ///< a piece that is a token stays one, whatever the merges say
  std::vector<token_t> prefix;  ///< what encoding puts in front of a text, such as its beginning
  std::vector<token_t> suffix;  ///< what it puts behind a text
  std::optional<character_rules> characters = {};  ///< none: byte-level
};

}  // namespace mtp::inline MTP_ABI::io

// All that a tokenizer is: what files of tokenizers are read into and written from.
#pragma once

#include <string>
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

/// A byte-level tokenizer as data.
struct tokenizer_model {
  std::vector<std::string> tokens;  ///< the bytes of each token, by its number; none: no token
  std::vector<token_merge> merges;  ///< pairs that become tokens, in any order
  std::vector<added_token> added;   ///< their numbers are places of `tokens` as well
  text_normalizer normalizer = text_normalizer::none;  ///< comes first
  pretokenizer pieces = pretokenizer::gpt2;            ///< comes behind it
  bool ignore_merges = false;   ///< a piece that is a token stays one, whatever the merges say
  std::vector<token_t> prefix;  ///< what encoding puts in front of a text, such as its beginning
  std::vector<token_t> suffix;  ///< what it puts behind a text
};

}  // namespace mtp::inline MTP_ABI::io

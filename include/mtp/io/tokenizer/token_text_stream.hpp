// The text of tokens as it is shown while they come.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/text_stream.hpp"
#include "mtp/io/tokenizer/tokenizer.hpp"

namespace mtp::inline MTP_ABI::io {

/// A text_stream that takes tokens: the bytes of each go to one, which releases whole characters
/// and holds back what may be a stop string.
class token_text_stream {
 public:
  /// The tokenizer must outlive it. `special` says whether special tokens have a text. Throws
  /// mtp::error if a stop string is empty.
  explicit token_text_stream(const tokenizer& tokens,
                             std::vector<std::string> stop = {},
                             stop_output shown = stop_output::dropped,
                             special_output special = special_output::dropped)
      : tokenizer_(tokens), special_(special), text_(std::move(stop), shown) {}

  /// Takes a token. Returns what it releases, as text_stream::push does. Throws mtp::error if there
  /// is no such token.
  std::span<const text_piece> push(token_t token, text_origin origin) {
    const std::string_view bytes = tokenizer_.token_of(token);
    const bool is_dropped = special_ == special_output::dropped && tokenizer_.is_special(token);
    return text_.push(is_dropped ? std::string_view() : bytes, origin);
  }

  /// Takes a token that a generator has written.
  std::span<const text_piece> push(const written_token& token) {
    return push(token.token, origin_of(token));
  }

  /// Ends the text, as text_stream::finish does.
  std::span<const text_piece> finish() { return text_.finish(); }

  /// The stop string that was found, as text_stream::stop says.
  std::optional<std::size_t> stop() const { return text_.stop(); }

 private:
  const tokenizer& tokenizer_;
  special_output special_;
  text_stream text_;
};

}  // namespace mtp::inline MTP_ABI::io

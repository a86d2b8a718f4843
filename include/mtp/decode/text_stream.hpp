// Generated text as it is shown while it comes: whole characters, nothing of a stop string, and who
// wrote what.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/stop_strings.hpp"
#include "mtp/decode/utf8_characters.hpp"

namespace mtp::inline MTP_ABI {

/// Who found a piece of generated text.
enum class text_origin {
  trunk,  ///< the model itself
  draft,  ///< the head: a draft that was accepted
};

/// Who found a token.
inline text_origin origin_of(const written_token& token) {
  return token.drafted ? text_origin::draft : text_origin::trunk;
}

/// Text of one origin.
struct text_piece {
  std::string_view text;                    ///< whole characters of UTF-8
  text_origin origin = text_origin::trunk;  ///< of all of it
};

/// What becomes of the stop string that ends a text.
enum class stop_output {
  dropped,  ///< it is not released
  kept,     ///< it is the end of what is released
};

/// Turns the bytes of tokens into text that can be shown at once.
///
/// What is released, in all, is a function of the bytes alone, however they are cut into pushes:
/// utf8(text), where utf8 replaces what is no UTF-8 as utf8_characters does, and text is the bytes
/// up to the first stop string. That is the one that is complete first, which is also where
/// generate_options::stop ends generation; of several with the same end the longest. So of two that
/// begin at the same place the shorter one counts, and nothing that comes later changes what was
/// found. Strings are looked for in the bytes, before any is replaced.
///
/// What is held back: bytes at the end that may be the beginning of a stop string, and the bytes of
/// an unfinished character in front of them. All else is out. A character of several tokens has the
/// origin of its first byte; U+FFFD that of the first byte that it stands for.
///
/// Pieces live until the next call. Nothing is allocated once the buffers have grown to the largest
/// push.
class text_stream {
 public:
  /// Stop strings are any bytes. Throws mtp::error if one of them is empty.
  explicit text_stream(std::vector<std::string> stop = {}, stop_output shown = stop_output::dropped)
      : stop_(std::move(stop)), shown_(shown) {}

  /// Takes the bytes of a token, or of several of one origin, or none. Returns what they release,
  /// neighbours of different origins. Bytes behind a stop string give nothing until finish().
  std::span<const text_piece> push(std::string_view bytes, text_origin origin) {
    begin(bytes.size());
    for (std::size_t i = 0; i < bytes.size() && !found_; ++i) {
      held_.push_back({bytes[i], origin});
      found_ = stop_.push(bytes[i]);
    }
    if (!found_) {
      release(held_.size() - stop_.pending());
    } else if (!held_.empty()) {
      end_at(shown_ == stop_output::kept ? held_.size() : held_.size() - stop_.length(*found_));
    }
    return pieces_;
  }

  /// Ends the text: all that was held back comes out, unless a stop string was found. The next push
  /// begins another text.
  std::span<const text_piece> finish() {
    begin(0);
    end_at(held_.size());
    is_finished_ = true;
    return pieces_;
  }

  /// The place, in the list, of the stop string that was found in this text; after finish(), in the
  /// one that has ended.
  std::optional<std::size_t> stop() const { return found_; }

 private:
  struct held_byte {
    char value = 0;
    text_origin origin = text_origin::trunk;
  };

  /// Forgets what the last call released. Nothing behind it throws.
  void begin(std::size_t bytes) {
    constexpr std::size_t unfinished = 3;  // bytes of a character
    const std::size_t most = held_.size() + bytes + unfinished;
    held_.reserve(most);
    pieces_.reserve(most);
    text_.reserve(most * replacement_character.size());  // each byte may be one: views stay
    pieces_.clear();
    text_.clear();
    if (is_finished_) {
      is_finished_ = false;
      found_.reset();
    }
  }

  /// Bytes at the front of those that were held back become characters.
  void release(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const held_byte next = held_[i];
      if (!characters_.is_unfinished()) {
        origin_ = next.origin;
      }
      characters_.push(next.value, [&](std::string_view character) {
        append(character);
        origin_ = next.origin;  // of what this byte begins, behind an unfinished character
      });
    }
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  /// The text ends behind `count` of the bytes that were held back.
  void end_at(std::size_t count) {
    release(count);
    characters_.finish([this](std::string_view character) { append(character); });
    held_.clear();
    stop_.restart();
  }

  void append(std::string_view character) {
    text_ += character;
    if (pieces_.empty() || pieces_.back().origin != origin_) {
      pieces_.push_back({std::string_view(text_).substr(text_.size() - character.size()), origin_});
    } else {
      text_piece& last = pieces_.back();
      last.text = {last.text.data(), last.text.size() + character.size()};
    }
  }

  stop_strings stop_;
  stop_output shown_;
  utf8_characters characters_;
  std::vector<held_byte> held_;
  text_origin origin_ = text_origin::trunk;  // of the character that has begun
  std::string text_;                         // what this call releases
  std::vector<text_piece> pieces_;           // views of it
  std::optional<std::size_t> found_;
  bool is_finished_ = false;
};

}  // namespace mtp::inline MTP_ABI

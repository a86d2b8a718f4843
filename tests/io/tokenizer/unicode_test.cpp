#include "mtp/io/tokenizer/unicode.hpp"

#include <doctest/doctest.h>
#include <string>
#include <string_view>

#include "mtp/decode/utf8_characters.hpp"

namespace mtp::test::io_unicode_cases {

using io::detail::append_character;
using io::detail::character_at;
using io::detail::character_class;
using io::detail::no_character;
using io::detail::unicode_classes;

TEST_CASE("unicode: characters have the classes of the Unicode Character Database") {
  const unicode_classes classes;
  CHECK(classes.of('a') == character_class::letter);
  CHECK(classes.of(0x4e2d) == character_class::letter);
  CHECK(classes.of(0x301) == character_class::mark);
  CHECK(classes.of('7') == character_class::number);
  CHECK(classes.of(0xbd) == character_class::number);
  CHECK(classes.of('_') == character_class::punctuation);
  CHECK(classes.of('$') == character_class::symbol);
  CHECK(classes.of(0x1f44d) == character_class::symbol);
  for (const char32_t value :
       {0x9u, 0xau, 0xbu, 0xcu, 0xdu, 0x20u, 0x85u, 0xa0u, 0x2028u, 0x3000u}) {
    CHECK(classes.of(value) == character_class::space);
  }
  for (const char32_t value :
       {0x0u, 0x1fu, 0x7fu, 0xadu, 0x200bu, 0xfeffu, 0xe000u, 0x378u, 0x10ffffu}) {
    CHECK(classes.of(value) == character_class::other);
  }
  CHECK(classes.of(no_character) == character_class::other);
  CHECK(classes.of(0x1e4ec) == character_class::mark);  // since 15.0
  CHECK(classes.is_word('_'));
  CHECK(classes.is_word(0x301));
  CHECK(classes.is_word(0x24b6));  // a letter in a circle, a symbol that is alphabetic
  CHECK_FALSE(classes.is_word(0xbd));
  CHECK_FALSE(classes.is_word('-'));
}

TEST_CASE("unicode: every character is read as it is written, and before the one behind it") {
  for (char32_t value = 0; value < no_character; value += value < 0x3000 ? 1 : 37) {
    if (value >= 0xd800 && value < 0xe000) continue;
    std::string text;
    append_character(text, value);
    const auto read = character_at(text, 0);
    REQUIRE(read.value == value);
    REQUIRE(read.bytes == text.size());
    REQUIRE(io::detail::place_before("x" + text, 1 + text.size()) == 1);
  }
}

TEST_CASE("unicode: characters are well-formed exactly if utf8_characters says so") {
  // All beginnings of sequences, with second bytes at the borders.
  for (int first = 0x80; first < 0x100; ++first) {
    for (const int second : {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff}) {
      const std::string text{static_cast<char>(first), static_cast<char>(second), '\x80', '\x80'};
      std::string_view whole;
      utf8_characters characters;
      std::string got;
      for (const char byte : text) {
        characters.push(byte, [&](std::string_view one) { got += got.empty() ? one : ""; });
      }
      whole = got;
      const auto read = character_at(text, 0);
      const bool is_whole = whole.size() == read.bytes && text.starts_with(whole);
      CHECK((read.value != no_character) == is_whole);
    }
  }
}

}  // namespace mtp::test::io_unicode_cases

// Characters from bytes, against table 3-7 of the Unicode Standard read over a whole text.
#include "mtp/decode/utf8_characters.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mtp::test::decode_utf8_characters_cases {

namespace {

/// A row of table 3-7: from and to which value the bytes of a character are.
struct row {
  std::size_t count;
  unsigned char from[4], to[4];
};
constexpr row table[] = {
    {1, {0x00}, {0x7f}},
    {2, {0xc2, 0x80}, {0xdf, 0xbf}},
    {3, {0xe0, 0xa0, 0x80}, {0xe0, 0xbf, 0xbf}},
    {3, {0xe1, 0x80, 0x80}, {0xec, 0xbf, 0xbf}},
    {3, {0xed, 0x80, 0x80}, {0xed, 0x9f, 0xbf}},
    {3, {0xee, 0x80, 0x80}, {0xef, 0xbf, 0xbf}},
    {4, {0xf0, 0x90, 0x80, 0x80}, {0xf0, 0xbf, 0xbf, 0xbf}},
    {4, {0xf1, 0x80, 0x80, 0x80}, {0xf3, 0xbf, 0xbf, 0xbf}},
    {4, {0xf4, 0x80, 0x80, 0x80}, {0xf4, 0x8f, 0xbf, 0xbf}},
};

/// How many bytes at the front of the text are as a row says.
std::size_t agreement(const row& row, std::string_view text) {
  std::size_t count = 0;
  while (count < row.count && count < text.size()) {
    const auto byte = static_cast<unsigned char>(text[count]);
    if (byte < row.from[count] || byte > row.to[count]) break;
    ++count;
  }
  return count;
}

/// The characters of a whole text.
std::vector<std::string> expected_of(std::string_view text) {
  std::vector<std::string> characters;
  while (!text.empty()) {
    std::size_t longest = 1;
    bool whole = false;
    for (const row& row : table) {
      const std::size_t count = agreement(row, text);
      longest = count > longest ? count : longest;
      whole = whole || count == row.count;
    }
    characters.emplace_back(whole ? text.substr(0, longest) : "\xef\xbf\xbd");
    text.remove_prefix(longest);
  }
  return characters;
}

std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters;
  const auto add = [&](std::string_view character) { characters.emplace_back(character); };
  utf8_characters assembled;
  for (const char byte : text) {
    assembled.push(byte, add);
  }
  assembled.finish(add);
  CHECK_FALSE(assembled.is_unfinished());
  return characters;
}

std::string joined(const std::vector<std::string>& characters) {
  std::string text;
  for (const std::string& each : characters) {
    text += each;
  }
  return text;
}

/// Bytes in which U+FFFD is written as ?, which they do not have otherwise.
std::string marked(std::string_view text) {
  std::string marks;
  for (const std::string& each : characters_of(text)) {
    marks += each == replacement_character ? "?" : each;
  }
  return marks;
}

std::string encoded(unsigned code) {
  const auto byte = [](unsigned value) { return static_cast<char>(value); };
  const auto next = [&](unsigned shift) { return byte(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xc0 | code >> 6), next(0)};
  if (code < 0x10000) return {byte(0xe0 | code >> 12), next(6), next(0)};
  return {byte(0xf0 | code >> 18), next(12), next(6), next(0)};
}

}  // namespace

TEST_CASE("every character comes out whole with its last byte") {
  std::size_t wrong = 0;
  for (unsigned code = 0; code <= 0x10ffff; ++code) {
    if (code == 0xd800) code = 0xe000;  // surrogates are no characters
    const std::string character = encoded(code);
    utf8_characters assembled;
    std::string out;
    for (std::size_t i = 0; i < character.size(); ++i) {
      wrong += out.empty() && assembled.is_unfinished() == (i > 0) ? 0 : 1;
      assembled.push(character[i], [&](std::string_view whole) { out += whole; });
    }
    wrong += out == character && !assembled.is_unfinished() ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("overlong forms, surrogates and what is beyond U+10FFFF are replaced") {
  // Tables 3-8 to 3-11 of the Unicode Standard 15.0.
  CHECK(marked("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64") == "a???b?c??d");
  CHECK(marked("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41") == "????????A");
  CHECK(marked("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41") == "????????A");
  CHECK(marked("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42") == "?????A??B");
  CHECK(marked("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41") == "????A");
  // The first that is beyond, the largest surrogate, the longest form of a slash.
  CHECK(marked("\xf4\x90\x80\x80") == "????");
  CHECK(marked("\xed\xbf\xbf") == "???");
  CHECK(marked("\xf0\x80\x80\xaf") == "????");
  CHECK(marked("\xfc\x80\x80\x80\x80\xaf") == "??????");
}

TEST_CASE("a character that is cut off gives one U+FFFD, behind each of its bytes") {
  for (const std::string& whole : {encoded(0xe9), encoded(0x20ac), encoded(0x1f600)}) {
    for (std::size_t count = 1; count < whole.size(); ++count) {
      const std::string part = whole.substr(0, count);
      CHECK(marked(part) == "?");
      CHECK(marked(part + "x") == "?x");
      CHECK(marked(part + whole) == "?" + whole);
    }
  }
  CHECK(marked("\x80") == "?");
  CHECK(marked("x\xbf\xbfx") == "x??x");
  CHECK(marked("").empty());
}

TEST_CASE("every text of three bytes at the table's ends has the characters that the table says") {
  std::string ends;
  for (const row& row : table) {
    for (std::size_t i = 0; i < row.count; ++i) {
      for (const int byte : {row.from[i] - 1, row.from[i] + 0, row.to[i] + 0, row.to[i] + 1}) {
        const char value = static_cast<char>(byte);
        if (ends.find(value) == ends.npos) ends += value;
      }
    }
  }
  CHECK(ends.size() == 24);
  for (const std::string_view begin : {"", "\xf0\x9f", "\xe2"}) {
    std::size_t wrong = 0, replaced = 0;
    for (const char first : ends) {
      for (const char second : ends) {
        for (const char third : ends) {
          const std::string text = std::string(begin) + first + second + third;
          const auto characters = characters_of(text);
          wrong += characters == expected_of(text) ? 0 : 1;
          replaced += joined(characters) == text ? 0 : 1;
        }
      }
    }
    CAPTURE(begin);
    CHECK(wrong == 0);
    CHECK(replaced > 0);
  }
}

}  // namespace mtp::test::decode_utf8_characters_cases

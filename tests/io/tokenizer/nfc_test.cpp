#include "mtp/io/tokenizer/nfc.hpp"

#include <cstdint>
#include <doctest/doctest.h>
#include <string>

namespace mtp::test::io_nfc_cases {

using io::detail::append_character;
using io::detail::nfc_normalizer;

TEST_CASE("nfc: texts get their normal form") {
  const nfc_normalizer nfc;
  // Lines of the NormalizationTest.txt of Unicode 15.0, their first two columns, and others.
  CHECK(nfc("") == "");
  CHECK(nfc("ab") == "ab");
  CHECK(nfc("e\u0301") == "\u00e9");
  CHECK(nfc("\u212b") == "\u00c5");
  CHECK(nfc("\u1e0a\u0323") == "\u1e0c\u0307");
  CHECK(nfc("D\u0307\u0323") == "\u1e0c\u0307");
  CHECK(nfc("\u0958") == "\u0915\u093c");        // does not compose again
  CHECK(nfc("\u1100\u1161\u11a8") == "\uac01");  // Hangul
  CHECK(nfc("\uac00\u11a8") == "\uac01");
  CHECK(nfc("\uac00\u11a7") == "\uac00\u11a7");  // not a tail
  CHECK(nfc("a\u0315\u0300\u05ae\u0344b") == "\u00e0\u05ae\u0308\u0301\u0315b");
  CHECK(nfc("\u0b47\u0300\u0b3e") == "\u0b47\u0300\u0b3e");  // blocked
  CHECK(nfc("a\u0305\u0301") == "a\u0305\u0301");            // blocked by a mark of its class
  CHECK(nfc("\u0301a\u0301") == "\u0301\u00e1");
  CHECK(nfc("\U0002f800") == "\u4e3d");
  // Characters of class 0 that are marks once they are decomposed.
  CHECK(nfc("\u0f81\u0f81") == "\u0f71\u0f71\u0f80\u0f80");
  CHECK(nfc("\u0f40\u0f80\u0f73") == "\u0f40\u0f71\u0f80\u0f72");
  CHECK(nfc("\u0f74\u0f75") == "\u0f71\u0f74\u0f74");
}

TEST_CASE("nfc: bytes that are no characters stay, and nothing composes across them") {
  const nfc_normalizer nfc;
  CHECK(nfc("e\xff\xcc\x81") == "e\xff\xcc\x81");
  CHECK(nfc("\xed\xa0\x80") == "\xed\xa0\x80");  // a surrogate
  CHECK(nfc("e\xcc") == "e\xcc");
  CHECK(nfc(std::string("e\0\xcc\x81", 4)) == std::string("e\0\xcc\x81", 4));
}

TEST_CASE("nfc: of all characters it is what Python's unicodedata says") {
  const nfc_normalizer nfc;
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto add = [&](const std::string& text) {
    for (const char byte : nfc(text)) {
      hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
  };
  for (char32_t value = 0; value < 0x30000; ++value) {
    if (value >= 0xd800 && value < 0xe000) continue;
    if (value >= 0x1e4ec && value <= 0x1e4ef) continue;  // Python 3.11 has Unicode 14.0
    std::string text;
    append_character(text, value);
    add(text);
    add(text + "\u0301");
  }
  CHECK(hash == 0x378b1c0c8c1e363fu);
}

}  // namespace mtp::test::io_nfc_cases

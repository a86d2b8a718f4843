#include "mtp/io/tokenizer/pieces.hpp"

#include <doctest/doctest.h>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/random.hpp"

namespace mtp::test::io_pieces_cases {

using io::pretokenizer;

namespace {

std::vector<std::string> pieces(pretokenizer kind, std::string_view text) {
  const io::detail::unicode_classes classes;
  std::vector<std::string> all;
  io::detail::piece_scanner(kind, classes).for_each(text, [&](std::string_view piece) {
    CHECK(!piece.empty());
    all.emplace_back(piece);
  });
  return all;
}

using list = std::vector<std::string>;

}  // namespace

TEST_CASE("pieces: each pre-tokenizer cuts at its own borders") {
  CHECK(pieces(pretokenizer::none, "a b") == list{"a b"});
  CHECK(pieces(pretokenizer::gpt2, "It's  12 'S x\n") ==
        list{"It", "'s", " ", " 12", " '", "S", " x", "\n"});
  CHECK(pieces(pretokenizer::smollm, "a  123") == list{"a", "  ", "1", "2", "3"});
  CHECK(pieces(pretokenizer::llama3, "IT'S  1234 ...\n\nx") ==
        list{"IT", "'S", " ", " ", "123", "4", " ...\n\n", "x"});
  CHECK(pieces(pretokenizer::qwen2, "a 12") == list{"a", " ", "1", "2"});
  CHECK(pieces(pretokenizer::qwen2, "का") == list{"क", "ा"});
  CHECK(pieces(pretokenizer::qwen3_5, "का") == list{"का"});
  CHECK(pieces(pretokenizer::llama3, "x\n  ") == list{"x", "\n", "  "});
  CHECK(pieces(pretokenizer::cl100k, "x\n  ") == list{"x", "\n  "});
  CHECK(pieces(pretokenizer::deepseek_v3, "a  1234#if中文x") ==
        list{"a", "  ", "123", "4", "#if", "中文", "x"});
  CHECK(pieces(pretokenizer::deepseek_v3, "\x01\x02 \x01z") == list{"\x01\x02", " ", "\x01z"});
}

TEST_CASE("pieces: any bytes are the pieces of every pre-tokenizer, one after another") {
  const std::vector<std::string_view> parts{"'",
                                            "s",
                                            "L",
                                            " ",
                                            "\n",
                                            "\r",
                                            "7",
                                            "\xc2\xbd",
                                            "\xff",
                                            "\xcc",
                                            "\x81",
                                            "\xe4\xb8",
                                            "\xad",
                                            "\xe0\xa4\xbe",
                                            "#",
                                            "\xe3\x83\xbb",
                                            std::string_view("\0", 1)};
  const random_stream random(seed{7}, 0);
  std::uint64_t drawn = 0;
  for (int run = 0; run < 500; ++run) {
    std::string text;
    for (int i = 0; i < 17; ++i) text += parts[random.below(drawn++, parts.size())];
    for (int kind = 0; kind <= static_cast<int>(pretokenizer::deepseek_v3); ++kind) {
      std::string joined;
      for (const std::string& piece : pieces(static_cast<pretokenizer>(kind), text)) {
        joined += piece;
      }
      REQUIRE(joined == text);
    }
  }
}

}  // namespace mtp::test::io_pieces_cases

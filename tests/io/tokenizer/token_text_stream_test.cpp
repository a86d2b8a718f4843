#include "mtp/io/tokenizer/token_text_stream.hpp"

#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "io/scratch.hpp"

namespace mtp::test::io_token_text_stream_cases {

using io::token_text_stream;

namespace {

io::tokenizer bytes_and_end() {
  io::tokenizer_model model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  model.tokens.emplace_back("<end>");
  model.added = {{.id = 256, .content = "<end>", .special = true}};
  return io::tokenizer(model);
}

std::string text_of(std::span<const text_piece> pieces) {
  std::string text;
  for (const text_piece& each : pieces) text += each.text;
  return text;
}

}  // namespace

TEST_CASE("token_text_stream: characters of several tokens come whole") {
  const io::tokenizer t = bytes_and_end();
  token_text_stream stream(t);
  CHECK(text_of(stream.push(0xe2, text_origin::trunk)).empty());
  CHECK(text_of(stream.push(0x82, text_origin::draft)).empty());
  const auto pieces = stream.push({.token = 0xac, .drafted = true});
  REQUIRE(pieces.size() == 1);
  CHECK(pieces[0].text == "\u20ac");
  CHECK(pieces[0].origin == text_origin::trunk);  // of its first byte
  CHECK(text_of(stream.push(0xe2, text_origin::trunk)).empty());
  CHECK(text_of(stream.finish()) == replacement_character);
}

TEST_CASE("token_text_stream: special tokens have a text only on request") {
  const io::tokenizer t = bytes_and_end();
  token_text_stream dropped(t);
  CHECK(text_of(dropped.push(256, text_origin::trunk)).empty());
  CHECK(text_of(dropped.push('a', text_origin::trunk)) == "a");
  token_text_stream kept(t, {}, stop_output::dropped, io::special_output::kept);
  CHECK(text_of(kept.push(256, text_origin::trunk)) == "<end>");
}

TEST_CASE("token_text_stream: stop strings end the text, and what is no token is refused") {
  const io::tokenizer t = bytes_and_end();
  token_text_stream stream(t, {"bc"});
  CHECK(text_of(stream.push('a', text_origin::trunk)) == "a");
  CHECK(text_of(stream.push('b', text_origin::trunk)).empty());
  CHECK(testing::contains(testing::refusal([&] { stream.push(257, text_origin::trunk); }),
                          "got 257"));
  CHECK(text_of(stream.push('c', text_origin::trunk)).empty());
  CHECK(stream.stop() == 0);
}

}  // namespace mtp::test::io_token_text_stream_cases

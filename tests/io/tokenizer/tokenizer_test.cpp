#include "mtp/io/tokenizer/tokenizer.hpp"

#include <doctest/doctest.h>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"

namespace mtp::test::io_tokenizer_cases {

using io::special_output;
using io::text_normalizer;
using io::token_encoder;
using io::tokenizer;
using io::tokenizer_model;
using testing::contains;
using testing::refusal;
using tokens = std::vector<token_t>;

namespace {

/// All bytes, then "ab", "abc" and the special "<s>".
tokenizer_model small() {
  tokenizer_model model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  model.tokens.insert(model.tokens.end(), {"ab", "abc", "<s>"});
  model.merges = {{'a', 'b', 256, 0}, {256, 'c', 257, 1}};
  model.added = {{.id = 258, .content = "<s>", .special = true}};
  return model;
}

std::string refused(void (*change)(tokenizer_model&)) {
  tokenizer_model model = small();
  change(model);
  return refusal([&] { tokenizer(std::move(model), "here"); });
}

}  // namespace

TEST_CASE("tokenizer: merges, names and finds tokens") {
  const tokenizer t(small());
  CHECK(t.vocab_size() == 259);
  CHECK(t.encode("abcabx") == tokens{257, 256, 'x'});
  CHECK(t.decode(tokens{257, 256, 'x'}) == "abcabx");
  CHECK(t.encode("").empty());
  CHECK(t.id_of("abc") == 257);
  CHECK_FALSE(t.id_of("abcd"));
  CHECK(t.token_of(256) == "ab");
  CHECK(t.is_special(258));
  CHECK_FALSE(t.is_special(257));
}

TEST_CASE("tokenizer: special tokens of a text are parsed only on request") {
  tokenizer_model model = small();
  model.prefix = {258};
  model.suffix = {'!', 258};
  const tokenizer t(model);
  CHECK(t.encode("a<s>", {.parse_special = true, .add_special_tokens = false}) == tokens{'a', 258});
  CHECK(t.encode("a<s>", {.add_special_tokens = false}) == tokens{'a', '<', 's', '>'});
  CHECK(t.encode("a") == tokens{258, 'a', '!', 258});
  CHECK(t.decode(tokens{258, 'a', 258}) == "<s>a<s>");
  CHECK(t.decode(tokens{258, 'a', 258}, special_output::dropped) == "a");
  // Not even where a whole piece that is a token stays one.
  model.ignore_merges = true;
  model.pieces = io::pretokenizer::none;
  CHECK(tokenizer(model).encode("<s>", {.add_special_tokens = false}) == tokens{'<', 's', '>'});
  CHECK(tokenizer(model).encode("abc", {.add_special_tokens = false}) == tokens{257});
}

TEST_CASE("tokenizer: any bytes come back from their tokens") {
  std::string text;
  for (int run = 0; run < 3; ++run) {
    for (int byte = 0; byte < 256; ++byte) text += static_cast<char>(byte * (2 * run + 1));
  }
  for (int kind = 0; kind <= static_cast<int>(io::pretokenizer::deepseek_v3); ++kind) {
    tokenizer_model model = small();
    model.pieces = static_cast<io::pretokenizer>(kind);
    const tokenizer t(model);
    CHECK(t.decode(t.encode(text)) == text);
    token_encoder encoder(t);
    tokens twice;
    encoder.encode(text, twice);
    encoder.encode(text, twice);  // from the cache
    CHECK(t.decode(twice) == text + text);
  }
}

TEST_CASE("tokenizer: added tokens are found before all else, the longest first") {
  tokenizer_model model = small();
  model.tokens.insert(model.tokens.end(), {"<s>>", "é", "word", "|"});
  model.added.push_back({.id = 259, .content = "<s>>"});
  model.added.push_back({.id = 260, .content = "é", .normalized = true});
  model.added.push_back({.id = 261, .content = "word", .single_word = true});
  model.added.push_back({.id = 262, .content = "|", .lstrip = true, .rstrip = true});
  model.tokens['|'] = "";  // has another number
  const tokenizer plain(model);
  const io::encode_options all{.parse_special = true};
  CHECK(plain.encode("<s>>", all) == tokens{259});
  CHECK(plain.encode("<s>a", all) == tokens{258, 'a'});
  CHECK(plain.encode("word sword words é", all) ==
        tokens{261, ' ', 's', 'w', 'o', 'r', 'd', ' ', 'w', 'o', 'r', 'd', 's', ' ', 260});
  CHECK(plain.encode("a \u3000| \n|b", all) == tokens{'a', 262, 262, 'b'});
  CHECK(plain.encode("e\u0301", all) == tokens{'e', 0xcc, 0x81});
  model.normalizer = text_normalizer::nfc;
  CHECK(tokenizer(model).encode("e\u0301", all) == tokens{260});
}

TEST_CASE("tokenizer: numbers that are no tokens are refused with their position") {
  tokenizer_model model = small();
  model.tokens.resize(261);
  model.tokens[260] = "zz";
  const tokenizer t(model, "here");
  CHECK(
      contains(refusal([&] {
                 t.decode(tokens{'a', 261});
               }),
               "here: decode: expected tokens with a text, from 0 to 260, got 261 at position 1"));
  CHECK(contains(refusal([&] { t.decode(tokens{-1}); }), "got -1 at position 0"));
  CHECK(contains(refusal([&] { t.decode(tokens{1, 2, 259}); }), "got 259 at position 2"));
  CHECK(contains(refusal([&] { t.token_of(259); }), "got 259"));
  CHECK(contains(refusal([&] { t.is_special(1000); }), "got 1000"));
}

TEST_CASE("tokenizer: a byte without a token is refused, and nothing is appended") {
  tokenizer_model model = small();
  model.tokens['x'] = "";
  const tokenizer t(model);
  token_encoder encoder(t);
  tokens to{1, 2};
  CHECK(contains(refusal([&] { encoder.encode("ab xab", to); }), "got none for byte 120"));
  CHECK(to == tokens{1, 2});
}

TEST_CASE("tokenizer: models that contradict themselves are refused") {
  CHECK(refused([](tokenizer_model&) {}) == "");
  CHECK(contains(refused([](tokenizer_model& m) { m.tokens.clear(); }), "here: expected 1 to"));
  CHECK(contains(refused([](tokenizer_model& m) { m.tokens[257] = "ab"; }),
                 "token 257: has the bytes of token 256"));
  CHECK(contains(refused([](tokenizer_model& m) { m.merges[0].right = 'c'; }),
                 "merge 0: token 256 has other bytes than tokens 97 and 99 together"));
  CHECK(contains(refused([](tokenizer_model& m) { m.merges[1].left = 259; }),
                 "merge 1: expected tokens with a text, from 0 to 258, got 259"));
  CHECK(contains(refused([](tokenizer_model& m) { m.merges[1].result = -5; }), "got -5"));
  CHECK(contains(refused([](tokenizer_model& m) { m.merges.push_back(m.merges[0]); }),
                 "merge 2: the pair of tokens 97 and 98 comes twice"));
  CHECK(contains(refused([](tokenizer_model& m) { m.merges[0].rank = 0xffffffffu; }),
                 "merge 0: the rank is too large"));
  CHECK(contains(refused([](tokenizer_model& m) { m.added[0].id = 300; }), "got 300"));
  CHECK(contains(refused([](tokenizer_model& m) { m.added[0].content = "<t>"; }),
                 "added token 0: its text is not that of token 258"));
  CHECK(contains(refused([](tokenizer_model& m) { m.added.push_back(m.added[0]); }),
                 "added token 1: token 258 comes twice"));
  CHECK(contains(refused([](tokenizer_model& m) {
                   m.added.push_back({.id = 257, .content = "abc", .special = true});
                 }),
                 "merge 1: expected an ordinary token, got the special token 257"));
  CHECK(contains(refused([](tokenizer_model& m) {
                   m.added.push_back({.id = 'a', .content = "a", .special = true});
                 }),
                 "special token 97: expected a text of more than one byte"));
  CHECK(contains(refused([](tokenizer_model& m) { m.suffix = {400}; }), "got 400"));
}

}  // namespace mtp::test::io_tokenizer_cases

#include "mtp/io/tokenizer/tokenizer_json.hpp"

#include <doctest/doctest.h>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/strict_json.hpp"
#include "mtp/io/tokenizer/save_tokenizer.hpp"
#include "mtp/io/tokenizer/tokenizer_files.hpp"
#include "support/places.hpp"

namespace mtp::test::io_tokenizer_json_cases {

using io::pretokenizer;
using io::tokenizer;
using io::tokenizer_model;
using testing::contains;
using testing::content;
using testing::put;
using testing::refusal;
using testing::scratch_directory;

namespace {

std::filesystem::path golden(const std::string& name) {
  return golden_folder() / "tokenizers" / name;
}

/// What stands in a text, replaced once.
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  return text.replace(at, from.size(), to);
}

/// A file of tests/golden/tokenizers with the vocabulary in its place.
std::string file_of(const std::string& name) {
  const std::string file = content(golden(name + ".json"));
  const std::string model = content(golden("model.json"));
  if (contains(file, "\"@model\"")) return replaced(file, "\"@model\"", model);
  if (contains(file, "\"@characters\"")) {
    return replaced(file, "\"@characters\"", content(golden("characters.json")));
  }
  return replaced(file,
                  "\"@ignore_merges\"",
                  replaced(model, "\"ignore_merges\":false", "\"ignore_merges\":true"));
}

tokenizer read(const std::string& file) {
  return tokenizer(io::parse_tokenizer_json(file, "here"), "here");
}

std::vector<std::string> texts(const std::string& file = "texts.json") {
  return io::detail::parse_strictly(content(golden(file)), "texts: ")
      .get<std::vector<std::string>>();
}

std::vector<std::vector<token_t>> ids_of(const std::string& name) {
  std::vector<std::vector<token_t>> all;
  std::istringstream lines(content(golden(name + ".ids")));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    all.emplace_back();
    for (token_t token = 0; words >> token;) all.back().push_back(token);
  }
  return all;
}

struct change {
  std::string from, to;
  std::string message;  // that it leads to
};

/// Each change, alone, of a file that is read without it is refused with its message.
void check_refusals(const std::string& name, const std::vector<change>& changes) {
  const std::string file = file_of(name);
  CHECK(refusal([&] { read(file); }) == "");
  for (const change& each : changes) {
    CAPTURE(each.to);
    const std::string message = refusal([&] { read(replaced(file, each.from, each.to)); });
    CAPTURE(message);
    CHECK(message.starts_with("here: "));
    CHECK(contains(message, each.message));
  }
}

void check_equal(const tokenizer_model& a, const tokenizer_model& b) {
  CHECK(a.tokens == b.tokens);
  REQUIRE(a.merges.size() == b.merges.size());
  for (std::size_t i = 0; i < a.merges.size(); ++i) {
    REQUIRE(a.merges[i].left == b.merges[i].left);
    REQUIRE(a.merges[i].right == b.merges[i].right);
    REQUIRE(a.merges[i].result == b.merges[i].result);
  }
  CHECK(a.pieces == b.pieces);
  CHECK(a.normalizer == b.normalizer);
  CHECK(a.ignore_merges == b.ignore_merges);
  REQUIRE(a.characters.has_value() == b.characters.has_value());
  if (a.characters) {
    CHECK(a.characters->bytes == b.characters->bytes);
    CHECK(a.characters->space == b.characters->space);
    CHECK(a.characters->drops_space == b.characters->drops_space);
  }
  CHECK(a.prefix == b.prefix);
  CHECK(a.suffix == b.suffix);
  REQUIRE(a.added.size() == b.added.size());
  for (std::size_t i = 0; i < a.added.size(); ++i) {
    CHECK(a.added[i].content == b.added[i].content);
    CHECK(a.added[i].id == b.added[i].id);
    CHECK(a.added[i].single_word == b.added[i].single_word);
    CHECK(a.added[i].lstrip == b.added[i].lstrip);
    CHECK(a.added[i].rstrip == b.added[i].rstrip);
    CHECK(a.added[i].special == b.added[i].special);
    CHECK(a.added[i].normalized == b.added[i].normalized);
  }
}

const std::vector<std::string> byte_level_names{
    "none", "gpt2", "smollm", "llama3", "qwen2", "qwen3_5", "deepseek_v3"};
const std::vector<std::string> character_names{"prepend", "metaspace", "always", "bare"};
const std::vector<std::string> names = [] {
  std::vector<std::string> all = byte_level_names;
  all.insert(all.end(), character_names.begin(), character_names.end());
  return all;
}();

}  // namespace

TEST_CASE("read_tokenizer: tokens are those of the package tokenizers") {
  const std::vector<std::string> all = texts();
  for (const std::string& name : names) {
    CAPTURE(name);
    const tokenizer t = read(file_of(name));
    const auto expected = ids_of(name);
    REQUIRE(expected.size() == all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(all[i]);
      CHECK(t.encode(all[i], {.parse_special = true}) == expected[i]);
    }
  }
}

TEST_CASE("read_tokenizer: a text of characters is that of the package tokenizers") {
  const std::vector<std::string> all = texts();
  for (const std::string& name : character_names) {
    CAPTURE(name);
    const tokenizer t = read(file_of(name));
    const std::vector<std::string> expected = texts(name + ".decoded.json");
    REQUIRE(expected.size() == all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(all[i]);
      // The package shows the space with which a normalizer makes it look for an added token.
      if (contains(all[i], "<tag>") && name == "prepend") continue;
      const auto ids = t.encode(all[i], {.parse_special = true, .add_special_tokens = false});
      CHECK(t.decode(ids) == expected[i]);
    }
  }
}

TEST_CASE("read_tokenizer: bytes that are no characters come back from a tokenizer of characters") {
  const tokenizer t = read(file_of("prepend"));
  const std::string bytes("\xff a\xc3 \xe2\x96 \0\xf0\x9f", 11);
  CHECK(t.decode(t.encode(bytes)) == "<s> " + bytes);
  CHECK(t.decode(t.encode(bytes), io::special_output::dropped) == bytes);
  CHECK(read(file_of("bare")).encode("a\u2581") == read(file_of("bare")).encode("a "));
  CHECK(t.token_of(3 + 'A') == "A");
  CHECK(t.id_of("A") != 3 + 'A');
}

TEST_CASE("read_tiktoken: tokens are those of the package tiktoken") {
  const tokenizer t = io::read_tiktoken(golden("small.tiktoken"), pretokenizer::cl100k);
  const std::vector<std::string> all = texts();
  const auto expected = ids_of("cl100k");
  REQUIRE(expected.size() == all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i]);
    CHECK(t.encode(all[i]) == expected[i]);
    CHECK(t.decode(expected[i]) == all[i]);
  }
}

TEST_CASE("read_tiktoken: numbers between the ranks and the special tokens have no token") {
  const tokenizer t = io::read_tiktoken(golden("small.tiktoken"),
                                        pretokenizer::cl100k,
                                        {{.id = 503, .content = "<|endoftext|>", .special = true}});
  CHECK(t.vocab_size() == 504);
  CHECK(t.encode("<|endoftext|>", {.parse_special = true}) == std::vector<token_t>{503});
  CHECK(contains(refusal([&] {
                   t.decode(std::vector<token_t>{0, 501});
                 }),
                 "got 501 at position 1"));
}

TEST_CASE("save_tokenizer: what is saved is read again, and is what was") {
  const scratch_directory folder;
  for (const std::string& name : names) {
    CAPTURE(name);
    const tokenizer t = read(file_of(name));
    io::save_tokenizer(folder / "tokenizer.json", t);
    check_equal(io::read_tokenizer(folder / "tokenizer.json").model(), t.model());
  }
  const tokenizer ranks = io::read_tiktoken(golden("small.tiktoken"), pretokenizer::cl100k);
  const std::string before = content(folder / "tokenizer.json");
  CHECK(contains(refusal([&] { io::save_tokenizer(folder / "tokenizer.json", ranks); }),
                 "save_tokenizer: expected merges in an order"));
  CHECK(content(folder / "tokenizer.json") == before);
}

TEST_CASE("read_gpt2_tokenizer: GPT-2's two files are what tokenizer.json is") {
  const scratch_directory folder;
  const std::string file = file_of("gpt2");
  const tokenizer same = read(file);
  const std::size_t begin = file.find("{\"!\":0"), end = file.find(",\"merges\"");
  const std::string vocab = file.substr(begin, end - begin);
  put(folder / "encoder.json", vocab.substr(0, vocab.size() - 1) + ",\"<|endoftext|>\":500}");
  std::string merges = "#version: 0.2\n";
  const io::detail::byte_level bytes;
  for (const io::token_merge& each : same.model().merges) {
    merges += bytes.shown(same.token_of(each.left)) + " " + bytes.shown(same.token_of(each.right)) +
              "\r\n";
  }
  put(folder / "vocab.bpe", merges);
  const auto open = [&] {
    return io::read_gpt2_tokenizer(folder / "encoder.json", folder / "vocab.bpe");
  };
  const tokenizer t = open();
  for (const std::string& text : texts()) {
    if (!contains(text, "<") && !contains(text, "word") && !contains(text, "CAFE")) {
      CHECK(t.encode(text) == same.encode(text));
    }
  }
  CHECK(t.is_special(500));

  const auto message = [&](const std::string& encoder, const std::string& bpe) {
    put(folder / "encoder.json", encoder);
    put(folder / "vocab.bpe", bpe);
    return refusal(open);
  };
  const std::string encoder = content(folder / "encoder.json");
  CHECK(contains(message(encoder, merges + "a\n"), "a space between them, got 'a'"));
  CHECK(contains(message(encoder, merges + "Q zz\n"), "'Q' and 'zz': the second is no token"));
  CHECK(contains(message("[]", merges), "expected an object, got array"));
  CHECK(contains(message("{\"a\":0,\"b\":0}", merges), "tokens 'a' and 'b' have one id, 0"));
  CHECK(contains(message(vocab, merges), "'<|endoftext|>' is missing"));
  put(folder / "encoder.json", encoder);
  std::filesystem::remove(folder / "vocab.bpe");
  CHECK(contains(refusal(open), "vocab.bpe"));
}

TEST_CASE("read_tiktoken: files that are none are refused with the line") {
  const scratch_directory folder;
  const auto message = [&](const std::string& text) {
    put(folder / "x.tiktoken", text);
    return refusal([&] { io::read_tiktoken(folder / "x.tiktoken", pretokenizer::cl100k); });
  };
  CHECK(message("YQ== 0\nYg== 1\nYWI= 2\n") == "");
  CHECK(contains(message("YQ== 0\nYg==\n"), "line 2: expected base64"));
  CHECK(contains(message("YQ== 0\nYg 1\n"), "line 2"));
  CHECK(contains(message("Y=Q= 0\n"), "line 1"));
  CHECK(contains(message("YQ== -1\n"), "line 1"));
  CHECK(contains(message("YQ== 0x\n"), "line 1"));
  CHECK(contains(message("YQ== 99999999999999999999\n"), "line 1"));
  CHECK(contains(message("YQ== 1\n"), "expected ranks below 1, the number of lines, got 1"));
  CHECK(contains(message("YQ== 0\nYg== 0\n"), "rank 0 comes twice"));
  CHECK(contains(message("YQ== 0\nYQ== 1\n"), "token 1: has the bytes of token 0"));
  CHECK(contains(message(""), "expected 1 to"));
}

TEST_CASE("read_tokenizer: the template and merges in either form are read") {
  const std::string file = file_of("llama3");
  const tokenizer pairs = read(file);
  CHECK(pairs.model().prefix == std::vector<token_t>{500});
  CHECK(pairs.model().ignore_merges);
  CHECK(pairs.encode("").size() == 1);
  CHECK(pairs.encode("", {.add_special_tokens = false}).empty());
  std::string as_texts = file;
  for (std::size_t at = as_texts.find("\"merges\":["); at != std::string::npos;) {
    at = as_texts.find("[\"", at);  // ["a","b"] becomes "a b"
    if (at == std::string::npos) break;
    as_texts.erase(at, 1);
    const std::size_t comma = as_texts.find("\",\"", at + 1);
    as_texts.replace(comma, 3, " ");
    as_texts.erase(as_texts.find("\"]", comma) + 1, 1);
  }
  check_equal(read(as_texts).model(), pairs.model());
  // With all bytes in the vocabulary nothing falls back.
  CHECK(read(replaced(file, "\"byte_fallback\":false", "\"byte_fallback\":true")).vocab_size() ==
        506);
}

TEST_CASE("read_tokenizer: JSON that is none, or more than it shows, is refused") {
  const std::string good = file_of("gpt2");
  CHECK(read("\xef\xbb\xbf" + good).vocab_size() == 506);  // a byte order mark
  const std::vector<std::pair<std::string, std::string>> files{
      {"", "not valid JSON"},
      {good.substr(0, good.size() / 2), "not valid JSON"},
      {good + "x", "not valid JSON"},
      {good + std::string(1, '\0') + "x", "contains a NUL byte"},
      {"[1]", "expected an object, got array"},
      {std::string(1000000, '['), "expected nesting of less than 32"},
      {replaced(good, "\"a\":", "\"b\":"), "duplicate key 'b'"},
      {replaced(good, "\"a\":", "\"\xff\":"), "not valid JSON"},
  };
  for (const auto& each : files) {
    const std::string message = refusal([&] { io::parse_tokenizer_json(each.first, "here"); });
    CAPTURE(message);
    CHECK(message.starts_with("here: "));
    CHECK(contains(message, each.second));
  }
  const scratch_directory folder;
  CHECK(contains(refusal([&] { io::read_tokenizer(folder / "none.json"); }), "none.json"));
  CHECK(contains(refusal([&] { io::read_tokenizer(folder.path()); }), "directory"));
}

TEST_CASE("read_tokenizer: vocabularies and merges that contradict themselves are refused") {
  const std::string merges = "\"merges\":[[\"\\u00e0\",\"\\u00a4\"],";
  check_refusals(
      "gpt2",
      {{"\"a\":64", "\"a\":65", "have one id, 65"},
       {"\"a\":64", "\"a\":-1", "model.vocab.a: expected a number that is not negative"},
       {"\"a\":64", "\"a\":64.0", "model.vocab.a: expected a number"},
       {"\"a\":64", "\"a\":\"64\"", "got string"},
       {"\"a\":64", "\"a\":2147483648", "expected a number below 506, got 2147483648"},
       {",\"a\":64", "", "added_tokens[5].id: expected a number below 505, got 505"},
       {merges, "\"merges\":[[\"a\",\"QQQ\"],", "'a' and 'QQQ': the second is no token"},
       {merges, "\"merges\":[[\"QQ\",\"a\"],", "'QQ' and 'a': the first is no token"},
       {merges, "\"merges\":[[\"a\",\"Q\"],", "'a' and 'Q': what they make is no token"},
       {merges, "\"merges\":[\"a b c\",", "a space between them, got 'a b c'"},
       {merges, "\"merges\":[[\"a\"],", "model.merges[0]: expected 2 tokens, got 1"},
       {merges, "\"merges\":[[\"a\",3],", "model.merges[0][1]: expected a string, got number"},
       {merges, "\"merges\":[7,", "model.merges[0]: expected an array, got number"},
       {merges, merges + merges.substr(10), "comes twice"},
       {"\"merges\"", "\"cache_capacity\"", "'merges' is missing"},
       {"\"id\":501", "\"id\":500", "tokens '<|end|>' and '<tag>' have one id, 500"},
       {"\"<tag>\"", "\"\"", "added_tokens[1].content: expected a text, got none"},
       {"\"<tag>\"", "\"a\"", "added token 'a' has the id 501, but in the vocabulary 64"},
       {"\"<tag>\"", "\"<l>\"", "'<l>'"},
       {"\"lstrip\":false", "\"lstrip\":1", "lstrip: expected true or false, got number"}});
  CHECK(contains(refusal([] {
                   read(replaced(file_of("gpt2"),
                                 "\"id\":501,\"content\":\"<tag>\"",
                                 "\"id\":64,\"content\":\"a\""));
                 }),
                 "id 501 has no token, of 505 tokens"));
}

TEST_CASE("read_tokenizer: what the library does not do is refused by its name") {
  check_refusals(
      "gpt2",
      {{"\"normalizer\":null",
        "\"normalizer\":{\"type\":\"NFKC\"}",
        "normalizer: expected no normalizer or NFC, got 'NFKC'"},
       {"\"BPE\"", "\"Unigram\"", "model.type: expected 'BPE', got 'Unigram'"},
       {"\"dropout\":null", "\"dropout\":0.1", "model.dropout: expected null or 0, got 0.1"},
       {"suffix\":null", "suffix\":\"</w>\"", "got '</w>'"},
       {"\"fuse_unk\"", "\"surprise\"", "model: unknown key 'surprise'"},
       {"\"truncation\"", "\"surprise\"", "here: unknown key 'surprise'"},
       {"\"1.0\"", "\"2.0\"", "version: expected '1.0', got '2.0'"},
       {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "expected false, got true"},
       {"\"pre_tokenizer\":{\"type\":\"ByteLevel\"",
        "\"pre_tokenizer\":{\"type\":\"Metaspace\"",
        "or ByteLevel, got 'Metaspace'"},
       {"\"post_processor\":{\"type\":\"ByteLevel\"",
        "\"post_processor\":{\"type\":\"BertProcessing\"",
        "got 'BertProcessing'"},
       {"\"decoder\":{\"type\":\"ByteLevel\"",
        "\"decoder\":{\"type\":\"WordPiece\"",
        "got 'WordPiece'"}});
  check_refusals("llama3",
                 {{"{1,3}", "{1,4}", "expected a known pre-tokenizer, got Split with '(?i:'s|'t"},
                  {"\"Isolated\"", "\"Removed\"", "expected 'Isolated', got 'Removed'"},
                  {"\"invert\":false", "\"invert\":true", "expected false, got true"},
                  {"\"ids\":[500]", "\"ids\":[506]", "expected a number below 506, got 506"},
                  {"{\"Sequence\":{\"id\":\"A\"", "{\"Sequence\":{\"id\":\"B\"", "the text A"}});
  check_refusals(
      "prepend",
      {{"\"prepend\":\"\\u2581\"", "\"prepend\":\"_\"", "prepend: expected '\u2581', got '_'"},
       {"{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}", "{\"type\":\"NFKC\"}", "got 'NFKC'"},
       {"\"content\":\"\\u2581\"", "\"content\":\"_\"", "expected the content '\u2581', got '_'"},
       {"{\"String\":\" \"}", "{\"String\":\"x\"}", "expected the pattern ' ', got 'x'"},
       {"{\"type\":\"Fuse\"},", "", "expected Replace, ByteFallback, Fuse and possibly Strip"},
       {"\"start\":1", "\"start\":2", "expected one space at the start and none at the end"},
       {"\"byte_fallback\":true", "\"byte_fallback\":false", "byte_fallback: expected true"},
       {"\"<0x0A>\":13", "\"<0x0a>\":13", "expected a token for each byte, got none for 10"},
       {"\"pre_tokenizer\":null",
        "\"pre_tokenizer\":{\"type\":\"Metaspace\"}",
        "expected none, or Metaspace without a normalizer, got 'Metaspace'"}});
  check_refusals("metaspace",
                 {{"\"split\":false", "\"split\":true", "split: expected false, got true"},
                  {",\"split\":false", "", "split: expected false, got true"},
                  {"\"first\"", "\"last\"", "expected first, always or never, got 'last'"},
                  {"\"replacement\":\"\\u2581\"", "\"replacement\":\"_\"", "got '_'"},
                  {"\"Metaspace\"", "\"Whitespace\"", "got 'Whitespace'"}});
  check_refusals("smollm",
                 {{"\"individual_digits\":true", "\"individual_digits\":false", "'Digits'"}});
}

}  // namespace mtp::test::io_tokenizer_json_cases

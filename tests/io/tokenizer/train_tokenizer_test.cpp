#include "mtp/io/tokenizer/train_tokenizer.hpp"

#include <doctest/doctest.h>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/scratch.hpp"
#include "support/places.hpp"

namespace mtp::test::io_train_tokenizer_cases {

using io::pretokenizer;
using io::tokenizer;
using io::train_tokenizer;
using testing::contains;
using testing::content;
using testing::refusal;

namespace {

/// The merges as a file has them.
std::string shown(const tokenizer& t) {
  const io::detail::byte_level bytes;
  std::string lines;
  for (const io::token_merge& each : t.model().merges) {
    lines += bytes.shown(t.token_of(each.left)) + " " + bytes.shown(t.token_of(each.right)) + "\n";
  }
  return lines;
}

/// In the simplest code: the merges of a text that is one piece, counted anew each time.
std::vector<std::pair<std::string, std::string>> counted(const std::string& text, int count) {
  std::vector<std::string> row;
  for (const char byte : text) row.emplace_back(1, byte);
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<std::string> order;  // tokens that were made
  const auto number = [&](const std::string& token) {
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (order[i] == token) return i + 1000;
    }
    return std::size_t{static_cast<unsigned char>(token[0])};
  };
  while (static_cast<int>(order.size()) < count) {
    std::map<std::pair<std::string, std::string>, int> pairs;
    for (std::size_t i = 0; i + 1 < row.size(); ++i) ++pairs[{row[i], row[i + 1]}];
    if (pairs.empty()) break;
    auto best = pairs.begin();
    const auto ids = [&](const auto& pair) {
      return std::pair(number(pair.first.first), number(pair.first.second));
    };
    for (auto each = pairs.begin(); each != pairs.end(); ++each) {
      if (each->second > best->second ||
          (each->second == best->second && ids(*each) < ids(*best))) {
        best = each;
      }
    }
    const auto both = best->first;
    merges.push_back(both);
    const std::string made = both.first + both.second;
    if (number(made) < 1000) order.push_back(made);
    std::vector<std::string> next;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool is_pair = i + 1 < row.size() && row[i] == both.first && row[i + 1] == both.second;
      next.push_back(is_pair ? made : row[i]);
      i += is_pair ? 1 : 0;
    }
    row = std::move(next);
  }
  return merges;
}

}  // namespace

TEST_CASE("train_tokenizer: the merges are those of the package tokenizers") {
  const auto folder = golden_folder() / "tokenizers";
  const tokenizer t = train_tokenizer(content(folder / "trained_on.txt"), 400);
  CHECK(t.vocab_size() == 400);
  CHECK(shown(t) == content(folder / "trained.txt"));
}

TEST_CASE(
    "train_tokenizer: the merges are those of counting anew, the lowest pair first of equals") {
  for (const std::string text :
       {"abababcabcbcbca", "aaaaaaaaaab", "abcabcabdabdx", "a", "xyxyyxx"}) {
    CAPTURE(text);
    const tokenizer t = train_tokenizer(text, 262, {.pieces = pretokenizer::none});
    std::vector<std::pair<std::string, std::string>> got;
    for (const io::token_merge& each : t.model().merges) {
      got.emplace_back(t.token_of(each.left), t.token_of(each.right));
    }
    CHECK(got == counted(text, 6));
  }
}

TEST_CASE("train_tokenizer: special tokens come first and are not trained on") {
  const tokenizer t = train_tokenizer("ab<s>ab<s>ab", 300, {.special = {"<s>", "<t>"}});
  CHECK(t.id_of("<s>") == 0);
  CHECK(t.id_of("<t>") == 1);
  CHECK(t.is_special(1));
  CHECK(t.vocab_size() == 259);  // nothing else is left to merge
  CHECK(t.id_of("ab") == 258);
  CHECK(t.encode("<s>ab", {.parse_special = true}) == std::vector<token_t>{0, 258});
}

TEST_CASE("train_tokenizer: options that make no tokenizer are refused") {
  CHECK(train_tokenizer("", 256).vocab_size() == 256);
  CHECK(contains(refusal([] { train_tokenizer("x", 255); }),
                 "train_tokenizer: expected a vocab_size from 256"));
  CHECK(contains(refusal([] {
                   train_tokenizer("x", 257, {.special = {"<s>", "<t>"}});
                 }),
                 "from 258"));
  CHECK(contains(refusal([] { train_tokenizer("x", -1); }), "got -1"));
  CHECK(contains(refusal([] { train_tokenizer("x", 300, {.special = {"s"}}); }), "2 bytes"));
  CHECK(contains(refusal([] {
                   train_tokenizer("x", 300, {.special = {"<s>", "<s>"}});
                 }),
                 "has the bytes of token 0"));
}

}  // namespace mtp::test::io_train_tokenizer_cases

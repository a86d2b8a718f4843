// Bytes as a tokenizer.json, as a file of ranks, and as a text for each pre-tokenizer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuzz/input.hpp"
#include "mtp/io/tokenizer/save_tokenizer.hpp"
#include "mtp/io/tokenizer/tokenizer_files.hpp"
#include "mtp/io/tokenizer/tokenizer_json.hpp"
#include "mtp/io/tokenizer/train_tokenizer.hpp"

namespace mtp::fuzz::tokenizer_harness {

/// A text with something for every scanner in it.
inline constexpr std::string_view hard =
    "It's 123  abc\r\n\n \xc3\xa9 e\xcc\x81 \xe4\xb8\xad\xff\xcc <s>aab ba\t";

/// In the simplest code: the lowest rank first, the leftmost of equal ones.
inline std::vector<token_t> merged(const io::tokenizer_model& model, std::vector<token_t> row) {
  for (;;) {
    const io::token_merge* best = nullptr;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      for (const io::token_merge& each : model.merges) {
        if (each.left == row[i] && each.right == row[i + 1] &&
            (best == nullptr || each.rank < best->rank)) {
          best = &each;
          place = i;
        }
      }
    }
    if (best == nullptr) return row;
    row[place] = best->result;
    row.erase(row.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

/// Whether the bytes of a text come back from its tokens.
inline bool is_lossless(const io::tokenizer_model& model) {
  bool takes_space = false;
  for (const io::added_token& each : model.added) {
    takes_space = takes_space || each.lstrip || each.rstrip;
  }
  return !takes_space && model.normalizer == io::text_normalizer::none && !model.characters;
}

/// A tokenizer that was accepted keeps what it promises, whatever is in it.
inline void check_tokenizer(const io::tokenizer& tokens) {
  const io::encode_options bare{.parse_special = true, .add_special_tokens = false};
  accepted([&] {  // unless a byte has no token
    const std::vector<token_t> ids = tokens.encode(hard, bare);
    if (is_lossless(tokens.model())) promise(tokens.decode(ids) == hard, "a text comes back");
    for (const token_t id : tokens.encode(hard, {.add_special_tokens = false})) {
      promise(!tokens.is_special(id), "no text becomes a special token unasked");
    }
  });
  promise(!accepted([&] { tokens.token_of(static_cast<token_t>(tokens.vocab_size())); }),
          "what is behind the last token is refused");
  accepted([&] {  // unless it cannot be written
    const std::string text = io::detail::tokenizer_json_writer(tokens.model()).file();
    const io::tokenizer_model again = io::parse_tokenizer_json(text, "again");
    promise(again.tokens == tokens.model().tokens, "what is written is read again");
    promise(again.merges.size() == tokens.model().merges.size(), "with its merges");
    promise(again.added.size() == tokens.model().added.size(), "with its added tokens");
  });
}

/// A text through a tokenizer that was trained on a few words.
inline void check_text(io::pretokenizer kind, std::string_view text) {
  static const std::vector<io::tokenizer> all = [] {
    std::vector<io::tokenizer> made;
    for (int i = 0; i <= static_cast<int>(io::pretokenizer::deepseek_v3); ++i) {
      made.push_back(
          io::train_tokenizer("aababbabaab abab 123123 \r\n\r\n  '''' it's it's e\xcc\x81",
                              270,
                              {.pieces = static_cast<io::pretokenizer>(i)}));
    }
    return made;
  }();
  const io::tokenizer& tokens = all[static_cast<std::size_t>(kind)];
  const std::vector<token_t> ids = tokens.encode(text);
  promise(tokens.decode(ids) == text, "a text comes back");

  std::vector<token_t> expected;
  static const io::detail::unicode_classes classes;
  io::detail::piece_scanner(kind, classes).for_each(text, [&](std::string_view piece) {
    promise(!piece.empty(), "no piece is empty");
    std::vector<token_t> row;
    for (const char byte : piece) row.push_back(*tokens.id_of(std::string_view(&byte, 1)));
    row = merged(tokens.model(), std::move(row));
    expected.insert(expected.end(), row.begin(), row.end());
  });
  promise(ids == expected, "tokens are those of the simplest code");

  static const io::detail::nfc_normalizer nfc;
  const std::string normal = nfc(text);
  promise(nfc(normal) == normal, "a normal form stays as it is");
}

/// The first byte says what the others are.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  input in(bytes);
  const unsigned kind = in.take<std::uint8_t>();
  const std::string rest(reinterpret_cast<const char*>(in.rest().data()), in.rest().size());
  constexpr unsigned kinds = static_cast<unsigned>(io::pretokenizer::deepseek_v3) + 1;
  if (kind == '{') {
    accepted([&] {
      check_tokenizer(io::tokenizer(io::parse_tokenizer_json("{" + rest, "here"), "here"));
    });
  } else if (kind == '=') {
    accepted([&] {
      io::tokenizer_model model;
      model.tokens = io::detail::parse_ranks(rest, "here");
      model.merges = io::detail::merges_of_ranks(model.tokens);
      model.ignore_merges = true;
      check_tokenizer(io::tokenizer(std::move(model), "here"));
    });
  } else {
    check_text(static_cast<io::pretokenizer>(kind % kinds), rest);
  }
}

}  // namespace mtp::fuzz::tokenizer_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call.
namespace harness = tokenizer_harness;
}  // namespace mtp::fuzz

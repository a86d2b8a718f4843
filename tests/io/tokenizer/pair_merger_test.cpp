#include "mtp/io/tokenizer/pair_merger.hpp"

#include <cstdint>
#include <doctest/doctest.h>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/io/tokenizer/merge_table.hpp"

namespace mtp::test::io_pair_merger_cases {

namespace {

using merges = std::vector<io::token_merge>;

/// In the simplest code: look for the lowest rank, merge there, begin again.
std::vector<token_t> merged(const merges& all, std::vector<token_t> tokens) {
  for (;;) {
    const io::token_merge* best = nullptr;
    std::size_t place = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (const io::token_merge& each : all) {
        if (each.left == tokens[i] && each.right == tokens[i + 1] &&
            (best == nullptr || each.rank < best->rank)) {
          best = &each;
          place = i;
        }
      }
    }
    if (best == nullptr) return tokens;
    tokens[place] = best->result;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

io::detail::merge_table table_of(const merges& all) {
  io::detail::merge_table table(all.size());
  for (const io::token_merge& each : all) CHECK(table.add(each));
  return table;
}

}  // namespace

TEST_CASE("pair_merger: rows of any length become what the simplest code makes of them") {
  const random_stream random(seed{11}, 0);
  std::uint64_t drawn = 0;
  for (const bool equal_ranks : {false, true}) {
    // Three letters, and tokens of random pairs; every fourth rank twice or not.
    merges all;
    std::map<std::pair<token_t, token_t>, bool> seen;
    for (token_t next = 3; next < 30; ++next) {
      const auto left =
          static_cast<token_t>(random.below(drawn++, static_cast<std::uint64_t>(next)));
      const auto right =
          static_cast<token_t>(random.below(drawn++, static_cast<std::uint64_t>(next)));
      if (std::exchange(seen[{left, right}], true)) continue;
      all.push_back({left, right, next, static_cast<std::uint32_t>(equal_ranks ? next / 4 : next)});
    }
    const io::detail::merge_table table = table_of(all);
    io::pair_merger merger;
    for (const std::size_t length : {0u, 1u, 2u, 3u, 7u, 31u, 47u, 48u, 49u, 50u, 97u, 300u}) {
      CAPTURE(length);
      for (int run = 0; run < 20; ++run) {
        std::vector<token_t> tokens(length);
        for (token_t& each : tokens) each = static_cast<token_t>(random.below(drawn++, 3));
        const auto got = merger.merge(table, tokens);
        REQUIRE(std::vector<token_t>(got.begin(), got.end()) == merged(all, tokens));
      }
    }
  }
}

TEST_CASE("merge_table: finds what was added, once") {
  io::detail::merge_table table(1000);
  for (token_t i = 0; i < 1000; ++i) {
    REQUIRE(table.add({i, i * 7, i + 1, static_cast<std::uint32_t>(i)}));
  }
  CHECK_FALSE(table.add({3, 21, 9, 9}));
  for (token_t i = 0; i < 1000; ++i) {
    REQUIRE(table.find(i, i * 7).result == i + 1);
    REQUIRE(table.find(i, i * 7 + 1).rank == io::detail::merge_step::no_rank);
  }
}

TEST_CASE("word_cache: gives back what was put, or nothing") {
  io::word_cache words(3);
  const std::vector<token_t> one{5}, nine(9, 1);
  CHECK(words.find("a").empty());
  for (int i = 0; i < 100; ++i) {
    const std::string word = "word" + std::to_string(i);
    words.put(word, one);
    REQUIRE(words.find(word).size() == 1);
    CHECK(words.find(word)[0] == 5);
    CHECK(words.find(word + "x").empty());
  }
  for (int i = 0; i < 100; ++i) {
    const std::string word = std::to_string(1000 + i) + "-------";
    words.put(word, one);
    for (std::size_t bytes = 5; bytes < word.size(); ++bytes) {
      REQUIRE(words.find(word.substr(0, bytes)).empty());  // a beginning that was not put
    }
  }
  words.put("many", nine);
  CHECK(words.find("many").empty());
  words.put(std::string(31, 'x'), one);
  CHECK(words.find(std::string(31, 'x')).empty());
  words.put(std::string(30, 'x'), one);
  CHECK(words.find(std::string(30, 'x')).size() == 1);
}

}  // namespace mtp::test::io_pair_merger_cases

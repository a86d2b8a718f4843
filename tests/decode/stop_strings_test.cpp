// The search for stop strings, against a comparison of the text's end with each of them.
#include "mtp/decode/stop_strings.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace mtp::test::decode_stop_strings_cases {

namespace {

std::optional<std::size_t> expected_of(std::string_view text,
                                       const std::vector<std::string>& strings) {
  std::optional<std::size_t> longest;
  for (std::size_t i = 0; i < strings.size(); ++i) {
    if (text.ends_with(strings[i]) && (!longest || strings[i].size() > strings[*longest].size())) {
      longest = i;
    }
  }
  return longest;
}

std::size_t pending_of(std::string_view text, const std::vector<std::string>& strings) {
  std::size_t most = 0;
  for (const std::string& each : strings) {
    for (std::size_t count = 1; count <= each.size(); ++count) {
      if (text.ends_with(each.substr(0, count)) && count > most) most = count;
    }
  }
  return most;
}

}  // namespace

TEST_CASE("strings are found where the text ends with them, also within each other") {
  std::minstd_rand random(1);
  const auto draw = [&](std::size_t below) { return random() % below; };
  std::size_t found = 0, several = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> strings(1 + draw(3));
    for (std::string& each : strings) {
      each.resize(1 + draw(8));
      for (char& byte : each) byte = static_cast<char>('a' + draw(2));
    }
    stop_strings search(strings);
    std::string text;
    for (int i = 0; i < 60; ++i) {
      text += static_cast<char>('a' + draw(2));
      const auto expected = expected_of(text, strings);
      CHECK(search.push(text.back()) == expected);
      CHECK(search.pending() == pending_of(text, strings));
      found += expected ? 1 : 0;
      several += expected && *expected > 0 ? 1 : 0;
      if (draw(30) == 0) {
        search.restart();
        text.clear();
        CHECK(search.pending() == 0);
      }
    }
  }
  CHECK(found > 1000);
  CHECK(several > 100);
}

TEST_CASE("without strings nothing is found and nothing is pending") {
  stop_strings search({});
  CHECK_FALSE(search.push('a'));
  CHECK(search.pending() == 0);
}

TEST_CASE("an empty stop string is refused with its place") {
  CHECK_THROWS_WITH_AS(
      stop_strings({"a", ""}),
      "stop_strings: expected strings of at least one byte, got an empty one at place 1 of 2",
      mtp::error);
}

}  // namespace mtp::test::decode_stop_strings_cases

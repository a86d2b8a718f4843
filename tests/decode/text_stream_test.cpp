// Streamed text, against a search through the whole text.
#include "mtp/decode/text_stream.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mtp::test::decode_text_stream_cases {

namespace {

constexpr text_origin trunk = text_origin::trunk, draft = text_origin::draft;

/// What came out: text, and the origin of each of its bytes, t or d.
struct released {
  std::string text, origins;
  std::optional<std::size_t> stop;

  void add(std::span<const text_piece> pieces) {
    std::optional<text_origin> last;
    for (const text_piece& piece : pieces) {
      CHECK_FALSE(piece.text.empty());
      CHECK(last != piece.origin);
      last = piece.origin;
      text += piece.text;
      origins.append(piece.text.size(), piece.origin == draft ? 'd' : 't');
    }
  }
  bool operator==(const released&) const = default;
};

/// The bytes whose origin is `origins`, t or d, in pieces that end behind the places in `cuts`, a
/// bit each, and where the origin changes.
released stream(text_stream& stream,
                std::string_view bytes,
                std::string_view origins,
                unsigned long cuts) {
  released out;
  for (std::size_t begin = 0, end = 0; begin < bytes.size(); begin = end) {
    do {
      ++end;
    } while (end < bytes.size() && origins[end] == origins[begin] && (cuts >> end & 1) == 0);
    out.add(stream.push(bytes.substr(begin, end - begin), origins[begin] == 'd' ? draft : trunk));
  }
  out.add(stream.finish());
  out.stop = stream.stop();
  return out;
}

/// By a search through the whole text: for each end, from the first on, the longest string there.
released expected_of(std::string_view bytes,
                     std::string_view origins,
                     const std::vector<std::string>& stops,
                     stop_output shown) {
  released out;
  std::size_t count = bytes.size();
  for (std::size_t end = 1; end <= bytes.size() && !out.stop; ++end) {
    std::size_t longest = 0;
    for (std::size_t i = 0; i < stops.size(); ++i) {
      if (bytes.substr(0, end).ends_with(stops[i]) && stops[i].size() > longest) {
        longest = stops[i].size();
        out.stop = i;
        count = shown == stop_output::kept ? end : end - longest;
      }
    }
  }
  // Characters have a test of their own; here U+FFFD has the origin of the first byte it stands
  // for.
  utf8_characters characters;
  std::size_t begin = 0;
  const auto add = [&](std::string_view character) {
    out.text += character;
    out.origins.append(character.size(), origins[begin]);
  };
  for (std::size_t i = 0; i < count; ++i) {
    if (!characters.is_unfinished()) begin = i;
    characters.push(bytes[i], [&](std::string_view character) {
      add(character);
      begin = i;
    });
  }
  characters.finish(add);
  return out;
}

/// Everything at once and every byte alone, and every other cut.
void check_every_cut(std::string_view bytes,
                     std::string_view origins,
                     const std::vector<std::string>& stops) {
  for (const stop_output shown : {stop_output::dropped, stop_output::kept}) {
    const released expected = expected_of(bytes, origins, stops, shown);
    text_stream streamed(stops, shown);  // one text after the other
    for (unsigned long cuts = 0; cuts < 1ul << bytes.size(); cuts += 2) {
      const released out = stream(streamed, bytes, origins, cuts);
      if (out == expected) continue;
      CAPTURE(bytes);
      CAPTURE(cuts);
      CHECK(out.text == expected.text);
      CHECK(out.origins == expected.origins);
      CHECK(out.stop == expected.stop);
      return;
    }
  }
}

std::string text_of(std::span<const text_piece> pieces) {
  released out;
  out.add(pieces);
  return out.text;
}

}  // namespace

TEST_CASE("without stop strings whole characters go out at once") {
  text_stream streamed;
  CHECK(text_of(streamed.push("a", trunk)) == "a");
  CHECK(text_of(streamed.push("b\xe2", trunk)) == "b");
  CHECK(streamed.push("\x82", draft).empty());
  CHECK(text_of(streamed.push("\xac", draft)) == "\xe2\x82\xac");
  CHECK(streamed.push("", draft).empty());
  CHECK(streamed.push("\xf0\x9f", trunk).empty());
  CHECK(text_of(streamed.finish()) == "\xef\xbf\xbd");
  CHECK(streamed.finish().empty());
  CHECK_FALSE(streamed.stop());
}

TEST_CASE("what may be the beginning of a stop string is held back, and nothing else") {
  text_stream streamed({"aab"});
  CHECK(streamed.push("a", trunk).empty());
  CHECK(streamed.push("a", trunk).empty());
  CHECK(text_of(streamed.push("a", trunk)) == "a");
  CHECK_FALSE(streamed.stop());
  CHECK(streamed.push("b", trunk).empty());
  CHECK(streamed.stop() == 0);
  CHECK(streamed.push("what comes later", trunk).empty());
  CHECK(streamed.finish().empty());
  CHECK(streamed.stop() == 0);
  // Another text.
  CHECK(text_of(streamed.push("xa", draft)) == "x");
  CHECK_FALSE(streamed.stop());
  CHECK(text_of(streamed.finish()) == "a");
  CHECK_FALSE(streamed.stop());
}

TEST_CASE("a stop string is dropped or kept, and nothing behind it comes out") {
  CHECK(text_of(text_stream({"END"}).push("one END two", trunk)) == "one ");
  CHECK(text_of(text_stream({"END"}, stop_output::kept).push("one END two", trunk)) == "one END");
}

TEST_CASE("the stop string that is complete first counts, of equal ends the longest") {
  struct {
    std::vector<std::string> stops;
    std::string text, released;
    std::size_t stop;
  } const cases[] = {
      {{"abc", "ab"}, "xabc", "x", 1},              // one is the beginning of the other
      {{"bc", "abcd"}, "xabcd", "xa", 0},           // one within the other
      {{"c", "abc", "bc"}, "xabc", "x", 1},         // one end
      {{"ab", "ab"}, "xab", "x", 0},                // twice the same
      {{"bcd", "abx", "cy"}, "abcy", "ab", 2},      // beginnings that overlap
      {{"\x80"}, "a\xe2\x80", "a\xef\xbf\xbd", 0},  // within a character
  };
  for (const auto& each : cases) {
    text_stream streamed(each.stops);
    CHECK(text_of(streamed.push(each.text, trunk)) == each.released);
    CHECK(streamed.stop() == each.stop);
    check_every_cut(each.text, std::string(each.text.size(), 't'), each.stops);
  }
}

TEST_CASE("pieces have the origin of their characters' first bytes") {
  text_stream streamed({"!"});
  const auto both = [](std::span<const text_piece> pieces) {
    std::vector<std::pair<std::string, text_origin>> copies;
    for (const text_piece& piece : pieces) copies.emplace_back(piece.text, piece.origin);
    return copies;
  };
  using copies = std::vector<std::pair<std::string, text_origin>>;
  CHECK(both(streamed.push("ab\xc3", draft)) == copies{{"ab", draft}});
  CHECK(both(streamed.push("\xa4z", trunk)) == copies{{"\xc3\xa4", draft}, {"z", trunk}});
  // An unfinished character belongs to who began it, what cuts it off to who wrote that.
  CHECK(streamed.push("\xe2\x82", trunk).empty());
  CHECK(both(streamed.push("y", draft)) ==
        copies{{std::string(replacement_character), trunk}, {"y", draft}});
  CHECK(streamed.push("\xe2\x82", trunk).empty());
  CHECK(streamed.push("\xc3", draft).size() == 1);
  CHECK(both(streamed.push("\xa4", trunk)) == copies{{"\xc3\xa4", draft}});
  CHECK(origin_of({.token = 1, .drafted = true}) == draft);
  CHECK(origin_of({.token = 1, .drafted = false}) == trunk);
}

TEST_CASE("into which pieces a text is cut changes nothing") {
  check_every_cut("xaaabyaab", "ttddtdddt", {"aab"});
  check_every_cut("aaaaaaaaab", "tdtdtddddt", {"aab", "aaaab"});
  check_every_cut(
      "\xe2\x82\xac \xe2\x82\xf0\x9f\x98\x80", "tddttddtdt", {"\xe2\x82\xac!", "\x9f\x98!"});
  std::minstd_rand random(7);
  const auto draw = [&](std::size_t below) { return random() % below; };
  const auto drawn = [&](std::string_view alphabet, std::size_t count) {
    std::string text(count, '\0');
    for (char& byte : text) byte = alphabet[draw(alphabet.size())];
    return text;
  };
  for (int round = 0; round < 400; ++round) {
    const std::string_view alphabet = round % 2 == 0 ? "ab" : "a\xe2\x82\xac";
    std::vector<std::string> stops(draw(4));
    for (std::string& each : stops) each = drawn(alphabet, 1 + draw(5));
    check_every_cut(drawn(alphabet, 9), drawn("td", 9), stops);
  }
}

TEST_CASE("an empty stop string is refused") {
  CHECK_THROWS_AS(text_stream({"a", ""}), mtp::error);
}

}  // namespace mtp::test::decode_text_stream_cases

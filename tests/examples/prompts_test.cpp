#include "train_and_generate/prompts.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "mtp/train/dataset.hpp"

namespace examples_prompts_cases {

using example::held_out_prompts;
using example::readable_part;
using example::share_of_words;

TEST_CASE("a readable part begins with a line and ends with a word") {
  CHECK(readable_part("half a line\nof a text with more words\nbehind it", 20) ==
        "of a text with more");
  CHECK(readable_part("no line begins here at all", 12) == "no line");
  CHECK(readable_part("one\ntwo\nthree four five six seven eight", 12) == "three four");
  CHECK(readable_part("a line that begins late\nx", 100) == "a line that begins late");
  // A word that fills more than half of it is cut.
  CHECK(readable_part("a verylongwordwithoutanend", 10) == "a verylong");
  CHECK(readable_part("", 10).empty());
}

TEST_CASE("rulers and tables have few words") {
  CHECK(share_of_words("") == 0);
  CHECK(share_of_words("words and words") == 1);
  CHECK(share_of_words("a   b") == doctest::Approx(3.0 / 5));
  CHECK(share_of_words("----------") == 0);
}

TEST_CASE("prompts come from windows with words, spread over the held-out text") {
  // Documents of one window each: three of ten are rulers, of which none is chosen.
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    std::string line =
        i % 10 < 3 ? "-- 0123456789 -- 0123456789 --" : "words that a reader follows so";
    text += line + (i % 10 < 3 ? '.' : static_cast<char>('a' + i * 26 / 2000)) + '\n';
  }
  const mtp::dataset<> data(std::vector<std::uint8_t>(text.begin(), text.end()),
                            {},
                            {.window = 33, .validation_share = 0.5});
  const auto prompts = held_out_prompts(data, 5, 30);
  REQUIRE(prompts.size() == 5);
  for (const std::string& prompt : prompts) CHECK(share_of_words(prompt) >= 0.8);
  // Fewer windows than prompts are no mistake.
  const mtp::dataset<> tiny(
      std::vector<std::uint8_t>(text.begin(), text.begin() + 100), {}, {.window = 33});
  CHECK(held_out_prompts(tiny, 4, 30).size() == 4);
}

}  // namespace examples_prompts_cases
